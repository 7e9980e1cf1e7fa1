"""prepare_graph: export and optimise, or take both from the cache."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgevit.core import schema
from edgevit.core.errors import CompileError
from edgevit.core.memory import release_memory
from edgevit.core.pass_record import PassRecord
from edgevit.core.progress import Progress

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from edgevit.core.cache import StageCache
    from edgevit.core.recipe import Recipe
    from edgevit.core.target import Target
    from edgevit.models.model import Model
    from edgevit.pixels.images import ImageSet
    from edgevit.pixels.preprocess import Preprocess

FLOAT_FILE, OPTIMIZED_FILE = "float.onnx", "optimized.onnx"
RANGE_IMAGES = 64
"""Calibration images that float16's range is judged by; massive activations show on any few images."""


@dataclass(frozen=True)
class PreparedGraph:
    """An optimised graph on disk.

    Attributes:
        path: ONNX; input ``image (B, H, W, 3) uint8``, outputs as :attr:`edgevit.models.model.Model.outputs`.
        passes: What was folded and rewritten where, and what was not and why.
        op_counts: Nodes by type.
        inputs: Plain data that identifies the graph.
    """

    path: Path
    passes: tuple[PassRecord, ...]
    op_counts: Mapping[str, int]
    inputs: Mapping[str, Any]


def prepare_graph(model: Model, target: Target, recipe: Recipe, cache: StageCache, progress: Progress) -> PreparedGraph:
    """Export a model in the recipe's form and optimise the graph.

    Raises:
        ExportError: torch's exporter refused the module.
        PassError: A rewrite failed.
        CompileError: The result is not valid ONNX.
    """
    form = recipe.export or target.export
    inputs = {
        "checkpoint": model.source.identity,
        "config": repr(model.config),
        "preprocess": schema.to_data(model.preprocess),
        "task": schema.to_data(model.task),
        "form": schema.to_data(form),
        "opset": target.opset,
        "batch": list(recipe.batch),
    }

    def export(folder: Path) -> None:
        from edgevit.models.export import export_model

        graph, records = export_model(model, form, opset=target.opset, batch=recipe.batch)
        graph.save(folder / FLOAT_FILE, beside=True)
        _save(folder, records, graph.op_counts())

    progress("export", 0, 1)
    exported, _ = cache.run("export", inputs, export)
    progress("export", 1, 1)

    def optimize(folder: Path) -> None:
        from edgevit.graph.graph import Graph
        from edgevit.graph.opset import restate_opset
        from edgevit.graph.passes.optimize import optimize_graph

        graph, records = optimize_graph(Graph.load(exported / FLOAT_FILE), disable=recipe.disable_passes)
        if graph.model.graph.opset_imports[""] > target.opset:  # exported in 18 at least, for the sites' names
            restate_opset(graph, target.opset)
        graph.save(folder / OPTIMIZED_FILE, beside=True)
        check_graph(folder / OPTIMIZED_FILE)
        _save(folder, records, graph.op_counts())

    release_memory()
    inputs["disable_passes"] = list(recipe.disable_passes)
    progress("optimize", 0, 1)
    optimized, _ = cache.run("optimize", inputs, optimize)
    progress("optimize", 1, 1)
    release_memory()
    folds, _ = _load(exported)
    rewrites, op_counts = _load(optimized)
    return PreparedGraph(optimized / OPTIMIZED_FILE, model.passes + folds + rewrites, op_counts, inputs)


def prepare_half_range(
    prepared: PreparedGraph, pixels: npt.NDArray[np.uint8], batch: int, cache: StageCache, progress: Progress
) -> PreparedGraph:
    """Mark what leaves float16's range on some pixels, ``(N, H, W, 3) uint8``, ``batch`` of them a call.

    See :func:`edgevit.graph.half_range.mark_wide`.
    """
    inputs = {**prepared.inputs, "half_range": hashlib.sha256(pixels.tobytes()).hexdigest()}

    def mark(folder: Path) -> None:
        from edgevit.graph.graph import Graph
        from edgevit.graph.half_range import mark_wide

        graph = Graph.load(prepared.path)
        calls = [pixels.take(range(i, i + batch), axis=0, mode="wrap") for i in range(0, len(pixels), batch)]
        marked = mark_wide(graph, calls, progress)
        graph.save(folder / OPTIMIZED_FILE, beside=True)
        check_graph(folder / OPTIMIZED_FILE)
        _save(folder, (PassRecord("float16_range", "graph", applied=marked),), graph.op_counts())

    folder, _ = cache.run("half_range", inputs, mark)
    records, op_counts = _load(folder)
    return PreparedGraph(folder / OPTIMIZED_FILE, prepared.passes + records, op_counts, inputs)


def read_range_pixels(
    images: ImageSet | None, preprocess: Preprocess, otherwise: npt.NDArray[np.uint8]
) -> npt.NDArray[np.uint8]:
    """Some of the calibration images, that float16's range is judged by, or ``otherwise``: ``(N, H, W, 3) uint8``."""
    import numpy

    if images is None:
        return otherwise
    pixels = [batch.pixels for batch in images.subset(RANGE_IMAGES, 0).batches(preprocess, 1)]
    return numpy.concatenate(pixels)


def check_graph(path: Path) -> None:
    """Run onnx's own checker, with shape inference.

    Raises:
        CompileError: The graph is not valid ONNX.
    """
    import onnx

    try:
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as exc:
        raise CompileError(f"the optimised graph is not valid ONNX: {exc}", "report this as a bug") from exc


def _save(folder: Path, records: tuple[PassRecord, ...], op_counts: Mapping[str, int]) -> None:
    data = {"passes": schema.to_data(records), "op_counts": dict(op_counts)}
    (folder / "records.json").write_text(json.dumps(data), encoding="utf-8")


def _load(folder: Path) -> tuple[tuple[PassRecord, ...], dict[str, int]]:
    data = json.loads((folder / "records.json").read_text(encoding="utf-8"))
    records = tuple(schema.from_data(PassRecord, item, str(folder), CompileError) for item in data["passes"])
    return records, data["op_counts"]
