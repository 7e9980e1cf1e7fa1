"""find_encoder: the ViT or Swin inside a graph that goes on behind it, and the graph that goes on.

The encoder is read backwards from every residual stream that the blocks of :mod:`encoder` make up, so nothing has to
be known of what reads it. Wherever something else reads the stream, the graph is cut: what is left is carried as it is.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common

from edgevit.checkpoints.onnx_file.encoder import Block, Pooled, find_block, find_start
from edgevit.checkpoints.onnx_file.late_tokens import find_additions
from edgevit.checkpoints.onnx_file.lift_swin import find_stage_ends, lift_swin
from edgevit.checkpoints.onnx_file.lift_vit import Heads, find_blocks, has_swin_windows, lift_vit
from edgevit.checkpoints.onnx_file.patches import find_embedding
from edgevit.core.pass_record import Skip
from edgevit.graph.graph import Graph
from edgevit.graph.movement import Index
from edgevit.graph.patterns.pieces import MismatchError, Norm, Weights, find_norm, look
from edgevit.models import ModelConfig, SwinConfig

_LEAST_BLOCKS = 2
"""Fewer are no encoder: a single pre-norm block may be anything."""


@dataclass(frozen=True)
class Tap:
    """A place where what is carried reads the encoder.

    Attributes:
        level: Block of a ViT or stage of a Swin, counted from 0.
        stream: Name of the residual stream behind it, ``(…, N, C)``.
        norm: LayerNorm that everything reads it through, which belongs to the encoder then.
        order: Of the canonical module's tokens, the one that each of the file's is there; empty for no change.
    """

    level: int
    stream: str
    norm: Norm | None = None
    order: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """Of the carried graph's input."""
        return f"tap{self.level}"

    def __deepcopy__(self, memo: object) -> Tap:
        return self  # its norm is part of the file's graph, whose weights may be mapped from the disk: copies share it


@dataclass(frozen=True)
class Encoder:
    """What was found.

    Attributes:
        config: Of the canonical module, without classes.
        state: Its weights.
        taps: By level, those that are read.
        streams: Name of the residual stream behind every level.
        near: Streams that looked like another encoder and were not, and what looked like the block behind the last one,
            with the reason.
    """

    config: ModelConfig
    state: dict[str, Weights]
    taps: tuple[Tap, ...]
    streams: tuple[str, ...]
    near: tuple[Skip, ...] = ()


def find_encoder(graph: Graph) -> Encoder:
    """The encoder of most blocks, and where it is read.

    Args:
        graph: In the form that ``edgevit.graph.passes.FOREIGN`` leaves, for one image a call. It is not changed.

    Raises:
        MismatchError: There is none; of the best candidate the place and the reason.
    """
    blocks, missed = _find_all_blocks(graph)
    near: list[Skip] = []
    read = {block.source for block in blocks.values()}
    found: list[_Found] = []
    ends = [value for value in blocks if value not in read]
    for stream in ends:
        try:
            found.append(_lift(stream, graph.model.graph.inputs[0]))
        except (MismatchError, ValueError) as exc:
            site, reason = (exc.site, exc.reason) if isinstance(exc, MismatchError) else (stream.name or "", str(exc))
            near.append(Skip(site, reason))
            # What stands in front of tokens that join may be one by itself, and is looked at next.
            ends += [joint for joint in _list_joints(blocks, stream) if joint not in ends]
    if not found:
        if near:
            raise MismatchError(None, f"{near[-1].site}: {near[-1].reason}")
        raise MismatchError(None, "it has no pre-norm blocks of attention and MLP")
    best = max(found, key=lambda one: one.count)
    if best.count < _LEAST_BLOCKS:
        raise MismatchError(None, f"only {best.count} block of an encoder was found")
    near += _find_end(missed, best.streams[-1])
    names = tuple(stream.name or "" for stream in best.streams)
    twin = graph.copy()
    orders = best.orders or ((),) * len(names)
    taps = _cut(twin, [Tap(level, name, order=orders[level]) for level, name in enumerate(names)])
    state = _place_norm(best.config, best.state, taps)
    config = _describe_norm(best.config, taps)
    return Encoder(config, state, taps, names, tuple(near))


def cut_head(graph: Graph, taps: Sequence[Tap]) -> None:
    """Leave what is carried, in place: inputs are the taps by their names, and the image where it is still read."""
    _cut(graph, taps)


def _find_all_blocks(graph: Graph) -> tuple[dict[ir.Value, Block], dict[ir.Value, MismatchError]]:
    """Blocks by their result, in the order of execution, and why other sums are the result of none."""
    found: dict[ir.Value, Block] = {}
    missed: dict[ir.Value, MismatchError] = {}
    for node in graph.model.graph:
        if node.op_type != "Add" or any(v is None or v.const_value is not None for v in node.inputs):
            continue
        try:
            found[node.outputs[0]] = find_block(node.outputs[0])
        except MismatchError as exc:
            missed[node.outputs[0]] = exc  # every block has a sum in its middle, too
        except ValueError:
            continue
    return found, missed


