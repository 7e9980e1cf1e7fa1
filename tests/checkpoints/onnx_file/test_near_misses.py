"""Files that are nearly a ViT or a Swin: recognised in part, with the place and the reason, and with equal answers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from edgevit.checkpoints import read_checkpoint
from edgevit.checkpoints.onnx_file.file import read_file
from edgevit.checkpoints.onnx_file.module import ForeignModule
from edgevit.checkpoints.onnx_file.prepare import load_graph
from edgevit.checkpoints.onnx_file.whole import WholeModule
from edgevit.graph.passes import FOREIGN, PARTIAL
from edgevit.graph.passes.optimize import apply_passes
from tests.support.foreign_exports import export
from tests.support.pass_graphs import draw

Change = Callable[[Any], None]


def find(graph: Any, op_type: str, number: int = 0) -> Any:
    return [node for node in graph.node if node.op_type == op_type][number]


def put_behind(graph: Any, node: Any, op_type: str, *constants: np.ndarray, **attributes: Any) -> None:
    """An operator between a node's result and all that read it."""
    old = node.output[0]
    node.output[0] = f"{old}/before"
    names = [f"{old}/constant{number}" for number in range(len(constants))]
    graph.initializer.extend(numpy_helper.from_array(c, n) for c, n in zip(constants, names, strict=True))
    made = helper.make_node(op_type, [node.output[0], *names], [old], f"{node.name}/behind", **attributes)
    graph.node.insert([*graph.node].index(node) + 1, made)


def set_epsilon(graph: Any) -> None:
    norm = find(graph, "LayerNormalization", 2)
    next(a for a in norm.attribute if a.name == "epsilon").f = 1e-3


def set_gelu(graph: Any) -> None:
    """The factor of the second block's sigmoid."""
    sigmoid = find(graph, "Sigmoid", 1)
    factor = next(node for node in graph.node if node.output[0] == sigmoid.input[0]).input
    for tensor in (*graph.initializer, *(a.t for n in graph.node if n.output[0] in factor for a in n.attribute)):
        numbers = numpy_helper.to_array(tensor)
        if numbers.dtype == np.float32 and numbers.size == 1 and abs(float(numbers.reshape(-1)[0]) - 1.702) < 1e-6:
            tensor.CopyFrom(numpy_helper.from_array(np.full_like(numbers, 1.7), tensor.name))


def set_relu(graph: Any) -> None:
    erf = find(graph, "Erf", 1)
    erf.op_type = "Tanh"


def add_mask(graph: Any) -> None:
    scores = next(n for n in graph.node if n.output[0] == find(graph, "Softmax", 1).input[0])
    put_behind(graph, scores, "Add", draw(1, 3, 17, 17))


def square_probabilities(graph: Any) -> None:
    put_behind(graph, find(graph, "Softmax"), "Pow", np.asarray(2, np.float32))


def normalise_channels_of_tokens(graph: Any) -> None:
    put_behind(graph, find(graph, "LayerNormalization", 1), "Softmax", axis=1)


def turn_tokens(graph: Any) -> None:
    order = np.concatenate([[0], np.arange(16, 0, -1)])
    put_behind(graph, find(graph, "LayerNormalization"), "Gather", order, axis=1)


def leave_out_residual(graph: Any) -> None:
    added = [n for n in graph.node if n.op_type == "Add" and n.name == "/blocks/blocks.1/Add"]
    assert len(added) == 1
    added[0].op_type = "Sub"


def read_second_token(graph: Any) -> None:
    """The head's norm is on all tokens, and one of them is gathered behind it."""
    gather = next(n for n in reversed(graph.node) if n.op_type == "Gather")
    graph.initializer.append(numpy_helper.from_array(np.asarray(1), "second"))
    gather.input[1] = "second"


def overlap_patches(graph: Any) -> None:
    conv = find(graph, "Conv")
    dilations = next(a for a in conv.attribute if a.name == "dilations")
    pads = next(a for a in conv.attribute if a.name == "pads")
    dilations.ints[:], pads.ints[:] = [2, 2], [0, 0, 7, 7]


