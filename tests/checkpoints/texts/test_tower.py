"""Many texts at once are what each is by itself."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from edgevit.checkpoints.texts.tower import embed_texts
from edgevit.models.text_tower import TextConfig, TextTower
from tests.support.reference import randomise


@pytest.mark.parametrize(("pad", "pool"), [(None, "highest"), (1, "last")], ids=["to the longest", "to the context"])
def test_texts_of_all_lengths_come_back_in_their_order_and_of_length_one(pad: int | None, pool: Any) -> None:
    config = TextConfig(60, 12, 16, 2, 2, 32, 8, causal=pad is None, pool=pool)
    tower = randomise(TextTower(config))
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(1, 12, (150,), generator=generator).tolist()  # more than are computed together
    texts = [[*torch.randint(2, 59, (length - 1,), generator=generator).tolist(), 59] for length in lengths]
    told: list[tuple[str, int, int]] = []
    found = embed_texts(tower, texts, pad, lambda *done: told.append(done))
    assert told == [("texts", done, 150) for done in (0, 64, 128, 150)]
    with torch.inference_mode():
        for text, ours in zip(texts, found, strict=True):
            alone = tower(torch.tensor([text + ([] if pad is None else [pad] * (12 - len(text)))]))[0].double()
            assert torch.allclose(ours, alone / alone.norm(), atol=1e-5)
    assert torch.allclose(found.norm(dim=1), torch.ones(150, dtype=torch.float64))
