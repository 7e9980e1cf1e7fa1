"""Pooling by attention: SigLIP's MAP head (Zhai et al., 2022, arXiv:2106.04560, and 2023, arXiv:2303.15343)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgevit.models.layers import Activation, Mlp, split_heads


class AttentionPool(nn.Module):
    """One learned query attends to all tokens, and an MLP with a residual follows: ``(B, N, C) → (B, C)``.

    The query is the same for every image. :mod:`edgevit.models.folds.attention_pool` multiplies it into the key
    projection: ``score`` then gives every head's scores by one Linear from C to A.
    """

    def __init__(self, width: int, heads: int, mlp_width: int, activation: Activation, norm_eps: float) -> None:
        super().__init__()
        self.heads = heads
        self.scale = (width // heads) ** -0.5
        self.latent: nn.Parameter | None = nn.Parameter(torch.zeros(1, 1, width))
        self.q: nn.Linear | None = nn.Linear(width, width)
        self.k: nn.Linear | None = nn.Linear(width, width)
        self.score: nn.Linear | None = None
        self.v = nn.Linear(width, width)
        self.proj = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width, eps=norm_eps)
        self.mlp = Mlp(width, mlp_width, activation)

    def query(self) -> Tensor:
        """The query with 1/√d: ``(1, A, 1, D)``."""
        assert self.latent is not None
        assert self.q is not None
        query: Tensor = split_heads(self.q(self.latent), self.heads) * self.scale
        return query

    def forward(self, x: Tensor) -> Tensor:
        if self.score is not None:
            scores = self.score(x).transpose(1, 2).unsqueeze(2)  # (B, A, 1, N)
        else:
            assert self.k is not None
            scores = self.query() @ split_heads(self.k(x), self.heads).transpose(-2, -1)
        pooled: Tensor = scores.softmax(dim=-1) @ split_heads(self.v(x), self.heads)  # (B, A, 1, D)
        pooled = self.proj(pooled.transpose(1, 2).flatten(2))  # (B, 1, C)
        pooled = pooled + self.mlp(self.norm(pooled))
        return pooled[:, 0]
