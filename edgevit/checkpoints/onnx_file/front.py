"""Let a graph take images as they are decoded: uint8 NHWC in, normalisation in the first convolution."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgevit.core.pass_record import PassRecord, Skip
from edgevit.graph.builder import Builder
from edgevit.graph.graph import Graph, constant_of, known_shape
from edgevit.graph.patterns.pieces import Doubles
from edgevit.pixels.preprocess import Preprocess

INPUT, OUTPUT = "image", "logits"


def put_front(graph: Graph, preprocess: Preprocess, *, fold: bool, rename: bool = True) -> PassRecord:
    """Replace the input ``(B, 3, H, W) float32`` by ``image (B, H, W, 3) uint8``, in place; exact to rounding.

    Args:
        graph: Its image is the first input.
        preprocess: Its mean, standard deviation and factor.
        fold: Put them into the first convolution's weights, where it pads nothing.
        rename: Call the output ``logits``.
    """
    old = graph.model.graph.inputs[0]
    shape = known_shape(old)
    batch, channels, height, width = shape
    gain, offset = preprocess.affine()
    first = next(node for node in graph.model.graph)
    reason = _refuse(old) if fold else "the export form leaves it"
    kind = ir.TensorType(ir.DataType.UINT8)
    image = ir.Value(name=INPUT, shape=ir.Shape([batch, height, width, channels]), type=kind)
    build = Builder(graph, "front", first)
    floats = build.add("Cast", [image], "cast", (batch, height, width, channels), to=ir.DataType.FLOAT.value)
    floats.type = ir.TensorType(ir.DataType.FLOAT)
    # Cast before the permute: engines then see the permute as nothing but a change of layout and copy nothing.
    pixels = build.add("Transpose", [floats], "channels_first", shape, perm=[0, 3, 1, 2])
    if reason:
        side = (1, channels, 1, 1)
        gains, offsets = (numbers.reshape(side).astype(np.float32) for numbers in (gain, offset))
        pixels = build.add("Mul", [pixels, build.constant("gain", gains)], "gain", shape)
        pixels = build.add("Add", [pixels, build.constant("offset", offsets)], "offset", shape)
    else:
        _fold(build, old, gain, offset)
    build.insert(first, old, pixels)
    graph.model.graph.inputs[0] = image
    if rename:
        result = graph.model.graph.outputs[0]
        _free_names(graph, image, result)
        result.name = OUTPUT
    if reason:
        return PassRecord("input_normalization", "graph", skipped=(Skip("patch_embed", reason),))
    return PassRecord("input_normalization", "graph", ("patch_embed",))


def _free_names(graph: Graph, *owners: ir.Value) -> None:
    """Take the names of the input and the output from whatever else has them: logits that are scaled behind, say."""
    inner = graph.model.graph
    for value in [*inner.initializers.values(), *(value for node in inner for value in node.outputs)]:
        if value.name in (INPUT, OUTPUT) and value not in owners:
            value.name = f"inner/{value.name}"


def _refuse(image: ir.Value) -> str | None:
    readers = [use.node for use in image.uses()]
    if len(readers) != 1 or readers[0].op_type != "Conv" or readers[0].inputs[0] is not image:
        return "the image is not read by one convolution only"
    conv = readers[0]
    if any(conv.attributes.get_ints("pads", ())) or conv.attributes.get_string("auto_pad", "NOTSET") != "NOTSET":
        return "the convolution pads with zeros after normalisation; the folded form would pad with another value"
    if any(v is not None and constant_of(v) is None for v in conv.inputs[1:]) or not conv.inputs[1:]:
        return "the convolution's weights are computed"
    return "the convolution has groups" if conv.attributes.get_int("group", 1) != 1 else None


def _fold(build: Builder, image: ir.Value, gain: Doubles, offset: Doubles) -> None:
    conv = next(iter(image.uses())).node
    kernel, bias = constant_of(conv.inputs[1]), constant_of(conv.inputs[2]) if len(conv.inputs) > 2 else None
    assert kernel is not None
    weight = kernel.astype(np.float64)
    shift = np.zeros(len(weight)) if bias is None else bias.astype(np.float64)
    shift = shift + (weight * offset.reshape(1, -1, 1, 1)).sum(axis=(1, 2, 3))
    weight = weight * gain.reshape(1, -1, 1, 1)
    conv.replace_input_with(1, build.constant("weight", weight.astype(np.float32)))
    conv.resize_inputs(3)
    conv.replace_input_with(2, build.constant("bias", shift.astype(np.float32)))
