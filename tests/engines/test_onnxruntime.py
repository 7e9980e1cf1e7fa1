from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnx_ir
import pytest

from edgevit.core.engine import Engine
from edgevit.core.errors import CompileError, MissingPackageError
from edgevit.core.packages import install_line
from edgevit.core.target import load_target
from edgevit.engines import onnxruntime as backend
from edgevit.engines.compile import compile_engine
from edgevit.graph.graph import Graph
from edgevit.runtime import onnxruntime as runtime
from edgevit.runtime.session import open_engine
from tests.support.tiny_onnx import compute_logits, make_images, make_weights, write_classifier

TARGET = load_target("cpu")


def _compile(tmp_path: Path, precision: str = "fp32") -> Engine:
    return compile_engine(write_classifier(tmp_path / "float.onnx"), TARGET, precision, tmp_path / "engine")


def _error(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def test_fp32_engine_computes_the_model(tmp_path: Path) -> None:
    images = make_images(1)
    with open_engine(_compile(tmp_path)) as session:
        assert _error(session.run(images), compute_logits(images)) < 2e-6


def test_fp16_engine_equals_the_model_with_rounded_matrices(tmp_path: Path) -> None:
    images = make_images(1)
    rounded = {n: w.astype(np.float16).astype(np.float32) if w.ndim > 1 else w for n, w in make_weights().items()}
    with open_engine(_compile(tmp_path, "fp16")) as session:
        logits = session.run(images)
    assert _error(logits, compute_logits(images, rounded)) < 2e-6
    assert _error(logits, compute_logits(images)) > 1e-5


def test_fp16_engine_keeps_float_arithmetic_and_passes_the_checker(tmp_path: Path) -> None:
    model = onnx.load(_compile(tmp_path, "fp16").path)
    onnx.checker.check_model(model, full_check=True)
    casts = [node for node in model.graph.node if node.op_type == "Cast" and node.name.endswith(".widen")]
    assert len(casts) == sum(w.ndim > 1 for w in make_weights().values())
    halves = [t for t in model.graph.initializer if t.data_type == onnx.TensorProto.FLOAT16]
    assert len(halves) == len(casts)
    norm = next(node for node in model.graph.node if node.op_type == "LayerNormalization")
    kinds = {t.name: t.data_type for t in model.graph.initializer}
    assert kinds[norm.input[1]] == onnx.TensorProto.FLOAT


@pytest.mark.parametrize("value", [1e6, np.inf, np.nan])
def test_fp16_keeps_a_matrix_that_does_not_fit(tmp_path: Path, value: float) -> None:
    model = onnx.load(write_classifier(tmp_path / "float.onnx"))
    weight = next(t for t in model.graph.initializer if t.name == "fc2")
    numbers = onnx.numpy_helper.to_array(weight).copy()
    numbers[0, 0] = value
    weight.CopyFrom(onnx.numpy_helper.from_array(numbers, "fc2"))
    onnx.save(model, tmp_path / "large.onnx")
    engine = compile_engine(tmp_path / "large.onnx", TARGET, "fp16", tmp_path / "engine")
    kinds = {t.name: t.data_type for t in onnx.load(engine.path).graph.initializer}
    assert kinds["fc2"] == onnx.TensorProto.FLOAT
    assert kinds["fc1.fp16"] == onnx.TensorProto.FLOAT16


def test_engine_describes_its_input_and_output(tmp_path: Path) -> None:
    engine = _compile(tmp_path)
    assert (engine.inputs[0].name, engine.inputs[0].shape, engine.inputs[0].dtype) == ("image", (1, 16, 16, 3), "uint8")
    assert (engine.outputs[0].name, engine.outputs[0].shape, engine.outputs[0].dtype) == ("logits", (1, 10), "float32")
    assert engine.files == ("model.onnx",)
    assert engine.size_bytes == engine.path.stat().st_size


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_files_are_the_same_bytes_when_compiled_twice(tmp_path: Path, precision: str) -> None:
    model = write_classifier(tmp_path / "float.onnx")
    first = compile_engine(model, TARGET, precision, tmp_path / "a")
    second = compile_engine(model, TARGET, precision, tmp_path / "b")
    assert first.path.read_bytes() == second.path.read_bytes()


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_weights_beyond_the_inline_limit_lie_in_a_second_file_that_moves_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    monkeypatch.setattr(backend, "_INLINE_LIMIT_BYTES", 1000)
    images = make_images(1)
    engine = _compile(tmp_path, precision)
    assert engine.files == ("model.onnx", "model.data")
    moved = engine.directory.rename(tmp_path / "elsewhere")
    with open_engine(dataclasses.replace(engine, directory=moved)) as session:
        assert _error(session.run(images), compute_logits(images)) < 1e-2


def test_weights_that_lie_beside_the_source_are_not_read_into_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend, "_INLINE_LIMIT_BYTES", 1000)
    model = onnx.load(write_classifier(tmp_path / "float.onnx"))
    onnx.save(model, tmp_path / "split.onnx", save_as_external_data=True, location="split.data", size_threshold=1000)
    graph = Graph.load(tmp_path / "split.onnx")
    weights = [value.const_value for value in graph.model.graph.initializers.values()]
    large = [weight for weight in weights if weight.nbytes >= 1000]
    assert len(large) == 3
    assert all(isinstance(weight, onnx_ir.ExternalTensor) for weight in large)
    engine = compile_engine(tmp_path / "split.onnx", TARGET, "fp32", tmp_path / "engine")
    (tmp_path / "split.data").unlink()
    images = make_images(1)
    with open_engine(engine) as session:
        assert _error(session.run(images), compute_logits(images)) < 2e-6


