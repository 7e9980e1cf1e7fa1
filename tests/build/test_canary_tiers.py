"""A bundle under every instruction set that this machine has, in processes of their own: right, or refused.

OpenVINO alone obeys the limit. The first model is made to saturate where products of u8 and i8 are added in 16 bits;
the second is the demonstration ViT, as a build quantises it.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgevit.build.build import build_model
from edgevit.build.canary import make_canary
from edgevit.build.evidence import Evidence
from edgevit.build.pack import pack_bundle
from edgevit.build.tier_process import run_under
from edgevit.cli.demo_models import MODELS, write_digits
from edgevit.core.engine import TensorSpec
from edgevit.core.isa import LIMIT_VARIABLE, TIERS, TierName, list_tiers
from edgevit.core.quantization import Quantization
from edgevit.core.recipe import Recipe
from edgevit.core.report.place import CANARY_FILE
from edgevit.core.target import load_target, read_architecture
from edgevit.engines.compile import compile_engine
from edgevit.pixels.images import ImageSet
from edgevit.runtime.bundle import Bundle, load_bundle
from tests.support.tiny_bundle import PREPROCESS, make_manifest
from tests.support.tiny_onnx import CLASSES, SIZE

pytest.importorskip("openvino")
HERE = list_tiers(limit="")
UNDER = [name for name in HERE if TIERS[name].limit is not None]
if read_architecture() != "x86_64" or not UNDER:
    pytest.skip("oneDNN's limit is for x86-64, and needs a kernel that tells its flags", allow_module_level=True)

CHILD = """
import json, sys
import numpy as np
from edgevit.core.errors import DeviceError
from edgevit.runtime import open_bundle
from edgevit.runtime.openvino import OpenVINOExecutor

path, pixels, out, check = sys.argv[1:]
count, execute = [0], OpenVINOExecutor.execute

def counted(self, batch):
    count[0] += 1
    return execute(self, batch)

OpenVINOExecutor.execute = counted
try:
    with open_bundle(path, check=check, settings={"threads": 1}) as predictor:
        said = {"status": predictor.canary.status, "inferences": count[0], "db": predictor.canary.sqnr_db}
        np.save(out, predictor.run(np.load(pixels)))
except DeviceError as exc:
    said = {"status": "refused", "inferences": count[0], "error": exc.message}
