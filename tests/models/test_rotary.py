"""Rotary positions: the publisher's own arithmetic, and what it is for."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch

from edgevit.checkpoints.rope import Rope
from edgevit.models.rotary import make_periods, make_rotation_table, rotate_positions
from tests.support.reference import import_timm, import_transformers


@pytest.mark.parametrize("grid", [(3, 5), (14, 14), (1, 4)])
def test_table_is_that_of_transformers_and_timm(grid):
    import_transformers()
    from transformers.models.dinov3_vit.modeling_dinov3_vit import DINOv3ViTConfig, DINOv3ViTRopePositionEmbedding

    config = DINOv3ViTConfig(hidden_size=96, num_attention_heads=3, rope_theta=50.0)
    cos, sin = DINOv3ViTRopePositionEmbedding(config).eval()(torch.zeros(1, 3, grid[0] * 16, grid[1] * 16))
    table = make_rotation_table(grid, make_periods(50.0, 32), prefix_tokens=3, suffix_tokens=2)
    assert table.shape == (2, 1, 3 + grid[0] * grid[1] + 2, 32)
    torch.testing.assert_close(table[:, 0, 3:-2], torch.stack([cos, sin]), atol=2e-6, rtol=0)

    import_timm()
    from timm.layers import create_rope_embed

    rope: Any = create_rope_embed("dinov3", dim=96, num_heads=3, temperature=50.0, rotate_half=True).eval()
    timms = torch.stack(rope.get_embed(list(grid)).chunk(2, dim=-1))  # sines first
    torch.testing.assert_close(table[:, 0, 3:-2].flip(0), timms, atol=2e-6, rtol=0)


@pytest.mark.parametrize("rope", [Rope(), Rope(reference=(4, 7), offset=1.0, columns_first=True), Rope(half=True)])
def test_rotation_of_counted_patches_is_that_of_timm_in_another_order(rope):
    import_timm()
    from timm.layers import apply_rot_embed_cat, create_rope_embed

    grid, width, x = (3, 5), 16, torch.randn(1, 1, 15, 16, generator=torch.Generator().manual_seed(0))
    args: Any = {"ref_feat_shape": rope.reference, "grid_offset": rope.offset, "rotate_half": rope.half}
    indexing = "xy" if rope.columns_first else "ij"
    timms: Any = create_rope_embed(
        "cat", dim=width, num_heads=1, in_pixels=False, feat_shape=list(grid), grid_indexing=indexing, **args
    )
    fields, order = rope.describe(width), rope.list_channels(width)
    table = make_rotation_table(
        grid, fields["rotary_periods"], 0, start=fields["rotary_start"], reference=fields["rotary_reference"]
    )
    expected = apply_rot_embed_cat(x, timms.get_embed(), half=rope.half)
    torch.testing.assert_close(rotate_positions(x[..., order], table), expected[..., order], atol=5e-6, rtol=0)


def test_rotation_is_that_of_transformers():
    import_transformers()
    from transformers.models.dinov3_vit.modeling_dinov3_vit import apply_rotary_pos_emb

    generator = torch.Generator().manual_seed(0)
    q, k = torch.randn(2, 2, 3, 9, 16, generator=generator)
    table = make_rotation_table((2, 3), make_periods(100.0, 16), prefix_tokens=3)
    expected = apply_rotary_pos_emb(q, k, *table[:, 0, 3:])
    for ours, theirs in zip((q, k), expected, strict=True):
        torch.testing.assert_close(rotate_positions(ours, table), theirs, atol=1e-6, rtol=0)


def test_tokens_that_are_no_patch_are_not_turned():
    x = torch.randn(1, 2, 9, 8, generator=torch.Generator().manual_seed(0))
    turned = rotate_positions(x, make_rotation_table((2, 2), (1.0, 7.0), prefix_tokens=3, suffix_tokens=2))
    torch.testing.assert_close(turned[:, :, :3], x[:, :, :3])
    torch.testing.assert_close(turned[:, :, -2:], x[:, :, -2:])
    assert not torch.isclose(turned[:, :, 3:-2], x[:, :, 3:-2]).all(dim=-1).any()
    assert torch.equal(rotate_positions(x[:, :, :1], make_rotation_table((2, 2), (1.0, 7.0), 3)), x[:, :, :1])


def test_scores_depend_on_how_far_patches_are_apart():
    """A query's and a key's product is the same for every pair of patches with the same way between them."""
    q, k = torch.randn(2, 1, 1, 1, 16, generator=torch.Generator().manual_seed(0)).expand(2, 1, 1, 20, 16)
    table = make_rotation_table((4, 5), make_periods(100.0, 16), prefix_tokens=0)
    scores = (rotate_positions(q, table) @ rotate_positions(k, table).mT)[0, 0]
    by_way: dict[tuple[int, int], list[float]] = {}
    for i, j in itertools.product(range(20), repeat=2):
        by_way.setdefault((i // 5 - j // 5, i % 5 - j % 5), []).append(float(scores[i, j]))
    assert all(max(values) - min(values) < 1e-4 for values in by_way.values())
    assert len({round(values[0], 3) for values in by_way.values()}) == len(by_way)


def test_periods_rise_from_one():
    assert make_periods(16.0, 16) == (1.0, 2.0, 4.0, 8.0)
