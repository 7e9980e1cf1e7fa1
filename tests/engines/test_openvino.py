from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

from edgevit.core.engine import Engine
from edgevit.core.errors import CompileError, DeviceError, MissingPackageError
from edgevit.core.packages import install_line
from edgevit.core.target import load_target
from edgevit.engines import openvino as backend
from edgevit.engines.compile import compile_engine
from edgevit.runtime import openvino as runtime
from edgevit.runtime.session import open_engine
from tests.support.tiny_onnx import compute_logits, make_images, make_weights, write_classifier

pytest.importorskip("openvino")

TARGET = load_target("intel-cpu")


def _compile(tmp_path: Path, precision: str = "fp32", **options: object) -> Engine:
    model = write_classifier(tmp_path / "float.onnx")
    return compile_engine(model, TARGET, precision, tmp_path / "engine", **options)  # type: ignore[arg-type]


def _error(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def test_fp32_engine_computes_in_float32_even_where_the_cpu_has_bf16(tmp_path: Path) -> None:
    images = make_images(1)
    with open_engine(_compile(tmp_path)) as session:
        assert _error(session.run(images), compute_logits(images)) < 2e-6
        assert session.settings["inference_precision"] == "f32"


def test_fp16_engine_equals_the_model_with_rounded_weights(tmp_path: Path) -> None:
    images = make_images(1)
    rounded = {name: w.astype(np.float16).astype(np.float32) for name, w in make_weights().items()}
    engine = _compile(tmp_path, "fp16")
    with open_engine(engine) as session:
        logits = session.run(images)
    assert _error(logits, compute_logits(images, rounded)) < 2e-6
    assert _error(logits, compute_logits(images)) > 1e-5
    parameters = sum(w.size for w in make_weights().values())
    weights_bytes = (engine.directory / "model.bin").stat().st_size
    assert 2 * parameters <= weights_bytes < 3 * parameters


def test_engine_describes_its_input_and_output(tmp_path: Path) -> None:
    engine = _compile(tmp_path)
    assert engine.inputs[0].name == "image"
    assert engine.inputs[0].shape == (1, 16, 16, 3)
    assert engine.inputs[0].dtype == "uint8"
    assert engine.outputs[0].name == "logits"
    assert engine.outputs[0].shape == (1, 10)
    assert engine.outputs[0].dtype == "float32"
    assert engine.batch == (1, 1, 1)
    assert engine.files == ("model.xml", "model.bin")
    assert engine.size_bytes == sum(p.stat().st_size for p in (tmp_path / "engine").glob("model.*"))
    assert engine.versions == runtime.read_versions()


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_files_are_the_same_bytes_when_compiled_twice_in_one_process(tmp_path: Path, precision: str) -> None:
    model = write_classifier(tmp_path / "float.onnx")
    first = compile_engine(model, TARGET, precision, tmp_path / "a")
    second = compile_engine(model, TARGET, precision, tmp_path / "b")
    for name in first.files:
        assert (first.directory / name).read_bytes() == (second.directory / name).read_bytes()


def test_model_info_is_written_where_model_api_reads_it(tmp_path: Path) -> None:
    info = {"model_type": "Classification", "labels": "cat dog_house"}
    engine = _compile(tmp_path, model_info=info)
    tree = ElementTree.parse(engine.path)
    written = {item.tag: item.get("value") for item in tree.findall("./rt_info/model_info/*")}
    assert written == info


def test_input_layout_is_recorded(tmp_path: Path) -> None:
    import openvino

    model = openvino.Core().read_model(str(_compile(tmp_path).path))
    assert openvino.layout_helpers.get_layout(model.inputs[0]) == openvino.Layout("NHWC")


@pytest.mark.parametrize("count", [1, 2, 3, 4, 9])
def test_symbolic_batch_takes_every_size_in_and_beyond_its_range(tmp_path: Path, count: int) -> None:
    model = write_classifier(tmp_path / "float.onnx", batch="batch")
    engine = compile_engine(model, TARGET, "fp32", tmp_path / "engine", batch=(2, 3, 4))
    images = make_images(count)
    assert engine.inputs[0].shape == ("batch", 16, 16, 3)
    with open_engine(engine) as session:
        logits = session.run(images)
    assert logits.shape == (count, 10)
    assert _error(logits, compute_logits(images)) < 2e-6


def test_symbolic_batch_of_one_size_becomes_fixed(tmp_path: Path) -> None:
    model = write_classifier(tmp_path / "float.onnx", batch="batch")
    engine = compile_engine(model, TARGET, "fp32", tmp_path / "engine", batch=(4, 4, 4))
    assert engine.inputs[0].shape == (4, 16, 16, 3)
    assert engine.outputs[0].shape == (4, 10)


def test_damaged_model_raises_with_the_compilers_own_words(tmp_path: Path) -> None:
    model = tmp_path / "float.onnx"
    model.write_bytes(write_classifier(tmp_path / "whole.onnx").read_bytes()[:500])
    with pytest.raises(CompileError, match="cannot read") as caught:
        compile_engine(model, TARGET, "fp32", tmp_path / "engine")
    assert len(caught.value.message.splitlines()) > 1


def test_unknown_operator_raises_naming_it(tmp_path: Path) -> None:
    import onnx

    model = onnx.load(write_classifier(tmp_path / "float.onnx"))
    next(node for node in model.graph.node if node.op_type == "Gelu").op_type = "Frobnicate"
    onnx.save(model, tmp_path / "odd.onnx")
    with pytest.raises(CompileError, match="Frobnicate"):
        compile_engine(tmp_path / "odd.onnx", TARGET, "fp32", tmp_path / "engine")


def test_absent_device_raises_naming_those_that_are_here(tmp_path: Path) -> None:
    if any(device.startswith("NPU") for device in runtime.list_devices()):
        pytest.skip("this machine has an NPU")
    model = write_classifier(tmp_path / "float.onnx")
    with pytest.raises(DeviceError, match=r"no device NPU.*CPU"):
        backend.check(model, load_target("intel-npu"))


def test_absent_package_raises_with_the_install_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingPackageError) as caught:
        backend.check(tmp_path / "float.onnx", TARGET)
    assert caught.value.hint == install_line("openvino")


def test_unwritable_weights_raise_output_error(tmp_path: Path) -> None:
    from edgevit.core.errors import OutputError

    (tmp_path / "engine" / "model.bin").mkdir(parents=True)
    with pytest.raises(OutputError, match="cannot be written"):
        _compile(tmp_path)


def test_compiling_and_running_prints_nothing(tmp_path: Path) -> None:
    model = write_classifier(tmp_path / "float.onnx")
    code = f"""
import numpy as np
from pathlib import Path
from edgevit.engines.compile import compile_engine
from edgevit.runtime import open_engine
from edgevit.core.target import load_target
engine = compile_engine(Path({str(model)!r}), load_target("intel-cpu"), "fp32", Path({str(tmp_path / "engine")!r}))
with open_engine(engine) as session:
    session.run(np.zeros((1, 16, 16, 3), np.uint8))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    assert done.stderr == ""
