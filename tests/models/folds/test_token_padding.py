"""Copies of the class token behind the patches: how many, that nothing reads them, and what is left alone."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edgevit.core.target import ExportForm
from edgevit.core.task import Task
from edgevit.models.folds import apply_folds
from edgevit.models.folds.token_padding import count_padding
from edgevit.models.select_task import select_task
from tests.support.small_models import SWIN, VIT, VITS, copy_pixels, make_images, make_model, relative_error

PADDED = ExportForm(fold_token_padding=True, fold_class_token_mlp=True)
ODD = dataclasses.replace(VIT, image_size=(48, 72))  # 54 patches and a class token: 55 = 5 · 11


# Timed: 197, 201 and 257 rows are slow, 198, 203 and 258 are not, and neither are 145, 196, 209 and 261.
@pytest.mark.parametrize(
    ("tokens", "padding"), [(197, 1), (201, 2), (257, 1), (198, 0), (145, 0), (196, 0), (209, 0), (261, 0), (577, 0)]
)
def test_count_padding_of_numbers_that_were_timed(tokens: int, padding: int) -> None:
    assert count_padding(tokens) == padding


@given(tokens=st.integers(1, 2000))
def test_count_padding_ends_at_a_number_of_equal_blocks_or_adds_nothing(tokens: int) -> None:
    padding = count_padding(tokens)
    assert 0 <= padding <= 4
    if padding:
        blocks = [b for b in range(16, 49) if (tokens + padding) % b == 0]
        assert blocks
        assert not any(tokens % b == 0 for b in range(16, 49))


@pytest.mark.parametrize("qkv", ["separate", "packed"])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"distillation_token": True, "distillation_head": True, "image_size": (72, 56)},
        {"register_tokens": 1, "image_size": (56, 72)},
        {"pool": "mean"},
        {"pool": "token_mean"},
        {"qk_norm": True},
        {"position": "rotary", "rotary_periods": (1.0, 10.0)},
        {"rotary_periods": (6.0, 60.0), "rotary_start": 1.0, "pool": "map", "pool_prefix": True, "pool_heads": 2},
        {"block_positions": True},
    ],
    ids=[
        "plain",
        "distilled",
        "registers",
        "mean",
        "token_mean",
        "qk_norm",
        "rotary",
        "perception_encoder",
        "block_positions",
    ],
)
def test_token_padding_when_the_number_of_tokens_is_odd_keeps_the_output(qkv: str, changes: dict[str, object]) -> None:
    config = dataclasses.replace(ODD, **changes)  # type: ignore[arg-type]
    model, images = make_model(config), make_images(config)
    with torch.inference_mode():
        expected = copy_pixels(model)(images)
        pixels = copy_pixels(model)
        records = {r.name: r for r in apply_folds(pixels, dataclasses.replace(PADDED, qkv=qkv))}  # type: ignore[arg-type]
        assert records["token_padding"].applied == ("patch_embed",)
        assert relative_error(pixels(images), expected) <= 1e-5


def test_token_padding_keeps_the_features_of_chosen_blocks() -> None:
    model = select_task(make_model(ODD), Task("features", levels=(0, 2)))
    pixels, images = copy_pixels(model), make_images(ODD)
    with torch.inference_mode():
        expected = copy_pixels(model)(images)
        records = {r.name: r for r in apply_folds(pixels, PADDED)}
        assert records["token_padding"].applied == ("patch_embed",)
        for found, level in zip(pixels(images), expected, strict=True):
            assert found.shape == level.shape == (len(images), ODD.width, *ODD.grid)
            assert relative_error(found, level) <= 1e-5


def test_padded_tokens_stay_copies_of_the_class_token() -> None:
    pixels = copy_pixels(make_model(ODD))
    apply_folds(pixels, ExportForm(fold_token_padding=True, fold_class_token_mlp=True, patch_embedding="conv"))
    with torch.inference_mode():
        model: Any = pixels.model
        x = model.embed(torch.randn(1, 3, *ODD.image_size))
        for block in model.blocks[:-1]:
            x = block(x)
            torch.testing.assert_close(x[:, -1], x[:, 0], rtol=1e-5, atol=1e-5)


def test_the_constant_that_hides_padding_is_stated_for_every_head_and_shared_by_the_blocks() -> None:
    pixels = copy_pixels(make_model(ODD))
    apply_folds(pixels, PADDED)
    tokens = ODD.tokens + count_padding(ODD.tokens)
    blocks: Any = pixels.model.blocks
    masks = [block.attn.mask for block in blocks]
    assert {mask.shape for mask in masks} == {(1, ODD.heads, 1, tokens)}
    assert len({mask.data_ptr() for mask in masks}) == 1


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (SWIN, "windows have a fixed number of tokens"),
        (VIT, "25 tokens need none"),
        (dataclasses.replace(VITS["no_class_token"], image_size=(40, 88)), "no token is there to copy"),
        (dataclasses.replace(ODD, late_tokens=1, late_block=1), "tokens join the others between the blocks"),
        (dataclasses.replace(ODD, heads=1), "one head: its scores' constant would be broadcast"),
    ],
    ids=["swin", "few", "no_class_token", "late_tokens", "one_head"],
)
def test_token_padding_left_alone_says_why(config: object, reason: str) -> None:
    records = {r.name: r for r in apply_folds(copy_pixels(make_model(config)), PADDED)}  # type: ignore[arg-type]
    assert records["token_padding"].applied == ()
    assert records["token_padding"].skipped[0].reason == reason
