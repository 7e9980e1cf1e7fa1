"""Weight files: damaged, unsafe, wrapped, of other types."""

from __future__ import annotations

import argparse
import contextlib
import os
import pickle
import re
import sys
from datetime import date
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save, save_file

from edgevit.checkpoints import read_checkpoint
from edgevit.checkpoints.files.files import find_files
from edgevit.checkpoints.files.inert import _read_number, _Type
from edgevit.core.errors import CheckpointError
from tests.support.small_checkpoints import small_tensors, write_config, write_folder


class Command:
    """Runs a command where it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch {self.marker}",)


def write_pickle(folder: Path, content: object, **options: Any) -> Path:
    write_config(folder)
    torch.save(content, folder / "pytorch_model.bin", **options)
    return folder


@pytest.mark.parametrize("archive", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("nested", [True, False])
def test_read_when_a_pickle_would_run_a_command_refuses_and_names_it(
    tmp_path: Path, archive: bool, nested: bool
) -> None:
    marker = tmp_path / "marker"
    content = {"state_dict": small_tensors(), "args": Command(marker)} if nested else Command(marker)
    write_pickle(tmp_path, content, _use_new_zipfile_serialization=archive)
    with pytest.raises(CheckpointError, match=r"(posix|nt)\.system") as caught:
        read_checkpoint(tmp_path)
    assert "state_dict()" in caught.value.hint
    assert not marker.exists()


def test_read_when_a_plain_pickle_would_run_a_command_refuses(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    write_config(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(pickle.dumps(Command(marker)))
    with pytest.raises(CheckpointError, match="pytorch_model"):
        read_checkpoint(tmp_path)
    assert not marker.exists()


def test_read_when_a_pickle_called_safetensors_would_run_a_command_refuses(tmp_path: Path) -> None:
    write_pickle(tmp_path, Command(tmp_path / "marker"))
    (tmp_path / "pytorch_model.bin").rename(tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"pickle under the name"):
        read_checkpoint(tmp_path)
    assert not (tmp_path / "marker").exists()


def test_read_when_a_pickle_needs_several_classes_names_all(tmp_path: Path) -> None:
    content = {"model": small_tensors(), "args": argparse.Namespace(lr=1), "day": date(2026, 1, 2), "n": Fraction(1, 2)}
    write_pickle(tmp_path, content)
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(tmp_path)
    assert "fractions.Fraction" in caught.value.message
    assert "datetime.date" in caught.value.message
    assert "argparse" not in caught.value.message


@pytest.mark.parametrize("archive", [True, False], ids=["zip", "legacy"])
def test_read_when_a_training_script_saved_its_arguments_reads_and_leaves_torch_as_it_was(
    tmp_path: Path, archive: bool
) -> None:
    allowed = set(torch.serialization.get_safe_globals())
    args = argparse.Namespace(model="vit", lr=1e-3, betas=[0.9, 0.999])
    write_pickle(tmp_path, {"model": small_tensors(), "args": args}, _use_new_zipfile_serialization=archive)
    assert_small(read_checkpoint(tmp_path).module)
    assert set(torch.serialization.get_safe_globals()) == allowed


def test_read_when_the_file_is_torchscript_refuses(tmp_path: Path) -> None:
    write_config(tmp_path)
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="TorchScript"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize("archive", [True, False], ids=["zip", "legacy"])
def test_read_when_pickled_equals_safetensors(tmp_path: Path, archive: bool) -> None:
    write_pickle(tmp_path, small_tensors(), _use_new_zipfile_serialization=archive)
    assert_small(read_checkpoint(tmp_path).module)


def assert_small(module: torch.nn.Module, tolerance: float = 0.0) -> None:
    for name, value in module.state_dict().items():
        assert value.dtype == torch.float32
        assert torch.allclose(value, small_tensors()[name], rtol=0, atol=tolerance)


@pytest.mark.parametrize("key", ["state_dict", "model", "model_state_dict", "state_dict_ema", "model_ema"])
def test_read_when_weights_are_nested_finds_them(tmp_path: Path, key: str) -> None:
    write_pickle(tmp_path, {"epoch": 3, key: small_tensors(), "optimizer": {"lr": 0.1}})
    assert_small(read_checkpoint(tmp_path).module)


def test_read_when_there_are_averaged_weights_takes_them_and_says_so(tmp_path: Path) -> None:
    write_pickle(tmp_path, {"state_dict": small_tensors(seed=1), "state_dict_ema": small_tensors()})
    model = read_checkpoint(tmp_path)
    assert_small(model.module)
    assert any("'state_dict_ema'" in note and "'state_dict'" in note for note in model.source.notes)


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "module._orig_mod.", "model.", "timm_model.", "net.", "model.net."]
)
def test_read_when_names_have_a_wrappers_prefix_strips_it(tmp_path: Path, prefix: str) -> None:
    write_folder(tmp_path, {prefix + name: value for name, value in small_tensors().items()})
    assert_small(read_checkpoint(tmp_path).module)


def test_read_when_the_header_is_of_any_length_is_safetensors(tmp_path: Path) -> None:
    # The first byte is the length's lowest; 0x80 is also a pickle's first, and 0x50 0x4b an archive's.
    content = save(small_tensors())
    length = int.from_bytes(content[:8], "little")
    header = content[8 : 8 + length]
    write_config(tmp_path)
    for wanted in (0x80, 0x4B50):
        padded = header + b" " * ((wanted - length) % (0x100 if wanted < 0x100 else 0x10000))
        (tmp_path / "model.safetensors").write_bytes(len(padded).to_bytes(8, "little") + padded + content[8 + length :])
        assert_small(read_checkpoint(tmp_path).module)


@pytest.mark.parametrize("content", [[1, 2], {}, {"state_dict": {}}, torch.zeros(3), {"lr": 1.0}], ids=str)
def test_read_when_there_are_no_named_tensors_says_so(tmp_path: Path, content: object) -> None:
    write_pickle(tmp_path, content)
    with pytest.raises(CheckpointError, match="tensors"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float16, 0.01), (torch.bfloat16, 0.05), (torch.float64, 1e-6)], ids=str
)
def test_read_when_weights_are_of_another_float_type_converts_and_says_so(
    tmp_path: Path, dtype: torch.dtype, tolerance: float
) -> None:
    write_folder(tmp_path, {name: value.to(dtype) for name, value in small_tensors().items()})
    model = read_checkpoint(tmp_path)
    assert_small(model.module, tolerance)
    assert any(str(dtype).removeprefix("torch.") in note for note in model.source.notes)


@pytest.mark.parametrize("dtype", [torch.int8, torch.bool, torch.int64, torch.float8_e4m3fn], ids=str)
def test_read_when_weights_are_quantised_lists_them(tmp_path: Path, dtype: torch.dtype) -> None:
    tensors = small_tensors()
    for name in ("head.weight", "blocks.1.mlp.fc1.weight"):
        tensors[name] = tensors[name].to(dtype)
    write_folder(tmp_path, tensors)
    with pytest.raises(CheckpointError, match="2 weights that are not dense floating point") as caught:
        read_checkpoint(tmp_path)
    assert "head.weight" in caught.value.message
    assert "blocks.1.mlp.fc1.weight" in caught.value.message


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_read_when_values_are_finite_and_their_sum_is_not_reads_them(tmp_path: Path, dtype: torch.dtype) -> None:
    tensors = {name: value.to(dtype) for name, value in small_tensors().items()}
    largest = torch.finfo(dtype if dtype == torch.float16 else torch.float32).max
    tensors["head.weight"] = torch.full_like(tensors["head.weight"], largest)
    write_folder(tmp_path, tensors)
    assert torch.equal(read_checkpoint(tmp_path).module.state_dict()["head.weight"], tensors["head.weight"].float())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_read_when_weights_are_not_finite_lists_the_tensors(tmp_path: Path, value: float, dtype: torch.dtype) -> None:
    tensors = {name: tensor.to(dtype) for name, tensor in small_tensors().items()}
    tensors["blocks.0.norm1.bias"][3] = value
    tensors["head.weight"][:, 0] = value
    write_folder(tmp_path, tensors)
    with pytest.raises(CheckpointError, match="2 tensors with NaN or infinite values") as caught:
        read_checkpoint(tmp_path)
    assert "blocks.0.norm1.bias: 1 of 16" in caught.value.message
    assert "head.weight: 3 of 48" in caught.value.message


def test_read_when_float64_overflows_float32_refuses(tmp_path: Path) -> None:
    tensors = {name: tensor.double() for name, tensor in small_tensors().items()}
    tensors["head.bias"][0] = 1e300
    write_folder(tmp_path, tensors)
    with pytest.raises(CheckpointError, match="infinite"):
        read_checkpoint(tmp_path)


@pytest.fixture(scope="module", params=["model.safetensors", "pytorch_model.bin", "legacy"])
def intact(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, bytes]:
    """A folder, its weight file and that file's content."""
    folder = tmp_path_factory.mktemp("intact")
    write_config(folder)
    file = folder / ("model.safetensors" if request.param == "model.safetensors" else "pytorch_model.bin")
    if request.param == "model.safetensors":
        save_file(small_tensors(), file)
    else:
        torch.save(small_tensors(), file, _use_new_zipfile_serialization=request.param != "legacy")
    return folder, file, file.read_bytes()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 1, exclude_max=True))
