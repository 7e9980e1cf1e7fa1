"""A graph that ends in probabilities, a class or the likeliest ones is refused: comparing them would say nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgevit.checkpoints import read_checkpoint
from edgevit.core.errors import CheckpointError
from tests.support.foreign_exports import export

CONSTANTS: dict[str, Any] = {
    "one": np.asarray(1, np.float32),
    "hundred": np.asarray(100, np.float32),
    "half": np.asarray(0.5, np.float32),
    "three": np.asarray([3], np.int64),
    "axis": np.asarray([1], np.int64),
    "last": np.asarray([9], np.int64),
}
Step = tuple[str, list[str], list[str], dict[str, Any]]
SOFTMAX: Step = ("Softmax", ["logits"], ["p"], {"axis": 1})


def end_in(path: Path, steps: list[Step], shape: tuple[Any, ...]) -> Path:
    """The small ViT with ``steps`` behind its logits, the last of which gives the output."""
    model = onnx.load(str(export("timm_vit", "script").path))
    graph = model.graph
    (logits,) = graph.output
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = ["logits" if name == logits.name else name for name in names]
    graph.node.extend(helper.make_node(kind, inputs, outputs, **more) for kind, inputs, outputs, more in steps)
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in CONSTANTS.items())
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info(steps[-1][2][0], TensorProto.FLOAT, shape))
    onnx.save(model, str(path))
    return path


ENDINGS: dict[str, tuple[list[Step], tuple[Any, ...], str]] = {
    "softmax_in_percent": ([SOFTMAX, ("Mul", ["p", "hundred"], ["y"], {})], ("n", 10), "Softmax: it gives probab"),
    "softmax_clipped": (
        [SOFTMAX, ("Clip", ["p", "", "one"], ["c"], {}), ("Identity", ["c"], ["y"], {})], ("n", 10), "Softmax"
    ),
    "softmax_in_parts": (
        [
            ("Exp", ["logits"], ["e"], {}),
            ("ReduceSum", ["e", "axis"], ["s"], {"keepdims": 1}),
            ("Div", ["e", "s"], ["y"], {}),
        ],
        ("n", 10),
        "a softmax: it gives probabilities",
    ),
    "log_softmax_in_parts": (
        [("ReduceLogSumExp", ["logits"], ["s"], {"axes": [1]}), ("Sub", ["logits", "s"], ["y"], {})],
        ("n", 10),
        "a softmax: it gives probabilities",
    ),
    "both_sides_of_a_sigmoid": (
        [
            ("Gather", ["logits", "last"], ["g"], {"axis": 1}),
            ("Sigmoid", ["g"], ["p"], {}),
            ("Sub", ["one", "p"], ["q"], {}),
            ("Concat", ["q", "p"], ["y"], {"axis": 1}),
        ],
        ("n", 2),
        "Sigmoid: it gives probabilities",
    ),
    "class_as_a_number": (
        [("ArgMax", ["logits"], ["a"], {"axis": 1}), ("Cast", ["a"], ["y"], {"to": TensorProto.FLOAT})],
        ("n", 1),
        "ArgMax: it gives the class itself",
    ),
    "likeliest_probabilities": (
        [SOFTMAX, ("TopK", ["p", "three"], ["y", "i"], {})], ("n", 3), "TopK: it gives the likeliest classes in their"
    ),
    "largest_probability": (
        [SOFTMAX, ("ReduceMax", ["p"], ["y"], {"axes": [1], "keepdims": 1})], ("n", 1), "Softmax: it gives probab"
    ),
    "over_a_threshold": (
        [
            ("Sigmoid", ["logits"], ["p"], {}),
            ("Greater", ["p", "half"], ["b"], {}),
            ("Cast", ["b"], ["y"], {"to": TensorProto.FLOAT}),
        ],
        ("n", 10),
        "Greater: it gives decisions",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ENDINGS)
def test_ending_that_cannot_be_judged_is_refused_with_what_to_leave_out(name: str, tmp_path: Path) -> None:
    steps, shape, what = ENDINGS[name]
    with pytest.raises(CheckpointError, match=f"ends in {what}") as caught:
        read_checkpoint(end_in(tmp_path / "model.onnx", steps, shape))
    assert caught.value.hint.startswith("export the model without ")


@pytest.mark.parametrize(
    ("step", "shape"),
    [(("Mul", ["logits", "hundred"], ["y"], {}), ("n", 10)), (("Neg", ["logits"], ["y"], {}), ("n", 10))],
    ids=["scaled", "negated"],
)
def test_logits_behind_arithmetic_are_logits(step: Step, shape: tuple[Any, ...], tmp_path: Path) -> None:
    assert read_checkpoint(end_in(tmp_path / "model.onnx", [step], shape)).classes == 10