def test_weights_in_a_second_file_are_taken_in_where_they_fit(tmp_path: Path) -> None:
    model = onnx.load(write_classifier(tmp_path / "float.onnx"))
    onnx.save(model, tmp_path / "split.onnx", save_as_external_data=True, location="split.data", size_threshold=1000)
    engine = compile_engine(tmp_path / "split.onnx", TARGET, "fp32", tmp_path / "engine")
    (tmp_path / "split.data").unlink()
    images = make_images(1)
    with open_engine(engine) as session:
        assert _error(session.run(images), compute_logits(images)) < 2e-6


@pytest.mark.parametrize("count", [1, 2, 4, 9])
def test_symbolic_batch_takes_every_size_in_and_beyond_its_range(tmp_path: Path, count: int) -> None:
    model = write_classifier(tmp_path / "float.onnx", batch="batch")
    engine = compile_engine(model, TARGET, "fp32", tmp_path / "engine", batch=(2, 3, 4))
    images = make_images(count)
    with open_engine(engine) as session:
        assert _error(session.run(images), compute_logits(images)) < 2e-6


def test_damaged_model_raises_with_the_compilers_own_words(tmp_path: Path) -> None:
    model = tmp_path / "float.onnx"
    model.write_bytes(write_classifier(tmp_path / "whole.onnx").read_bytes()[:500])
    with pytest.raises(CompileError, match="cannot open") as caught:
        compile_engine(model, TARGET, "fp32", tmp_path / "engine")
    assert len(caught.value.message.splitlines()) > 1


def test_absent_package_raises_with_the_install_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    runtime.import_onnxruntime.cache_clear()
    try:
        with pytest.raises(MissingPackageError) as caught:
            backend.check(tmp_path / "float.onnx", TARGET)
    finally:
        runtime.import_onnxruntime.cache_clear()
    assert caught.value.hint == install_line("onnxruntime")


def test_compiling_and_running_prints_nothing(tmp_path: Path) -> None:
    model = write_classifier(tmp_path / "float.onnx")
    code = f"""
import numpy as np
from pathlib import Path
from edgevit.engines.compile import compile_engine
from edgevit.runtime import open_engine
from edgevit.core.target import load_target
engine = compile_engine(Path({str(model)!r}), load_target("cpu"), "fp16", Path({str(tmp_path / "engine")!r}))
with open_engine(engine) as session:
    session.run(np.zeros((1, 16, 16, 3), np.uint8))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    assert done.stderr == ""
