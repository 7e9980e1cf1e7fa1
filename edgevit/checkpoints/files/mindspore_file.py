"""MindSpore's checkpoint files, read without MindSpore.

The file is a protobuf message that repeats one field, a named tensor (``checkpoint.proto`` of MindSpore 2)::

    message Checkpoint {
      message Value { required string tag = 1; optional TensorProto tensor = 2; optional MapTensorProto maptensor = 3; }
      repeated Value value = 1;
    }
    message TensorProto { repeated int64 dims = 1; required string tensor_type = 2; required bytes tensor_content = 3; }

A tensor above 512 MiB comes in several values of the same tag and shape, one after the other. Where the file was saved
with a checksum, ``crc_num`` and ten bytes stand behind the message.
"""

from __future__ import annotations

import binascii
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgevit.core.errors import CheckpointError, format_offenders

_TYPES = {
    "Bool": torch.bool, "Int8": torch.int8, "UInt8": torch.uint8, "Int16": torch.int16, "UInt16": torch.uint16,
    "Int32": torch.int32, "UInt32": torch.uint32, "Int64": torch.int64, "UInt64": torch.uint64,
    "Float16": torch.float16, "BFloat16": torch.bfloat16, "Float32": torch.float32, "Float64": torch.float64,
}  # fmt: skip
_CHECKSUM = b"crc_num"
_AVERAGED = "ema."  # MindCV's training step keeps the averaged weights as parameters of this prefix
_FIELD = b"\x0a"  # field 1, of known length

Fields = Iterator[tuple[int, "int | memoryview"]]


def is_mindspore(head: bytes) -> bool:
    """Whether a file that begins with these bytes (9 or more) is a message whose first field holds a name."""
    if head[:1] != _FIELD:
        return False
    try:
        _, at = _read_varint(memoryview(head), 1)
    except ValueError:
        return False
    return head[at : at + 1] == _FIELD


def read_mindspore(path: Path) -> dict[str, Any]:
    """Tensors by name; under ``ema`` and ``model`` where the file holds averaged weights too.

    Raises:
        CheckpointError: The file is damaged, or holds what is no dense tensor.
    """
    message = memoryview(np.memmap(path, np.uint8, "r").data)
    slices: dict[str, list[memoryview]] = {}
    kinds: dict[str, tuple[tuple[int, ...], str]] = {}
    try:
        message = _check_sum(message)
        for number, value in _read_fields(message):
            if number == 1 and isinstance(value, memoryview):
                name, shape, kind, data = _read_value(value)
                if kinds.setdefault(name, (shape, kind)) != (shape, kind):
                    raise ValueError(f"{name} changes its shape or type from one slice to the next")
                slices.setdefault(name, []).append(data)
        tensors = {name: _join(slices.pop(name), name, *kinds[name]) for name in kinds if kinds[name][1] in _TYPES}
    except (ValueError, UnicodeDecodeError) as exc:
        raise CheckpointError(f"{path} is damaged: {exc}", "download or save it again") from exc
    others = [f"{name}: {kind}" for name, (_, kind) in kinds.items() if kind not in (*_TYPES, "str")]
    if others:
        raise CheckpointError(
            f"{path} has values that are no dense tensors:\n{format_offenders(others)}",
            "save the checkpoint from before it was quantised, without map parameters",
        )
    averaged = {n.removeprefix(_AVERAGED): t for n, t in tensors.items() if n.startswith(_AVERAGED)}
    if not averaged:
        return dict(tensors)
    return {"model": {n: t for n, t in tensors.items() if not n.startswith(_AVERAGED)}, "ema": averaged}


def _check_sum(message: memoryview) -> memoryview:
    """The message without the checksum behind it, which is checked."""
    if bytes(message[-17:-10]) != _CHECKSUM:
        return message
    stated = int.from_bytes(message[-10:], "big")
    if binascii.crc32(message[:-17]) != stated:
        raise ValueError("its content does not have the checksum that it states")
    return message[:-17]


def _read_value(value: memoryview) -> tuple[str, tuple[int, ...], str, memoryview]:
    name, tensor = None, None
    for number, field in _read_fields(value):
        if number == 1 and isinstance(field, memoryview):
            name = str(field, "utf-8")
        elif number in (2, 3) and isinstance(field, memoryview):
            tensor = field if number == 2 else memoryview(b"")
    if name is None or tensor is None:
        raise ValueError("a value has no name or no tensor")
    dims: list[int] = []
    kind, data = "a map of tensors", memoryview(b"")
    for number, field in _read_fields(tensor):
        if number == 1 and isinstance(field, int):
            dims.append(field)
        elif number == 1 and isinstance(field, memoryview):  # packed
            at = 0
            while at < len(field):
                size, at = _read_varint(field, at)
                dims.append(size)
        elif number == 2 and isinstance(field, memoryview):
            kind = str(field, "utf-8")
        elif number == 3 and isinstance(field, memoryview):
            data = field
    return name, tuple(dims), kind, data


def _join(slices: list[memoryview], name: str, shape: tuple[int, ...], kind: str) -> Tensor:
    dtype = _TYPES[kind]
    shape = () if shape == (0,) else shape  # how MindSpore states a scalar's shape
    wanted = int(np.prod(shape, dtype=np.float64)) * dtype.itemsize
    found = sum(len(s) for s in slices)
    if found != wanted:
        raise ValueError(f"{name} has {found} bytes, not the {wanted} of {list(shape)} {kind}")
    # A copy: the message's fields lie at odd addresses, and engines want whole words.
    data = np.empty(found, np.uint8)
    at = 0
    for part in slices:
        data[at : at + len(part)] = part
        at += len(part)
    return torch.from_numpy(data).view(dtype).reshape(shape) if found else torch.zeros(shape, dtype=dtype)


def _read_fields(message: memoryview) -> Fields:
    """Number and value of every field of a protobuf message, in order: varints as numbers, the others as bytes."""
    at = 0
    while at < len(message):
        key, at = _read_varint(message, at)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, at = _read_varint(message, at)
            yield number, value
            continue
        if wire == 2:
            size, at = _read_varint(message, at)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise ValueError(f"a field of the unknown wire type {wire} at byte {at}")
        if not number or at + size > len(message):
            raise ValueError(f"a field at byte {at} of {len(message)} is longer than what is left")
        yield number, message[at : at + size]
        at += size


def _read_varint(message: memoryview, at: int) -> tuple[int, int]:
    """A number of seven bits a byte, lowest first, and the place behind it."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            break
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("a number that does not end")
