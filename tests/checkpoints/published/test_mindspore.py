"""MindSpore's checkpoints, in files that MindSpore wrote (scripts/make_mindspore_fixtures.py)."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgevit.checkpoints import read_checkpoint, shapes
from edgevit.checkpoints.files.mindspore_file import is_mindspore, read_mindspore
from edgevit.core.errors import CheckpointError
from edgevit.models import SwinConfig
from tests.support.published.mindspore import write_field, write_parameter
from tests.support.reference import relative_error

FIXTURES = Path(__file__).parents[1] / "mindspore"


@pytest.fixture(autouse=True)
def small_heads(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fixture's width, for which nobody publishes a number of heads."""
    monkeypatch.setitem(shapes.HEADS, 16, 2)


def answer(module: torch.nn.Module) -> torch.Tensor:
    with np.load(FIXTURES / "answers.npz") as answers, torch.inference_mode():
        logits: torch.Tensor = module(torch.from_numpy(answers["pixels"]))
    return logits


def expected(name: str) -> torch.Tensor:
    with np.load(FIXTURES / "answers.npz") as answers:
        return torch.from_numpy(answers[name])


@pytest.mark.parametrize(
    ("name", "architecture"),
    [("vit", "ViT of width 16, depth 2, patch 8"), ("swin", "Swin of width 8, depths 2-1-1")],
)
def test_checkpoint_gives_mindcvs_answers(name: str, architecture: str) -> None:
    model = read_checkpoint(FIXTURES / f"{name}.ckpt")
    assert relative_error(answer(model.module), expected(name)) <= 1e-4
    assert (model.source.layout, model.image_size) == ("MindSpore checkpoint (MindCV)", (32, 32))
    assert model.source.architecture == architecture
    assert (model.preprocess.resize_height, model.preprocess.interpolation) == (36, "bicubic")  # 32 / 0.875
    assert any("MindCV's" in note and "is assumed" in note for note in model.source.notes)


def test_swin_on_a_wide_grid_shifts_where_mindcv_does() -> None:
    # Its rule, which is Microsoft's: a window that reaches the smaller side of the grid is not shifted along the other.
    model = read_checkpoint(FIXTURES / "swin.ckpt", image_size=(8, 16))
    assert isinstance(model.config, SwinConfig)
    assert model.config.stage_grid(0) == (2, 4)
    assert model.config.block_window(0, 1) == ((2, 2), (0, 0))


@pytest.mark.parametrize(("weights", "name"), [(None, "averaged"), ("ema", "averaged"), ("model", "vit")])
def test_training_checkpoint_gives_the_weights_that_are_asked_for(weights: Any, name: str) -> None:
    model = read_checkpoint(FIXTURES / "training.ckpt", weights=weights)
    assert relative_error(answer(model.module), expected(name)) <= 1e-4
    assert relative_error(expected("vit"), expected("averaged")) > 0.1
    dropped = " ".join(note for note in model.source.notes if note.startswith("dropped"))
    assert ("optimiser" in dropped) == (weights == "model")  # beside the averaged weights there is nothing to drop


def test_checkpoint_with_another_byte_misses_its_checksum(tmp_path: Path) -> None:
    content = bytearray((FIXTURES / "swin.ckpt").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "w.ckpt").write_bytes(bytes(content))
    with pytest.raises(CheckpointError, match="checksum"):
        read_checkpoint(tmp_path / "w.ckpt")


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=200)
SHAPES = st.lists(st.integers(1, 5), max_size=3).map(tuple)
TYPES = st.sampled_from([("Float32", "f4"), ("Float16", "f2"), ("Float64", "f8"), ("Int32", "i4"), ("Bool", "?")])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tensors=st.dictionaries(NAMES.map(lambda n: f"w{n}"), st.tuples(SHAPES, TYPES), min_size=1, max_size=5))
def test_file_of_any_tensors_is_read_as_they_were(tmp_path: Path, tensors: Any) -> None:
    generator = np.random.default_rng(0)
    arrays = {n: generator.integers(0, 2, shape).astype(dtype) for n, (shape, (_, dtype)) in tensors.items()}
    path = tmp_path / "w.ckpt"
    path.write_bytes(
        b"".join(write_parameter(n, a.shape, tensors[n][1][0], a.tobytes()) for n, a in arrays.items())
        + write_parameter("scalar", (0,), "Float32", np.float32(7).tobytes())
        + write_parameter("note", (3,), "str", b"abc")
    )
    assert is_mindspore(path.read_bytes()[:9])
    found = read_mindspore(path)
    assert found.pop("scalar") == 7.0
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert np.array_equal(found[name].numpy(), array)
        assert found[name].numpy().dtype == array.dtype


