"""Swin Transformer (Liu et al., 2021, arXiv:2103.14030).

Tokens travel as ``(B, L, C)`` in row-major order of their grid; only :class:`RolledWindows` and what
:mod:`edgevit.models.folds.window_gather` puts in its place know about windows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgevit.models.layers import Activation, Attention, Mlp, PatchEmbedding

Size = tuple[int, int]


@dataclass(frozen=True)
class SwinConfig:
    """Everything that decides a Swin's parameters and arithmetic.

    Attributes:
        image_size: Height and width of the input in pixels.
        window: Tokens down and across a window; a stage whose grid is smaller uses its grid.
        classes: Outputs of the head; 0 for none (the pooled features are the output).
        resample_norm_eps: Epsilon of the norms behind the patch embedding and in patch merging, where transformers
            ignores the configured one.
        merging_norm_eps: Only of those in patch merging, where MindCV's differs; by default ``resample_norm_eps``.
        window_fit: How a window shrinks on a small grid: each axis for itself (timm); both to the smaller side, and
            no shift at all (transformers, the original); never (timm's ``always_partition``); never, and without a
            shift along an axis that one window covers (torchvision); or both as the rows ask (transformers' Swin V2).
        pad: Where a grid that is no multiple of the window is padded: after the cyclic shift (timm), or before
            it (transformers, the original).
        level_norms: Stages that have a LayerNorm for their features (transformers' backbones).
        final_norm: Whether there is a LayerNorm behind the last stage; a backbone has none, and no head.
    """

    image_size: Size = (224, 224)
    patch_size: Size = (4, 4)
    in_channels: int = 3
    width: int = 96
    depths: tuple[int, ...] = (2, 2, 6, 2)
    heads: tuple[int, ...] = (3, 6, 12, 24)
    window: Size = (7, 7)
    mlp_ratio: float = 4.0
    classes: int = 1000
    qkv_bias: bool = True
    patch_norm: bool = True
    norm_eps: float = 1e-5
    activation: Activation = "gelu"
    window_fit: Literal["axis", "smaller", "never", "padded", "rows"] = "axis"
    pad: Literal["after_shift", "before_shift"] = "after_shift"
    resample_norm_eps: float = 1e-5
    merging_norm_eps: float | None = None
    level_norms: tuple[int, ...] = ()
    final_norm: bool = True

    def __post_init__(self) -> None:
        if len(self.depths) != len(self.heads):
            raise ValueError(f"{len(self.depths)} depths do not go with {len(self.heads)} numbers of heads")
        for stage, heads in enumerate(self.heads):
            if self.stage_width(stage) % heads:
                raise ValueError(f"stage {stage}: width {self.stage_width(stage)} is not a multiple of {heads} heads")
        if min(self.stage_grid(len(self.depths) - 1)) < 1 or min(self.image_size) < min(self.patch_size):
            raise ValueError(f"image size {self.image_size} is too small for {len(self.depths)} stages")

    def stage_width(self, stage: int) -> int:
        """Channels in a stage."""
        width: int = self.width * 2**stage
        return width

    def stage_grid(self, stage: int) -> Size:
        """Tokens down and across in a stage; odd grids are padded by one before they are merged."""
        h, w = (math.ceil(i / p) for i, p in zip(self.image_size, self.patch_size, strict=True))
        for _ in range(stage):
            h, w = math.ceil(h / 2), math.ceil(w / 2)
        return h, w

    level_name: ClassVar[str] = "level"  # what features are counted by

    def level_shape(self, level: int) -> tuple[int, int, int]:
        """Channels, height and width of the feature map of a stage."""
        return self.stage_width(level), *self.stage_grid(level)

    @property
    def level_count(self) -> int:
        """Places where features can leave."""
        return len(self.depths)

    @property
    def features(self) -> int:
        """Width of an image's features, which the head reads and an embedding gives."""
        return self.stage_width(len(self.depths) - 1)

    def block_window(self, stage: int, block: int) -> tuple[Size, Size]:
        """Window and shift of a block, fitted to its grid."""
        (h, w), (mh, mw) = self.stage_grid(stage), self.window
        shifted = block % 2 == 1
        shift = (mh // 2 if shifted and h > mh else 0, mw // 2 if shifted and w > mw else 0)
        if self.window_fit == "never":
            return self.window, (mh // 2, mw // 2) if shifted else (0, 0)
        if self.window_fit == "padded":
            return self.window, shift
        if self.window_fit == "rows":
            rows = self.image_size[0] // self.patch_size[0] // 2**stage
            side = min(rows, mh)
            return (side, side), (mh // 2, mh // 2) if shifted and rows > side else (0, 0)
        if self.window_fit == "smaller" and min(h, w) <= min(mh, mw):
            return (min(h, w), min(h, w)), (0, 0)
        return (min(h, mh), min(w, mw)), shift


class RolledWindows(nn.Module):
    """Cyclic shift and window partition, and the way back, as the paper states them.

    ``split``: ``(B, H·W, C) → (B·nW, M·M, C)``; ``merge`` is its inverse.
    """

    def __init__(self, grid: Size, window: Size, shift: Size, pad: str) -> None:
        super().__init__()
        self.grid, self.window, self.shift, self.pad = grid, window, shift, pad
        self.padded = (math.ceil(grid[0] / window[0]) * window[0], math.ceil(grid[1] / window[1]) * window[1])

    @property
    def count(self) -> int:
        """Windows in an image."""
        return (self.padded[0] // self.window[0]) * (self.padded[1] // self.window[1])

    def _pad(self, x: Tensor) -> Tensor:
        (h, w), (ph, pw) = self.grid, self.padded
        return F.pad(x, (0, 0, 0, pw - w, 0, ph - h)) if (ph, pw) != (h, w) else x

    def split(self, x: Tensor) -> Tensor:
        """``(B, L, C)`` tokens to ``(B·nW, M·M, C)`` windows, shifted and padded."""
        batch, _, channels = x.shape
        (h, w), (sh, sw), (mh, mw), (ph, pw) = self.grid, self.shift, self.window, self.padded
        x = x.reshape(batch, h, w, channels)
        if self.pad == "before_shift":
            x = self._pad(x)
        if any(self.shift):
            x = torch.roll(x, shifts=(-sh, -sw), dims=(1, 2))
        if self.pad == "after_shift":
            x = self._pad(x)
        x = x.reshape(batch, ph // mh, mh, pw // mw, mw, channels)
        return x.permute(0, 1, 3, 2, 4, 5).reshape(-1, mh * mw, channels)

    def merge(self, windows: Tensor) -> Tensor:
        """``(B·nW, M·M, C)`` windows back to ``(B, L, C)`` tokens."""
        (h, w), (sh, sw), (mh, mw), (ph, pw) = self.grid, self.shift, self.window, self.padded
        channels = windows.shape[-1]
        x = windows.reshape(-1, ph // mh, pw // mw, mh, mw, channels)
        x = x.permute(0, 1, 3, 2, 4, 5).reshape(-1, ph, pw, channels)
        if self.pad == "after_shift":
            x = x[:, :h, :w]
        if any(self.shift):
            x = torch.roll(x, shifts=(sh, sw), dims=(1, 2))
        if self.pad == "before_shift":
            x = x[:, :h, :w]
        return x.reshape(-1, h * w, channels)

    def mask(self) -> Tensor | None:
        """What keeps tokens apart that only the cyclic shift made neighbours: ``(nW, M·M, M·M)``, 0 or −100."""
        if not any(self.shift):
            return None
        (ph, pw), (mh, mw) = self.padded, self.window
        region = torch.zeros(ph, pw, device="cpu")  # a constant, also in a module built on the meta device
        label = 0
        for rows in _bands(mh, self.shift[0]):
            for cols in _bands(mw, self.shift[1]):
                region[rows, cols] = label
                label += 1
        ids = region.reshape(ph // mh, mh, pw // mw, mw).transpose(1, 2).reshape(-1, mh * mw)
        apart = ids.unsqueeze(1) != ids.unsqueeze(2)
        return apart.float() * -100.0


def _bands(window: int, shift: int) -> tuple[slice, ...]:
    if not shift:
        return (slice(None),)
    return slice(0, -window), slice(-window, -shift), slice(-shift, None)


def relative_position_index(window: Size) -> Tensor:
    """Row of the bias table for every pair of tokens in a window: ``(M·M, M·M) int64``."""
    rows, cols = torch.meshgrid(
        torch.arange(window[0], device="cpu"), torch.arange(window[1], device="cpu"), indexing="ij"
    )
    at = torch.stack([rows.flatten(), cols.flatten()])
    apart = at[:, :, None] - at[:, None, :]
    return (apart[0] + window[0] - 1) * (2 * window[1] - 1) + apart[1] + window[1] - 1


class RelativePositionBias(nn.Module):
    """A learned bias for every offset within a window, and the shift's mask: ``() → (nW or 1, A, M·M, M·M)``."""

    def __init__(self, window: Size, heads: int, mask: Tensor | None) -> None:
        super().__init__()
        rows = (2 * window[0] - 1) * (2 * window[1] - 1)
        self.table = nn.Parameter(torch.zeros(rows, heads))
        self.register_buffer("index", relative_position_index(window), persistent=False)
        self.register_buffer("mask", mask, persistent=False)
        self.index: Tensor
        self.mask: Tensor | None

    def forward(self) -> Tensor:
        return spread_bias(self.table, self.index, self.mask)


def spread_bias(table: Tensor, index: Tensor, mask: Tensor | None) -> Tensor:
    """A table's rows at every pair of tokens, and a mask ``(nW, M·M, M·M)``: ``(nW or 1, A, M·M, M·M)``."""
    bias = table[index].permute(2, 0, 1).unsqueeze(0)  # (1, A, M·M, M·M)
    return bias if mask is None else bias + mask.unsqueeze(1)


class ConstantBias(nn.Module):
    """Bias and mask in one constant; what :mod:`edgevit.models.folds.attention_bias` leaves."""

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.register_buffer("value", value)
        self.value: Tensor

    def forward(self) -> Tensor:
        return self.value


class SwinBlock(nn.Module):
    """Window attention and MLP, both pre-norm and residual: ``(B, L, C) → (B, L, C)``."""

    def __init__(self, config: SwinConfig, stage: int, block: int) -> None:
        super().__init__()
        width, heads = config.stage_width(stage), config.heads[stage]
        window, shift = config.block_window(stage, block)
        self.norm1 = nn.LayerNorm(width, eps=config.norm_eps)
        # Any: edgevit.models.folds.window_gather puts another class with split and merge in its place.
        self.windows: Any = RolledWindows(config.stage_grid(stage), window, shift, config.pad)
        self.attn = Attention(width, heads, config.qkv_bias)
        self.bias: nn.Module = RelativePositionBias(window, heads, self.windows.mask())
        self.norm2 = nn.LayerNorm(width, eps=config.norm_eps)
        self.mlp = Mlp(width, int(width * config.mlp_ratio), config.activation)

    def forward(self, x: Tensor) -> Tensor:
        windows = self.windows.split(self.norm1(x))  # (B·nW, M·M, C)
        bias = self.bias()
        if bias.shape[0] > 1:  # one bias a window: repeat it for every image, and stay at rank 4
            bias = bias.repeat(windows.shape[0] // bias.shape[0], 1, 1, 1)
        x = x + self.attn(windows, bias=bias, arrange=self.windows.merge)
        x = x + self.mlp(self.norm2(x))
        return x


class MergeNeighbours(nn.Module):
    """Four neighbours side by side: ``(B, H·W, C) → (B, H/2·W/2, 4·C)``, ordered as the original does."""

    def __init__(self, grid: Size) -> None:
        super().__init__()
        self.grid = grid

    def forward(self, x: Tensor) -> Tensor:
        batch, _, channels = x.shape
        h, w = self.grid
        x = x.reshape(batch, h, w, channels)
        if h % 2 or w % 2:
            x = F.pad(x, (0, 0, 0, w % 2, 0, h % 2))
        x = x.reshape(batch, math.ceil(h / 2), 2, math.ceil(w / 2), 2, channels)
        return x.permute(0, 1, 3, 4, 2, 5).reshape(batch, -1, 4 * channels)


class PatchMerging(nn.Module):
    """Halve the grid, double the channels: ``(B, L, C) → (B, L/4, 2·C)``."""

    def __init__(self, config: SwinConfig, stage: int) -> None:
        super().__init__()
        width = config.stage_width(stage)
        self.neighbours: nn.Module = MergeNeighbours(config.stage_grid(stage))
        self.norm = nn.LayerNorm(4 * width, eps=config.merging_norm_eps or config.resample_norm_eps)
        self.reduction = nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.reduction(self.norm(self.neighbours(x)))
        return x


class SwinStage(nn.Module):
    """Blocks on one grid, after the merging that leads to it (none before the first)."""

    block_kind: ClassVar[type[nn.Module]] = SwinBlock
    merging_kind: ClassVar[type[nn.Module]] = PatchMerging

    def __init__(self, config: SwinConfig, stage: int) -> None:
        super().__init__()
        self.downsample: nn.Module = self.merging_kind(config, stage - 1) if stage else nn.Identity()
        self.blocks = nn.ModuleList(self.block_kind(config, stage, block) for block in range(config.depths[stage]))

    def forward(self, x: Tensor) -> Tensor:
        x = self.downsample(x)
        for block in self.blocks:
            x = block(x)
        return x


class Swin(nn.Module):
    """Swin Transformer: normalised pixels ``(B, 3, H, W) float32 → (B, classes) float32`` logits.

    Without a head the pooled features ``(B, C)`` are the result; with outlets it is a tuple of what leaves there.
    """

    stage_kind: ClassVar[type[SwinStage]] = SwinStage

    def __init__(self, config: SwinConfig) -> None:
        super().__init__()
        self.config = config
        # nn.Module: edgevit.models.folds puts other forms of it in its place.
        self.patch_embed: nn.Module = PatchEmbedding(config.patch_size, config.in_channels, config.width)
        self.patch_norm = (
            nn.LayerNorm(config.width, eps=config.resample_norm_eps) if config.patch_norm else nn.Identity()
        )
        # Replaced by edgevit.models.folds.window_gather where tokens travel in the order of their windows and the patch
        # embedding does not give them in it.
        self.arrange: nn.Module = nn.Identity()
        self.layers = nn.ModuleList(self.stage_kind(config, stage) for stage in range(len(config.depths)))
        width = config.stage_width(len(config.depths) - 1)
        self.norm = nn.LayerNorm(width, eps=config.norm_eps) if config.final_norm else nn.Identity()
        self.level_norms = nn.ModuleDict(
            {str(i): nn.LayerNorm(config.stage_width(i), eps=config.resample_norm_eps) for i in config.level_norms}
        )
        # By stage, where features leave the model instead of logits; filled by edgevit.models.select_task.
        self.outlets = nn.ModuleDict()
        self.head = nn.Linear(width, config.classes) if config.classes else nn.Identity()

    def forward(self, pixels: Tensor) -> Tensor | tuple[Tensor, ...]:
        x = self.arrange(self.patch_norm(self.patch_embed(pixels)))
        features: list[Tensor] = []
        for index, layer in enumerate(self.layers):
            x = layer(x)
            if str(index) in self.outlets:
                features.append(self.outlets[str(index)](x))
        if features:
            return tuple(features)
        x = self.norm(x).mean(dim=1)
        logits: Tensor = self.head(x)
        return logits
