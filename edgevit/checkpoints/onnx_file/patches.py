"""The patch embedding of a graph, with what is added to and put in front of its tokens."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from edgevit.graph.graph import constant_of, known_shape, operand, producer_of, static_shape
from edgevit.graph.movement import NOWHERE, Index, View
from edgevit.graph.patterns.pieces import (
    Doubles,
    MismatchError,
    Norm,
    Weights,
    find_norm,
    find_product,
    flat_source,
    look,
    producer,
)


@dataclass(frozen=True)
class Patches:
    """Tokens of an image: ``constants``, and for those of them that are patches the projection too.

    Attributes:
        weight: ``(C, 3, p, p) float32``.
        constants: ``(N, C) float32``: bias, positions, class token.
        places: ``(N,)``: the patch that a token is, counted from left to right and top to bottom; ``NOWHERE`` for one
            that is nothing but a constant.
        padding: Rows and columns of zeros on either side of the image, in the convolution itself.
        norm: LayerNorm of all tokens in front of the first block (CLIP).
    """

    weight: Weights
    constants: Weights
    places: Index
    image_size: tuple[int, int]
    patch_size: tuple[int, int]
    padding: tuple[int, int] = (0, 0)
    norm: Norm | None = None

    @property
    def grid(self) -> tuple[int, int]:
        """Patches down and across."""
        sides = zip(self.image_size, self.padding, self.patch_size, strict=True)
        # An image without padding of its own is filled up to whole patches.
        rows, columns = ((s + 2 * pad) // p if any(self.padding) else math.ceil(s / p) for s, pad, p in sides)
        return rows, columns

    @property
    def prefix(self) -> int:
        """Tokens that are nothing but constants."""
        return int((self.places == NOWHERE).sum())

    @property
    def order(self) -> Index:
        """``(N,)``: where each token stands when constants come first, and the patches in their order behind them."""
        fixed = self.places == NOWHERE
        return np.where(fixed, np.cumsum(fixed) - 1, self.places + self.prefix)

    @property
    def in_order(self) -> bool:
        """Whether that is where they stand."""
        return bool((self.order == np.arange(len(self.order))).all())


def find_embedding(stream: ir.Value, image: ir.Value) -> Patches:
    """Read what the first block of a ViT reads, behind a norm of all tokens or without one.

    Raises:
        MismatchError: As :func:`find_patches`.
    """
    source = flat_source(stream)
    node = producer_of(source)
    if node is None or node.op_type != "LayerNormalization":
        return find_patches(look(stream), image)
    norm = find_norm(View(source, np.zeros(0, np.int64)))
    return replace(find_patches(look(norm.source), image), norm=norm)


def find_patches(view: View, image: ir.Value) -> Patches:
    """Read the embedding that a view of the tokens, ``(…, C)``, comes from.

    Raises:
        MismatchError: It is none of non-overlapping patches, each of which is one token.
    """
    node = producer(view, "Conv", "MatMul", "Gemm")
    convolved = node.op_type == "Conv"
    kernel, own, channels_first = _find_conv(node, image) if convolved else _find_unfold(view, image)
    padding = _find_padding(node) if convolved else (0, 0)
    if not isinstance(view.scale, float) or view.scale != 1.0:
        raise MismatchError(node, "its result is scaled")
    width = len(kernel)
    height, breadth = known_shape(image)[2:]
    patch = (int(kernel.shape[2]), int(kernel.shape[3]))
    rows, columns = math.ceil(height / patch[0]), math.ceil(breadth / patch[1])
    if any(padding):
        rows, columns = (height + 2 * padding[0]) // patch[0], (breadth + 2 * padding[1]) // patch[1]
    count = rows * columns
    index = view.index.reshape(-1, width)
    empty = (index == NOWHERE).all(axis=1)
    starts = index[~empty][:, 0] if channels_first else index[~empty][:, 0] // width
    channels = np.arange(width)[None]
    expected: Index = channels * count + starts[:, None] if channels_first else starts[:, None] * width + channels
    if not np.array_equal(index[~empty], expected):
        raise MismatchError(node, "its tokens are no whole patches")
    if not np.array_equal(np.sort(starts), np.arange(count)):
        raise MismatchError(node, f"its {len(starts)} tokens are not those of {rows} × {columns} patches")
    places = np.full(len(index), NOWHERE, np.int64)
    places[~empty] = starts
    constants = np.zeros(index.shape) if view.offset is None else view.offset.reshape(index.shape).copy()
    constants[~empty] += own
    return Patches(kernel, constants.astype(np.float32), places, (height, breadth), patch, padding)


def _find_conv(node: ir.Node, image: ir.Value) -> tuple[Weights, Doubles, bool]:
    """Kernel, bias, and that its channels come before its patches."""
    kernel = constant_of(node.inputs[1])
    bias = constant_of(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] is not None else None
    if kernel is None or kernel.ndim != 4 or (bias is None and len(node.inputs) > 2):
        raise MismatchError(node, "its kernel is not constant, or not of two dimensions")
    sides = list(kernel.shape[2:])
    given = node.attributes
    strides, dilations = (list(given.get_ints(name, (1, 1))) for name in ("strides", "dilations"))
    if strides != sides or dilations != [1, 1] or given.get_int("group", 1) != 1:
        raise MismatchError(node, "its patches overlap, or leave gaps")
    view = look(operand(node))
    if view.source is not image:
        raise MismatchError(node, "it does not read the image as it is")
    shape = known_shape(image)
    if any(_find_padding(node)) and not (view.moves_alone and view.is_flat):
        raise MismatchError(node, "the image is scaled or padded before its padding")
    height, width = view.shape[2:]
    inside = view.index[:, :, : shape[2], : shape[3]]
    filled = height == -(-shape[2] // sides[0]) * sides[0] and width == -(-shape[3] // sides[1]) * sides[1]
    padded = filled or any(_find_padding(node))
    whole = np.arange(int(np.prod(shape))).reshape(shape)
    if not padded or not np.array_equal(inside, whole) or int((view.index != NOWHERE).sum()) != whole.size:
        raise MismatchError(node, "it does not read the image as it is")
    own = np.zeros(len(kernel)) if bias is None else bias.astype(np.float64)
    if not view.moves_alone:
        if whole.size != view.index.size:
            raise MismatchError(node, "the image is scaled before its padding")
        gain, offset = (_per_channel(numbers, view, node) for numbers in (view.scale, view.offset))
        own = own + (kernel.astype(np.float64) * offset).sum(axis=(1, 2, 3))
        kernel = kernel * gain
    return kernel.astype(np.float32), own, True


def _find_padding(node: ir.Node) -> tuple[int, int]:
    """Of a convolution, above and below, and left and right."""
    top, left, bottom, right = node.attributes.get_ints("pads", (0, 0, 0, 0))
    if (top, left) != (bottom, right) or node.attributes.get_string("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        raise MismatchError(node, "its padding differs from side to side")
    return int(top), int(left)


def _per_channel(numbers: float | Doubles | None, view: View, node: ir.Node) -> Doubles:
    """What the image is multiplied by, or what is added to it, ``(3, 1, 1)``."""
    if numbers is None or isinstance(numbers, float):
        return np.full((view.shape[1], 1, 1), numbers or 0.0)
    channels: Doubles = numbers[0, :, :1, :1]
    if not bool((numbers == channels).all()):
        raise MismatchError(node, "what the image is scaled by differs from pixel to pixel")
    return channels


def _find_unfold(view: View, image: ir.Value) -> tuple[Weights, Doubles, bool]:
    """Kernel and bias of a Linear on patches that were cut out by reshapes and permutes."""
    product = find_product(view)
    pixels = look(product.source)
    shape = static_shape(image)
    if pixels.source is not image or shape is None or not pixels.moves_alone or int(pixels.index.min()) < 0:
        raise MismatchError(product.node, "it does not read the image's own pixels")
    index = pixels.index.reshape(-1, pixels.shape[-1])
    channel, row, column = np.unravel_index(index[0], shape[1:])
    patch = (int(row.max()) + 1, int(column.max()) + 1)
    if len(index[0]) != shape[1] * patch[0] * patch[1] or shape[2] % patch[0] or shape[3] % patch[1]:
        raise MismatchError(product.node, "it does not read whole patches")
    grid = (shape[2] // patch[0], shape[3] // patch[1])
    tops, lefts = np.meshgrid(np.arange(grid[0]) * patch[0], np.arange(grid[1]) * patch[1], indexing="ij")
    starts = (tops * shape[3] + lefts).reshape(-1, 1)
    if len(index) != len(starts) or not np.array_equal(index, starts + index[:1]):
        raise MismatchError(product.node, "its patches are not those from left to right and top to bottom")
    kernel = np.zeros((product.weight.shape[1], shape[1], *patch), np.float32)
    kernel[:, channel, row, column] = product.weight.T
    return kernel, product.bias, False
