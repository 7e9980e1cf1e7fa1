"""The class token's MLP apart from the patches': where, that nothing changes, and what is left alone."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from edgevit.core.target import ExportForm
from edgevit.models.folds import apply_folds
from tests.support.small_models import SWIN, VIT, VITS, copy_pixels, make_images, make_model, relative_error

FORM = ExportForm(fold_class_token_mlp=True, fold_residual_rotation=True)
DEEP = dataclasses.replace(VIT, depth=6)


@pytest.mark.parametrize(
    "name", ["plain", "distilled", "registers", "token_fc_norm", "no_biases", "qk_norm", "late_tokens"]
)
def test_class_token_mlp_keeps_the_output(name: str) -> None:
    config = dataclasses.replace(VITS[name], depth=4)
    model, images = make_model(config), make_images(config)
    with torch.inference_mode():
        expected = copy_pixels(model)(images)
        pixels = copy_pixels(model)
        records = {r.name: r for r in apply_folds(pixels, FORM)}
        assert records["class_token_mlp"].applied == ("blocks.2.token_mlp",)
        assert relative_error(pixels(images), expected) <= 1e-5


def test_class_token_mlp_is_split_in_the_second_half_without_the_last_block() -> None:
    pixels = copy_pixels(make_model(DEEP))
    apply_folds(pixels, FORM)
    blocks: Any = pixels.model.blocks
    apart = [block.apart for block in blocks]
    assert apart == [None, None, None, 1, 1, None]


def test_class_token_mlp_has_parameters_of_its_own_that_hold_the_same() -> None:
    pixels = copy_pixels(make_model(DEEP))
    apply_folds(pixels, FORM)
    blocks: Any = pixels.model.blocks
    block = blocks[3]
    assert block.token_mlp.fc1.weight is not block.mlp.fc1.weight
    assert torch.equal(block.token_mlp.fc1.weight, block.mlp.fc1.weight)


@pytest.mark.parametrize(
    ("config", "form", "reason"),
    [
        (SWIN, FORM, "the head reads more than the class token"),
        (VITS["mean"], FORM, "the head reads more than the class token"),
        (DEEP, dataclasses.replace(FORM, fold_last_block=False), "the last block is not limited to what is read"),
    ],
    ids=["swin", "mean", "whole_last_block"],
)
def test_class_token_mlp_left_alone_says_why(config: object, form: ExportForm, reason: str) -> None:
    records = {r.name: r for r in apply_folds(copy_pixels(make_model(config)), form)}  # type: ignore[arg-type]
    assert records["class_token_mlp"].applied == ()
    assert records["class_token_mlp"].skipped[0].reason == reason
