"""NumPy's archives (``.npz``), as JAX projects save their parameters: arrays by name, mapped from the file."""

from __future__ import annotations

import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from numpy.lib import format as npy
from torch import Tensor

from edgevit.core.errors import CheckpointError, format_offenders

# What zipfile raises on damage; RuntimeError covers encryption, and methods and versions that Python does not know.
ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, OSError, ValueError, EOFError, RuntimeError)
_LOCAL_HEADER = 30  # bytes of a zip member's own header, before its name and extra field


def is_archive(path: Path) -> bool:
    """Whether a file is a zip archive of ``.npy`` files."""
    if not zipfile.is_zipfile(path):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except ZIP_ERRORS:
        return False
    return bool(names) and all(name.endswith(".npy") for name in names)


def read_archive(path: Path) -> dict[str, Tensor]:
    """Arrays by name. What is stored uncompressed, as ``numpy.savez`` does, is mapped and not read.

    bfloat16, for which NumPy has no type of its own, is stored as two raw bytes and read as bfloat16.

    Raises:
        CheckpointError: The archive is damaged, or holds Python objects, which would have to be unpickled.
    """
    tensors: dict[str, Tensor] = {}
    objects: list[str] = []
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                name = member.filename.removesuffix(".npy")
                array = _read_member(path, archive, member)
                if array is None:
                    objects.append(name)
                else:
                    tensors[name] = to_tensor(array)
    except (*ZIP_ERRORS, TypeError, struct.error) as exc:
        raise CheckpointError(f"{path} is damaged: {exc}", "download or save it again") from exc
    if objects:
        raise CheckpointError(
            f"{path} holds Python objects, and nothing from a checkpoint is executed:\n{format_offenders(objects)}",
            "save plain arrays with numpy.savez",
        )
    return tensors


def _read_member(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> npt.NDArray[Any] | None:
    with archive.open(member) as stream:
        version = npy.read_magic(stream)
        read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, column_major, dtype = read_header(stream)
        if dtype.hasobject:
            return None
        order: Literal["F", "C"] = "F" if column_major else "C"
        begin = stream.tell()
        if member.compress_type != zipfile.ZIP_STORED or 0 in shape or not shape:
            data = stream.read()
            return np.frombuffer(bytearray(data), dtype).reshape(shape, order=order)
    offset = find_member(path, member) + begin
    if begin + int(np.prod(shape, dtype=np.int64)) * dtype.itemsize > member.file_size:
        raise ValueError(f"{member.filename} is shorter than its shape {shape}")
    # Copy on write: torch takes it without a warning, and nothing writes.
    mapped = np.memmap(path, dtype, "c", offset, shape, order)
    return mapped if mapped.flags.aligned else mapped.copy()  # zip puts a member anywhere


def find_member(path: Path, member: zipfile.ZipInfo) -> int:
    """Where the data of a zip archive's member begins in the file, in bytes.

    Raises:
        ValueError: The member's own header is cut off.
    """
    with path.open("rb") as file:
        file.seek(member.header_offset)
        header = file.read(_LOCAL_HEADER)
    if len(header) < _LOCAL_HEADER:
        raise ValueError(f"the header of {member.filename} is cut off")
    name_length, extra_length = struct.unpack("<HH", header[26:30])
    return member.header_offset + _LOCAL_HEADER + int(name_length) + int(extra_length)


def to_tensor(array: npt.NDArray[Any]) -> Tensor:
    """A tensor on the array's memory; two raw bytes are bfloat16, for which NumPy has no type of its own."""
    if array.dtype == np.dtype("V2"):
        return torch.from_numpy(array.view(np.uint16)).view(torch.bfloat16)
    return torch.from_numpy(array)