def test_file_with_a_tensor_in_slices_joins_them(tmp_path: Path) -> None:
    whole = np.arange(12, dtype="f4").reshape(4, 3)
    slices = [write_parameter("w", (4, 3), "Float32", part.tobytes()) for part in np.array_split(whole, 3)]
    (tmp_path / "w.ckpt").write_bytes(b"".join(slices) + write_parameter("v", (1,), "Float32", np.float32(2).tobytes()))
    assert np.array_equal(read_mindspore(tmp_path / "w.ckpt")["w"].numpy(), whole)


def test_file_with_packed_dimensions_and_unknown_fields_is_read(tmp_path: Path) -> None:
    tensor = write_field(1, bytes([2, 3])) + write_field(2, b"Float32") + write_field(3, bytes(24)) + write_field(9, 5)
    tensor += b"\x55\0\0\0\0" + b"\x59" + bytes(8)  # numbers of 4 and 8 bytes in fields 10 and 11
    (tmp_path / "w.ckpt").write_bytes(write_field(1, write_field(1, b"w") + write_field(2, tensor)))
    assert read_mindspore(tmp_path / "w.ckpt")["w"].shape == (2, 3)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (write_parameter("w", (2,), "Float32", bytes(7)), "w has 7 bytes, not the 8"),
        (write_parameter("w", (2**62, 2**62), "Float32", bytes(8)), "damaged"),
        (write_parameter("w", (2,), "QInt4", bytes(8)), "w: QInt4"),
        (write_field(1, write_field(1, b"table") + write_field(3, b"")), "table: a map of tensors"),
        (
            write_parameter("w", (1,), "Float32", bytes(4)) + write_parameter("w", (2,), "Float32", bytes(4)),
            "changes its shape",
        ),
        (write_field(1, write_field(1, b"w")), "no tensor"),
        (write_parameter("w", (1,), "Float32", bytes(4))[:-1], "longer than what is left"),
        (write_parameter("w", (1,), "Float32", bytes(4)) + b"\x0b", "wire type 3"),
        (write_parameter("w", (1,), "Float32", bytes(4)) + b"\xff" * 12, "does not end"),
    ],
)
def test_file_that_is_damaged_or_has_other_values_says_so(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "w.ckpt").write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(tmp_path / "w.ckpt")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_checkpoint_with_damaged_bytes_is_read_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray((FIXTURES / "vit.ckpt").read_bytes())
    places = st.one_of(st.integers(0, 200), st.integers(0, len(content) - 1))
    for at in data.draw(st.lists(places, min_size=1, max_size=4)):
        content[at] = data.draw(st.integers(0, 255))
    (tmp_path / "w.ckpt").write_bytes(bytes(content[: data.draw(st.integers(1, len(content)))]))
    with contextlib.suppress(CheckpointError):
        read_checkpoint(tmp_path / "w.ckpt")


def test_checkpoint_that_is_not_whole_lists_everything(tmp_path: Path) -> None:
    vit = (FIXTURES / "vit.ckpt").read_bytes()
    (tmp_path / "w.ckpt").write_bytes(
        vit.replace(b"blocks.1.norm2.gamma", b"blocks.1.norm3.gamma") + write_parameter("w", (1,), "Float32", bytes(4))
    )
    with pytest.raises(CheckpointError, match="1 missing, 2 unexpected") as caught:
        read_checkpoint(tmp_path / "w.ckpt")
    for name in ("blocks.1.norm2.gamma", "blocks.1.norm3.gamma"):
        assert name in caught.value.message


def test_checkpoint_written_by_mindspore_here_is_read(tmp_path: Path) -> None:
    mindspore = pytest.importorskip("mindspore", reason="MindSpore is not installed")
    original = {name: t.numpy() for name, t in read_mindspore(FIXTURES / "vit.ckpt").items()}
    saved = [{"name": name, "data": mindspore.Tensor(array)} for name, array in original.items()]
    mindspore.save_checkpoint(saved, str(tmp_path / "w.ckpt"), crc_check=True)
    shutil.copy(tmp_path / "w.ckpt", tmp_path / "copy.ckpt")  # MindSpore's is read-only
    assert relative_error(answer(read_checkpoint(tmp_path / "copy.ckpt").module), expected("vit")) <= 1e-4


def test_checkpoint_with_numbers_that_its_training_appended_drops_them(tmp_path: Path) -> None:
    # As ``save_checkpoint(…, append_dict={"epoch": 3, "best_acc": 0.5, "name": "run"})`` writes them.
    appended = [
        write_parameter("epoch", (0,), "Int64", np.int64(3).tobytes()),
        write_parameter("best_acc", (0,), "Float32", np.float32(0.5).tobytes()),
        write_parameter("name", (0,), "str", b"run"),
    ]
    (tmp_path / "w.ckpt").write_bytes((FIXTURES / "vit.ckpt").read_bytes() + b"".join(appended))
    model = read_checkpoint(tmp_path / "w.ckpt")
    assert relative_error(answer(model.module), expected("vit")) <= 1e-4
    assert any("dropped numbers that are the training's state: best_acc, epoch" in note for note in model.source.notes)
