"""Training checkpoints: which of two sets of weights, and what the file says beside them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from edgevit.checkpoints import read_checkpoint
from edgevit.checkpoints.files.contents import unwrap_weights
from edgevit.core.errors import CheckpointError
from edgevit.models import ViT, ViTConfig
from tests.support.small_checkpoints import small_tensors, write_config

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


def small_module(seed: int) -> ViT:
    module = ViT(ViTConfig((32, 32), (8, 8), width=16, depth=2, heads=2, mlp_width=64, classes=3))
    module.load_state_dict(small_tensors(seed))
    return module


def put_behind(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}{name}": value for name, value in tensors.items()}


def test_read_torchs_averaged_model_beside_the_last_step_as_torchvisions_references_save_it(tmp_path: Path) -> None:
    averaged = AveragedModel(small_module(2))
    content: dict[str, Any] = {
        "model": small_tensors(1),
        "model_ema": averaged.state_dict(),
        "optimizer": {"state": {}},
        "epoch": 3,
    }
    folder = write(tmp_path, content)
    assert "n_averaged" in content["model_ema"]
    assert is_seed(read_checkpoint(folder).module, 2)
    assert is_seed(read_checkpoint(folder, weights="ema").module, 2)
    assert is_seed(read_checkpoint(folder, weights="model").module, 1)


def test_read_torchs_averaged_model_alone_knows_what_it_is(tmp_path: Path) -> None:
    folder = write(tmp_path, AveragedModel(small_module(2)).state_dict())
    assert is_seed(read_checkpoint(folder).module, 2)
    assert is_seed(read_checkpoint(folder, weights="ema").module, 2)
    with pytest.raises(CheckpointError, match="no weights of the last step"):
        read_checkpoint(folder, weights="model")


def test_read_lightnings_weight_averaging_whose_average_takes_the_usual_place(tmp_path: Path) -> None:
    # As lightning 2.6's WeightAveraging.on_save_checkpoint leaves a checkpoint.
    content = {
        "pytorch-lightning_version": "2.6.6",
        "state_dict": put_behind("model.", small_tensors(2)),
        "current_model_state": put_behind("model.", small_tensors(1)),
        "averaging_state": {"n_averaged": torch.tensor(7)},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(3)}}}],
    }
    folder = write(tmp_path, content)
    for which, seed in ((None, 2), ("ema", 2), ("model", 1)):
        model = read_checkpoint(folder, weights=which)  # type: ignore[arg-type]
        assert is_seed(model.module, seed)
        assert model.source.weights == (which or "ema")


@pytest.mark.parametrize(
    ("average", "last"),
    [("ema.module.", "model."), ("ema_model.", "net."), ("model_ema.module.", "model."), ("teacher.", "student."),
     ("ema.", "")],
)  # fmt: skip
def test_read_when_one_state_dict_holds_a_model_and_its_average(tmp_path: Path, average: str, last: str) -> None:
    both = {**put_behind(last, small_tensors(1)), **put_behind(average, small_tensors(2))}
    counter = {f"{average.split('.')[0]}.n_averaged": torch.tensor(3)} if ".module" in average else {}
    folder = write(tmp_path, {"state_dict": both | counter})
    default = read_checkpoint(folder)
    assert is_seed(default.module, 2)
    assert any("--weights ema, the default" in note for note in default.source.notes)
    assert is_seed(read_checkpoint(folder, weights="model").module, 1)


def test_unwrap_takes_a_teacher_that_is_another_model_for_no_average() -> None:
    distilled = {"student.head.weight": torch.ones(3, 4), "teacher.head.weight": torch.ones(3, 8)}
    assert dict(unwrap_weights(distilled, Path("w.pth"), None).tensors) == distilled
    with pytest.raises(CheckpointError, match="no averaged weights"):
        unwrap_weights(distilled, Path("w.pth"), "ema")


def test_read_when_the_average_is_a_list_takes_the_last_step_and_says_so(tmp_path: Path) -> None:
    # As torch_ema's ExponentialMovingAverage.state_dict() has it.
    shadow = {"decay": 0.99, "num_updates": 3, "shadow_params": list(small_tensors(2).values())}
    folder = write(tmp_path, {"model": small_tensors(1), "ema": shadow})
    model = read_checkpoint(folder)
    assert is_seed(model.module, 1)
    assert any("left out 'ema', which holds no named tensors" in note for note in model.source.notes)
    with pytest.raises(CheckpointError, match="'ema' holds no named tensors"):
        read_checkpoint(folder, weights="ema")


def test_read_when_weights_lie_under_an_unknown_key_names_what_is_there(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="it has best_weights, epoch"):
        read_checkpoint(write(tmp_path, {"best_weights": small_tensors(), "epoch": 3}))


@pytest.mark.parametrize("key", ["module", "net"])
def test_read_when_a_script_calls_its_weights_otherwise(tmp_path: Path, key: str) -> None:
    assert is_seed(read_checkpoint(write(tmp_path, {key: small_tensors(1), "epoch": 3})).module, 1)


def test_read_when_a_format_has_one_set_refuses_averaged_weights(tmp_path: Path) -> None:
    weights = next((Path(__file__).parents[1] / "keras").rglob("*.weights.h5"))
    (tmp_path / "model.onnx").write_bytes(b"onnx")
    for source, message in ((weights, "no averaged weights"), (tmp_path / "model.onnx", "one set of weights")):
        with pytest.raises(CheckpointError, match=message) as caught:
            read_checkpoint(source, weights="ema")
        assert caught.value.hint == "leave --weights out"
