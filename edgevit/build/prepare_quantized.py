"""prepare_quantized: export, calibrate and quantise for one precision, or take the result from the cache."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgevit.build.open_graph import fix_batch, restate_open
from edgevit.build.precisions import QuantizedPrecision
from edgevit.build.prepare import RANGE_IMAGES, check_graph, prepare_graph
from edgevit.core import schema
from edgevit.core.errors import CalibrationError, CompileError
from edgevit.core.libraries import LIBRARIES
from edgevit.core.pass_record import PassRecord
from edgevit.core.progress import Progress, add_to_names
from edgevit.core.quantization import Quantization, QuantizationRecord
from edgevit.measure.reference import generate_images
from edgevit.quantize.placement import PLACEMENTS

if TYPE_CHECKING:
    from edgevit.core.cache import StageCache
    from edgevit.core.recipe import Recipe
    from edgevit.core.target import ExportForm, Target
    from edgevit.models.model import Model
    from edgevit.pixels.images import ImageSet

QUANTIZED_FILE, RECORD_FILE = "quantized.onnx", "quantization.json"
BASE_FILE, PLAN_FILE = "base.onnx", "plan.json"
RANDOM_IMAGES = 32
"""Random images at most: latency does not depend on what the ranges are."""
FP8_IMAGES = 128
"""Calibration images of FP8 at most: a largest magnitude that a few more images would raise changes nothing."""


@dataclass(frozen=True)
class QuantizedGraph:
    """A graph with Q/DQ pairs on disk.

    Attributes:
        path: ONNX; input ``image (B, H, W, 3) uint8``, output ``logits (B, classes) float32``.
        record: What was quantised, what stayed float and why.
        inputs: Plain data that identifies the graph.
        passes: Folds and rewrites of the float graph that it was made from.
        op_counts: Nodes by type.
        source: Folder of the float graph and of the plan that put the pairs into it; see :func:`requantize`.
        precision: Of its quantised sites.
        opened: Least, usual and largest batch, where the float graph in :attr:`source` is for a fixed one.
        reused: Whether an earlier build made it.
    """

    path: Path
    record: QuantizationRecord
    inputs: Mapping[str, Any]
    passes: tuple[PassRecord, ...]
    op_counts: Mapping[str, int]
    source: Path
    precision: QuantizedPrecision
    opened: tuple[int, int, int] | None = None
    reused: bool = field(default=False, compare=False)

    @property
    def backend(self) -> str:
        """The engine library that it is for."""
        return str(self.inputs["backend"])


def prepare_quantized(
    precision: QuantizedPrecision,
    model: Model,
    target: Target,
    recipe: Recipe,
    images: ImageSet | None,
    cache: StageCache,
    progress: Progress,
) -> QuantizedGraph:
    """Export in the form for the precision, optimise and quantise.

    INT8 uses all calibration ``images``; without any, random pixels stand for them, only for timing.

    Raises:
        CalibrationError: Ranges that are not finite, or fewer images than one call of the graph takes.
        RecipeError: A pin of the recipe names no site.
        CompileError: The result is not valid ONNX.
    """
    form = choose_form(target, recipe, precision)
    quantization = dataclasses.replace(recipe.quantization, sqnr_db=recipe.quantization.choose_sqnr_db(model.task))
    if precision == "fp8" and images is not None:
        images = images.subset(FP8_IMAGES, recipe.seed)
    progress = add_to_names(progress, f" for {precision}")
    fixed = fix_batch(model, recipe)
    prepared = prepare_graph(model, target, dataclasses.replace(fixed, export=form), cache, progress)
    opened = recipe.batch if fixed is not recipe else None
    count = min(quantization.images, RANDOM_IMAGES) if images is None else len(images)
    inputs = {
        **prepared.inputs,
        "precision": precision,
        "quantization": _identify(quantization),
        "backend": target.backend,
        "seed": recipe.seed,
        "calibration": {"random": count} if images is None else images.sha256(),
        **({"open": list(opened)} if opened else {}),
    }

    def quantize(folder: Path) -> None:
        from edgevit.graph.graph import Graph
        from edgevit.graph.half_range import mark_wide
        from edgevit.quantize.plan_file import save_plan
        from edgevit.quantize.quantize import plan_quantization
        from edgevit.quantize.token_importance import measure_importance

        if images is None:
            height, width = model.config.image_size
            pixels = iter(generate_images(count, height, width, recipe.seed)[:, None])
        else:
            pixels = (batch.pixels for batch in images.batches(model.preprocess, 1))
        fed: Iterable[npt.NDArray[np.uint8]] = _group(pixels, fixed.batch[0])
        importance = None
        sample: list[npt.NDArray[np.uint8]] = []
        if LIBRARIES[target.backend].nvidia:
            fed = kept = list(fed)
            sample = kept[:: max(1, len(kept) // RANGE_IMAGES)]
        if precision == "int8" and quantization.uses_observer("loss"):
            fed = kept = list(fed)
            importance = measure_importance(model, form, kept, seed=recipe.seed, progress=progress)
        base, plan, record = plan_quantization(
            Graph.load(prepared.path),
            fed,
            quantization,
            target.backend,
            precision=precision,
            seed=recipe.seed,
            importance=importance,
            progress=progress,
        )
        record = dataclasses.replace(
            record, images=count, random=images is None, notes=(*record.notes, *_find_unrotated(prepared.passes))
        )
        marked = mark_wide(base, sample, progress) if sample else ()
        base.save(folder / BASE_FILE, beside=True)
        save_plan(plan, folder / PLAN_FILE)
        op_counts = requantize(folder, record, target.backend, folder / QUANTIZED_FILE, opened)
        data = {"record": schema.to_data(record), "op_counts": op_counts, "float32": marked}
        (folder / RECORD_FILE).write_text(json.dumps(data), encoding="utf-8")

    folder, reused = cache.run("quantize", inputs, quantize)
    data = json.loads((folder / RECORD_FILE).read_text(encoding="utf-8"))
    record = schema.from_data(QuantizationRecord, data["record"], str(folder), CompileError)
    passes = prepared.passes
    if LIBRARIES[target.backend].nvidia:
        passes = (*passes, PassRecord("float16_range", "graph", applied=tuple(data["float32"])))
    path, op_counts = folder / QUANTIZED_FILE, data["op_counts"]
    return QuantizedGraph(path, record, inputs, passes, op_counts, folder, precision, opened, reused)


def check_pins(model: Model, target: Target, recipe: Recipe, cache: StageCache, progress: Progress) -> None:
    """Raise RecipeError for pins that name no site of the graph that INT8 is made from; arguments as above.

    The graph is exported for that, and used by :func:`prepare_quantized` again.
    """
    from edgevit.graph.graph import Graph
    from edgevit.quantize.quantize import match_sites

    form = choose_form(target, recipe)
    named = add_to_names(progress, " for the pins")
    prepared = prepare_graph(model, target, dataclasses.replace(fix_batch(model, recipe), export=form), cache, named)
    names = [site.name for site in Graph.load(prepared.path).sites()]
    match_sites(names, {**recipe.quantization.observers, **recipe.quantization.sites})


def choose_form(target: Target, recipe: Recipe, precision: QuantizedPrecision = "int8") -> ExportForm:
    """Of the float graph that a precision is made from: FP8 from the one that float engines have."""
    quantization = recipe.quantization
    if precision == "fp8":
        return recipe.export or target.export
    return dataclasses.replace(
        recipe.export or target.export,
        fold_residual_rotation=quantization.rotate,
        fold_class_token_mlp=_wants_apart_token(quantization, target),
        fold_class_token_share=quantization.class_token_share and quantization.activations == "int8",
    )


def requantize(
    source: Path,
    record: QuantizationRecord,
    backend: str,
    path: Path,
    opened: tuple[int, int, int] | None = None,
) -> Mapping[str, int]:
    """Write the graph with the pairs of the record's quantised sites; nothing is calibrated again.

    ``source`` is the folder of the float graph and of its plan, which was made for ``backend``; ``opened`` is as
    :attr:`QuantizedGraph.opened`.

    Returns:
        Nodes by type.

    Raises:
        CompileError: The result is not valid ONNX, or cannot be opened.
    """
    from edgevit.graph.graph import Graph
    from edgevit.quantize.plan_file import load_plan
    from edgevit.quantize.write_quantized import write_quantized

    base, plan = Graph.load(source / BASE_FILE), load_plan(source / PLAN_FILE)
    graph = write_quantized(base, plan, record, PLACEMENTS[backend])
    if opened is not None:
        restate_open(graph, opened[1])
    graph.save(path)
    check_graph(path)
    return dict(graph.op_counts())


def _wants_apart_token(quantization: Quantization, target: Target) -> bool:
    """A second MLP keeps activations apart, and its weights make the file larger."""
    apart = PLACEMENTS[target.backend].apart_token
    return quantization.class_token and quantization.activations == "int8" and apart


def _identify(quantization: Quantization) -> dict[str, Any]:
    """As plain data in which the order of the pins counts, as a later one overrides an earlier one."""
    data: dict[str, Any] = schema.to_data(quantization)
    for key in ("observers", "sites"):
        data[key] = [list(pin) for pin in getattr(quantization, key).items()]
    return data


def _group(pixels: Iterator[npt.NDArray[np.uint8]], size: int) -> Iterator[npt.NDArray[np.uint8]]:
    """``(1, H, W, 3)`` each to ``(size, H, W, 3)`` each; the last group begins again with the first images.

    Raises:
        CalibrationError: There are no images.
    """
    if size == 1:
        yield from pixels  # no copy
        return
    images = list(pixels)
    if not images:
        raise CalibrationError("there are no calibration images", "give --calibration DATA")
    for start in range(0, len(images), size):
        yield np.concatenate([images[i % len(images)] for i in range(start, start + size)])


def _find_unrotated(passes: tuple[PassRecord, ...]) -> tuple[str, ...]:
    """Why the residual stream was not rotated where the recipe asks for it, one sentence each."""
    skipped = [s for record in passes if record.name == "residual_rotation" for s in record.skipped]
    return tuple(f"{skip.site}: the residual stream is not rotated: {skip.reason}" for skip in skipped)
