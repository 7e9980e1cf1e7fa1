"""The text tower by itself; transformers' and open_clip's own answers are compared in tests/checkpoints/texts/."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from edgevit.models.text_tower import TextConfig, TextTower
from tests.support.reference import randomise

CONFIG = TextConfig(vocabulary=50, context=12, width=16, depth=2, heads=2, mlp_width=32, embedding=8)


def make_tower(**changes: Any) -> TextTower:
    tower: TextTower = randomise(TextTower(dataclasses.replace(CONFIG, **changes)))
    with torch.no_grad():
        tower.positions.mul_(10)
    return tower


@pytest.mark.parametrize("pool", ["highest", "end"])
def test_what_stands_behind_the_end_is_without_effect_where_attention_is_causal(pool: str) -> None:
    tower = make_tower(pool=pool, end=49)
    text = torch.tensor([[48, 3, 7, 49]])
    with torch.inference_mode():
        alone = tower(text)
        for filler in (0, 5, 49):
            filled = torch.nn.functional.pad(text, (0, 6), value=filler)
            assert torch.allclose(tower(filled), alone, atol=1e-5)
        assert not torch.allclose(tower(torch.tensor([[48, 7, 3, 49]])), alone, atol=1e-3)


def test_the_last_place_is_read_whatever_stands_there_in_both_directions() -> None:
    tower = make_tower(pool="last", causal=False)
    with torch.inference_mode():
        short = tower(torch.tensor([[3, 7, 49]]))
        assert not torch.allclose(tower(torch.tensor([[3, 7, 49, 0]])), short, atol=1e-3)
        later = tower(torch.tensor([[3, 7, 49, 1]]))
        assert not torch.allclose(tower(torch.tensor([[4, 7, 49, 1]])), later, atol=1e-3)


def test_impossible_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="not a multiple of 3 heads"):
        dataclasses.replace(CONFIG, heads=3)
    with pytest.raises(ValueError, match="gives no embedding of 8 numbers"):
        dataclasses.replace(CONFIG, projection=False)
