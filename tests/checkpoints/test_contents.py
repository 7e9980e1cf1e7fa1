"""Training checkpoints: which of two sets of weights, and what the file says beside them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from edgevit.checkpoints import read_checkpoint
from edgevit.checkpoints.contents import unwrap_weights
from edgevit.errors import CheckpointError
from tests.checkpoints.small import small_tensors, write_config

EMA = ["state_dict_ema", "model_ema", "ema_state_dict", "ema", "teacher"]
LAST = ["state_dict", "model", "model_state_dict", "student"]


def write(folder: Path, content: object) -> Path:
    write_config(folder)
    torch.save(content, folder / "pytorch_model.bin")
    return folder


def is_seed(module: torch.nn.Module, seed: int) -> bool:
    return all(torch.equal(value, small_tensors(seed)[name]) for name, value in module.state_dict().items())


@pytest.mark.parametrize("averaged", EMA)
@pytest.mark.parametrize("last", LAST)
def test_read_when_a_file_has_two_sets_takes_the_one_that_is_asked_for(
    tmp_path: Path, averaged: str, last: str
) -> None:
    optimizer = {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": [{"lr": 0.1}]}
    content = {"epoch": 7, last: small_tensors(1), averaged: small_tensors(2), "optimizer": optimizer}
    folder = write(tmp_path, content)
    default = read_checkpoint(folder)
    assert is_seed(default.module, 2)
    assert default.source.weights == "ema"
    note = next(note for note in default.source.notes if "--weights" in note)
    assert f"{averaged!r}, averaged over training (--weights ema, the default" in note
    assert f"{last!r} (--weights model)" in note
    asked = read_checkpoint(folder, weights="model")
    assert is_seed(asked.module, 1)
    assert is_seed(read_checkpoint(folder, weights="ema").module, 2)
    # Stages of a build are told apart, though the file is the same.
    assert asked.source.sha256 == default.source.sha256
    assert asked.source.identity != default.source.identity


def test_read_when_sets_are_nested_takes_the_one_that_is_asked_for(tmp_path: Path) -> None:
    folder = write(tmp_path, {"model": {"state_dict": small_tensors(1), "ema": small_tensors(2)}})
    assert is_seed(read_checkpoint(folder).module, 2)
    assert is_seed(read_checkpoint(folder, weights="model").module, 1)


@pytest.mark.parametrize(
    ("content", "weights", "message"),
    [
        ({"state_dict": small_tensors()}, "ema", "no averaged weights, only the last step's under 'state_dict'"),
        (small_tensors(), "ema", "no averaged weights, only the last step's;"),
        ({"teacher": small_tensors()}, "model", "no weights of the last step, only averaged weights under 'teacher'"),
        ({"state_dict": small_tensors(), "state_dict_ema": {}}, "ema", "no averaged weights"),
    ],
)
def test_read_when_the_set_is_not_there_refuses(tmp_path: Path, content: Any, weights: Any, message: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(write(tmp_path, content), weights=weights)
    assert message.removesuffix(";") in caught.value.message
    assert caught.value.hint == "leave --weights out"


def test_read_when_there_is_one_set_takes_it_without_a_word(tmp_path: Path) -> None:
    model = read_checkpoint(write(tmp_path, {"model": small_tensors(), "epoch": 1}), weights="model")
    assert is_seed(model.module, 0)
    assert model.source.weights is None
    assert not any("--weights" in note for note in model.source.notes)


@pytest.mark.parametrize("as_mapping", [True, False])
def test_unwrap_gives_plain_values_and_the_scripts_arguments(as_mapping: bool) -> None:
    fields: dict[str, Any] = {"model": "deit_tiny_patch16_224", "input_size": 224, "mean": (0.5, 0.5, 0.5), "run": dict}
    args = fields if as_mapping else argparse.Namespace(**fields)
    weights: dict[str, Tensor] = {"a": torch.ones(1)}
    found = unwrap_weights({"model": weights, "epoch": 3, "arch": "vit", "args": args}, Path("w.pth"), None)
    assert dict(found.tensors) == weights
    assert found.containers == ("model",)
    assert found.stated == {
        "model": "deit_tiny_patch16_224", "input_size": 224, "mean": (0.5, 0.5, 0.5), "epoch": 3, "arch": "vit",
    }  # fmt: skip