def scale_heads(graph: Any) -> None:
    scores = next(n for n in graph.node if n.output[0] == find(graph, "Softmax").input[0])
    put_behind(graph, scores, "Mul", np.asarray([1.0, 2.0, 1.0], np.float32).reshape(1, 3, 1, 1))


def shift_further(graph: Any) -> None:
    """Rows of the second block's tokens, which come back as if they had not been."""
    put_behind(graph, find(graph, "LayerNormalization", 3), "Gather", np.roll(np.arange(8), 3), axis=1)


def open_mask(graph: Any) -> None:
    scores = next(n for n in graph.node if n.output[0] == find(graph, "Softmax", 1).input[0])
    mask = np.zeros((4, 1, 16, 16), np.float32)
    mask[0, 0, :, :3] = -100.0
    put_behind(graph, scores, "Add", mask)


VIT: dict[str, tuple[Change, str]] = {
    "another_epsilon": (set_epsilon, "epsilon"),
    "tanh_for_erf": (set_relu, "it is no activation"),
    "a_mask": (add_mask, "a bias is added to its scores"),
    "squared_probabilities": (square_probabilities, "it reads Pow, not Softmax"),
    "softmax_behind_a_norm": (normalise_channels_of_tokens, "it reads Softmax, not LayerNormalization"),
    "tokens_turned_for_attention": (turn_tokens, "not among all tokens in their order"),
    "residual_taken_away": (leave_out_residual, "it is no residual Add"),
    "second_token": (read_second_token, "it reads token 1"),
    "patches_with_gaps": (overlap_patches, "its patches overlap, or leave gaps"),
    "a_scale_for_each_head": (scale_heads, "scaled by more than one number"),
}
SWIN: dict[str, tuple[Change, str]] = {
    "another_epsilon": (set_epsilon, "epsilon"),
    "other_shift": (shift_further, "its windows are not those of a Swin"),
    "other_mask": (open_mask, "its windows are not those of a Swin"),
}
OF_THE_HEAD = {"second_token"}
"""What is no part of the encoder, which is then found whole: tests of those are in test_whole.py."""
QUICK: dict[str, tuple[Change, str]] = {"another_factor": (set_gelu, "it is no activation")}
CASES = [
    (name, case)
    for name, cases in (("timm_vit", VIT), ("timm_swin", SWIN), ("transformers_vit_quick_gelu", QUICK))
    for case in cases
]


@pytest.mark.parametrize(("name", "case"), CASES, ids=[f"{name}-{case}" for name, case in CASES])
def test_near_miss_is_recognised_in_part_with_the_reason_and_equal_answers(
    name: str, case: str, tmp_path: Path
) -> None:
    change, reason = {"timm_vit": VIT, "timm_swin": SWIN}.get(name, QUICK)[case]
    model = onnx.load(str(export(name, "script").path))
    change(model.graph)
    del model.graph.value_info[:]
    path = tmp_path / "model.onnx"
    onnx.save(model, str(path))
    found = read_checkpoint(path)
    if case in OF_THE_HEAD:
        assert isinstance(found.module, WholeModule)
        assert reason in found.source.notes[0]
        return
    assert isinstance(found.module, ForeignModule)
    (skip,) = found.module.whole.skipped
    assert reason in skip.reason
    count = 1 if name == "timm_swin" else 2  # windows of all images are one axis: a mask is for those of one
    images = draw(count, 3, 32, 32)
    file = read_file(path)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    before = onnxruntime.InferenceSession(str(path), options).run([file.output], {file.input: images})[0]
    for form in ("separate", "packed"):
        graph, _ = load_graph(file, count)
        apply_passes(graph, (*FOREIGN, *PARTIAL[form]))
        data = ir.serde.serialize_model(graph.model).SerializeToString()
        after = onnxruntime.InferenceSession(data, options).run(None, {file.input: images})[0]
        assert np.abs(after - before).max() <= 1e-5 * np.abs(before).max()
