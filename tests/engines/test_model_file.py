from __future__ import annotations

from pathlib import Path

import pytest

from edgevit.core.engine import TensorSpec
from edgevit.core.errors import CompileError
from edgevit.engines.model_file import check_model, find_batch

IMAGE = TensorSpec("image", (1, 16, 16, 3), "uint8")
LOGITS = TensorSpec("logits", (1, 10), "float32")
PATH = Path("model.onnx")


def test_classifier_with_fixed_or_symbolic_batch_is_taken() -> None:
    check_model([IMAGE], [LOGITS], PATH)
    check_model([TensorSpec("image", ("N", 16, 16, 3), "uint8")], [TensorSpec("logits", ("N", 10), "float32")], PATH)


def test_features_as_tokens_and_as_maps_are_taken_and_no_output_is_not() -> None:
    levels = [TensorSpec("level0", (1, 64, 8, 8), "float32"), TensorSpec("level1", (1, 16, 128), "float32")]
    check_model([IMAGE], levels, PATH)
    with pytest.raises(CompileError, match="1 inputs and 0 outputs"):
        check_model([IMAGE], [], PATH)


@pytest.mark.parametrize(
    ("image", "logits", "words"),
    [
        (TensorSpec("x", (1, 16, 16, 3), "float32"), LOGITS, "type float32, not uint8"),
        (TensorSpec("x", (1, 3, 16, 16), "uint8"), LOGITS, r"shape \(1, 3, 16, 16\)"),
        (TensorSpec("x", (1, "h", "w", 3), "uint8"), LOGITS, r"shape \(1, h, w, 3\)"),
        (TensorSpec("x", (16, 16, 3), "uint8"), LOGITS, r"shape \(16, 16, 3\)"),
        (IMAGE, TensorSpec("y", (1, 10), "float16"), "type float16, not float32"),
        (IMAGE, TensorSpec("y", (1, "n", 7), "float32"), r"shape \(1, n, 7\)"),
        (IMAGE, TensorSpec("y", (1, 10, 7, 7, 2), "float32"), r"shape \(1, 10, 7, 7, 2\)"),
        (IMAGE, TensorSpec("y", (2, 10), "float32"), "the input's batch is 1, that of output y 2"),
    ],
)
def test_other_model_is_refused_saying_what_is_wrong(image: TensorSpec, logits: TensorSpec, words: str) -> None:
    with pytest.raises(CompileError, match=words):
        check_model([image], [logits], PATH)


def test_everything_that_is_wrong_is_listed() -> None:
    with pytest.raises(CompileError) as caught:
        check_model([TensorSpec("a", (1, 4), "int64"), IMAGE], [TensorSpec("b", (1,), "int64")], PATH)
    for words in ("2 inputs", "a has type int64", "a has shape (1, 4)", "b has type int64", "b has shape (1)"):
        assert words in caught.value.message


def test_batch_of_a_fixed_model_is_its_own() -> None:
    assert find_batch(TensorSpec("x", (4, 16, 16, 3), "uint8"), None, PATH) == (4, 4, 4)
    assert find_batch(TensorSpec("x", (4, 16, 16, 3), "uint8"), (4, 4, 4), PATH) == (4, 4, 4)


def test_range_for_a_fixed_model_is_refused_with_both_values() -> None:
    with pytest.raises(CompileError, match="fixed batch 4, not 1:2:8"):
        find_batch(TensorSpec("x", (4, 16, 16, 3), "uint8"), (1, 2, 8), PATH)


def test_symbolic_batch_without_a_range_is_refused() -> None:
    image = TensorSpec("x", ("N", 16, 16, 3), "uint8")
    assert find_batch(image, (1, 2, 8), PATH) == (1, 2, 8)
    with pytest.raises(CompileError, match="no range"):
        find_batch(image, None, PATH)
