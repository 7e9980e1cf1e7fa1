"""Layers that every canonical model shares: patch embedding, attention, layer scale, MLP."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgevit.models.rotary import rotate_positions

Activation: TypeAlias = Literal["gelu", "gelu_tanh", "quick_gelu", "silu", "relu"]

ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),  # CLIP's approximation
    "silu": lambda x: x * torch.sigmoid(x),
    "relu": F.relu,
}


class PatchEmbedding(nn.Module):
    """Non-overlapping patches through one convolution.

    ``(B, 3, H, W) float32 → (B, (H/p)·(W/p), C) float32``, tokens in row-major order. Where the sides of an image are
    not multiples of the patch, what is left over at its right and bottom is filled up with zeros (after normalisation)
    to whole patches, as in transformers' Swin, or with ``pad=False`` not read, as a convolution does. ``padding`` is
    the convolution's own, on all sides.
    """

    def __init__(
        self,
        patch: tuple[int, int],
        in_channels: int,
        width: int,
        bias: bool = True,
        pad: bool = True,
        padding: tuple[int, int] = (0, 0),
    ) -> None:
        super().__init__()
        self.patch, self.pad, self.padding = patch, pad, padding
        self.proj = nn.Conv2d(in_channels, width, kernel_size=patch, stride=patch, padding=padding, bias=bias)

    def forward(self, pixels: Tensor) -> Tensor:
        pad_h = -pixels.shape[2] % self.patch[0]
        pad_w = -pixels.shape[3] % self.patch[1]
        if self.pad and (pad_h or pad_w):
            pixels = F.pad(pixels, (0, pad_w, 0, pad_h))
        x: Tensor = self.proj(pixels)  # (B, C, H/p, W/p)
        return x.flatten(2).transpose(1, 2)


def split_heads(x: Tensor, heads: int) -> Tensor:
    """``(B, N, A·D) → (B, A, N, D)``."""
    batch, tokens, channels = x.shape
    return x.reshape(batch, tokens, heads, channels // heads).transpose(1, 2)


def attend(q: Tensor, k: Tensor, v: Tensor, scale: float, bias: Tensor | None) -> Tensor:
    """``softmax(scale·q·kᵀ + bias)·v``: ``(B, A, Q, D), (B, A, N, D), (B, A, N, D) → (B, A, Q, D)``.

    For export it is written as rank-4 MatMul → Add → Softmax → MatMul because that is the pattern which OpenVINO and
    TensorRT fuse; a fused ``scaled_dot_product_attention`` is taken apart by their importers and seldom found again. In
    torch itself the fused one halves the time of a whole ViT-S with 1370 tokens; with a bias it saves nothing.

    Args:
        q: Queries.
        k: Keys.
        v: Values.
        scale: Of the scores.
        bias: Broadcasts to ``(B, A, Q, N)``.
    """
    if bias is None and not torch.compiler.is_compiling():
        out: Tensor = F.scaled_dot_product_attention(q, k, v, scale=scale)
        return out
    if scale != 1.0:
        q = q * scale
    scores = q @ k.transpose(-2, -1)  # (B, A, Q, N)
    if bias is not None:
        scores = scores + bias
    out = scores.softmax(dim=-1) @ v
    return out


class Attention(nn.Module):
    """Multi-head self-attention with one packed projection, or three after :mod:`edgevit.models.folds.split_qkv`.

    With ``qk_norm_eps`` every head's queries and keys pass through a LayerNorm before their product (Dehghani et al.,
    2023, arXiv:2302.05442), with ``norm_eps`` all heads' results together before the output projection.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        qkv_bias: bool = True,
        head_width: int | None = None,
        qk_norm_eps: float | None = None,
        norm_eps: float | None = None,
    ) -> None:
        super().__init__()
        self.heads = heads
        self.head_width = head_width or width // heads
        inner = heads * self.head_width
        self.scale = self.head_width**-0.5  # 1.0 after edgevit.models.folds.attention_scale
        self.qkv: nn.Linear | None = nn.Linear(width, 3 * inner, bias=qkv_bias)
        self.q: nn.Linear | None = None
        self.k: nn.Linear | None = None
        self.v: nn.Linear | None = None
        self.q_norm: nn.Module
        self.k_norm: nn.Module
        self.q_norm, self.k_norm = (_make_norm(self.head_width, qk_norm_eps) for _ in "qk")
        self.norm = _make_norm(inner, norm_eps)
        self.proj = nn.Linear(inner, width)
        self.register_buffer("mask", None)  # (1, A, 1, N) float32, set by edgevit.models.folds.token_padding
        self.mask: Tensor | None
        # (2, 1, N, D), set by the model whose positions are rotary; it follows from the config.
        self.register_buffer("rotation", None, persistent=False)
        self.rotation: Tensor | None

    def project(self, x: Tensor, queries: int | None) -> tuple[Tensor, Tensor, Tensor]:
        """``(B, N, C) → q (B, A, Q, D), k (B, A, N, D), v (B, A, N, D)`` with ``Q = queries or N``."""
        if self.qkv is not None:
            # Rank 4 throughout: (B, N, 3·A, D) → (B, 3·A, N, D); engines keep a rank-5 permute as a copy.
            packed = split_heads(self.qkv(x), 3 * self.heads)
            q, k, v = torch.split(packed, self.heads, dim=1)
            return self.q_norm(q if queries is None else q[:, :, :queries]), self.k_norm(k), v
        assert self.q is not None
        assert self.k is not None
        assert self.v is not None
        first = x if queries is None else x[:, :queries]
        q, k, v = (split_heads(t, self.heads) for t in (self.q(first), self.k(x), self.v(x)))
        return self.q_norm(q), self.k_norm(k), v

    def forward(
        self,
        x: Tensor,
        bias: Tensor | None = None,
        queries: int | None = None,
        arrange: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:
        """``(B, N, C) → (B, Q, C)``, or what ``arrange`` makes of it.

        Args:
            x: Tokens, ``(B, N, C)``.
            bias: Added to the scores before softmax; broadcasts to ``(B, A, Q, N)``.
            queries: Compute the result only for the first ``queries`` tokens; ``None`` for all.
            arrange: Moves tokens in front of the output projection, where they are still bytes in an INT8 engine.
        """
        q, k, v = self.project(x, queries)
        if self.rotation is not None:
            # The first tokens, which stand before the patches, are not turned.
            q = rotate_positions(q, self.rotation) if queries is None else q
            k = rotate_positions(k, self.rotation)
        if self.mask is not None:
            bias = self.mask if bias is None else bias + self.mask
        out: Tensor = attend(q, k, v, self.scale, bias)  # (B, A, Q, D)
        out = self.norm(out.transpose(1, 2).flatten(2))  # (B, Q, A·D)
        if arrange is not None:
            out = arrange(out)
        out = self.proj(out)
        return out


def to_unit_length(x: Tensor) -> Tensor:
    """Vectors divided by their Euclidean norm: ``(…, C) → (…, C)``."""
    # By the mean of the squares: their sum can leave float16's range. 1e-24 keeps zeros from becoming NaN.
    length = ((x * x).mean(dim=-1, keepdim=True) + 1e-24).sqrt() * x.shape[-1] ** 0.5
    unit: Tensor = x / length
    return unit


class LayerScale(nn.Module):
    """A learned factor for every channel (Touvron et al., 2021, arXiv:2103.17239): ``(…, C) → (…, C)``.

    :mod:`edgevit.models.folds.layer_scale` folds it into the Linear in front of it.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class Mlp(nn.Module):
    """Two Linears with an activation between them, and with ``norm_eps`` a LayerNorm: ``(…, C) → (…, C)``."""

    def __init__(self, width: int, hidden: int, activation: Activation = "gelu", norm_eps: float | None = None) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.act = ACTIVATIONS[activation]
        self.norm = _make_norm(hidden, norm_eps)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc2(self.norm(self.act(self.fc1(x))))
        return x


class GatedMlp(nn.Module):
    """An MLP with a gate (Shazeer, 2020, arXiv:2002.05202), with SiLU called SwiGLU: ``(…, C) → (…, C)``.

    Gate and value have a Linear each: one packed Linear would end in a split of its last axis, which engines copy. With
    ``norm_eps`` their product passes through a LayerNorm.
    """

    def __init__(self, width: int, hidden: int, activation: Activation = "silu", norm_eps: float | None = None) -> None:
        super().__init__()
        self.gate = nn.Linear(width, hidden)
        self.fc1 = nn.Linear(width, hidden)
        self.act = ACTIVATIONS[activation]
        self.norm = _make_norm(hidden, norm_eps)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc2(self.norm(self.act(self.gate(x)) * self.fc1(x)))
        return x


def _make_norm(width: int, eps: float | None) -> nn.Module:
    return nn.Identity() if eps is None else nn.LayerNorm(width, eps=eps)


def sincos_positions(grid: tuple[int, int], width: int, prefix_tokens: int = 0) -> Tensor:
    """Fixed position embedding of sines and cosines: ``(1, prefix_tokens + h·w, C) float32``, zero for the prefix.

    As in MAE (He et al., 2021, arXiv:2111.06377): the first half of the channels encodes columns, the second rows.

    Args:
        grid: Patches down and across, ``(h, w)``.
        width: Channels; a multiple of 4.
        prefix_tokens: Tokens before the patches.
    """
    # On the CPU and with its values, also where the model is built on the meta device.
    frequency = 10000.0 ** -(torch.arange(width // 4, dtype=torch.float64, device="cpu") / (width // 4))
    rows, cols = torch.meshgrid(*(torch.arange(n, dtype=torch.float64, device="cpu") for n in grid), indexing="ij")
    angles = [at.reshape(-1, 1) * frequency for at in (cols, rows)]  # (h·w, C/4) each
    table = torch.cat([f(a) for a in angles for f in (torch.sin, torch.cos)], dim=1)
    return F.pad(table.float(), (0, 0, prefix_tokens, 0)).unsqueeze(0)
