"""What an ONNX file reads beside itself is found as the package onnx finds it, and a bundle must list it."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgevit.core.engine import Engine
from edgevit.core.errors import BundleError
from edgevit.core.target import load_target
from edgevit.engines.compile import compile_engine
from edgevit.runtime.onnx_references import list_references
from edgevit.runtime.session import open_engine
from tests.support.tiny_onnx import make_images, write_classifier


def make_external(name: str, location: str) -> TensorProto:
    tensor = numpy_helper.from_array(np.zeros((2, 2), np.float32), name)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("offset", "0"), ("location", location), ("length", "16")):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    return tensor


def test_references_are_found_wherever_a_tensor_may_stand(tmp_path: Path) -> None:
    inner = helper.make_graph([], "inner", [], [], initializer=[make_external("b", "in a branch/ß.bin")])
    sparse = onnx.SparseTensorProto(values=make_external("c", "values"), indices=make_external("d", "indices"))
    nodes = [
        helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=helper.make_graph([], "empty", [], [])),
        helper.make_node("Constant", [], ["z"], value=make_external("e", "constant")),
    ]
    graph = helper.make_graph(nodes, "g", [], [], initializer=[make_external("a", "weights"), *inner.initializer])
    graph.sparse_initializer.append(sparse)
    function = helper.make_function(
        "own", "f", [], [], [helper.make_node("Constant", [], ["z"], value=make_external("f", "function"))], []
    )
    model = helper.make_model(graph, functions=[function])
    onnx.save(model, tmp_path / "model.onnx")
    wanted = {"weights", "in a branch/ß.bin", "values", "indices", "constant", "function"}
    found = list_references(tmp_path / "model.onnx")
    assert set(found) == wanted
    assert len(found) == len(wanted)


def test_file_with_all_weights_inside_reads_nothing_else(tmp_path: Path) -> None:
    assert list_references(write_classifier(tmp_path / "model.onnx")) == ()


@given(data=st.data())
def test_damaged_file_is_refused_or_read_to_its_end(data: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    whole = helper.make_model(helper.make_graph([], "g", [], [], initializer=[make_external("a", "w")]))
    content = bytearray(whole.SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (folder / "model.onnx").write_bytes(bytes(content[: data.draw(st.integers(1, len(content)))]))
    try:
        found = list_references(folder / "model.onnx")
    except ValueError:
        return
    assert isinstance(found, tuple)


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return compile_engine(write_classifier(tmp_path / "model.onnx"), load_target("cpu"), "fp32", tmp_path / "engine")


def move_weights(engine: Engine, name: str) -> None:
    model = onnx.load(engine.path)
    onnx.save(model, engine.path, save_as_external_data=True, location=name, size_threshold=64)


@pytest.mark.parametrize("name", ["model.data", "weights.bin"])
def test_weights_that_the_bundle_does_not_list_are_not_loaded(engine: Engine, name: str) -> None:
    images = make_images(2)
    with open_engine(engine) as session:
        wanted = session.run(images)
    move_weights(engine, name)
    with pytest.raises(BundleError, match=f"does not list:\n  {name}"):
        open_engine(engine)
    with open_engine(dataclasses.replace(engine, files=(*engine.files, name))) as session:
        np.testing.assert_array_equal(session.run(images), wanted)


def test_weights_beside_an_openvino_model_must_be_listed(tmp_path: Path) -> None:
    model = write_classifier(tmp_path / "model.onnx")
    engine = compile_engine(model, load_target("intel-cpu"), "fp32", tmp_path / "engine")
    shutil.copy(engine.path, engine.path.with_name("other.xml"))
    with pytest.raises(BundleError, match=r"model\.bin holds weights"):
        open_engine(dataclasses.replace(engine, files=("model.xml",)))
