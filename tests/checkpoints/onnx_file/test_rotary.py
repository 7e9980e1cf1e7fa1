"""Files of models with rotary positions become canonical modules; which positions the canonical model states."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import numpy_helper

from edgevit.checkpoints import read_checkpoint
from edgevit.checkpoints.onnx_file.lift_rotary import describe_rotary
from edgevit.checkpoints.onnx_file.module import ForeignModule
from edgevit.checkpoints.rope import Rope
from edgevit.core.errors import CheckpointError
from edgevit.graph.patterns.pieces import MismatchError
from edgevit.graph.patterns.turned import Turned
from edgevit.models import ViTConfig
from edgevit.models.rotary import make_rotation_table
from tests.support.foreign_exports import TURNED, Exporter, export
from tests.support.reference import relative_error

PREFIX, WIDTH = 3, 16


FILES: list[tuple[str, Exporter]] = [*((name, "dynamo") for name in TURNED), ("transformers_dinov3", "script")]


@pytest.mark.parametrize(("name", "exporter"), FILES)
def test_file_with_rotary_positions_is_the_canonical_model(name: str, exporter: Exporter) -> None:
    file = export(name, exporter)
    model = read_checkpoint(file.path)
    config = model.config
    assert isinstance(config, ViTConfig), model.source.notes[0]
    assert config.rotates
    assert (config.rotary_start is None) == ("dinov3" in name)
    images = torch.randn(2, 3, 40, 40, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        expected, actual = file.module(images), model.module(images)
    assert relative_error(actual, expected) <= 1e-5


def test_queries_that_are_turned_in_another_way_than_keys_are_not_taken_for_a_vit(tmp_path: Path) -> None:
    proto = onnx.load(export("timm_dinov3", "dynamo").path)
    split = next(node for node in proto.graph.node if node.op_type == "Split" and len(node.output) == 2)
    both = next(tensor for tensor in proto.graph.initializer if tensor.name == split.input[0])
    cosines = numpy_helper.to_array(both)[:, 16:]
    read = [node for node in proto.graph.node if node.op_type == "Mul" and split.output[1] in node.input]
    assert len(read) == 2 * 2  # blocks, queries and keys
    proto.graph.initializer.append(numpy_helper.from_array(cosines * np.float32(0.99), "other"))
    read[0].input[list(read[0].input).index(split.output[1])] = "other"
    onnx.save(proto, tmp_path / "model.onnx")
    model = read_checkpoint(tmp_path / "model.onnx")
    assert isinstance(model.module, ForeignModule)
    assert "queries and keys are turned in different ways" in model.source.notes[0]


def test_file_in_which_the_image_chooses_a_branch_is_refused(tmp_path: Path) -> None:
    proto = onnx.load(export("timm_dinov3", "dynamo").path)
    last = next(node for node in proto.graph.node if proto.graph.output[0].name in node.output)
    branches = {}
    for name in ("then_branch", "else_branch"):
        twin = onnx.NodeProto()
        twin.CopyFrom(last)
        twin.output[0] = f"{name}/logits"
        value = onnx.helper.make_tensor_value_info(twin.output[0], onnx.TensorProto.FLOAT, None)
        branches[name] = onnx.helper.make_graph([twin], name, [], [value])
    proto.graph.node.remove(last)
    proto.graph.initializer.append(numpy_helper.from_array(np.zeros((), np.float32), "zero"))
    proto.graph.node.extend(
        [
            onnx.helper.make_node("ReduceSum", ["image"], ["total"], keepdims=0),
            onnx.helper.make_node("Greater", ["total", "zero"], ["asked"]),
            onnx.helper.make_node("If", ["asked"], [proto.graph.output[0].name], "choice", **branches),
        ]
    )
    onnx.save(proto, tmp_path / "model.onnx")
    with pytest.raises(CheckpointError, match=r"control flow \(choice\)"):
        read_checkpoint(tmp_path / "model.onnx")


def make_turned(fields: dict[str, Any], grid: tuple[int, int], order: list[int]) -> Turned:
    """The tables of a file whose channels are in another order."""
    table = make_rotation_table(
        grid,
        fields["rotary_periods"],
        PREFIX,
        start=fields.get("rotary_start"),
        reference=fields.get("rotary_reference"),
    )
    half = WIDTH // 2
    cos, sin = (part[0].double().numpy() for part in table)
    sin[:, :half] *= -1
    back = np.argsort(order)
    partner = np.array([order[(int(at) + half) % WIDTH] for at in back])
    return Turned(ir.Value(name="x"), cos[:, back], sin[:, back], partner)


@pytest.mark.parametrize("grid", [(6, 6), (6, 9), (14, 7)])
@pytest.mark.parametrize(
    "rope",
    [
        Rope(centred=True, temperature=100.0, half=True),
        Rope(centred=True, temperature=20.0, columns_first=True),
        Rope(temperature=100.0, columns_first=True),
        Rope(offset=1.0, half=True),
        Rope(reference=(16, 16)),
        Rope(reference=(9, 9), offset=1.0, columns_first=True),
    ],
    ids=str,
)
def test_periods_are_found_in_tables(rope: Rope, grid: tuple[int, int]) -> None:
    order = rope.list_channels(WIDTH)
    turned = make_turned(rope.describe(WIDTH), grid, order)
    fields, channels = describe_rotary(turned, np.arange(PREFIX + grid[0] * grid[1]), PREFIX, grid)
    ours = make_turned(fields, grid, list(range(WIDTH)))
    np.testing.assert_allclose(ours.cos, turned.cos[:, channels], atol=1e-4)
    np.testing.assert_allclose(ours.sin, turned.sin[:, channels], atol=1e-4)
    np.testing.assert_array_equal(np.argsort(channels)[turned.partner[channels]], ours.partner)
    assert (fields.get("rotary_start") is None) == rope.centred


def spoil(turned: Turned, how: str) -> Turned:
    cos, sin, partner = turned.cos.copy(), turned.sin.copy(), turned.partner.copy()
    if how == "prefix":
        cos[1, 0] = 0.5
    elif how == "pairs":
        partner[:] = np.roll(np.arange(WIDTH), 1)
    elif how == "one":
        cos[PREFIX + 1, 3] += 0.01
    elif how == "both":  # an angle that depends on row and column
        angle = np.add.outer(0.3 * np.arange(6), 0.2 * np.arange(6)).reshape(-1)
        for channel, sign in ((0, -1.0), (8, 1.0)):
            cos[PREFIX:, channel], sin[PREFIX:, channel] = np.cos(angle), sign * np.sin(angle)
    elif how == "uneven":  # steps that grow
        angle = np.repeat(0.02 * np.arange(6.0) ** 2, 6)
        for channel, sign in ((0, -1.0), (8, 1.0)):
            cos[PREFIX:, channel], sin[PREFIX:, channel] = np.cos(angle), sign * np.sin(angle)
    return Turned(turned.source, cos, sin, partner)


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("prefix", "tokens before the patches are turned"),
        ("pairs", "not turned in pairs"),
        ("one", "different angles"),
        ("both", "row and column"),
        ("uneven", "no form that the canonical model has"),
    ],
)
def test_tables_that_are_nearly_those_of_rotary_positions_are_refused(how: str, reason: str) -> None:
    rope = Rope(centred=True, temperature=100.0, half=True)
    turned = make_turned(rope.describe(WIDTH), (6, 6), rope.list_channels(WIDTH))
    order = np.arange(PREFIX + 36)
    describe_rotary(turned, order, PREFIX, (6, 6))
    with pytest.raises(MismatchError, match=reason):
        describe_rotary(spoil(turned, how), order, PREFIX, (6, 6))