print(json.dumps(said))
"""

Open = Callable[..., tuple[Mapping[str, Any], "np.ndarray[Any, Any] | None"]]


@pytest.fixture
def open_under(tmp_path: Path) -> Open:
    """Open a bundle in a process that is limited to a tier: what its canary did, and its answers to some pixels."""

    def run(tier: TierName, bundle: Path, pixels: np.ndarray[Any, Any], check: str = "auto") -> Any:
        np.save(tmp_path / "pixels.npy", pixels)
        out = tmp_path / "answers.npy"
        out.unlink(missing_ok=True)
        environment = {**os.environ, LIMIT_VARIABLE: str(TIERS[tier].limit), "EDGEVIT_CACHE": str(tmp_path / "memory")}
        command = [sys.executable, "-c", CHILD, str(bundle), str(tmp_path / "pixels.npy"), str(out), check]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout), np.load(out) if out.exists() else None

    return run


def sqnr(reference: np.ndarray[Any, Any], answers: np.ndarray[Any, Any]) -> float:
    noise = ((reference.astype(float) - answers) ** 2).sum()
    return float(10 * np.log10((reference.astype(float) ** 2).sum() / noise)) if noise else np.inf


# --- a product that overflows 16 bits ---

WIDTH = SIZE * SIZE * 3


def write_loud(path: Path) -> Path:
    """``image`` to ``logits``, an INT8 product of large codes of a sign: 2 · 255 · 127 is twice what 16 bits hold."""
    weight = np.random.default_rng(0).integers(90, 128, (WIDTH, CLASSES)).astype(np.int8)
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["pixels", "flat"], ["row"]),
        helper.make_node("QuantizeLinear", ["row", "one", "zero"], ["codes"]),
        helper.make_node("DequantizeLinear", ["codes", "one", "zero"], ["values"]),
        helper.make_node("DequantizeLinear", ["weight", "step", "no_shift"], ["matrix"], axis=1),
        helper.make_node("MatMul", ["values", "matrix"], ["logits"]),
    ]
    constants: dict[str, np.ndarray[Any, Any]] = {
        "flat": np.array([1, WIDTH], np.int64),
        "one": np.array(1, np.float32),
        "zero": np.array(0, np.uint8),
        "weight": weight,
        "step": np.full(CLASSES, 1e-5, np.float32),
        "no_shift": np.zeros(CLASSES, np.int8),
    }
    graph = helper.make_graph(
        nodes,
        "loud",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, (1, SIZE, SIZE, 3))],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, (1, CLASSES))],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


def compute_loud(pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    weight = np.random.default_rng(0).integers(90, 128, (WIDTH, CLASSES))
    return (pixels.reshape(len(pixels), -1).astype(float) @ weight * 1e-5).astype(np.float32)


@pytest.fixture(scope="module")
def loud(tmp_path_factory: pytest.TempPathFactory) -> tuple[Bundle, np.ndarray[Any, Any]]:
    """The bundle, judged under all that this machine has, and bright pixels."""
    folder = tmp_path_factory.mktemp("loud")
    pixels = np.random.default_rng(1).integers(200, 256, (5, SIZE, SIZE, 3)).astype(np.uint8)
    engine = compile_engine(write_loud(folder / "loud.onnx"), load_target("intel-cpu"), "int8", folder / "engine")
    made = make_canary(engine, Evidence(PREPROCESS, pixels, (compute_loud(pixels),)))
    assert made is not None
    files: dict[str, Path | bytes] = {name: engine.directory / name for name in engine.files}
    outputs = (TensorSpec("logits", (1, CLASSES), "float32"),)
    manifest = make_manifest(
        engine=engine, target=load_target("intel-cpu"), precision="int8", outputs=outputs, canary=made[1]
    )
    return pack_bundle(folder / "out", files={**files, CANARY_FILE: made[0]}, manifest=manifest), pixels


@pytest.mark.skipif(TIERS[HERE[-1]].saturates, reason="this machine saturates itself, so it judged the bundle so")
@pytest.mark.parametrize("tier", UNDER)
def test_a_product_that_overflows_is_refused_where_it_does_and_answered_once_elsewhere(
    tier: str, loud: tuple[Bundle, np.ndarray[Any, Any]], open_under: Open
) -> None:
    bundle, pixels = loud
    said, answers = open_under(tier, bundle.path, pixels)
    if TIERS[tier].saturates:  # type: ignore[index]
        assert said["status"] == "refused", "never silently wrong"
        assert answers is None
        _, wrong = open_under(tier, bundle.path, pixels, "never")
        if wrong is None:  # SSE4.1: OpenVINO itself does not open it
            assert "cannot open" in said["error"]
            return
        assert sqnr(compute_loud(pixels), wrong) < 20, "it was refused for a reason"
        assert f"instruction set {tier}" in said["error"]
        assert said["inferences"] == 3
        return
    assert said["status"] == ("same place" if tier == HERE[-1] else "passed")
    assert said["inferences"] == (0 if tier == HERE[-1] else 3)
    assert answers is not None
    np.testing.assert_allclose(answers, compute_loud(pixels), rtol=1e-5)
    again, _ = open_under(tier, bundle.path, pixels)
    assert again["inferences"] == 0


@pytest.mark.parametrize("tier", UNDER[1:2])  # OpenVINO opens no INT8 under SSE4.1
def test_a_canary_that_is_made_under_older_instructions_says_so(
    tier: TierName, loud: tuple[Bundle, np.ndarray[Any, Any]]
) -> None:
    """As a build does for a target that names them."""
    bundle, pixels = loud
    made = run_under(tier, make_canary, bundle.engine, Evidence(PREPROCESS, pixels, (compute_loud(pixels),)))
    assert made is not None
    assert made[1].place is not None
    assert made[1].place.instruction_set == tier
    assert bundle.manifest.canary is not None
    assert bundle.manifest.canary.place is not None
    assert bundle.manifest.canary.place.instruction_set == HERE[-1]


# --- a build ---


@functools.cache
def build_digits(folder: Path) -> tuple[Bundle, np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """INT8 of the demonstration ViT, and the float model's answers to images that it was not calibrated on."""
    from edgevit.checkpoints import read_checkpoint
    from edgevit.measure.reference import run_outputs

    files = write_digits(folder / "digits")
    recipe = Recipe(
        precision="int8",
        latency_runs=2,
        latency_seconds=0.05,
        tune_settings=False,
        choice_images=40,
        quantization=Quantization(images=40),
    )
    built = build_model(
        MODELS["vit"], load_target("intel-cpu"), out=folder / "bundle", recipe=recipe, calibration=files.calibration
    )
    assert built.bundle is not None
    bundle = load_bundle(built.bundle)
    images = ImageSet.read(files.validation, labels=bundle.manifest.labels).subset(200, 0)
    pixels = np.concatenate([batch.pixels for batch in images.batches(bundle.manifest.preprocess, 16)])
    return bundle, pixels, run_outputs(read_checkpoint(MODELS["vit"]))(pixels)[0]


@pytest.mark.slow
@pytest.mark.parametrize("tier", UNDER)
def test_a_built_bundle_is_right_or_refused_and_not_refused_where_it_is_right(
    tier: str, open_under: Open, tmp_path_factory: pytest.TempPathFactory
) -> None:
    bundle, pixels, reference = build_digits(tmp_path_factory.getbasetemp() / "digits of tiers")
    record = bundle.manifest.canary
    assert record is not None
    assert record.sqnr_db is not None
    assert record.place is not None
    assert record.place.instruction_set == HERE[-1]
    _, best = open_under(HERE[-1], bundle.path, pixels, "never")
    assert best is not None
    faithful = sqnr(reference, best)
    said, answers = open_under(tier, bundle.path, pixels)
    assert said["inferences"] <= 3
    if answers is None:
        _, answers = open_under(tier, bundle.path, pixels, "never")
        assert answers is None or sqnr(reference, answers) < faithful - 3, "refused though it is right"
        return
    assert sqnr(reference, answers) > faithful - 3
    assert (answers.argmax(1) == reference.argmax(1)).mean() >= 0.99
    again, _ = open_under(tier, bundle.path, pixels)
    assert again["inferences"] == 0
