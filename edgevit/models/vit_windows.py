"""A ViT's tokens in windows, as RF-DETR's DINOv2 has them: each window's patches behind a copy of the class token.

The stream holds one window after the other in all blocks, so most blocks attend within windows by a reshape, and the
others among all tokens without one.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

Size = tuple[int, int]


def split_windows(x: Tensor, prefix: Tensor | None, grid: Size, windows: Size) -> Tensor:
    """Patches in rows to windows one after the other: ``(B, h·w, C) → (B, W·(P + h·w/W), C)``.

    Args:
        x: From left to right and top to bottom.
        prefix: ``(1, P, C)``, put in front of every window's patches.
        grid: Patches down and across, ``(h, w)``.
        windows: Windows down and across, W of them.
    """
    width, count = x.shape[2], windows[0] * windows[1]
    height, breadth = grid[0] // windows[0], grid[1] // windows[1]
    inner = x.reshape(-1, height, windows[1], breadth * width).transpose(1, 2)
    inner = inner.reshape(-1, height * breadth, width)
    if prefix is not None:
        inner = torch.cat([prefix.expand(inner.shape[0], -1, -1), inner], dim=1)
    return inner.reshape(-1, count * inner.shape[1], width)


class MergedWindows(nn.Module):
    """Back to patches in rows, without what is in front of them: ``(B, W·(P + h·w/W), C) → (B, h·w, C)``."""

    def __init__(self, prefix_tokens: int, grid: Size, windows: Size) -> None:
        super().__init__()
        self.prefix_tokens, self.grid, self.windows = prefix_tokens, grid, windows

    def forward(self, x: Tensor) -> Tensor:
        width, (rows, columns) = x.shape[2], self.windows
        height, breadth = self.grid[0] // rows, self.grid[1] // columns
        inner = x.reshape(-1, x.shape[1] // (rows * columns), width)[:, self.prefix_tokens :]
        inner = inner.reshape(-1, columns, height, breadth * width).transpose(1, 2)
        return inner.reshape(-1, self.grid[0] * self.grid[1], width)
