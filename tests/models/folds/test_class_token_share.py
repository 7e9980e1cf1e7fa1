"""Attention to the class token divided among it and its copies: the same outputs, and a smaller largest probability."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from edgevit.core.target import ExportForm
from edgevit.core.task import Task
from edgevit.models.folds import apply_folds
from edgevit.models.folds.token_padding import count_padding
from edgevit.models.layers import attend
from edgevit.models.select_task import select_task
from edgevit.models.swin import SwinConfig
from edgevit.models.vit_config import ViTConfig
from tests.support.small_models import SWIN, VIT, copy_pixels, make_images, make_model, relative_error

PADDED = ExportForm(fold_token_padding=True, fold_class_token_mlp=True)
SHARED = dataclasses.replace(PADDED, fold_class_token_share=True)
ODD = dataclasses.replace(VIT, image_size=(48, 72))  # 54 patches and a class token: one copy
ODDER = dataclasses.replace(VIT, image_size=(96, 104))  # 156 patches and a class token: several copies


@pytest.mark.parametrize("qkv", ["separate", "packed"])
@pytest.mark.parametrize(
    "config",
    [
        ODD,
        ODDER,
        dataclasses.replace(ODD, distillation_token=True, distillation_head=True, image_size=(72, 56)),
        dataclasses.replace(ODD, register_tokens=1, image_size=(56, 72)),
        dataclasses.replace(ODD, pool="mean"),
        dataclasses.replace(ODD, qk_norm=True),
    ],
    ids=["plain", "copies", "distilled", "registers", "mean", "qk_norm"],
)
def test_class_token_share_keeps_the_output(qkv: Any, config: ViTConfig) -> None:
    model, images = make_model(config), make_images(config)
    with torch.inference_mode():
        expected = copy_pixels(model)(images)
        pixels = copy_pixels(model)
        records = {r.name: r for r in apply_folds(pixels, dataclasses.replace(SHARED, qkv=qkv))}
        assert records["class_token_share"].applied == ("patch_embed",)
        assert relative_error(pixels(images), expected) <= 1e-5


def test_class_token_share_keeps_the_features_of_chosen_blocks() -> None:
    model = select_task(make_model(ODD), Task("features", levels=(0, 2)))
    pixels, images = copy_pixels(model), make_images(ODD)
    with torch.inference_mode():
        expected = copy_pixels(model)(images)
        apply_folds(pixels, SHARED)
        for found, level in zip(pixels(images), expected, strict=True):
            assert relative_error(found, level) <= 1e-5


@pytest.mark.parametrize("config", [ODD, ODDER], ids=["one", "several"])
def test_every_copy_gets_an_equal_part_of_the_class_tokens_probability(config: ViTConfig) -> None:
    copies = count_padding(config.tokens)
    assert copies >= 1
    pixels = copy_pixels(make_model(config))
    apply_folds(pixels, SHARED)
    blocks: Any = pixels.model.blocks
    mask = blocks[0].attn.mask
    assert mask.shape == (1, config.heads, 1, config.tokens + copies)
    # Queries that look at the class token alone: with values of one-hot rows, the result is the probabilities.
    tokens = mask.shape[-1]
    keys = torch.zeros(1, mask.shape[1], tokens, 8)
    keys[:, :, [0, *range(tokens - copies, tokens)], 0] = 30.0
    queries = torch.zeros(1, mask.shape[1], 5, 8)
    queries[..., 0] = 1.0
    values = torch.eye(tokens).expand(1, mask.shape[1], tokens, tokens)
    probabilities = attend(queries, keys, values, 1.0, mask)
    torch.testing.assert_close(probabilities[..., 0], torch.full_like(probabilities[..., 0], 1 / (1 + copies)))
    for place in range(tokens - copies, tokens):
        torch.testing.assert_close(probabilities[..., place], probabilities[..., 0])


@pytest.mark.parametrize("config", [SWIN, VIT], ids=["swin", "no_padding"])
def test_class_token_share_without_copies_says_so(config: ViTConfig | SwinConfig) -> None:
    records = {r.name: r for r in apply_folds(copy_pixels(make_model(config)), SHARED)}
    assert records["class_token_share"].applied == ()
    assert records["class_token_share"].skipped[0].reason == "the class token has no copies"
