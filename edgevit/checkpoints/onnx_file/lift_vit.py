"""A canonical ViT from a graph that computes one."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx_ir as ir

from edgevit.checkpoints.onnx_file.encoder import Block, Pooled, check_alike, find_block, find_pool, is_sum, same_norm
from edgevit.checkpoints.onnx_file.late_tokens import find_additions
from edgevit.checkpoints.onnx_file.lift_rotary import describe_rotary, find_turned_blocks, order_queries
from edgevit.checkpoints.onnx_file.patches import Patches, find_embedding
from edgevit.checkpoints.onnx_file.token_windows import find_windows, order_windows
from edgevit.graph.graph import operand, producer_of
from edgevit.graph.movement import Index, View
from edgevit.graph.patterns.pieces import Linear, MismatchError, Weights, find_linear, look, name_parameters
from edgevit.models.vit import ViTConfig

_POOLS = ("LayerNormalization", "ReduceMean", "GlobalAveragePool", "Concat")
_EMBEDDING = re.compile(r"(?i)embed|feature")  # CLIP's image_embeds, image_features


@dataclass(frozen=True)
class Heads:
    """The classifier, and DeiT's second one on the distillation token.

    Attributes:
        head: ``None`` where the graph ends in features.
        second: DeiT's second one.
        pooled: What they read.
        projects: The output is called an embedding: what looks like a classifier is a projection.
    """

    head: Linear | None
    second: Linear | None
    pooled: Pooled
    projects: bool = False

    @property
    def node(self) -> ir.Node | None:
        """The head's, for messages."""
        return None if self.head is None else self.head.node

    @property
    def classes(self) -> int:
        """Length of the logits; 0 where there are none."""
        return 0 if self.head is None or self.projects else len(self.head.weight)


def find_heads(output: ir.Value) -> Heads:
    """The head or heads that give the logits, or what gives the features where there is none.

    Raises:
        MismatchError: There is none.
    """
    view = look(output)
    node = producer_of(view.source)
    if node is not None and node.op_type == "Add":
        return _find_two_heads(view, node)
    if node is not None and node.op_type in _POOLS:
        return Heads(None, None, find_pool(output))
    head = find_linear(view)
    if len(head.rows) != 1:
        raise MismatchError(head.node, f"it gives the logits of {len(head.rows)} tokens")
    return Heads(head, None, find_pool(head.source), bool(_EMBEDDING.search(output.name or "")))


def _find_two_heads(view: View, node: ir.Node) -> Heads:
    if view.scale != 0.5 or view.offset is not None or not view.is_flat:
        raise MismatchError(node, "the sum of two heads is not halved")
    found = []
    for place in range(2):
        linear = find_linear(operand(node, place))
        found.append((linear, find_pool(linear.source)))
    (first, one), (second, two) = sorted(found, key=lambda pair: pair[1].token or 0)
    if (one.token, two.token) != (0, 1) or one.stream is not two.stream or not same_norm(one.before, two.before):
        raise MismatchError(node, "its two heads do not read the first two tokens")
    return Heads(first, second, one)


def find_blocks(stream: ir.Value) -> list[Block]:
    """Blocks from the first to the last, up to where the stream begins."""
    blocks: list[Block] = []
    while is_sum(stream):
        block = find_block(stream)
        blocks.append(block)
        stream = block.source
    return blocks[::-1]


