"""Tensors that do not fit their architecture: all of them in one error."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from edgevit.checkpoints import read_checkpoint
from edgevit.core.errors import CheckpointError
from tests.support.small_checkpoints import small_tensors, write_folder


def test_read_when_tensors_are_missing_unexpected_and_wrongly_shaped_lists_all(tmp_path: Path) -> None:
    tensors = small_tensors()
    for name in ("blocks.1.attn.qkv.weight", "cls_token"):
        del tensors[name]
    tensors["blocks.2.norm1.weight"] = torch.ones(16)
    tensors["surprise"] = torch.ones(1)
    tensors["norm.bias"] = torch.ones(17)
    tensors["pos_embed"] = torch.ones(1, 17, 8)
    write_folder(tmp_path, tensors)
    with pytest.raises(CheckpointError, match="2 missing, 2 unexpected, 2 wrongly shaped") as caught:
        read_checkpoint(tmp_path)
    for line in (
        "  blocks.1.attn.qkv.weight",
        "  cls_token",
        "  blocks.2.norm1.weight",
        "  surprise",
        "  norm.bias: (17,), expected (16,)",
        "  pos_embed: (1, 17, 8), expected (1, 17, 16)",
    ):
        assert line in caught.value.message.splitlines()


def test_read_when_hundreds_do_not_fit_lists_ten_and_counts_the_rest(tmp_path: Path) -> None:
    tensors = small_tensors()
    extra = {f"blocks.{i}.norm1.weight": torch.ones(16) for i in range(2, 300)}
    write_folder(tmp_path, {**tensors, **extra})
    with pytest.raises(CheckpointError, match="298 unexpected") as caught:
        read_checkpoint(tmp_path)
    listed = [line.strip() for line in caught.value.message.splitlines() if line.startswith("  ")]
    assert len(set(listed) & set(extra)) == len(listed) - 1 == 10
    assert listed[-1] == "… and 288 more"


def test_read_when_positions_are_no_square_says_their_shape(tmp_path: Path) -> None:
    tensors = small_tensors()
    tensors["pos_embed"] = torch.ones(1, 1 + 15, 16)
    write_folder(tmp_path, tensors)
    with pytest.raises(CheckpointError, match=r"pos_embed: \(1, 16, 16\), expected \(1, 17, 16\)"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize("which", [("head.weight",), ("head.weight", "head.bias")])
def test_read_when_the_head_alone_is_missing_says_what_that_means(tmp_path: Path, which: tuple[str, ...]) -> None:
    tensors = small_tensors()
    for name in which:
        del tensors[name]
    write_folder(tmp_path, tensors)
    with pytest.raises(CheckpointError, match="no classifier head"):
        read_checkpoint(tmp_path)


def test_read_when_the_file_is_a_language_model_says_so(tmp_path: Path) -> None:
    names = [f"layers.{i}.{part}.weight" for i in range(30) for part in ("self_attn.q_proj", "mlp.gate_proj")]
    file = tmp_path / "model.safetensors"
    save_file({f"model.{name}": torch.ones(2, 2) for name in [*names, "embed_tokens.weight"]}, file)
    with pytest.raises(CheckpointError, match="holds no tensor of the model that it is said to be") as caught:
        read_checkpoint(file, arch="vit_tiny_patch16_224")
    assert "embed_tokens.weight" in caught.value.message
    assert len(caught.value.message.splitlines()) < 15


def test_read_when_the_head_is_of_another_length_than_stated_takes_it_and_says_so(tmp_path: Path) -> None:
    write_folder(tmp_path, num_classes=1000)
    model = read_checkpoint(tmp_path)
    assert model.classes == 3
    assert model.module(torch.zeros(1, 3, 32, 32)).shape == (1, 3)
    assert "the configuration says 1000 classes, the head has 3; the head counts" in model.source.notes


@pytest.mark.parametrize("name", ["head.bias", "norm.weight"])
def test_read_when_one_tensor_is_missing_names_it(tmp_path: Path, name: str) -> None:
    tensors = small_tensors()
    del tensors[name]
    write_folder(tmp_path, tensors)
    with pytest.raises(CheckpointError, match=f"architecture: 1 missing\nmissing:\n  {name}"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize("shape", [(0, 16), (3,), (3, 16, 1, 1)])
def test_read_when_the_head_has_an_impossible_shape_lists_it(tmp_path: Path, shape: tuple[int, ...]) -> None:
    tensors = small_tensors()
    tensors["head.weight"] = torch.ones(shape)
    write_folder(tmp_path, tensors)
    with pytest.raises(CheckpointError, match=r"head\.weight: \("):
        read_checkpoint(tmp_path)


def test_module_is_frozen_in_evaluation_mode_and_float32(tmp_path: Path) -> None:
    module = read_checkpoint(write_folder(tmp_path)).module
    assert not module.training
    assert not any(p.requires_grad for p in module.parameters())
    assert {p.dtype for p in module.parameters()} == {torch.float32}
    assert not any(t.is_meta for t in (*module.parameters(), *module.buffers()))


def test_blocks_beyond_the_architecture_are_no_tensors_beside_the_model(tmp_path: Path) -> None:
    deeper = {n.replace("blocks.0.", "blocks.2."): t for n, t in small_tensors().items() if n.startswith("blocks.0.")}
    write_folder(tmp_path, {**small_tensors(), **deeper})
    with pytest.raises(CheckpointError, match=f"do not fit its architecture: {len(deeper)} unexpected") as caught:
        read_checkpoint(tmp_path)
    assert "check the architecture" in caught.value.hint


def test_what_all_shapes_differ_by_is_said_before_ten_of_them(tmp_path: Path) -> None:
    """As of a file that was trained at another width."""
    wider = {name: torch.ones([32 if side == 16 else side for side in t.shape]) for name, t in small_tensors().items()}
    write_folder(tmp_path, wider)
    with pytest.raises(CheckpointError, match=r"wrongly shaped \(32 in place of 16 in "):
        read_checkpoint(tmp_path)


def test_shapes_that_differ_by_nothing_alike_are_only_listed(tmp_path: Path) -> None:
    tensors = small_tensors()
    write_folder(tmp_path, {**tensors, "norm.bias": torch.ones(17)})
    with pytest.raises(CheckpointError, match=r"wrongly shaped:\n  norm\.bias: \(17,\), expected \(16,\)"):
        read_checkpoint(tmp_path)
