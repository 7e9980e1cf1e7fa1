"""Let a Swin's tokens travel in the order of their windows.

Every step between two attentions (LayerNorm, residual sums, MLP) treats tokens alike, so their order is free. Here the
tokens of a stage are laid out window by window once, where the stage begins. A block without shift then needs no
rearrangement at all, and a shifted block one Gather each way, in place of roll, pad, reshape and rank-6 permute. The
neighbours that patch merging joins are taken by one Gather too, straight into the next stage's order. Where the patch
embedding is a Linear, its pixels are taken in the first stage's order.

Scope: any grid, window and shift. Where windows overhang the grid, the padding is one zero token that the Gather reads.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgevit.core.pass_record import PassRecord, Skip
from edgevit.models.folds.patch_linear import PatchLinear
from edgevit.models.outlets import Outlet
from edgevit.models.pixels import PixelModel
from edgevit.models.swin import MergeNeighbours, PatchMerging, RolledWindows, Size, Swin, SwinBlock, SwinStage
from edgevit.models.swin_v2 import PatchMergingV2, SwinV2Block


class Gather(nn.Module):
    """Tokens by a constant index: ``(B, L, C) → (B, len(index), C)``; the index ``L`` means a token of zeros."""

    def __init__(self, index: Tensor, tokens: int) -> None:
        super().__init__()
        self.register_buffer("index", index)
        self.index: Tensor
        self.overhang = bool((index == tokens).any())

    def forward(self, x: Tensor) -> Tensor:
        if self.overhang:
            x = F.pad(x, (0, 0, 0, 1))
        return torch.index_select(x, 1, self.index)


class GatheredWindows(nn.Module):
    """Windows of tokens that travel in another order; ``None`` in place of a Gather that would change nothing."""

    def __init__(self, count: int, side: int, enter: Gather | None, leave: Gather | None) -> None:
        super().__init__()
        self.count, self.side = count, side  # windows in an image, tokens in a window
        self.enter, self.leave = enter, leave

    def split(self, x: Tensor) -> Tensor:
        """``(B, L, C)`` tokens to ``(B·nW, M·M, C)`` windows."""
        if self.enter is not None:
            x = self.enter(x)
        return x.reshape(-1, self.side, x.shape[-1])

    def merge(self, windows: Tensor) -> Tensor:
        """``(B·nW, M·M, C)`` windows back to ``(B, L, C)`` tokens."""
        x = windows.reshape(-1, self.count * self.side, windows.shape[-1])
        return x if self.leave is None else self.leave(x)


class GatheredPatches(nn.Module):
    """The patch embedding with its patches in another order: ``(B, H, W, 3) → (B, L, C)``.

    A patch is ``ph`` runs of ``pw·3`` bytes; one Gather of runs cuts out the patches and puts them in order.
    """

    def __init__(self, embed: PatchLinear, grid: Size, order: Tensor) -> None:
        super().__init__()
        (rows, cols), ph = grid, embed.patch[0]
        self.runs, self.tokens, self.patch = rows * ph * cols, rows * cols, embed.patch
        index = torch.arange(self.runs).reshape(rows, ph, cols).transpose(1, 2).reshape(-1, ph)  # (L, ph), row-major
        self.gather = Gather(index[order].flatten(), self.runs)
        self.proj = embed.proj

    def forward(self, image: Tensor) -> Tensor:
        channels = image.shape[-1]
        x = self.gather(image.reshape(-1, self.runs, self.patch[1] * channels))
        x = x.reshape(-1, self.tokens, self.patch[0] * self.patch[1] * channels)
        tokens: Tensor = self.proj(x.to(torch.float32))
        return tokens


class GatheredNeighbours(nn.Module):
    """Four neighbours side by side by one Gather: ``(B, L, C) → (B, L/4, 4·C)``."""

    def __init__(self, gather: Gather) -> None:
        super().__init__()
        self.gather = gather

    def forward(self, x: Tensor) -> Tensor:
        x = self.gather(x)
        return x.reshape(x.shape[0], x.shape[1] // 4, 4 * x.shape[-1])


def fold_window_gather(pixels: PixelModel) -> PassRecord:
    """Replace roll, partition, reverse and merging by constant Gathers, in place; exact."""
    name, model = "window_gather", pixels.model
    if not isinstance(model, Swin):
        return PassRecord(name, "module", skipped=(Skip("blocks", "the model has no windows"),))
    if any(isinstance(module, GatheredWindows) for module in model.modules()):
        return PassRecord(name, "module", skipped=(Skip("layers", "already folded"),))
    applied = []
    before: Tensor | None = None  # order[i]: the row-major token that travels at place i, in the stage before
    for index, stage in enumerate(model.layers):
        assert isinstance(stage, SwinStage)
        grid = model.config.stage_grid(index)
        tokens = grid[0] * grid[1]
        order = _stage_order(stage, tokens)
        if index == 0:
            if not torch.equal(order, torch.arange(tokens)):
                embed = model.patch_embed
                if isinstance(embed, PatchLinear):
                    model.patch_embed = GatheredPatches(embed, grid, order)
                else:
                    model.arrange = Gather(order, tokens)
        else:
            assert before is not None
            assert isinstance(stage.downsample, (PatchMerging, PatchMergingV2))
            merging = stage.downsample.neighbours
            assert isinstance(merging, MergeNeighbours)
            stage.downsample.neighbours = GatheredNeighbours(_merge_gather(merging, before, order))
            applied.append(f"layers.{index}.downsample")
        for number, block in enumerate(stage.blocks):
            assert isinstance(block, (SwinBlock, SwinV2Block))
            assert isinstance(block.windows, RolledWindows)
            block.windows = _gather_windows(block.windows, order, tokens)
            applied.append(f"layers.{index}.blocks.{number}")
        if str(index) in model.outlets and not torch.equal(order, torch.arange(tokens)):
            outlet = model.outlets[str(index)]
            assert isinstance(outlet, Outlet)
            outlet.arrange = Gather(torch.argsort(order), tokens)  # back into row-major order
            applied.append(f"outlets.{index}")
        before = order
    return PassRecord(name, "module", tuple(applied))


def _stage_order(stage: SwinStage, tokens: int) -> Tensor:
    """The order in which most of the stage's blocks read their windows, where it has each token once."""
    for block in stage.blocks:
        windows = block.windows
        if isinstance(windows, RolledWindows) and not any(windows.shift) and windows.padded == windows.grid:
            return _index(windows.split, windows.grid)
    return torch.arange(tokens)


