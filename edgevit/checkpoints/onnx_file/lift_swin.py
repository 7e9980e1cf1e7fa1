"""A canonical Swin from a graph that computes one."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import onnx_ir as ir
import torch

from edgevit.checkpoints.onnx_file.encoder import Block, check_alike
from edgevit.checkpoints.onnx_file.lift_vit import Heads, find_blocks
from edgevit.checkpoints.onnx_file.patches import Patches, find_patches
from edgevit.graph.graph import producer_of, static_shape
from edgevit.graph.movement import NOWHERE, Index
from edgevit.graph.patterns.pieces import (
    MismatchError,
    Norm,
    Weights,
    find_linear,
    find_norm,
    flat_source,
    look,
    name_parameters,
)
from edgevit.models.swin import MergeNeighbours, RolledWindows, SwinConfig, relative_position_index

Size = tuple[int, int]
Pad = Literal["after_shift", "before_shift"]
Fit = Literal["axis", "smaller", "never"]
_PADS: tuple[Pad, ...] = ("after_shift", "before_shift")
_FITS: tuple[Fit, ...] = ("axis", "smaller", "never")


@dataclass(frozen=True)
class Merging:
    """Patch merging: the norm and the reduction, its input's channels in the canonical order."""

    source: ir.Value
    norm: Norm
    weight: Weights
    node: ir.Node


@dataclass(frozen=True)
class Stage:
    """Blocks on one grid, and the merging in front of them."""

    blocks: list[Block]
    merging: Merging | None
    grid: Size


def lift_swin(heads: Heads, last: list[Block], image: ir.Value) -> tuple[SwinConfig, dict[str, Weights]]:
    """Config and state of the Swin whose last stage has the blocks ``last``.

    Raises:
        MismatchError: A part that the canonical Swin does not have.
    """
    runs, mergings, patches, norm = _find_stages(last, image)
    grid = tuple(math.ceil(s / p) for s, p in zip(patches.image_size, patches.patch_size, strict=True))
    for block in (block for run in runs for block in run):
        if block.shift is not None:
            raise MismatchError(block.attention.context, "a constant is added to the stream in front of its block")
    stages = []
    for blocks, found in zip(runs, [None, *mergings], strict=True):
        merging = None
        if found is not None:
            merging = _order_channels(found, (grid[0], grid[1]))
            grid = (math.ceil(grid[0] / 2), math.ceil(grid[1] / 2))
        stages.append(Stage(blocks, merging, (grid[0], grid[1])))
    config = _describe(heads, stages, patches, norm)
    config = _fit_windows(config, stages)
    return config, _state(config, heads, stages, patches, norm)


def find_stage_ends(last: list[Block], image: ir.Value) -> list[ir.Value]:
    """The residual streams behind all stages but the last, in order."""
    return [merging.source for merging in _find_stages(last, image)[1]]


def _find_stages(last: list[Block], image: ir.Value) -> tuple[list[list[Block]], list[Merging], Patches, Norm | None]:
    """Runs of blocks from the first stage on, the mergings between them, and what is in front."""
    runs: list[list[Block]] = [last]
    mergings: list[Merging] = []
    while True:
        stream = runs[0][0].source
        node = stream.producer()
        if node is not None and node.op_type == "LayerNormalization":
            norm = find_norm(look(stream))
            return runs, mergings, _patches(norm.source, image), norm
        merging = _find_merging(stream)
        if merging is None:
            return runs, mergings, _patches(stream, image), None
        blocks = find_blocks(merging.source)
        if not blocks:
            raise MismatchError(merging.node, "there are no blocks in front of it")
        runs, mergings = [blocks, *runs], [merging, *mergings]


def _patches(stream: ir.Value, image: ir.Value) -> Patches:
    view = look(stream)
    patches = find_patches(view, image)
    if (
        not patches.in_order
        or patches.prefix
        or any(patches.padding)
        or not bool((patches.constants == patches.constants[:1]).all())
    ):
        raise MismatchError(
            stream.producer(), "tokens or positions are added to the patches, or they are in another order"
        )
    return patches


def _find_merging(stream: ir.Value) -> Merging | None:
    """The merging that a stage begins with; ``None`` where the stage begins with the patches."""
    view = look(stream)
    node = producer_of(view.source)
    if node is None or node.op_type not in ("MatMul", "Gemm"):
        return None
    linear = find_linear(view)
    inner = look(linear.source)
    if (made := producer_of(inner.source)) is None or made.op_type != "LayerNormalization":
        return None
    if not (inner.moves_alone and inner.is_flat and bool((linear.rows == np.arange(len(linear.rows))).all())):
        raise MismatchError(linear.node, "merged tokens are rearranged behind their norm")
    if linear.bias.any():
        raise MismatchError(linear.node, "patch merging has a bias")
    norm = find_norm(inner)
    return Merging(flat_source(_behind_moves(norm)), norm, linear.weight, linear.node)


