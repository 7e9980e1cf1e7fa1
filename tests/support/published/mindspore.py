"""MindSpore's checkpoints, written field by field from the wire format."""

from __future__ import annotations


def write_field(number: int, content: bytes | int) -> bytes:
    """A protobuf field, written here from the specification of its wire format."""

    def varint(value: int) -> bytes:
        parts = []
        while value > 127:
            parts.append(value & 127 | 128)
            value >>= 7
        return bytes([*parts, value])

    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    return varint(number << 3 | 2) + varint(len(content)) + content


def write_parameter(name: str, shape: tuple[int, ...], kind: str, data: bytes) -> bytes:
    """A tensor of a checkpoint, as its field."""
    dims = b"".join(write_field(1, size) for size in shape)
    return write_field(
        1, write_field(1, name.encode()) + write_field(2, dims + write_field(2, kind.encode()) + write_field(3, data))
    )