def lift_vit(heads: Heads, blocks: list[Block], image: ir.Value) -> tuple[ViTConfig, dict[str, Weights]]:
    """Config and state of the ViT.

    Raises:
        MismatchError: A part that the canonical ViT does not have.
    """
    first = blocks[0]
    patches = find_embedding(first.source, image)
    _check_blocks(blocks)
    windows = find_windows(max(block.attention.windows for block in blocks), patches)
    pooled = heads.pooled
    order = np.argsort(patches.order) if windows == (1, 1) else order_windows(patches, windows)
    # Windows keep the file's order, which is the canonical one.
    added = find_additions(blocks, patches.order if windows == (1, 1) else np.arange(len(patches.places)))
    prefix = patches.prefix // (windows[0] * windows[1])
    if (pooled.token is None or pooled.beside) and pooled.first != prefix:
        raise MismatchError(
            heads.node, f"the mean leaves out {pooled.first} tokens of {prefix} in front of the patches"
        )
    if pooled.token is not None and patches.order[pooled.token] != 0:
        raise MismatchError(heads.node, f"it reads token {pooled.token}")
    if heads.node is not None and not patches.in_order:
        raise MismatchError(heads.node, "tokens stand behind the patches, or patches not in their order")
    turned, rotary = find_turned_blocks(blocks), dict[str, Any]()
    if turned is not None:
        rotary, channels = describe_rotary(turned, order, prefix, patches.grid)
        ordered = [order_queries(dict(block.tensors), channels, first.attention.heads) for block in blocks]
        blocks = [replace(block, tensors=tensors) for block, tensors in zip(blocks, ordered, strict=True)]
    width, distilled = patches.weight.shape[0], heads.second is not None
    registers = max(0, prefix - 1 - distilled)
    norms = {norm.epsilon for norm in (patches.norm, pooled.before, pooled.after) if norm is not None}
    norms |= {block.epsilon for block in blocks}
    if len(norms) > 1:
        raise MismatchError(heads.node, f"norms have several epsilons: {', '.join(f'{n:g}' for n in sorted(norms))}")
    config = ViTConfig(
        image_size=patches.image_size,
        patch_size=patches.patch_size,
        patch_padding=patches.padding,
        width=width,
        depth=len(blocks),
        heads=first.attention.heads,
        mlp_width=first.mlp_width,
        classes=heads.classes,
        projection=len(heads.head.weight) if heads.head is not None and heads.projects else 0,
        projection_bias=heads.projects,
        qkv_bias=first.biased,
        patch_bias=True,
        class_token=prefix > 0,
        distillation_token=distilled,
        distillation_head=distilled,
        position_prefix=True,
        register_tokens=registers,
        position_registers=registers > 0,
        pool="mean" if pooled.token is None else "token_mean" if pooled.beside else "token",
        norm_before_blocks=patches.norm is not None,
        norm_before_pool=pooled.before is not None,
        norm_after_pool=pooled.after is not None,
        norm_eps=first.epsilon,
        activation=first.activation,  # type: ignore[arg-type]
        block_positions=any(shift is not None for shift in added.shifts),
        late_tokens=0 if added.late is None else len(added.late),
        late_block=added.block,
        windows=windows,
        window_blocks=tuple(number for number, block in enumerate(blocks) if block.attention.windows > 1),
        **rotary,
    )
    return config, _state(heads, blocks, patches, order, prefix) | added.state


def _state(heads: Heads, blocks: list[Block], patches: Patches, order: Index, prefix: int) -> dict[str, Weights]:
    """Weights by name; ``order`` are the tokens that the canonical model has constants for."""
    width = patches.weight.shape[0]
    state = {
        "patch_embed.proj.weight": patches.weight,
        # Tokens before the patches are constants with their positions added: all of it is a position here.
        "patch_embed.proj.bias": np.zeros(width, np.float32),
        "pos_embed": patches.constants[order][None],
    }
    counts = {"cls_token": 1, "dist_token": int(heads.second is not None)}
    counts["reg_token"] = prefix - sum(counts.values())
    if prefix:
        state.update({name: np.zeros((1, n, width), np.float32) for name, n in counts.items() if n})
    parts = {
        "projection" if heads.projects else "head": heads.head,
        "head_dist": heads.second,
        "norm_pre": patches.norm,
        "norm": heads.pooled.before,
        "fc_norm": heads.pooled.after,
    }
    for name, part in parts.items():
        state |= name_parameters(name, part) if part is not None else {}
    for number, block in enumerate(blocks):
        state.update({f"blocks.{number}.{name}": value for name, value in block.tensors.items()})
    return state


def has_swin_windows(blocks: list[Block]) -> bool:
    """Whether attention is as in a Swin: with a bias, or within windows that its tokens are gathered to."""
    attention = blocks[0].attention
    return attention.bias is not None or (attention.windows > 1 and not _keeps_order(blocks[0]))


def _keeps_order(block: Block) -> bool:
    """Whether windows hold the stream's tokens as they stand."""
    order = np.arange(block.enter.size)
    return np.array_equal(block.enter.reshape(-1), order) and np.array_equal(block.leave, order)


def _check_blocks(blocks: list[Block]) -> None:
    """Every block is of the first one's size, and its attention is global or within windows, without a bias."""
    first = blocks[0]
    check_alike(blocks, "mlp_width", "activation", "epsilon", "biased")
    for block in blocks:
        attention = block.attention
        if not _keeps_order(block):
            raise MismatchError(attention.context, "its attention is not among all tokens in their order")
        if attention.windows not in (1, max(other.attention.windows for other in blocks)):
            raise MismatchError(attention.context, "blocks have windows of several sizes")
        if attention.bias is not None:
            raise MismatchError(attention.softmax, "a bias is added to its scores")
        if attention.heads != first.attention.heads or attention.head_width * attention.heads != len(
            block.tensors["attn.proj.weight"]
        ):
            raise MismatchError(attention.context, "its heads are not the first block's, or do not divide the width")
