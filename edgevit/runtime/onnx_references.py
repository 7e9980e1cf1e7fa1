"""list_references: the files that an ONNX file reads beside itself, without the package onnx.

ONNX Runtime follows them wherever they lead, so what a bundle does not list would change its answers. The fields are
those of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

# What lies within a message, by the number of its field, on the way to the places of tensors' contents.
_WITHIN = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}
_KEY, _VALUE = 1, 2


def list_references(model: Path | memoryview) -> tuple[str, ...]:
    """Locations of external data as a file, or its content, states them, each once, in order.

    Raises:
        ValueError: It is no ONNX file, or a damaged one.
        OSError: It cannot be read.
    """
    if isinstance(model, memoryview):
        return tuple(dict.fromkeys(_walk(model)))
    with model.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return tuple(dict.fromkeys(_walk(data)))


def _walk(data: mmap.mmap | memoryview) -> Iterator[str]:
    waiting, has_graph = [("model", 0, len(data))], False
    while waiting:
        kind, begin, end = waiting.pop()
        if kind == "entry":
            texts = {number: data[first:last] for number, first, last in _fields(data, begin, end)}
            if texts.get(_KEY) == b"location":
                yield bytes(texts.get(_VALUE, b"")).decode("utf-8", "replace")
            continue
        found = [(_WITHIN[kind].get(number, ""), first, last) for number, first, last in _fields(data, begin, end)]
        has_graph = has_graph or any(inner == "graph" for inner, _, _ in found)
        waiting += reversed([item for item in found if item[0]])
    if not has_graph:
        raise ValueError("it has no graph")


def _fields(data: mmap.mmap | memoryview, begin: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Number, begin and end of every field of a message that has a length; the others are passed over."""
    while begin < end:
        tag, begin = _read_number(data, begin, end)
        number, form = tag >> 3, tag & 7
        if form == 0:
            _, begin = _read_number(data, begin, end)
        elif form in (1, 5):
            begin += 8 if form == 1 else 4
        elif form == 2:
            length, begin = _read_number(data, begin, end)
            if length > end - begin:
                raise ValueError("it ends too early")
            yield number, begin, begin + length
            begin += length
        else:
            raise ValueError(f"it has a field of the unknown form {form}")
    if begin > end:
        raise ValueError("it ends too early")


def _read_number(data: mmap.mmap | memoryview, begin: int, end: int) -> tuple[int, int]:
    """A number of seven bits a byte, the low ones first, and where it ends."""
    value = 0
    for place in range(10):
        if begin + place >= end:
            break
        byte = data[begin + place]
        value |= (byte & 127) << 7 * place
        if byte < 128:
            return value, begin + place + 1
    raise ValueError("it ends too early, or has a number of more than 64 bits")