def test_read_when_the_weights_are_truncated_says_so(intact: tuple[Path, Path, bytes], share: float) -> None:
    folder, file, content = intact
    file.write_bytes(content[: int(share * len(content))])
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(folder)
    assert file.name in caught.value.message


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_read_when_bytes_are_damaged_reads_or_refuses_and_never_fails_otherwise(
    intact: tuple[Path, Path, bytes], data: st.DataObject
) -> None:
    folder, file, content = intact
    damaged = bytearray(content)
    places = st.one_of(st.integers(0, min(2000, len(content) - 1)), st.integers(0, len(content) - 1))
    for at in data.draw(st.lists(places, min_size=1, max_size=4)):
        damaged[at] = data.draw(st.integers(0, 255))
    file.write_bytes(bytes(damaged))
    with contextlib.suppress(CheckpointError):
        read_checkpoint(folder)


@given(content=st.binary(min_size=1, max_size=300))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_read_when_the_file_is_random_bytes_refuses(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "weights.pth"
    file.write_bytes(content)
    with pytest.raises(CheckpointError):
        read_checkpoint(file, arch="vit_tiny_patch16_224")


def test_read_when_a_lightning_module_keeps_a_loss_and_metrics_drops_them_and_says_so(tmp_path: Path) -> None:
    tensors = {f"model.{name}": value for name, value in small_tensors().items()}
    write_pickle(tmp_path, {"state_dict": {**tensors, "criterion.weight": torch.ones(3), "val_acc.tp": torch.ones(1)}})
    model = read_checkpoint(tmp_path)
    assert any(
        "losses and metrics beside the model: criterion.weight, val_acc.tp" in note for note in model.source.notes
    )


def test_read_when_a_lightning_module_keeps_its_head_beside_the_model_names_it(tmp_path: Path) -> None:
    tensors = {f"model.{name}": value for name, value in small_tensors().items() if not name.startswith("head")}
    write_pickle(tmp_path, {"state_dict": {**tensors, "classifier.weight": torch.ones(3, 16)}})
    with pytest.raises(CheckpointError, match="2 missing, 1 unexpected") as caught:
        read_checkpoint(tmp_path)
    missing, unexpected = caught.value.message.split("unexpected:")
    assert "head.weight" in missing
    assert unexpected.split() == ["classifier.weight"]


class CfgNode(dict[str, Any]):
    """As yacs' own: a dictionary with a state beside it."""

    def __init__(self, **items: Any) -> None:
        super().__init__(**items)
        self.__dict__["__immutable__"] = True


@pytest.mark.parametrize("archive", [True, False], ids=["zip", "legacy"])
def test_read_when_a_training_script_saved_its_configuration_and_figures_reads_them_as_plain_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, archive: bool
) -> None:
    # As Microsoft's Swin: save_state = {"model": …, "max_accuracy": …, "config": config}.
    for name in ("yacs", "yacs.config"):
        monkeypatch.setitem(sys.modules, name, sys.modules[__name__])
    monkeypatch.setattr(CfgNode, "__module__", "yacs.config")
    config = CfgNode(DATA=CfgNode(IMG_SIZE=224), AMP=True)
    content = {
        "model": small_tensors(), "config": config, "max_accuracy": np.float64(81.5), "seen": np.int64(7),
        "big_endian": np.dtype(">f4").type(2.5), "finished": np.bool_(True), "output": Path("runs") / "one",
    }  # fmt: skip
    write_pickle(tmp_path, content, _use_new_zipfile_serialization=archive)
    for name in ("yacs", "yacs.config"):
        monkeypatch.delitem(sys.modules, name)
    files = find_files(tmp_path)
    stated = files.contents.stated
    assert (stated["max_accuracy"], stated["seen"], stated["big_endian"], stated["finished"]) == (81.5, 7, 2.5, True)
    assert (stated["output"], stated["config"]) == ("runs/one", {"DATA": {"IMG_SIZE": 224}, "AMP": True})
    assert "yacs.config" not in sys.modules
    assert read_checkpoint(tmp_path).classes == 3


