"""describe_other: what a file or a folder is that holds no checkpoint, and what to give instead."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

from edgevit.core.errors import CheckpointError, count_things

_SOURCE = "give the checkpoint, or the ONNX file, that it was made from"
_EXPORT = "export the model to ONNX with its own framework, and give that file"
_UNPACK = "unpack it, and give the folder or the weight file inside"

# By suffix: what tools that are no publishers of checkpoints call their files.
_SUFFIXES = {
    **dict.fromkeys((".engine", ".plan", ".trt"), ("an engine of TensorRT, compiled for one GPU", _SOURCE)),
    **dict.fromkeys((".tflite", ".lite"), ("a TensorFlow Lite model", _SOURCE)),
    **dict.fromkeys((".mlmodel", ".mlpackage", ".mlmodelc"), ("a Core ML model", _SOURCE)),
    **dict.fromkeys((".xml", ".blob"), ("an OpenVINO model", _SOURCE)),
    **dict.fromkeys((".pdparams", ".pdmodel", ".pdiparams"), ("a model of PaddlePaddle", _EXPORT)),
    **dict.fromkeys((".params", ".caffemodel"), ("a model of MXNet or Caffe", _EXPORT)),
    **dict.fromkeys((".pte", ".ptl", ".pt2"), ("a model that torch compiled for a device", _SOURCE)),
    ".rknn": ("a model for a Rockchip NPU", _SOURCE),
    ".hef": ("a model for a Hailo chip", _SOURCE),
}
_MAGIC = (
    (b"<?xml", ("an XML file, as of an OpenVINO model", _SOURCE)),
    (b"\x1f\x8b", ("a gzip archive", _UNPACK)),
    (b"BZh", ("a bzip2 archive", _UNPACK)),
    (b"\xfd7zXZ", ("an xz archive", _UNPACK)),
    (b"7z\xbc\xaf", ("a 7z archive", _UNPACK)),
    (b"Rar!", ("a RAR archive", _UNPACK)),
    (b"GGUF", ("a GGUF file of a language model", _EXPORT)),
    (b"\x28\xb5\x2f\xfd", ("a Zstandard archive", _UNPACK)),
)
_TAR = (257, b"ustar")


def refuse_other(source: str, path: Path) -> None:
    """Raise CheckpointError where a file or a folder is known to be something else; see :func:`describe_other`."""
    other = describe_other(path)
    if other is not None:
        raise CheckpointError(f"{source} is {other[0]}, which cannot be read", other[1])


def describe_other(path: Path) -> tuple[str, str] | None:
    """What it is, and what to give instead; ``None`` where that is not known.

    Args:
        path: A file or a folder that is there.
    """
    if path.is_dir():
        return _describe_folder(path)
    known = _SUFFIXES.get(path.suffix.lower())
    if known is not None:
        return known
    beside = path.with_suffix(".xml")
    if path.suffix == ".bin" and beside.is_file():
        return f"the weights of the OpenVINO model {beside.name}", _SOURCE
    if zipfile.is_zipfile(path):
        return _describe_zip(path)
    with path.open("rb") as file:
        head = file.read(512)
    if head[_TAR[0] :].startswith(_TAR[1]):
        return "a tar archive", _UNPACK
    return next((kind for magic, kind in _MAGIC if head.startswith(magic)), None)


def _describe_folder(path: Path) -> tuple[str, str] | None:
    names = [entry.name for entry in path.iterdir()]
    graphs = sorted(name for name in names if name.endswith(".xml"))
    if graphs:
        return f"a folder with the OpenVINO model {graphs[0]}", _SOURCE
    steps = sorted((int(m[1]), name) for name in names if (m := re.fullmatch(r"checkpoint-(\d+)", name)))
    if steps:
        last = path / steps[-1][1]
        what = f"{len(steps)} checkpoints of a training" if len(steps) > 1 else "a checkpoint of a training"
        return f"a folder with {what}", f"give one of them, such as {last}"
    if "saved_model.pb" in names:
        return "a SavedModel of TensorFlow", _EXPORT
    return None


def _describe_zip(path: Path) -> tuple[str, str] | None:
    """Of a zip that is neither torch's nor NumPy's, which have their own readers."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):  # damaged, or of a later form
        return None
    if any(name.endswith("data.pkl") for name in names):
        return None
    return f"a zip archive of {count_things(len(names), 'file')}", _UNPACK
