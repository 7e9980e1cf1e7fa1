"""Swin Transformer V2 (Liu et al., 2022, arXiv:2111.09883).

Windows, shifts, merging of neighbours and everything around them are those of :mod:`edgevit.models.swin`. Its own are
the attention (cosines of queries and keys, scaled per head), the position bias (an MLP of log-spaced offsets, which
depends on no image), and the place of the norms: behind attention and MLP, and behind the merging's Linear.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgevit.models.layers import Attention, Mlp
from edgevit.models.swin import (
    MergeNeighbours,
    RolledWindows,
    Size,
    Swin,
    SwinConfig,
    SwinStage,
    relative_position_index,
    spread_bias,
)

_HIDDEN = 512  # of the MLP behind the position bias
_LARGEST_SCALE = 100.0
_TINY = 1e-24
_TINY_PADDED = 1e-7
"""What is added to a mean of squares. A padded token's key is exactly zero, and 0/0 is not a number in float16."""


@dataclass(frozen=True)
class SwinV2Config(SwinConfig):
    """Everything that decides a Swin V2's parameters and arithmetic, besides what it shares with a Swin.

    Attributes:
        pretrained_windows: Side of the window in pre-training, by stage, which the offsets are measured by; 0 for the
            stage's own window.
        mask: What is added to the scores of tokens that only the shift made neighbours. transformers adds −100 twice.
    """

    pretrained_windows: tuple[int, ...] = (0, 0, 0, 0)
    mask: float = -100.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.pretrained_windows) != len(self.depths):
            raise ValueError(
                f"{len(self.pretrained_windows)} pretrained windows do not go with {len(self.depths)} stages"
            )


class HeadCosine(nn.Module):
    """Vectors of length 1, times a learned scale per head: ``(B, A, N, D) → (B, A, N, D)``.

    Written with the mean of squares, which stays in float16's range where the sum might not.
    """

    def __init__(self, heads: int, head_width: int, *, scaled: bool, padded: bool) -> None:
        super().__init__()
        self.tiny = _TINY_PADDED if padded else _TINY
        self.head_width = head_width
        self.logit_scale = nn.Parameter(torch.full((heads, 1, 1), math.log(10))) if scaled else None
        self.register_buffer("factor", None)  # (1, A, 1, 1), set by edgevit.models.folds.attention_scale
        self.factor: Tensor | None

    def compute_factor(self) -> Tensor | None:
        """What the vectors of root mean square 1 are multiplied by, only of queries: scale / D for both operands."""
        if self.logit_scale is None:
            return None
        return self.logit_scale.clamp(max=math.log(_LARGEST_SCALE)).exp().unsqueeze(0) / self.head_width

    def forward(self, x: Tensor) -> Tensor:
        x = x / ((x * x).mean(dim=-1, keepdim=True) + self.tiny).sqrt()
        factor = self.factor if self.factor is not None else self.compute_factor()
        return x if factor is None else x * factor


class ContinuousBias(nn.Module):
    """A bias for every offset within a window, from an MLP, and the shift's mask: ``() → (nW or 1, A, M·M, M·M)``."""

    def __init__(self, window: Size, trained: int, heads: int, mask: Tensor | None) -> None:
        super().__init__()
        self.hidden_weight = nn.Parameter(torch.zeros(_HIDDEN, 2))
        self.hidden_bias = nn.Parameter(torch.zeros(_HIDDEN))
        self.out_weight = nn.Parameter(torch.zeros(heads, _HIDDEN))
        self.register_buffer("offsets", log_spaced_offsets(window, trained), persistent=False)
        self.register_buffer("index", relative_position_index(window), persistent=False)
        self.register_buffer("mask", mask, persistent=False)
        self.offsets: Tensor
        self.index: Tensor
        self.mask: Tensor | None

    def forward(self) -> Tensor:
        hidden = F.linear(self.offsets, self.hidden_weight, self.hidden_bias).relu()
        table = 16 * F.linear(hidden, self.out_weight).sigmoid()  # ((2·M−1)², A)
        return spread_bias(table, self.index, self.mask)


def log_spaced_offsets(window: Size, trained: int) -> Tensor:
    """Offsets between two tokens of a window as the MLP reads them: ``((2·M−1)², 2) float32``.

    ``sign(x)·log₂(1 + |x|) / 3`` with ``x`` from −8 to 8 over the window of pre-training.
    """
    axes = []
    for side in window:
        steps = torch.arange(-(side - 1), side, dtype=torch.float32, device="cpu")
        axes.append(8 * steps / max((trained or side) - 1, 1))
    both = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).reshape(-1, 2)
    return both.sign() * torch.log2(both.abs() + 1) / math.log2(8)


class SwinV2Block(nn.Module):
    """Window attention and MLP, residual, each with its norm behind it: ``(B, L, C) → (B, L, C)``."""

    def __init__(self, config: SwinConfig, stage: int, block: int) -> None:
        super().__init__()
        assert isinstance(config, SwinV2Config)
        width, heads = config.stage_width(stage), config.heads[stage]
        window, shift = config.block_window(stage, block)
        self.windows = RolledWindows(config.stage_grid(stage), window, shift, config.pad)
        padded = self.windows.padded != self.windows.grid
        self.attn = Attention(width, heads, config.qkv_bias)
        self.attn.scale = 1.0  # the cosines have a scale of their own
        self.attn.q_norm = HeadCosine(heads, width // heads, scaled=True, padded=padded)
        self.attn.k_norm = HeadCosine(heads, width // heads, scaled=False, padded=padded)
        mask = self.windows.mask()
        scaled = None if mask is None else mask * (config.mask / -100)
        self.bias: nn.Module = ContinuousBias(window, config.pretrained_windows[stage], heads, scaled)
        self.norm1 = nn.LayerNorm(width, eps=config.norm_eps)
        self.mlp = Mlp(width, int(width * config.mlp_ratio), config.activation)
        self.norm2 = nn.LayerNorm(width, eps=config.norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        windows = self.windows.split(x)  # (B·nW, M·M, C)
        bias = self.bias()
        if bias.shape[0] > 1:  # one bias a window: repeat it for every image, and stay at rank 4
            bias = bias.repeat(windows.shape[0] // bias.shape[0], 1, 1, 1)
        x = x + self.norm1(self.attn(windows, bias=bias, arrange=self.windows.merge))
        x = x + self.norm2(self.mlp(x))
        return x


class PatchMergingV2(nn.Module):
    """Halve the grid, double the channels, with the norm behind the Linear: ``(B, L, C) → (B, L/4, 2·C)``."""

    def __init__(self, config: SwinConfig, stage: int) -> None:
        super().__init__()
        width = config.stage_width(stage)
        self.neighbours: nn.Module = MergeNeighbours(config.stage_grid(stage))
        self.reduction = nn.Linear(4 * width, 2 * width, bias=False)
        self.norm = nn.LayerNorm(2 * width, eps=config.resample_norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.reduction(self.neighbours(x)))
        return x


class SwinV2Stage(SwinStage):
    """A stage of these blocks."""

    block_kind = SwinV2Block
    merging_kind = PatchMergingV2


class SwinV2(Swin):
    """Swin Transformer V2; in and out as :class:`~edgevit.models.swin.Swin`."""

    stage_kind = SwinV2Stage