def _index(move: Callable[[Tensor], Tensor], grid: Size) -> Tensor:
    """Row-major token of a grid at every place of what a module makes of them; ``H·W`` for padding."""
    tokens = grid[0] * grid[1]
    # The module itself, run on the tokens' own numbers: whatever it does, the index does too.
    numbers = torch.arange(1, tokens + 1, dtype=torch.float64).reshape(1, tokens, 1)
    index = move(numbers).flatten().long() - 1
    return torch.where(index < 0, tokens, index)


def _gather_windows(windows: RolledWindows, order: Tensor, tokens: int) -> GatheredWindows:
    wanted = _index(windows.split, windows.grid)
    enter = torch.cat([torch.argsort(order), torch.tensor([tokens])])[wanted]  # where each row-major token travels
    side = windows.window[0] * windows.window[1]
    if torch.equal(enter, torch.arange(tokens)):  # an index beyond the last token would be padding
        return GatheredWindows(windows.count, side, None, None)
    back = torch.empty(tokens + 1, dtype=torch.long)
    back[wanted] = torch.arange(len(wanted))
    return GatheredWindows(windows.count, side, Gather(enter, tokens), Gather(back[order], len(wanted)))


def _merge_gather(merging: MergeNeighbours, before: Tensor, after: Tensor) -> Gather:
    quads = _index(merging, merging.grid).reshape(-1, 4)  # (L/4, 4)
    place = torch.cat([torch.argsort(before), torch.tensor([len(before)])])
    return Gather(place[quads[after]].flatten(), len(before))
