"""Builder flags for TensorRT 8.6, against a library of plain objects that records what is set."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnx
import pytest

from edgevit.core.target import load_target
from edgevit.engines.fusion_file import load_fusion
from edgevit.engines.tensorrt.backend import TENSORRT
from edgevit.engines.tensorrt.builder_flags import allow_precision, create_network, share_profiles
from tests.support.gpu_double import Machine
from tests.support.tiny_onnx import write_classifier


class Layer:
    def __init__(self, name: str, kind: str, outputs: tuple[str, ...] = ("float32",)) -> None:
        self.name, self.type, self.precision = name, kind, None
        self.kinds = outputs
        self.set: dict[int, str] = {}

    @property
    def num_outputs(self) -> int:
        return len(self.kinds)

    def get_output(self, place: int) -> Any:
        return SimpleNamespace(dtype=self.kinds[place])

    def set_output_type(self, place: int, kind: str) -> None:
        self.set[place] = kind


class Network(list[Layer]):
    @property
    def num_layers(self) -> int:
        return len(self)

    def get_layer(self, place: int) -> Layer:
        return self[place]


class Config:
    def __init__(self) -> None:
        self.flags: list[str] = []
        self.features: dict[str, bool] = {}

    def set_flag(self, flag: str) -> None:
        self.flags.append(flag)

    def set_preview_feature(self, feature: str, enable: bool) -> None:
        self.features[feature] = enable


LIBRARY = SimpleNamespace(
    float32="float32",
    float16="float16",
    BuilderFlag=SimpleNamespace(FP16="FP16", INT8="INT8", OBEY_PRECISION_CONSTRAINTS="OBEY"),
    LayerType=SimpleNamespace(NORMALIZATION="norm", CONSTANT="constant", QUANTIZE="q", DEQUANTIZE="dq"),
    NetworkDefinitionCreationFlag=SimpleNamespace(EXPLICIT_BATCH=0, STRONGLY_TYPED=2),
)


def allow(precision: str, network: Network, wide: tuple[str, ...] = ()) -> list[str]:
    config = Config()
    allow_precision(LIBRARY, network, config, precision, wide)
    return config.flags


@pytest.mark.parametrize(("precision", "flags"), [("fp32", []), ("fp16", ["FP16"]), ("int8", ["FP16", "INT8"])])
def test_flags_are_those_of_the_precision(precision: str, flags: list[str]) -> None:
    assert allow(precision, Network([Layer("fc1", "matmul")])) == flags


def test_layer_norms_and_wide_nodes_are_pinned_and_nothing_else() -> None:
    norm, wide, other = Layer("norm1", "norm"), Layer("blocks.0/add", "elementwise"), Layer("fc1", "matmul")
    assert allow("fp16", Network([norm, wide, other]), ("blocks.0/add",)) == ["FP16", "OBEY"]
    assert (norm.precision, wide.precision, other.precision) == ("float32", "float32", None)
    assert (wide.set, other.set) == ({0: "float32"}, {})


def test_quantisers_and_whole_numbers_keep_their_types() -> None:
    pair, shape = Layer("x/quantize", "q", ("int8",)), Layer("x/shape", "shape", ("int64",))
    allow("int8", Network([pair, shape]), ("x/quantize", "x/shape"))
    assert (pair.precision, pair.set, shape.set) == (None, {}, {})


@pytest.mark.parametrize(("strongly_typed", "flag"), [(True, 4), (False, 1)])
def test_network_is_strongly_typed_where_the_version_takes_it(strongly_typed: bool, flag: int) -> None:
    seen: list[int] = []
    builder = SimpleNamespace(create_network=seen.append)
    create_network(LIBRARY, builder, strongly_typed=strongly_typed)
    assert seen == [flag]


def test_streams_may_share_a_profile_which_tensorrt_8_has_to_be_told() -> None:
    """Without it a second execution context of an engine with a range of batches has no profile to run with."""
    config, library = Config(), SimpleNamespace(PreviewFeature=SimpleNamespace(PROFILE_SHARING_0806="share"))
    share_profiles(library, config)
    assert config.features == {"share": True}
    for later in (SimpleNamespace(), SimpleNamespace(PreviewFeature=SimpleNamespace(ALIASED_PLUGIN_IO_10_03="x"))):
        share_profiles(later, config)
    assert config.features == {"share": True}, "later releases share them anyway"


def test_layers_of_tensorrt_are_those_that_the_engine_s_inspector_lists(orin: Machine, tmp_path: Path) -> None:
    TENSORRT.compile(write_classifier(tmp_path / "model.onnx"), load_target("jetson"), "fp16", tmp_path, {})
    record = load_fusion(tmp_path)
    assert record is not None
    nodes = onnx.load(tmp_path / "typed.onnx").graph.node
    assert record.layers == len(nodes)
    assert record.compiler == "tensorrt 10.3.0"
