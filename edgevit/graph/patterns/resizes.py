"""What a Resize does to a map, as a matrix along each axis, and what a convolution's kernel reads of its result."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgevit.graph.graph import constant_of, known_shape, operand, static_shape
from edgevit.graph.patterns.pieces import MismatchError
from edgevit.graph.segments import SegmentRunner, extract_nodes

Values = npt.NDArray[np.float32]


def check_enlarging(resize: ir.Node, reader: ir.Node) -> None:
    """Whether a Resize makes whole maps larger, for one reader alone.

    Raises:
        MismatchError: It does not.
    """
    value = resize.outputs[0]
    if len(value.uses()) != 1 or value.is_graph_output():
        raise MismatchError(reader, "something else reads the resized map")
    check_larger(resize, reader)


def check_larger(resize: ir.Node, reader: ir.Node) -> None:
    """Whether a Resize makes whole maps larger, to a size that is stated.

    Args:
        resize: Is looked at.
        reader: Is refused.

    Raises:
        MismatchError: It does not.
    """
    value = resize.outputs[0]
    before, after = static_shape(resize.inputs[0]), static_shape(value)
    if before is None or after is None or not len(before) == len(after) == 4:
        raise MismatchError(reader, "its sizes are not static")
    if before[:2] != after[:2] or before[2] * before[3] >= after[2] * after[3]:
        raise MismatchError(reader, "the map is not enlarged")
    if constant_of(resize.inputs[3] if len(resize.inputs) > 3 else None) is None:
        raise MismatchError(reader, "the resized map's size is not stated")


def read_matrices(resize: ir.Node) -> tuple[Values, Values]:
    """What a Resize does along the height, ``(h', h)``, and along the width, ``(w', w)``, by running it.

    Raises:
        MismatchError: That is not all that it does.
    """
    source, result = operand(resize), resize.outputs[0]
    runner = SegmentRunner(extract_nodes([resize], [source], [result.name or ""]))
    before, after = known_shape(source), known_shape(result)
    batch, channels, height, width = before

    def run(images: Values) -> Values:
        """``(n, h, w)`` to ``(n, h', w')``."""
        found = []
        for start in range(0, len(images), batch * channels):
            some = images[start : start + batch * channels]
            fed = np.zeros((batch * channels, height, width), np.float32)
            fed[: len(some)] = some
            found.append(runner.run(fed.reshape(before))[0].reshape(-1, *after[2:])[: len(some)])
        return np.concatenate(found)

    rows = run(np.repeat(np.eye(height, dtype=np.float32)[:, :, None], width, axis=2))[:, :, 0].T
    columns = run(np.repeat(np.eye(width, dtype=np.float32)[:, None, :], height, axis=1))[:, 0, :].T
    image = np.random.default_rng(0).normal(size=(1, height, width)).astype(np.float32)
    if np.abs(run(image)[0] - rows @ image[0] @ columns.T).max() > 1e-4:
        raise MismatchError(resize, "the Resize is not the same along every line of the map")
    return np.ascontiguousarray(rows), np.ascontiguousarray(columns)


def shift_matrix(conv: ir.Node, axis: int, matrix: Values) -> list[Values]:
    """For each place of a kernel along an axis, what it reads of a map that a matrix has resized.

    Args:
        conv: With a constant kernel, and its padding in numbers.
        axis: 0: the height; 1: the width.
        matrix: ``(h', h)``.

    Returns:
        From the smaller map to what the convolution adds up, ``(H, h)`` each; outside the map are zeros.
    """
    attributes, kernel, after = conv.attributes, known_shape(conv.inputs[1]), known_shape(conv.outputs[0])
    pad = (attributes.get_ints("pads") or (0, 0, 0, 0))[axis]
    step = (attributes.get_ints("strides") or (1, 1))[axis]
    spread = (attributes.get_ints("dilations") or (1, 1))[axis]
    result = []
    for place in range(kernel[2 + axis]):
        read = np.arange(after[2 + axis]) * step + place * spread - pad
        inside = (read >= 0) & (read < len(matrix))
        result.append(np.where(inside[:, None], matrix[np.clip(read, 0, len(matrix) - 1)], 0).astype(np.float32))
    return result


def count_split(conv: ir.Node, channels: int, before: tuple[int, ...]) -> tuple[int, int]:
    """Multiplications of a convolution computed place by place of its kernel on a smaller map.

    Args:
        conv: With a constant kernel.
        channels: Of those that it reads, in the map.
        before: ``(B, C, h, w)``, the smaller map.

    Returns:
        Those with the kernel, which can be INT8, and those of the resizing, for one image.
    """
    (count, _, high, wide), (_, _, rows, columns) = known_shape(conv.inputs[1]), known_shape(conv.outputs[0])
    height, width = before[2:]
    moved = height * width * channels * count * high * wide
    return moved, count * (wide * width * high * height * rows + rows * wide * width * columns)
