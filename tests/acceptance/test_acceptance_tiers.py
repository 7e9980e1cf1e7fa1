"""Real weights and real photos under each instruction set that this machine has: top-1 agreement and decibels.

INT8 is what a build makes for the tier, from fewer calibration images.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgevit.build.prepare_quantized import prepare_quantized
from edgevit.checkpoints import read_checkpoint
from edgevit.core.cache import StageCache
from edgevit.core.isa import TIERS
from edgevit.core.progress import ignore_progress
from edgevit.core.recipe import Recipe
from edgevit.core.target import load_target
from edgevit.graph.passes.optimize import optimize_graph
from edgevit.measure.reference import run_outputs
from edgevit.models.export import export_model
from edgevit.pixels.images import ImageSet
from tests.support.tier_engines import HERE, REFUSED, Floats, Job, Stored, answer_jobs, measure_sqnr
from tests.support.under_tier import run_under_tier

PHOTOS, CALIBRATION = 200, 128
# Agreement in percent and decibels: of the bars for all validation photos, with the noise of 200 of them
LEAST = {
    ("fp32", "f32"): (100.0, 90.0),
    ("fp32", "bf16"): (98.5, 35.0),
    ("int8", "f32"): (98.0, 26.0),
    ("int8", "bf16"): (98.0, 25.0),
}

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not HERE, reason="tiers of x86-64")]


@pytest.fixture(
    scope="module",
    params=[("deit_tiny_imagenet", "imagenet"), ("swin_imagenette", "imagenette")],
    ids=lambda pair: pair[0],
)
def model(request, assets, tmp_path_factory):
    """Its name, the model, calibration images, and a folder with photos, the float graph and the module's logits."""
    name, data = request.param
    folder, found = tmp_path_factory.mktemp(name), read_checkpoint(assets / name)
    photos = ImageSet.read(assets / data / "validation.csv", labels=found.labels).subset(PHOTOS, 0)
    pixels = np.concatenate([batch.pixels for batch in photos.batches(found.preprocess, 8)])
    np.save(folder / "photos.npy", pixels)
    run = run_outputs(found)
    np.save(folder / "logits.npy", np.concatenate([run(pixels[i : i + 8])[0] for i in range(0, len(pixels), 8)]))
    graph = optimize_graph(export_model(found, load_target("intel-cpu").export)[0])[0]
    graph.save(folder / "float.onnx")
    calibration = ImageSet.read(assets / data / "calibration.csv", labels=found.labels).subset(CALIBRATION, 0)
    return name, found, calibration, folder


@pytest.mark.parametrize("tier", [tier for tier in HERE if tier not in REFUSED])
def test_real_photos_get_the_float_models_answers(model, tier, tmp_path, record_property):
    record_property("instruction set", tier)
    name, found, calibration, folder = model
    # Tiers that are given the same graph share it
    cache = StageCache(folder / "cache")
    quantized = prepare_quantized(
        "int8", found, load_target("intel-cpu"), Recipe(), calibration, cache, ignore_progress
    )
    floats: tuple[Floats, ...] = ("f32", "bf16") if TIERS[tier].bf16 else ("f32",)
    graphs: dict[Stored, Path] = {"fp32": folder / "float.onnx", "int8": quantized.path}
    jobs = [Job(f"{p}.{f}", graphs[p], p, f, folder / "photos.npy") for p in graphs for f in floats]
    answers, logits = run_under_tier(tier, answer_jobs, jobs, tmp_path), np.load(folder / "logits.npy")
    short = []
    for job in jobs:
        answered = answers[job.name]
        assert not isinstance(answered, str), answered
        (ours,) = answered
        agreement = 100 * float((ours.argmax(1) == logits.argmax(1)).mean())
        figures = agreement, measure_sqnr((ours,), (logits,))
        least = LEAST[job.precision, job.floats]
        line = f"{name}, {TIERS[tier].title}, {job.name}: {figures[0]:.2f} %, {figures[1]:.1f} dB"
        record_property("figures", line)
        print(line)
        if any(figure < bar for figure, bar in zip(figures, least, strict=True)):
            short.append(f"{line}; the bars are {least[0]} % and {least[1]} dB")
    assert not short, "\n".join(short)