def _behind_moves(norm: Norm) -> ir.Value:
    view = look(norm.source)
    if view.source is None or not view.moves_alone:
        raise MismatchError(norm.node, "merged tokens are changed on the way")
    return view.source


def _order_channels(merging: Merging, grid: Size) -> Merging:
    """Bring norm and reduction to the canonical order of the four neighbours."""
    view, node = look(merging.norm.source), merging.norm.node
    width = (static_shape(merging.source) or (0,))[-1]
    tokens = grid[0] * grid[1]
    if not width or view.shape[-1] != 4 * width or int(view.index.max()) >= tokens * width:
        raise MismatchError(node, f"it does not merge the tokens of a grid of {grid[0]} × {grid[1]} by four")
    quads = view.index.reshape(-1, 4, width)
    wanted = _neighbours(grid)
    order = []
    for quarter in range(4):
        first = quads[:, quarter, 0]
        found = [q for q in range(4) if np.array_equal(np.where(first < 0, NOWHERE, first // width), wanted[:, q])]
        expected = np.where(first[:, None] < 0, NOWHERE, first[:, None] + np.arange(width))
        if len(found) != 1 or len(first) != len(wanted) or not np.array_equal(quads[:, quarter], expected):
            raise MismatchError(node, "what it merges are not four neighbours")
        order.append(found[0])
    # Quarter i of the graph is the canonical one's quarter order[i].
    channels = np.concatenate([np.arange(width) + width * order.index(q) for q in range(4)])
    norm = replace(merging.norm, weight=merging.norm.weight[channels], bias=merging.norm.bias[channels])
    return replace(merging, norm=norm, weight=np.ascontiguousarray(merging.weight[:, channels]))


def _neighbours(grid: Size) -> Index:
    """``(L/4, 4)``: row-major tokens that the canonical merging puts side by side."""
    numbers = torch.arange(1, grid[0] * grid[1] + 1, dtype=torch.float64).reshape(1, -1, 1)
    quads: Index = MergeNeighbours(grid)(numbers).reshape(-1, 4).long().numpy() - 1
    return quads


def _describe(heads: Heads, stages: list[Stage], patches: Patches, norm: Norm | None) -> SwinConfig:
    pooled, first = heads.pooled, stages[0].blocks[0]
    if heads.projects:
        raise MismatchError(heads.node, "its embedding is projected, and a Swin has no projection")
    bare = heads.head is None and pooled.before is None  # an encoder, whose levels are read
    if heads.second is not None or pooled.token is not None or pooled.first or pooled.after:
        raise MismatchError(heads.node, "its head does not read the mean of all tokens behind one norm")
    if pooled.before is None and not bare:
        raise MismatchError(heads.node, "its head does not read the mean of all tokens behind one norm")
    blocks = [block for stage in stages for block in stage.blocks]
    check_alike(blocks, "activation", "epsilon")
    if pooled.before is not None and pooled.before.epsilon != first.epsilon:
        raise MismatchError(pooled.before.node, "its epsilon is not that of the blocks")
    resample = {s.merging.norm.epsilon for s in stages if s.merging} | ({norm.epsilon} if norm else set())
    if len(resample) > 1:
        raise MismatchError(stages[0].blocks[0].attention.context, "norms of patch merging have several epsilons")
    width = len(patches.weight)
    ratios = set()
    for number, stage in enumerate(stages):
        for block in stage.blocks:
            attention = block.attention
            wide = len(block.tensors["attn.proj.weight"])
            if wide != width * 2**number or attention.heads * attention.head_width != wide:
                raise MismatchError(attention.context, f"its width of {wide} is not that of stage {number}")
            if attention.heads != stage.blocks[0].attention.heads:
                raise MismatchError(attention.context, "its heads are not those of the stage's first block")
            ratios.add(block.mlp_width / wide)
    if len(ratios) > 1:
        raise MismatchError(blocks[0].attention.context, "MLPs have several ratios of width")
    return SwinConfig(
        image_size=patches.image_size,
        patch_size=patches.patch_size,
        width=width,
        depths=tuple(len(stage.blocks) for stage in stages),
        heads=tuple(stage.blocks[0].attention.heads for stage in stages),
        mlp_ratio=ratios.pop(),
        classes=heads.classes,
        qkv_bias=any(block.biased for block in blocks),
        patch_norm=norm is not None,
        norm_eps=first.epsilon,
        resample_norm_eps=resample.pop() if resample else 1e-5,
        activation=first.activation,  # type: ignore[arg-type]
        final_norm=not bare,
    )


def _fit_windows(config: SwinConfig, stages: list[Stage]) -> SwinConfig:
    """Window, fit and padding: the first choice under which all blocks move their tokens as the graph does.

    Raises:
        MismatchError: There is none; names the block that the best choice does not explain.
    """
    best: tuple[int, Block] | None = None
    for window in _windows(stages):
        for fit in _FITS:
            for pad in _PADS:
                candidate = replace(config, window=window, window_fit=fit, pad=pad)
                good, block = _count_fitting(candidate, stages)
                if block is None:
                    return candidate
                best = (good, block) if best is None or good > best[0] else best
    assert best is not None
    raise MismatchError(best[1].attention.context, "its windows are not those of a Swin: tokens, shift or mask differ")


def _windows(stages: list[Stage]) -> list[Size]:
    """Sides of the largest windows that the blocks have, square ones first."""
    count = max(block.attention.tokens for stage in stages for block in stage.blocks)
    sizes = [(side, count // side) for side in range(1, count + 1) if count % side == 0]
    return sorted(sizes, key=lambda size: abs(size[0] - size[1]))


def _count_fitting(config: SwinConfig, stages: list[Stage]) -> tuple[int, Block | None]:
    good = 0
    for number, stage in enumerate(stages):
        for place, block in enumerate(stage.blocks):
            window, shift = config.block_window(number, place)
            if not _fits(block, RolledWindows(stage.grid, window, shift, config.pad), window):
                return good, block
            good += 1
    return good, None


def _fits(block: Block, windows: RolledWindows, window: Size) -> bool:
    attention = block.attention
    if attention.tokens != window[0] * window[1] or attention.windows != windows.count:
        return False
    tokens = windows.grid[0] * windows.grid[1]
    if len(block.leave) != tokens:
        return False
    numbers = torch.arange(1, tokens + 1, dtype=torch.float64).reshape(1, tokens, 1)
    enter = windows.split(numbers).long().numpy()[..., 0] - 1
    places = torch.arange(enter.size, dtype=torch.float64).reshape(*enter.shape, 1)
    leave = windows.merge(places).long().numpy().reshape(-1)
    if not (np.array_equal(np.where(enter < 0, NOWHERE, enter), block.enter) and np.array_equal(leave, block.leave)):
        return False
    return _read_table(block, windows, window) is not None


def _read_table(block: Block, windows: RolledWindows, window: Size) -> Weights | None:
    """The bias of every offset, ``(rows, A) float32``; ``None`` where the graph's biases are no such table and mask."""
    index = relative_position_index(window).numpy()
    attention = block.attention
    rows = (2 * window[0] - 1) * (2 * window[1] - 1)
    table = np.zeros((rows, attention.heads), np.float32)
    mask = windows.mask()
    apart = np.zeros((1, *index.shape), np.float32) if mask is None else mask.numpy()
    if attention.bias is None:
        return table if mask is None else None
    bias = attention.bias
    whole = np.broadcast_to(bias, (len(apart), *bias.shape[1:])) if len(bias) == 1 else bias
    if len(whole) != len(apart) and bool((apart == 0).all()):
        apart = np.zeros((len(whole), *index.shape), np.float32)
    if len(whole) != len(apart):
        return None
    free = apart == 0
    for head in range(attention.heads):
        # Where a grid is no larger than its window, the shift's mask is on all pairs of some offsets.
        table[index[np.nonzero(~free)[1:]], head] = (whole[:, head] - apart)[~free]
        table[index[np.nonzero(free)[1:]], head] = whole[:, head][free]
        expected = table[index, head][None] + apart
        # Behind a mask of −100 a bias keeps fewer bits.
        if np.abs(expected - whole[:, head])[free].max(initial=0) > 0 or np.abs(expected - whole[:, head]).max() > 1e-4:
            return None
    return table


def _state(
    config: SwinConfig, heads: Heads, stages: list[Stage], patches: Patches, norm: Norm | None
) -> dict[str, Weights]:
    before = heads.pooled.before
    state: dict[str, Weights] = {
        "patch_embed.proj.weight": patches.weight,
        "patch_embed.proj.bias": patches.constants[0],
        **(name_parameters("norm", before) if before is not None else {}),
        **(name_parameters("head", heads.head) if heads.head is not None else {}),
        **(name_parameters("patch_norm", norm) if norm is not None else {}),
    }
    for number, stage in enumerate(stages):
        if stage.merging is not None:
            where = f"layers.{number}.downsample"
            state |= name_parameters(f"{where}.norm", stage.merging.norm)
            state[f"{where}.reduction.weight"] = stage.merging.weight
        for place, block in enumerate(stage.blocks):
            where = f"layers.{number}.blocks.{place}"
            window, shift = config.block_window(number, place)
            table = _read_table(block, RolledWindows(stage.grid, window, shift, config.pad), window)
            assert table is not None
            state[f"{where}.bias.table"] = table
            state.update({f"{where}.{name}": value for name, value in block.tensors.items()})
            if config.qkv_bias and not block.biased:
                state[f"{where}.attn.qkv.bias"] = np.zeros(len(block.tensors["attn.qkv.weight"]), np.float32)
    return state
