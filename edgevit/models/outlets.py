"""Where features leave a model."""

from __future__ import annotations

from torch import Tensor, nn

from edgevit.core.task import Layout


class Outlet(nn.Module):
    """What a stage or block gives, to what the caller reads: ``(B, N, C) → (B, C, h, w)`` or ``(B, h·w, C)``.

    Args:
        grid: Tokens down and across, ``(h, w)``.
        norm: In front, where the origin normalises features.
        prefix_tokens: Tokens before the patches, which are left out.
        layout: Of the result.
    """

    def __init__(self, grid: tuple[int, int], norm: nn.Module | None, prefix_tokens: int, layout: Layout) -> None:
        super().__init__()
        self.grid, self.prefix_tokens, self.layout = grid, prefix_tokens, layout
        self.norm: nn.Module = norm if norm is not None else nn.Identity()
        self.restore: nn.Module = nn.Identity()  # back from a rotation, see edgevit.models.folds.residual_rotation
        self.arrange: nn.Module = nn.Identity()  # into row-major order, see edgevit.models.folds.window_gather

    def forward(self, x: Tensor) -> Tensor:
        if self.prefix_tokens:
            x = x[:, self.prefix_tokens :]
        x = self.arrange(self.restore(self.norm(x)))
        if self.layout == "tokens":
            return x
        return x.transpose(1, 2).reshape(x.shape[0], x.shape[2], *self.grid)
