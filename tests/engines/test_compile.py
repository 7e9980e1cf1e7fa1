from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from edgevit.core.engine import load_engine
from edgevit.core.errors import CompileError, OutputError, TargetError
from edgevit.core.schema import FieldError
from edgevit.core.target import load_target
from edgevit.engines import get_backend
from edgevit.engines.compile import compile_engine
from tests.support.tiny_onnx import write_classifier

CPU = load_target("cpu")


def test_engine_can_be_loaded_by_another_process(tmp_path: Path) -> None:
    engine = compile_engine(write_classifier(tmp_path / "m.onnx"), CPU, "fp32", tmp_path / "deep" / "engine")
    assert load_engine(tmp_path / "deep" / "engine") == engine


def test_settings_override_the_targets_which_override_the_backends(tmp_path: Path) -> None:
    target = dataclasses.replace(CPU, settings={"hint": "throughput", "streams": 2})
    model = write_classifier(tmp_path / "m.onnx")
    engine = compile_engine(model, target, "fp32", tmp_path / "engine", settings={"streams": 3})
    assert engine.settings == {"hint": "throughput", "streams": 3}


def test_wrong_setting_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CompileError, match="did you mean streams"):
        compile_engine(write_classifier(tmp_path / "m.onnx"), CPU, "fp32", tmp_path / "engine", settings={"stream": 3})


def test_precision_that_the_target_lacks_is_refused_with_those_it_has(tmp_path: Path) -> None:
    with pytest.raises(CompileError, match="cpu does not support fp8") as caught:
        compile_engine(write_classifier(tmp_path / "m.onnx"), CPU, "fp8", tmp_path / "engine")
    assert "fp32, fp16, int8" in caught.value.hint


def test_range_for_a_target_with_fixed_batch_is_refused(tmp_path: Path) -> None:
    target = dataclasses.replace(CPU, dynamic_batch=False)
    model = write_classifier(tmp_path / "m.onnx", batch="batch")
    with pytest.raises(CompileError, match="one fixed batch"):
        compile_engine(model, target, "fp32", tmp_path / "engine", batch=(1, 2, 4))


def test_backend_that_this_version_lacks_is_refused_with_those_it_has() -> None:
    with pytest.raises(TargetError, match="no coreml backend") as caught:
        get_backend("coreml")
    assert "openvino, onnxruntime" in caught.value.hint
    with pytest.raises(FieldError, match="backend = 'coreml' is not one of openvino, onnxruntime"):
        dataclasses.replace(load_target("jetson"), backend="coreml")  # type: ignore[arg-type]


def test_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match="cannot be written"):
        compile_engine(write_classifier(tmp_path / "m.onnx"), CPU, "fp32", tmp_path / "file" / "engine")


def test_model_of_another_form_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    import onnx

    model = onnx.load(write_classifier(tmp_path / "m.onnx"))
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    onnx.save(model, tmp_path / "float_input.onnx")
    with pytest.raises(CompileError, match="type float32, not uint8"):
        compile_engine(tmp_path / "float_input.onnx", CPU, "fp32", tmp_path / "engine")
    assert not (tmp_path / "engine").exists()
