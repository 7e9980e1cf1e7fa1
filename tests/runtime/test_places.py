"""What each engine library tells of the place in which it answers."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from edgevit.core.isa import LIMIT_VARIABLE, TIERS, list_tiers, read_tier
from edgevit.runtime.processor_name import read_name
from edgevit.runtime.session import get_runtime
from edgevit.runtime.tensorrt.open_plan import TENSORRT
from tests.support.gpu_double import ORIN, Machine
from tests.support.places import describe


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_a_cpu_is_told_by_name_instruction_set_and_arithmetic(backend: str) -> None:
    place = describe(backend)
    assert place.version == get_runtime(backend).read_versions()[backend]
    assert place.device
    assert place.driver is None
    assert place.settings == {"inference_precision": "f32"}, "how fast an answer comes is no part of it"


def test_the_two_libraries_obey_different_limits() -> None:
    """oneDNN's reaches OpenVINO, and not ONNX Runtime's own kernels."""
    able = [name for name in list_tiers(limit="") if TIERS[name].limit is not None]
    if platform.machine() != "x86_64" or len(able) < 2:
        pytest.skip("this machine has no two tiers that oneDNN can be limited to")
    code = (
        "import json; from edgevit.core.schema import to_data; from tests.support.places import describe; "
        "print(json.dumps([to_data(describe(b))['instruction_set'] for b in ('openvino', 'onnxruntime')]))"
    )
    environment = {**os.environ, LIMIT_VARIABLE: str(TIERS[able[0]].limit)}
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], env=environment, cwd=root, capture_output=True, check=True)
    assert json.loads(done.stdout) == [able[0], able[-1]]
    assert read_tier() in able


def test_a_device_of_openvino_that_is_no_cpu_has_its_driver_and_no_instruction_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Core:
        def get_property(self, device: str, name: str) -> object:
            assert device == "GPU.1"
            told = {"FULL_DEVICE_NAME": "Intel(R) Arc(TM) A380 Graphics (dGPU)", "GPU_DRIVER_VERSION": "24.35.30872"}
            return {**told, "SUPPORTED_PROPERTIES": dict.fromkeys(told, "RO")}[name]

    monkeypatch.setattr("edgevit.runtime.openvino.get_core", Core)
    place = describe("openvino", "GPU.1")
    assert (place.device, place.driver) == ("Intel(R) Arc(TM) A380 Graphics (dGPU)", "24.35.30872")
    assert place.instruction_set is None


def test_a_gpu_is_told_by_name_and_size_and_its_driver(orin: Machine) -> None:
    place = describe("tensorrt", "Orin")
    assert place.device == f"{ORIN.name}, {ORIN.compute_capability}, {ORIN.multiprocessors} multiprocessors"
    assert place.driver is not None
    assert "CUDA 12.6" in place.driver
    assert place.version == TENSORRT.read_versions()["tensorrt"]
    assert place.instruction_set is None


def test_the_processors_name_is_the_kernels(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text(
        "processor\t: 0\nmodel name\t: Intel(R) N100\n\nprocessor\t: 1\nmodel name\t: Intel(R) N100\n"
    )
    assert read_name(tmp_path) == "Intel(R) N100"
    assert read_name(tmp_path / "nowhere") == (platform.processor() or None)
