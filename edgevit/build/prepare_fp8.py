"""prepare_fp8: the FP8 graph of a build, or its result from the cache."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

from edgevit.build.prepare import PreparedGraph
from edgevit.build.prepare_quantized import BASE_FILE, PLAN_FILE, QuantizedGraph, requantize
from edgevit.core import schema
from edgevit.core.errors import CompileError
from edgevit.core.progress import Progress
from edgevit.core.quantization import QuantizationRecord

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from edgevit.core.cache import StageCache
    from edgevit.core.recipe import Recipe
    from edgevit.core.target import Target
    from edgevit.pixels.images import ImageSet
    from edgevit.pixels.preprocess import Preprocess

FP8_FILE, RECORD_FILE = "fp8.onnx", "fp8.json"
_IMAGES = 128
"""Calibration images at most: a largest magnitude that a few more images would raise changes nothing."""


def prepare_fp8(
    prepared: PreparedGraph,
    target: Target,
    recipe: Recipe,
    images: ImageSet | None,
    preprocess: Preprocess,
    otherwise: npt.NDArray[np.uint8],
    cache: StageCache,
    progress: Progress,
) -> QuantizedGraph:
    """Quantise the float graph to FP8; see :func:`edgevit.quantize.fp8.plan_fp8`.

    Args:
        prepared: The float graph.
        target: Gives the engine library.
        recipe: Its pins, what may stay float for its noise, and whether products are quantised: where it says ``both``,
            as these are fused in float too.
        images: Calibration images; ``None``: random pixels.
        preprocess: The model's.
        otherwise: ``(N, H, W, 3) uint8``, the random pixels.
        cache: Finished stages.
        progress: Told about every segment.

    Raises:
        CalibrationError: Activations that are not finite.
        CompileError: The result is not valid ONNX.
    """
    sample = images.subset(_IMAGES, recipe.seed) if images is not None else None
    quantization = recipe.quantization
    inputs = {
        **prepared.inputs,
        "fp8": "largest magnitude, ranked",
        "float": [quantization.sqnr_db, quantization.float_share],
        "backend": target.backend,
        "sites": [list(pin) for pin in quantization.sites.items()],
        "products": quantization.products == "both",
        "calibration": sample.sha256() if sample is not None else {"random": recipe.seed},
    }

    def quantize(folder: Path) -> None:
        import numpy

        from edgevit.graph.graph import Graph
        from edgevit.quantize.fp8 import plan_fp8
        from edgevit.quantize.plan_file import save_plan

        pixels = otherwise
        if sample is not None:
            pixels = numpy.concatenate([batch.pixels for batch in sample.batches(preprocess, 1)])
        size = recipe.batch[0]
        calls = [pixels.take(range(i, i + size), axis=0, mode="wrap") for i in range(0, len(pixels), size)]
        base = Graph.load(prepared.path)
        plan, record = plan_fp8(
            base,
            calls,
            target.backend,
            quantization.sites,
            products=quantization.products == "both",
            sqnr_db=quantization.sqnr_db,
            float_share=quantization.float_share,
            ranked=True,
            progress=progress,
        )
        record = dataclasses.replace(record, images=len(pixels), random=sample is None)
        base.save(folder / BASE_FILE, beside=True)
        save_plan(plan, folder / PLAN_FILE)
        op_counts = requantize(folder, record, target.backend, folder / FP8_FILE)
        data = {"record": schema.to_data(record), "op_counts": op_counts}
        (folder / RECORD_FILE).write_text(json.dumps(data), encoding="utf-8")

    folder, reused = cache.run("fp8", inputs, quantize)
    data = json.loads((folder / RECORD_FILE).read_text(encoding="utf-8"))
    record = schema.from_data(QuantizationRecord, data["record"], str(folder), CompileError)
    path, op_counts = folder / FP8_FILE, data["op_counts"]
    return QuantizedGraph(path, record, inputs, prepared.passes, op_counts, folder, "fp8", reused)