def _list_joints(blocks: Mapping[ir.Value, Block], stream: ir.Value) -> Iterator[ir.Value]:
    """Streams in front of a stream that tokens join, the last one first."""
    while (block := blocks.get(stream)) is not None:
        stream = block.source
        if block.places is not None:
            yield stream


def _find_end(missed: Mapping[ir.Value, MismatchError], last: ir.Value) -> list[Skip]:
    """What goes on as a block does behind the last one, and why it is none."""
    found = []
    for result, reason in missed.items():
        with contextlib.suppress(MismatchError, ValueError):
            if find_start(result) is last:
                found.append(Skip(reason.site, reason.reason))
    return found


@dataclass(frozen=True)
class _Found:
    """A candidate: its blocks' number, the stream behind every level, and its tokens' order where they have one."""

    count: int
    config: ModelConfig
    state: dict[str, Weights]
    streams: list[ir.Value]
    orders: tuple[tuple[int, ...], ...] = ()


def _lift(stream: ir.Value, image: ir.Value) -> _Found:
    """The encoder that ends in a stream."""
    blocks = find_blocks(stream)
    if has_swin_windows(blocks):
        heads = Heads(None, None, Pooled(stream, None, 0, None, None))
        config, state = lift_swin(heads, blocks, image)
        return _Found(sum(config.depths), config, state, [*find_stage_ends(blocks, image), stream])
    patches = find_embedding(blocks[0].source, image)
    token = int(patches.order.argmin()) if patches.prefix else None
    vit, state = lift_vit(Heads(None, None, Pooled(stream, token, 0, None, None)), blocks, image)
    streams = [block.source for block in blocks[1:]] + [stream]
    if vit.window_count > 1:
        return _Found(len(blocks), vit, state, streams)
    orders = find_additions(blocks, patches.order).orders
    return _Found(len(blocks), vit, state, streams, tuple(_list_order(order) for order in orders))


def _list_order(order: Index) -> tuple[int, ...]:
    places = tuple(int(place) for place in order)
    return () if places == tuple(range(len(places))) else places


def _cut(graph: Graph, taps: Sequence[Tap]) -> tuple[Tap, ...]:
    """Put inputs in the place of streams, and drop what only led to them; gives the taps that are read."""
    inner = graph.model.graph
    values = {value.name: value for node in inner for value in node.outputs}
    inputs: dict[int, ir.Value] = {}
    for tap in taps:
        value = values[tap.stream]
        twin = ir.Value(name=tap.name, shape=value.shape, type=value.type or ir.TensorType(ir.DataType.FLOAT))
        if value.is_graph_output():
            node = ir.node("Identity", [value], name=f"{tap.name}/output")
            node.outputs[0].name, node.outputs[0].shape, node.outputs[0].type = value.name, value.shape, value.type
            value.name = f"{value.name}/inner"
            inner.append(node)
            inner.outputs[list(inner.outputs).index(value)] = node.outputs[0]
        value.replace_all_uses_with(twin)
        inputs[tap.level] = twin
    image = inner.inputs[0]
    inner.inputs.extend(inputs.values())
    common.RemoveUnusedNodesPass()(graph.model)
    kept = []
    for tap in taps:
        twin = inputs[tap.level]
        if not twin.uses():
            inner.inputs.remove(twin)
            continue
        kept.append(_take_norm(graph, tap, twin))
    if not image.uses():
        inner.inputs.remove(image)
    common.RemoveUnusedNodesPass()(graph.model)  # the norms' weights
    return tuple(kept)


def _take_norm(graph: Graph, tap: Tap, twin: ir.Value) -> Tap:
    """Put the input behind the LayerNorm where all that read it is one norm, or several that are equal."""
    readers = [use.node for use in twin.uses()]
    if any(node.op_type != "LayerNormalization" or node.inputs[0] is not twin for node in readers):
        return tap
    try:
        norms = [find_norm(look(node.outputs[0])) for node in readers]
    except MismatchError:
        return tap
    first = norms[0]
    for norm in norms[1:]:
        same = np.array_equal(norm.weight, first.weight) and np.array_equal(norm.bias, first.bias)
        if not same or norm.epsilon != first.epsilon:
            return tap
    if any(node.outputs[0].is_graph_output() for node in readers):
        return tap
    for node in readers:
        node.outputs[0].replace_all_uses_with(twin)
        graph.model.graph.remove(node, safe=True)
    return dataclasses.replace(tap, norm=first)


def _place_norm(config: ModelConfig, state: dict[str, Weights], taps: Sequence[Tap]) -> dict[str, Weights]:
    """The last level's norm is the model's own, by which its embedding is made too."""
    norm = taps[-1].norm if taps else None
    if norm is None or isinstance(config, SwinConfig):
        return state
    return {**state, "norm.weight": norm.weight, "norm.bias": norm.bias}


def _describe_norm(config: ModelConfig, taps: Sequence[Tap]) -> ModelConfig:
    norm = taps[-1].norm if taps else None
    if norm is None or isinstance(config, SwinConfig):
        return config
    return dataclasses.replace(config, norm_before_pool=True)
