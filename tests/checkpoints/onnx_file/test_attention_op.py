"""Attention operators of opset 23 become the operators that they stand for, or stay with the reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from edgevit.checkpoints import read_checkpoint
from edgevit.checkpoints.onnx_file.attention_op import lower_attention
from edgevit.checkpoints.onnx_file.module import ForeignModule
from edgevit.core.errors import CheckpointError
from edgevit.graph.graph import Graph
from edgevit.graph.passes.fold_static_shapes import fold_static_shapes
from tests.support.foreign_exports import export
from tests.support.pass_graphs import draw, run
from tests.support.reference import relative_error

BATCH, HEADS, TOKENS, WIDTH = 2, 3, 5, 4
RANK_3 = (BATCH, TOKENS, HEADS * WIDTH)
RANK_4 = (BATCH, HEADS, TOKENS, WIDTH)
SIDES = {"q_num_heads": HEADS, "kv_num_heads": HEADS}
TRUTHS = np.tri(TOKENS, k=2, dtype=np.bool_)
CLOSED = np.concatenate([np.zeros((1, TOKENS), np.bool_), np.ones((TOKENS - 1, TOKENS), np.bool_)])


def write(
    shape: tuple[int, ...] = RANK_4,
    *,
    mask: np.ndarray | None = None,
    computed: np.ndarray | None = None,
    keys: tuple[int, ...] | None = None,
    values: tuple[int, ...] | None = None,
    past: bool = False,
    outputs: int = 1,
    **attributes: Any,
) -> onnx.ModelProto:
    """``Relu(Attention(q, k, v, …))``."""
    shapes = {"q": shape, "k": keys or shape, "v": values or keys or shape}
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, dims) for name, dims in shapes.items()]
    names, constants = list(shapes), []
    if mask is not None:
        names.append("mask")
        constants.append(numpy_helper.from_array(mask, "mask"))
    if computed is not None:
        names.append("mask")
        kind = helper.np_dtype_to_tensor_dtype(computed.dtype)
        inputs.append(helper.make_tensor_value_info("mask", kind, computed.shape))
    if past:
        names += ["", "past_k", "past_v"]
        inputs += [helper.make_tensor_value_info(n, TensorProto.FLOAT, RANK_4) for n in ("past_k", "past_v")]
    made = ["made", "present_k", "present_v", "scores"][:outputs]
    results = ["y", *made[1:]]
    nodes = [
        helper.make_node("Attention", names, made, name="attention", **attributes),
        helper.make_node("Relu", ["made"], ["y"], name="relu"),
    ]
    graph = helper.make_graph(
        nodes, "graph", inputs, [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in results], constants
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)


def load(model: onnx.ModelProto) -> Graph:
    graph = Graph(ir.serde.deserialize_model(model))
    fold_static_shapes(graph)
    return graph


PLAIN: dict[str, dict[str, Any]] = {
    "rank_4": {},
    "rank_3": {"shape": RANK_3, **SIDES},
    "scale": {"scale": 0.3},
    "scale_of_one": {"scale": 1.0},
    "causal": {"is_causal": 1},
    "mask_of_numbers": {"mask": draw(TOKENS, TOKENS, seed=5)},
    "mask_of_truths": {"mask": TRUTHS},
    "mask_for_each_head": {"shape": RANK_3, "mask": draw(1, HEADS, TOKENS, TOKENS, seed=6), **SIDES},
    "mask_for_each_image": {"mask": draw(BATCH, 1, TOKENS, TOKENS, seed=7)},
    "mask_and_causal": {"mask": draw(TOKENS, TOKENS, seed=5), "is_causal": 1},
    "computed_mask": {"computed": draw(TOKENS, TOKENS, seed=8)},
    "computed_mask_and_causal": {"computed": draw(TOKENS, TOKENS, seed=8), "is_causal": 1},
    "other_keys": {"keys": (BATCH, HEADS, 7, WIDTH)},
    "wider_values": {"values": (BATCH, HEADS, TOKENS, 6)},
    "wider_values_of_rank_3": {"shape": RANK_3, "values": (BATCH, TOKENS, HEADS * 6), **SIDES},
}


@pytest.mark.parametrize("case", PLAIN)
def test_plain_attention_is_taken_apart_with_equal_numbers(case: str) -> None:
    model = write(**PLAIN[case])
    feeds = {
        value.name: draw(*(d.dim_value for d in value.type.tensor_type.shape.dim), seed=number)
        for number, value in enumerate(model.graph.input)
    }
    answers: Any = ReferenceEvaluator(model).run(None, feeds)
    expected = answers[0]
    graph = load(model)
    assert lower_attention(graph) == (1, {})
    counts = graph.op_counts()
    assert (counts["MatMul"], counts["Softmax"]) == (2, 1)
    assert "Attention" not in counts
    assert counts.get("Mul", 0) == (0 if case == "scale_of_one" else 1)
    graph.model.opset_imports[""] = 20
    np.testing.assert_allclose(run(graph, feeds), expected, rtol=1e-5, atol=1e-6)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "cache": ({"past": True, "outputs": 3}, "it reads a cache of keys and values, or lengths of padding"),
    "presents": ({"outputs": 3}, "its scores or a cache are results too"),
    "soft_cap": ({"softcap": 30.0}, "its scores have a soft cap"),
    "half_softmax": ({"softmax_precision": TensorProto.FLOAT16}, "it does not compute in float32"),
    "shared_keys": ({"keys": (BATCH, 1, TOKENS, WIDTH)}, "several heads share keys and values"),
    "shared_keys_of_rank_3": (
        {"shape": RANK_3, "keys": (BATCH, TOKENS, WIDTH), "q_num_heads": HEADS, "kv_num_heads": 1},
        "several heads share keys and values",
    ),
    "causal_of_other_keys": (
        {"keys": (BATCH, HEADS, 7, WIDTH), "is_causal": 1}, "it is causal, and has other numbers of queries than keys"
    ),
    "short_mask": ({"mask": draw(TOKENS, 3)}, "its mask is not for 5 keys"),
    "computed_truths": ({"computed": TRUTHS}, "its mask of truths is computed"),
    "closed_row": ({"mask": CLOSED}, "its mask closes a whole row"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_more_than_plain_attention_is_left_with_the_reason(case: str) -> None:
    arguments, reason = REFUSED[case]
    graph = load(write(**arguments))
    before = dict(graph.op_counts())
    count, left = lower_attention(graph)
    assert (count, [*left.values()]) == (0, [reason])
    assert dict(graph.op_counts()) == before


NAMES = ("timm_vit", "torchvision_vit", "transformers_dinov2")


@pytest.mark.parametrize("batch", [None, 3])
@pytest.mark.parametrize("name", NAMES)
def test_export_in_opset_23_is_the_canonical_model(name: str, batch: int | None) -> None:
    file = export(name, "dynamo", opset=23, batch=batch)
    assert sum(node.op_type == "Attention" for node in onnx.load(str(file.path)).graph.node) == 2
    model = read_checkpoint(file.path)
    assert not isinstance(model.module, ForeignModule), model.source.notes[0]
    (record,) = (r for r in model.passes if r.name == "convert_opset")
    assert record.applied == ("23 to 20", "2 Attention taken apart")
    images = torch.from_numpy(draw(3, 3, 32, 32))
    with torch.inference_mode():
        expected = file.module(images)
        found = model.module(images)
    expected = expected if isinstance(expected, torch.Tensor) else expected.logits
    assert relative_error(found, expected) <= 1e-5


def test_attention_that_is_not_plain_is_refused_with_all_reasons(tmp_path: Path) -> None:
    model = onnx.load(str(export("timm_vit", "dynamo", opset=23).path))
    for node in model.graph.node:
        if node.op_type == "Attention":
            kept = [a for a in node.attribute if a.name != "softcap"]
            del node.attribute[:]
            node.attribute.extend([*kept, helper.make_attribute("softcap", 30.0)])
    onnx.save(model, str(tmp_path / "model.onnx"))
    with pytest.raises(CheckpointError, match="its scores have a soft cap") as caught:
        read_checkpoint(tmp_path / "model.onnx")
    assert str(caught.value).count("soft cap") == 2
    assert "opset_version=20" in caught.value.hint
