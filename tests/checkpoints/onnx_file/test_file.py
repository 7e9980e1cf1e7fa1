"""Files that cannot be built are refused in one sentence, with what to do, before their weights are read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgevit.checkpoints import read_checkpoint
from edgevit.checkpoints.onnx_file.file import read_file
from edgevit.core.errors import CheckpointError

IMAGE: tuple[Any, ...] = (1, 3, 8, 8)


def write(
    path: Path,
    *,
    nodes: list[Any] | None = None,
    image: tuple[Any, ...] = IMAGE,
    kind: int = TensorProto.FLOAT,
    opset: int = 17,
    outputs: tuple[str, ...] = ("logits",),
    domains: tuple[str, ...] = (),
) -> Path:
    """A pooling classifier, or what ``nodes`` say between ``image`` and the outputs."""
    weight = numpy_helper.from_array(np.ones((3, 4), np.float32), "weight")
    made = nodes or [
        helper.make_node("GlobalAveragePool", ["image"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        *(helper.make_node("MatMul", ["flat", "weight"], [name]) for name in outputs),
    ]
    graph = helper.make_graph(
        made,
        "graph",
        [helper.make_tensor_value_info("image", kind, image)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, (image[0], 4)) for name in outputs],
        [weight],
    )
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), str(path))
    return path


def node(op_type: str, **attributes: Any) -> list[Any]:
    return [helper.make_node(op_type, ["image"], ["logits"], **attributes)]


def save_half(path: Path) -> Path:
    """As converters leave a file whose input and output they keep in float32."""
    cast = [
        helper.make_node("Cast", ["x"], ["half"], to=TensorProto.FLOAT16),
        helper.make_node("MatMul", ["half", "w"], ["product"]),
        helper.make_node("Add", ["product", "b"], ["sum"]),
        helper.make_node("Cast", ["sum"], ["y"], to=TensorProto.FLOAT),
    ]
    constants = [numpy_helper.from_array(np.ones(n, np.float16), k) for k, n in (("w", (8, 8)), ("b", (8,)))]
    image = helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 3, 8, 8))
    logits = helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 3, 8, 8))
    graph = helper.make_graph(cast, "g", [image], [logits], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(path))
    return path


REFUSED: dict[str, tuple[Callable[[Path], Path], str, str]] = {
    "not_onnx": (lambda p: _bytes(p, b"\x89PNG not an ONNX file at all"), "no whole ONNX file|no ONNX graph", "again"),
    "truncated": (lambda p: _cut(write(p)), "no whole ONNX file|no ONNX graph", "size"),
    "empty": (lambda p: _bytes(p, b""), "is empty", "again"),
    "old_opset": (lambda p: write(p, opset=9), "opset 9, the oldest that is read is 11", "opset_version=17"),
    "new_opset": (lambda p: write(p, opset=99), "opset 99, the installed onnx knows", "upgrade onnx"),
    "quantised": (
        lambda p: write(p, nodes=node("QuantizeLinear")), "already quantised: it has 1 QuantizeLinear", "--calibration"
    ),
    "half_inside": (save_half, "half precision: of its constants 2 float16", "float32 file"),
    "fused_by_onnxruntime": (
        lambda p: write(p, nodes=node("FusedMatMul", domain="com.microsoft"), domains=("com.microsoft",)),
        "1 com.microsoft::FusedMatMul", "before ONNX Runtime's optimiser",
    ),
    "custom_operator": (
        lambda p: write(p, nodes=node("Magic", domain="my.ops"), domains=("my.ops",)), "1 my.ops::Magic", "without them"
    ),
    "open_size": (lambda p: write(p, image=(1, 3, "h", "w")), r"\(1, 3, h, w\): height and width", "--image-size 224"),
    "grey": (lambda p: write(p, image=(1, 1, 8, 8)), r"\(1, 1, 8, 8\), not an image", "RGB"),
    "channels_last": (lambda p: write(p, image=(1, 8, 8, 3)), r"\(1, 8, 8, 3\), not an image", "channels first"),
    "huge": (lambda p: write(p, image=(1, 3, 4100, 8)), "4100 × 8 pixels, the largest side is 4096", "smaller size"),
    "random_numbers": (
        lambda p: write(p, nodes=[*_pool(), helper.make_node("RandomNormalLike", ["flat"], ["logits"])]),
        "draws random numbers \\(1 RandomNormalLike\\)", "evaluation mode",
    ),
    "dropout_in_training": (
        lambda p: write(p, nodes=[*_pool(), *_dropout()]), "1 Dropout in training", "evaluation"
    ),
    "no_output": (lambda p: write(p, outputs=()), "no output that its graph computes", "with the logits"),
    "output_nobody_computes": (
        lambda p: write(p, nodes=_pool(), outputs=("ghost",)), "no output that its graph computes", "with the logits"
    ),
    "classes_instead_of_logits": (
        lambda p: _type(write(p, nodes=[*_pool(), helper.make_node("ArgMax", ["flat"], ["logits"])])),
        "its output logits is int64, not float32", "with the logits",
    ),
    "half": (lambda p: write(p, kind=TensorProto.FLOAT16), "is float16, not float32", "float32"),
    "cnn": (write, "no vision transformer: it has no attention", "ViT, DeiT and Swin"),
    "probabilities": (
        lambda p: write(p, nodes=[*_pool(), helper.make_node("Softmax", ["flat"], ["logits"])]), "ends in Softmax",
        "without the Softmax",
    ),
}  # fmt: skip


def _pool() -> list[Any]:
    pool = helper.make_node("GlobalAveragePool", ["image"], ["pooled"])
    return [pool, helper.make_node("Flatten", ["pooled"], ["flat"])]


def _dropout(*, training: bool = True) -> list[Any]:
    """As torch leaves it, its ratio and whether it trains from constants."""
    kinds = {"ratio": np.float32(0.5), "training": np.bool_(training)}
    made = [
        helper.make_node("Constant", [], [name], value=numpy_helper.from_array(np.asarray(value), name))
        for name, value in kinds.items()
    ]
    return [*made, helper.make_node("Dropout", ["flat", "ratio", "training"], ["logits"])]


def test_dropout_at_inference_is_no_random_number(tmp_path: Path) -> None:
    assert read_file(write(tmp_path / "model.onnx", nodes=[*_pool(), *_dropout(training=False)])).opset == 17


def _type(path: Path) -> Path:
    """State that the output is whole numbers."""
    model = onnx.load(str(path))
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.INT64
    onnx.save(model, str(path))
    return path


def _bytes(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def _cut(path: Path) -> Path:
    return _bytes(path, path.read_bytes()[:-20])


@pytest.mark.parametrize("case", REFUSED)
def test_file_that_cannot_be_built_is_refused_with_what_to_do(case: str, tmp_path: Path) -> None:
    make, message, hint = REFUSED[case]
    path = make(tmp_path / "model.onnx")
    with pytest.raises(CheckpointError, match=message) as caught:
        read_checkpoint(path)
    assert hint in caught.value.hint


def save_external(path: Path) -> Path:
    model = onnx.load(str(write(path)))
    onnx.save(model, str(path), save_as_external_data=True, location="weights.data", size_threshold=0)
    return path


def test_missing_external_data_is_listed(tmp_path: Path) -> None:
    path = save_external(tmp_path / "model.onnx")
    assert read_file(path).data == (tmp_path / "weights.data",)
    (tmp_path / "weights.data").unlink()
    with pytest.raises(CheckpointError, match=r"weights\.data is not there") as caught:
        read_checkpoint(path)
    assert "same folder" in caught.value.hint


def test_short_external_data_says_both_sizes(tmp_path: Path) -> None:
    path = save_external(tmp_path / "model.onnx")
    (tmp_path / "weights.data").write_bytes(b"123")
    with pytest.raises(CheckpointError, match=r"has 3 of 48 bytes"):
        read_checkpoint(path)


def test_external_data_outside_the_folder_is_not_opened(tmp_path: Path) -> None:
    path = save_external(tmp_path / "model.onnx")
    model = onnx.load(str(path), load_external_data=False)
    for entry in model.graph.initializer[0].external_data:
        if entry.key == "location":
            entry.value = "../../etc/passwd"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(CheckpointError, match="outside its folder"):
        read_checkpoint(path)


def test_open_size_is_what_the_user_says(tmp_path: Path) -> None:
    path = write(tmp_path / "model.onnx", image=("n", 3, "h", "w"))
    file = read_file(path, (16, 24))
    assert (file.batch, file.image_size) == (None, (16, 24))


def test_another_size_than_exported_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="exported for 8 × 8 pixels, not 16 × 16"):
        read_file(write(tmp_path / "model.onnx"), (16, 16))


def test_output_named_logits_is_taken_and_the_others_are_named(tmp_path: Path) -> None:
    file = read_file(write(tmp_path / "model.onnx", outputs=("other", "logits")))
    assert (file.output, file.others) == ("logits", ("other",))
