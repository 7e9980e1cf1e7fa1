"""The text tower of CLIP (arXiv:2103.00020) and SigLIP (arXiv:2303.15343): a pre-norm transformer over tokens.

It runs only at a build, where the texts of labels become a head (:mod:`edgevit.checkpoints.texts`); no bundle has it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from edgevit.core.schema import refuse
from edgevit.models.layers import Activation, Attention, Mlp


@dataclass(frozen=True)
class TextConfig:
    """Everything that decides a text tower's parameters and arithmetic.

    Attributes:
        vocabulary: Tokens that there are.
        context: Tokens of a text at most.
        mlp_width: Hidden channels.
        embedding: Width of what a text becomes.
        projection: Whether a Linear makes it; else it is ``width`` wide.
        projection_bias: Whether that has a bias.
        causal: Whether a token attends only to itself and those before it (CLIP), or to all (SigLIP).
        pool: Where a text is read out: at its highest token, which is the end's in CLIP's vocabulary; at the first
            ``end``; or at the last place, whatever stands there.
        end: Number of the token at a text's end, for ``pool = "end"``.
    """

    vocabulary: int
    context: int
    width: int
    depth: int
    heads: int
    mlp_width: int
    embedding: int
    projection: bool = True
    projection_bias: bool = False
    activation: Activation = "quick_gelu"
    norm_eps: float = 1e-5
    causal: bool = True
    pool: Literal["highest", "end", "last"] = "highest"
    end: int = 0

    def __post_init__(self) -> None:
        alike = self.projection or self.embedding == self.width
        refuse(
            (self.width % self.heads, f"width {self.width} is not a multiple of {self.heads} heads"),
            (not alike, f"width {self.width} without a projection gives no embedding of {self.embedding} numbers"),
        )


class TextBlock(nn.Module):
    """Pre-norm block: ``(B, N, C) → (B, N, C)``."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.attn = Attention(config.width, config.heads)
        self.norm2 = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.mlp = Mlp(config.width, config.mlp_width, config.activation)

    def forward(self, x: Tensor, bias: Tensor | None) -> Tensor:
        x = x + self.attn(self.norm1(x), bias=bias)
        x = x + self.mlp(self.norm2(x))
        return x


class TextTower(nn.Module):
    """Texts as numbers of tokens ``(B, N) int64 → (B, embedding) float32``, of any length; N is at most the context.

    What stands behind a text's end is without effect where attention is causal and the end is read out.
    """

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.config = config
        self.tokens = nn.Embedding(config.vocabulary, config.width)
        self.positions = nn.Parameter(torch.zeros(config.context, config.width))
        self.blocks = nn.ModuleList(TextBlock(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.projection: nn.Module = (
            nn.Linear(config.width, config.embedding, bias=config.projection_bias)
            if config.projection
            else nn.Identity()
        )

    def forward(self, ids: Tensor) -> Tensor:
        length = ids.shape[1]
        x = self.tokens(ids) + self.positions[:length]
        bias = torch.full((length, length), -torch.inf).triu(1) if self.config.causal else None
        for block in self.blocks:
            x = block(x, bias)
        embedding: Tensor = self.projection(self.norm(x[torch.arange(len(ids)), self._find_ends(ids)]))
        return embedding

    def _find_ends(self, ids: Tensor) -> Tensor:
        """Where each text is read out: ``(B,) int64``."""
        if self.config.pool == "last":
            return torch.full((len(ids),), ids.shape[1] - 1)
        marks = ids if self.config.pool == "highest" else (ids == self.config.end).int()
        return marks.argmax(dim=1)
