"""A convolution's plan against torch: what its quantised form does to maps that it was not fitted on."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import pytest
import torch
from torch.nn import functional

from edgevit.core.quantization import Rounding
from edgevit.graph.graph import Graph
from edgevit.quantize.methods.conv_fit import fit_conv
from edgevit.quantize.placement import PLACEMENTS
from edgevit.quantize.plan import SitePlan
from edgevit.quantize.statistics import TensorStatistics

Values = npt.NDArray[np.float32]
CHANNELS, WRITTEN = 12, 16
CONVS: dict[str, dict[str, Any]] = {
    "pointwise": {"kernel": (1, 1)},
    "padded": {"kernel": (3, 3), "pads": (1, 1, 1, 1)},
    "strided": {"kernel": (3, 3), "pads": (0, 0, 1, 1), "strides": (2, 2)},
    "dilated": {"kernel": (3, 2), "dilations": (2, 3)},
}


def make_maps(count: int, seed: int) -> list[Values]:
    """Resized maps, as decoders have them: neighbours in a row are much alike, channels too, and some are louder."""
    generator = torch.Generator().manual_seed(seed)
    mixed = torch.randn(CHANNELS, CHANNELS, generator=torch.Generator().manual_seed(0)) ** 3
    maps = torch.randn(count, CHANNELS, 20, 4, generator=generator)
    large = functional.interpolate(maps, (20, 24), mode="bilinear")
    values: Values = torch.einsum("oc,bchw->bohw", mixed, large).numpy()
    return [value[None] for value in values]


def make_conv(kernel: tuple[int, int], bias: bool, **attributes: Any) -> tuple[ir.Node, Values, Values | None]:
    generator = np.random.default_rng(1)
    weight = generator.normal(size=(WRITTEN, CHANNELS, *kernel)).astype(np.float32) / math.sqrt(CHANNELS)
    offset = generator.normal(size=WRITTEN).astype(np.float32) if bias else None
    graph = Graph(ir.Model(ir.Graph([], [], nodes=[], opset_imports={"": 20}), ir_version=10))
    source = ir.Value(name="x", shape=ir.Shape([1, CHANNELS, 20, 24]), type=ir.TensorType(ir.DataType.FLOAT))
    graph.model.graph.inputs.append(source)
    inputs = [source, graph.add_constant("w", weight)]
    if offset is not None:
        inputs.append(graph.add_constant("b", offset))
    node = ir.node("Conv", inputs, {name: list(value) for name, value in attributes.items()}, name="conv")
    node.outputs[0].name, node.outputs[0].type = "y", ir.TensorType(ir.DataType.FLOAT)
    graph.model.graph.append(node)
    graph.model.graph.outputs.append(node.outputs[0])
    return node, weight, offset


def run(values: Values, weight: Values, bias: Values | None, **attributes: Any) -> torch.Tensor:
    top, left, bottom, right = attributes.get("pads", (0, 0, 0, 0))
    padded = functional.pad(torch.from_numpy(values), (left, right, top, bottom))
    strides, dilations = attributes.get("strides", (1, 1)), attributes.get("dilations", (1, 1))
    offset = None if bias is None else torch.from_numpy(bias)
    return functional.conv2d(padded, torch.from_numpy(weight), offset, stride=strides, dilation=dilations)


def fit(node: ir.Node, maps: list[Values], rounding: Rounding, library: str) -> SitePlan:
    statistics = TensorStatistics()
    for value in maps:
        statistics.add(value)
    return fit_conv(node, "x", statistics, maps, PLACEMENTS[library], rounding)


def measure(plan: SitePlan, weight: Values, bias: Values | None, settings: dict[str, Any]) -> float:
    """Noise of the kernel over signal on maps that were not seen; both convolutions read their quantised form."""
    assert plan.weight is not None
    assert plan.scale is not None
    stored = (plan.weight * plan.scale[:, None, None, None]).astype(np.float32)
    noise = signal = 0.0
    for value in make_maps(4, seed=5):
        read = plan.grids[0].apply(value)
        wanted = run(read, weight, bias, **settings)
        found = run(read, stored, plan.bias if bias is not None else None, **settings)
        noise += float(((found - wanted) ** 2).sum())
        signal += float((wanted**2).sum())
    return noise / signal


@pytest.mark.parametrize("conv", CONVS)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("library", ["openvino", "tensorrt"])
def test_gptq_of_a_kernel_is_quieter_than_the_nearest(conv: str, bias: bool, library: str) -> None:
    settings = dict(CONVS[conv])
    kernel = settings.pop("kernel")
    node, weight, offset = make_conv(kernel, bias, **settings)
    maps = make_maps(8, seed=3)
    nearest, gptq = (measure(fit(node, maps, how, library), weight, offset, settings) for how in ("nearest", "gptq"))
    assert gptq < 0.7 * nearest
    assert nearest < 10**-3


def test_kernel_keeps_its_shape_and_the_sums_of_pairs_their_limit() -> None:
    node, weight, _ = make_conv((3, 3), True, pads=(1, 1, 1, 1))
    plan = fit(node, make_maps(4, seed=3), "gptq", "openvino")
    assert plan.weight is not None
    assert plan.weight.shape == weight.shape
    assert plan.weight.dtype == np.int8
    first, second = plan.weight[:, 0::2].astype(int), plan.weight[:, 1::2].astype(int)
    assert np.abs(first + second).max() <= 128


def test_maps_without_a_number_but_zero_round_to_the_nearest() -> None:
    node, weight, _ = make_conv((3, 3), True, pads=(1, 1, 1, 1))
    silent = [np.zeros_like(value) for value in make_maps(2, seed=3)]
    plan = fit(node, silent, "gptq", "tensorrt")
    assert plan.weight is not None
    assert plan.scale is not None
    assert np.abs(plan.weight * plan.scale[:, None, None, None] - weight).max() <= 0.51 * plan.scale.max() * 1.7