@pytest.mark.parametrize("kind", ["O", "V8", "U2", "f8"])
def test_read_when_a_pickled_number_is_none_reads_nothing(tmp_path: Path, kind: str) -> None:
    assert _read_number(_Type(kind), b"abc") is None
    assert _read_number(kind, b"abc") is None


def test_read_when_arrays_of_numpy_are_pickled_refuses(tmp_path: Path) -> None:
    write_pickle(tmp_path, {"model": small_tensors(), "confusion": np.zeros(3)})
    with pytest.raises(CheckpointError, match=r"numpy\.ndarray"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize("name", ["parameters.npz", "model.keras"])
@pytest.mark.parametrize(
    ("offset", "value"),
    [(10, 99), (6, 99), (8, 0x41)],
    ids=["compression nobody knows", "zip of a later version", "strong encryption"],
)
def test_read_when_zipfile_knows_a_members_form_no_more_refuses(
    tmp_path: Path, name: str, offset: int, value: int
) -> None:
    """Fields of a zip's central directory, which a damaged byte reaches, and which are no BadZipFile to Python."""
    if name.endswith(".npz"):
        np.savez(tmp_path / name, cls=np.zeros((1, 1, 8), np.float32))
        content = bytearray((tmp_path / name).read_bytes())
    else:
        content = bytearray((Path(__file__).parents[1] / "keras" / "deit.keras").read_bytes())
    entries = [found.start() for found in re.finditer(b"PK\x01\x02", content)]
    assert entries
    for entry in entries:
        content[entry + offset] = value
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError):
        read_checkpoint(tmp_path / name)
