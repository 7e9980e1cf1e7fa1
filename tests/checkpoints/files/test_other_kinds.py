"""Files of other tools are called what they are, with what to give instead."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from edgevit.checkpoints import read_checkpoint
from edgevit.core.errors import CheckpointError

WEIGHTS = save({"a": torch.ones(2)})


def write_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model.safetensors", WEIGHTS)


def write_tar(path: Path) -> None:
    with tarfile.open(path, "w") as archive:
        member = tarfile.TarInfo("model.safetensors")
        member.size = len(WEIGHTS)
        archive.addfile(member, io.BytesIO(WEIGHTS))


def write_openvino(path: Path) -> None:
    path.mkdir()
    (path / "openvino_model.xml").write_text('<?xml version="1.0"?><net name="m" version="11"></net>')
    (path / "openvino_model.bin").write_bytes(b"\x00" * 64)


def write_training(path: Path) -> None:
    for step in (100, 1200, 200):
        (path / f"checkpoint-{step}").mkdir(parents=True)


@pytest.mark.parametrize(
    ("name", "make", "what", "hint"),
    [
        ("model.zip", write_zip, "a zip archive of 1 file,", "unpack it"),
        ("model.tar", write_tar, "a tar archive", "unpack it"),
        ("model.pth", write_zip, "a zip archive", "unpack it"),
        ("ov", write_openvino, "the weights of the OpenVINO model openvino_model.xml", "that it was made from"),
        ("trainer", write_training, "3 checkpoints of a training", "checkpoint-1200"),
        ("model.engine", lambda path: path.write_bytes(b"ftrt" * 9), "an engine of TensorRT", "that it was made from"),
        (
            "model.tflite",
            lambda path: path.write_bytes(b"TFL3" * 9),
            "a TensorFlow Lite model",
            "that it was made from",
        ),
        ("model.pdparams", lambda path: path.write_bytes(b"\x80\x04" * 9), "a model of PaddlePaddle", "to ONNX"),
        ("weights.bin", lambda path: path.write_bytes(b"\x1f\x8b\x08" * 9), "a gzip archive", "unpack it"),
    ],
    ids=lambda value: value if isinstance(value, str) and "." in value else "",
)
def test_other_kind_is_named(name: str, make: Callable[[Path], object], what: str, hint: str, tmp_path: Path) -> None:
    """Case 22."""
    make(tmp_path / name)
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(tmp_path / name)
    assert f"is {what}" in caught.value.message or f"with {what}" in caught.value.message
    assert hint in caught.value.hint
    assert "damaged" not in caught.value.message


def test_openvino_file_is_named(tmp_path: Path) -> None:
    write_openvino(tmp_path / "ov")
    with pytest.raises(CheckpointError, match="is an OpenVINO model, which cannot be read"):
        read_checkpoint(tmp_path / "ov/openvino_model.xml")
