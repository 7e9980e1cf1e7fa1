"""INT8 of DINOv2-shaped ViTs with planted massive activations: ours against NNCF's and against ours without methods.

    python -m benchmarks.bench_massive [--shapes S B L] [--tasks embed features] [--engines NAME …]
        [--calibration 32] [--validation 32] [--work DIR]

Weights are random, with massive activations of the published size planted (tests/support/massive.py says how): ±200 in
three channels of the class token and 2 % of the patches, from a third of the blocks to the last but one. The images are
photos of the assets; calibration and validation share none. SQNR is over all validation images; of features it is
that of the mean over the levels of noise over signal, and the worst level's. Accuracy only: the machine need not be
idle. Exit status 1 where a bar is missed.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.int8_models import find_assets
from benchmarks.peer_quantizers import quantize_nncf
from benchmarks.peers import Pixels, Values, quiet
from edgevit.build.prepare_quantized import prepare_quantized
from edgevit.core.cache import StageCache
from edgevit.core.progress import ignore_progress
from edgevit.core.recipe import load_recipe
from edgevit.core.target import load_target
from edgevit.core.task import Task
from edgevit.measure.machine.local import describe_machine
from edgevit.measure.reference import run_outputs
from edgevit.models.model import Model
from edgevit.models.select_task import select_task
from edgevit.models.vit import ViTConfig
from edgevit.pixels.images import ImageSet
from tests.support.massive import plant_massive, read_stream
from tests.support.small_models import make_model

TARGET = "intel-cpu"
PLAIN_BAR, OURS_BAR = 10.0, 25.0
Run = Callable[[Pixels], list[Values]]

_DINOV2 = ViTConfig(image_size=(224, 224), patch_size=(14, 14), classes=0, layer_scale=True, level_norm=True)
SHAPES: Mapping[str, ViTConfig] = {
    "S": dataclasses.replace(_DINOV2, width=384, depth=12, heads=6, mlp_width=1536),
    "B": dataclasses.replace(_DINOV2, width=768, depth=12, heads=12, mlp_width=3072),
    "L": dataclasses.replace(_DINOV2, width=1024, depth=24, heads=16, mlp_width=4096),
}
OFF: Mapping[str, Any] = {
    "observer": "minmax",
    "float_share": 0.0,
    "rotate": False,
    "center": False,
    "center_attention": False,
    "class_token": False,
    "class_token_share": False,
    "equalize": False,
    "row_gain": False,
    "smooth": False,
    "bias_correction": False,
    "rounding": "nearest",
}
"""Every method of the recipe off, and no site left float."""

NNCF, NNCF_TRANSFORMER = "NNCF default", "NNCF transformer"
OURS, OURS_OFF = "ours", "ours, every method off"
CHANGES: Mapping[str, Mapping[str, Any]] = {
    OURS_OFF: OFF,
    "ours, no float sites": {"float_share": 0.0},
    "ours without the rotation": {"rotate": False},
    OURS: {},
}
ENGINES = (NNCF, NNCF_TRANSFORMER, *CHANGES)


def make_planted(shape: str, images: torch.Tensor) -> Model:
    """A model of one of ``SHAPES``; says what its stream holds."""
    config = SHAPES[shape]
    model = make_model(config)
    planted = plant_massive(model, images, first=config.depth // 3, last=config.depth - 2)
    model = dataclasses.replace(model, source=dataclasses.replace(model.source, sha256=f"massive {shape} {planted!r}"))
    stream = read_stream(model.module, images)  # type: ignore[arg-type]
    middle = stream[(planted.first + planted.last) // 2].abs()
    ordinary = torch.ones(config.tokens, dtype=torch.bool)
    ordinary[list(planted.tokens)] = False
    print(
        f"{shape}: {len(planted.tokens)} of {config.tokens} tokens massive in blocks {planted.first} to"
        f" {planted.last - 1}: magnitudes there up to {float(middle.max()):.0f}, median {float(middle.median()):.2f},"
        f" other tokens up to {float(middle[:, ordinary].max()):.1f}; behind block {planted.last}"
        f" up to {float(stream[planted.last].abs().max()):.1f}",
        flush=True,
    )
    return model


def export_float(model: Model, path: Path) -> Path:
    """The unfolded module as ONNX for the peers: ``(1, 3, H, W) float32``, normalised, in."""
    with quiet():
        torch.onnx.export(
            model.module, (torch.zeros(1, 3, *model.config.image_size),), str(path), opset_version=18, dynamo=False
        )
    return path


def open_engine(path: Path, model: Model, normalised: bool) -> Run:
    """All outputs of an engine in OpenVINO, float arithmetic in float32."""
    import openvino

    config = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(str(path), "CPU", config)

    def run(pixels: Pixels) -> list[Values]:
        fed: Any = pixels
        if normalised:
            fed = np.ascontiguousarray(model.preprocess.normalize(pixels).transpose(0, 3, 1, 2), np.float32)
        answers = compiled({0: fed})
        return [np.array(answers[index]) for index in range(len(compiled.outputs))]

    return run


def make_engine(name: str, model: Model, images: ImageSet, calibration: list[Pixels], work: Path) -> tuple[Run, str]:
    """The engine of a name, and how many of its sites are INT8."""
    if name in CHANGES:
        recipe = load_recipe("default")
        quantization = dataclasses.replace(recipe.quantization, **CHANGES[name])
        recipe = dataclasses.replace(recipe, task=model.task, quantization=quantization)
        made = prepare_quantized(
            "int8", model, load_target(TARGET), recipe, images, StageCache(work / "cache"), ignore_progress
        )
        sites = made.record.sites
        print(f"  {name}: float {[site.name for site in sites if site.precision == 'float']}", flush=True)
        int8 = sum(site.precision == "int8" for site in sites)
        return open_engine(made.path, model, normalised=False), f"{int8} of {len(sites)}"
    source, out = work / "float.onnx", work / f"{name.replace(' ', '-')}.xml"
    export_float(model, source)
    quantize_nncf(source, out, calibration, model.preprocess, plain=name == NNCF)
    return open_engine(out, model, normalised=True), "–"


def measure_sqnr(run: Run, reference: list[list[Values]], judged: list[Pixels]) -> tuple[float, float]:
    """In dB: of the mean over the outputs of noise over signal, and of the worst output."""
    noise, signal = np.zeros(len(reference[0])), np.zeros(len(reference[0]))
    for pixels, wanted in zip(judged, reference, strict=True):
        for place, (answer, value) in enumerate(zip(run(pixels), wanted, strict=True)):
            noise[place] += np.square(answer.astype(np.float64) - value).sum()
            signal[place] += np.square(value.astype(np.float64)).sum()
    ratios = noise / signal
    return -10 * float(np.log10(ratios.mean())), -10 * float(np.log10(ratios.max()))


def main() -> int:
    """Read the command line, print the table; gives 1 where a bar is missed."""
    options = _parse()
    assets = find_assets()
    if assets is None:
        print("nothing to do: the assets are absent, set EDGEVIT_ASSETS")
        return 0
    machine = describe_machine()
    print(f"{machine.cpu}, {machine.isa}; openvino {version('openvino')}, nncf {version('nncf')}", flush=True)
    folder = assets / "imagenet"
    calibration_set = ImageSet.read(folder / "calibration.csv").subset(options.calibration, seed=0)
    judged_set = ImageSet.read(folder / "validation.csv").subset(options.validation, seed=0)
    rows, held = [], True
    for shape in options.shapes:
        preprocess = make_model(dataclasses.replace(SHAPES["S"], depth=1)).preprocess
        calibration, judged = (
            [batch.pixels for batch in images.batches(preprocess, 1)] for images in (calibration_set, judged_set)
        )
        normalised = preprocess.normalize(np.concatenate(calibration[:8])).transpose(0, 3, 1, 2)
        planted = make_planted(shape, torch.from_numpy(np.ascontiguousarray(normalised, np.float32)))
        for task in options.tasks:
            model = select_task(planted, Task(task))
            truth = run_outputs(model)
            reference = [list(truth(pixels)) for pixels in judged]
            work = options.work / f"{shape}-{task}"
            work.mkdir(parents=True, exist_ok=True)
            for name in options.engines:
                run, sites = make_engine(name, model, calibration_set, calibration, work)
                decibels, worst = measure_sqnr(run, reference, judged)
                held &= decibels >= OURS_BAR if name == OURS else name not in (NNCF, OURS_OFF) or decibels < PLAIN_BAR
                rows.append(f"| {shape} | {task} | {name} | {sites} | {decibels:.1f} dB | {worst:.1f} dB |")
                print(rows[-1], flush=True)
    print("\n| shape | task | engine | sites in INT8 | SQNR | worst output |\n|" + " --- |" * 6)
    print("\n".join(rows))
    print(f"bars (plain < {PLAIN_BAR:g} dB, ours ≥ {OURS_BAR:g} dB): {'held' if held else 'MISSED'}")
    return 0 if held else 1


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", default=list(SHAPES), choices=list(SHAPES))
    parser.add_argument("--tasks", nargs="+", default=["embed", "features"], choices=["embed", "features"])
    parser.add_argument("--engines", nargs="+", default=list(ENGINES), choices=list(ENGINES), metavar="NAME")
    parser.add_argument("--calibration", type=int, default=32)
    parser.add_argument("--validation", type=int, default=32)
    parser.add_argument("--work", type=Path, default=Path("bench-work/massive"))
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
