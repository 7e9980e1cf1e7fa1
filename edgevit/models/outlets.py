"""Where features leave a model."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from edgevit.core.task import Layout


class Outlet(nn.Module):
    """What a stage or block gives, to what the caller reads: ``(B, N, C) → (B, C, h, w)`` or ``(B, h·w, C)``.

    Args:
        grid: Tokens down and across, ``(h, w)``.
        norm: In front, where the origin normalises features.
        prefix_tokens: Tokens before the patches, which are left out.
        layout: Of the result.
        suffix_tokens: Tokens behind the patches, which are left out.
    """

    def __init__(
        self,
        grid: tuple[int, int],
        norm: nn.Module | None,
        prefix_tokens: int,
        layout: Layout,
        suffix_tokens: int = 0,
    ) -> None:
        super().__init__()
        self.grid, self.layout = grid, layout
        self.prefix_tokens, self.suffix_tokens = prefix_tokens, suffix_tokens
        self.norm: nn.Module = norm if norm is not None else nn.Identity()
        self.restore: nn.Module = nn.Identity()  # back from a rotation, see edgevit.models.folds.residual_rotation
        self.arrange: nn.Module = nn.Identity()  # into another order of tokens, see edgevit.models.folds.window_gather

    def forward(self, x: Tensor) -> Tensor:
        if self.prefix_tokens or self.suffix_tokens:
            x = x[:, self.prefix_tokens : -self.suffix_tokens or None]
        x = self.arrange(self.restore(self.norm(x)))
        if self.layout == "tokens":
            return x
        return x.transpose(1, 2).reshape(x.shape[0], x.shape[2], *self.grid)


_MOST_RUNS = 8


class TokenOrder(nn.Module):
    """Tokens in another order: ``(B, N, C) → (B, len(order), C)``.

    Args:
        order: The token that comes to each place. A few runs of neighbours are joined; more are gathered.
    """

    def __init__(self, order: Sequence[int]) -> None:
        super().__init__()
        starts = [at for at in range(len(order)) if at == 0 or order[at] != order[at - 1] + 1]
        ends = [*starts[1:], len(order)]
        self.runs = [(order[start], order[start] + end - start) for start, end in zip(starts, ends, strict=True)]
        self.register_buffer("index", torch.tensor(order), persistent=False)
        self.index: Tensor

    def forward(self, x: Tensor) -> Tensor:
        if len(self.runs) > _MOST_RUNS:
            return x[:, self.index]
        return torch.cat([x[:, start:end] for start, end in self.runs], dim=1)
