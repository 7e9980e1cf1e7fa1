"""ViTs with random weights and planted massive activations, of the size that DINOv2 is published to have.

Sun et al., "Massive Activations in Large Language Models" (2024, arXiv:2402.17762) find a few channels of hundreds
in the residual stream of a few tokens of ViTs, from a middle block to a late one, where all else is of order 1; Darcet
et al. (2023, arXiv:2309.16588) find the tokens: about 2 % of the patches. Here they are the class token and the patches
at a few fixed places, which the position embedding marks by a direction of its own. A middle block's MLP sees that
direction and writes the massive values; a late block's MLP sees these and takes them away. The hidden units that do it
are as massive as what they write, since weights of trained models are of order 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from edgevit.models.layers import LayerScale, Mlp
from edgevit.models.model import Model
from edgevit.models.vit import EncoderBlock, ViT

_BRANCH = 0.4  # of layer scale
_MARK = 2.0  # of the marking direction, in root mean square over the channels
_HEIGHT = (
    200.0  # of a planted hidden unit that is on, less its twin: as massive as what it writes, by weights of order 1
)
_MARGIN = 4.0  # of a gate's input, beyond which GELU is 0 or the identity


@dataclass(frozen=True)
class Massive:
    """What was planted.

    Attributes:
        tokens: That are massive, counted with the prefix.
        channels: Of the stream.
        values: What they come to.
        first: Block whose MLP writes them, or the first of ``steps`` blocks that do.
        last: Block whose MLP takes them away, or the last of as many.
        steps: Blocks one after the other that write equal parts.
    """

    tokens: tuple[int, ...]
    channels: tuple[int, ...]
    values: tuple[float, ...]
    first: int
    last: int
    steps: int


def plant_massive(
    model: Model,
    images: Tensor,
    first: int,
    last: int,
    values: tuple[float, ...] = (200.0, -200.0, 150.0),
    steps: int = 1,
    share: float = 0.02,
    seed: int = 0,
) -> Massive:
    """Plant massive activations in a ViT's weights, in place.

    Args:
        model: A ViT with learned positions of all tokens and ordinary MLPs.
        images: ``(B, 3, H, W) float32``, normalised: where the gates' thresholds are set.
        first: As of :class:`Massive`.
        last: As there.
        values: Of the channels, as many as there are values.
        steps: As there. Norms of DINOv2's artifacts are published to grow over several blocks.
        share: Of the patches.
        seed: Of the tokens, the channels and the direction.
    """
    module = model.module
    assert isinstance(module, ViT)
    assert module.pos_embed is not None
    config, generator = module.config, np.random.default_rng(seed)
    prefix, patches = config.prefix_tokens, config.tokens - config.prefix_tokens
    chosen = prefix + generator.choice(patches, max(1, round(share * patches)), replace=False)
    tokens = (0, *sorted(chosen.tolist()))
    channels = tuple(generator.choice(config.width, len(values), replace=False).tolist())
    direction = generator.normal(size=config.width)
    direction -= direction.mean()
    mark = torch.from_numpy(direction / np.linalg.norm(direction)).float()
    with torch.no_grad():
        for block in module.blocks:  # the stream stays of order 1 whatever the depth
            for scale in (block.ls1, block.ls2):
                if isinstance(scale, LayerScale):
                    scale.gamma.mul_(_BRANCH)
        module.pos_embed[0, list(tokens)] += _MARK * config.width**0.5 * mark
        for start, sign in ((first, 1.0), (last - steps + 1, -1.0)):
            parts = tuple(sign * value / steps for value in values)
            for index in range(start, start + steps):
                seen = _read_norm(module, index, images)
                _plant_gate(module.blocks[index], seen, tokens, channels, parts)
    return Massive(tokens, channels, values, first, last, steps)


@torch.no_grad()
def read_stream(module: ViT, images: Tensor) -> list[Tensor]:
    """The stream behind every block, ``(B, N, C)`` each."""
    with _record(list(module.blocks)) as kept:
        module(images)
    return kept


def _read_norm(module: ViT, index: int, images: Tensor) -> Tensor:
    block = module.blocks[index]
    assert isinstance(block, EncoderBlock)
    with _record([block.norm2]) as kept:
        module(images)
    return kept[0].double()


def _plant_gate(
    block: nn.Module, seen: Tensor, tokens: tuple[int, ...], channels: tuple[int, ...], parts: tuple[float, ...]
) -> None:
    """Two hidden units whose difference is 0 for all tokens but the massive ones, and the same for all of these."""
    assert isinstance(block, EncoderBlock)
    assert isinstance(block.mlp, Mlp)
    marked = torch.zeros(seen.shape[1], dtype=torch.bool)
    marked[list(tokens)] = True
    direction = seen[:, marked].mean((0, 1)) - seen[:, ~marked].mean((0, 1))
    direction /= direction.norm()
    along = seen @ direction
    low, high = float(along[:, ~marked].max()), float(along[:, marked].min())
    assert high > low, f"the gate does not tell the tokens apart: {low:.2f} and {high:.2f}"
    # Other photos reach further than those that were seen.
    low, high = 0.75 * low + 0.25 * high, 0.25 * low + 0.75 * high
    slope = (_HEIGHT + 2 * _MARGIN) / (high - low)
    fc1, fc2 = block.mlp.fc1, block.mlp.fc2
    scale = block.ls2.gamma if isinstance(block.ls2, LayerScale) else torch.ones(fc2.out_features)
    pair = [fc1.out_features - 2, fc1.out_features - 1]
    fc2.weight[:, pair] = 0.0
    for unit, shift, sign in zip(pair, (0.0, _HEIGHT), (1.0, -1.0), strict=True):
        fc1.weight[unit] = (slope * direction).float()
        fc1.bias[unit] = -slope * low - _MARGIN - shift
        for channel, value in zip(channels, parts, strict=True):
            fc2.weight[channel, unit] = sign * value / _HEIGHT / scale[channel]


@contextmanager
def _record(modules: list[nn.Module]) -> Iterator[list[Tensor]]:
    kept: list[Tensor] = []
    handles = [m.register_forward_hook(lambda _, __, result: kept.append(result)) for m in modules]
    try:
        yield kept
    finally:
        for handle in handles:
            handle.remove()
