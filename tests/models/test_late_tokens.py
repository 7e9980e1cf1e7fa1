"""Tokens that join a ViT's stream in front of a block: what reads them, and what does not."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from edgevit.core.task import Task
from edgevit.models.select_task import select_task
from tests.support.small_models import VITS, make_model

NAMES = ["late_tokens", "late_tokens_mean", "late_tokens_rotary"]


def run_blocks(module: Any, pixels: torch.Tensor) -> list[torch.Tensor]:
    """Tokens behind every block, by its parts."""
    x, found, config = module.embed(pixels), [], module.config
    for index, block in enumerate(module.blocks):
        if index == config.late_block:
            x = torch.cat([x, block.late_token.expand(len(x), -1, -1)], dim=1)
        x = x if block.pos_embed is None else x + block.pos_embed
        x = x + block.ls1(block.attn(block.norm1(x)))
        x = x + block.ls2(block.mlp(block.norm2(x)))
        found.append(x)
    return found


def make_module(name: str) -> Any:
    return make_model(VITS[name]).module


def make_pixels(config: Any) -> torch.Tensor:
    return torch.randn(2, 3, *config.image_size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", NAMES)
def test_tokens_that_join_late_are_attended_to_and_stand_behind_the_patches(name: str) -> None:
    config, module = VITS[name], make_module(name)
    with torch.inference_mode():
        tokens = run_blocks(module, make_pixels(config))
        assert [level.shape[1] for level in tokens] == [config.count_tokens(block) for block in range(config.depth)]
        assert [level.shape[1] - config.tokens for level in tokens] == [
            config.late_tokens if block >= config.late_block else 0 for block in range(config.depth)
        ]
        torch.testing.assert_close(module.encode(make_pixels(config)), module.norm(tokens[-1]))


def test_answer_is_of_the_class_token_or_the_patches_and_depends_on_late_tokens() -> None:
    for name in NAMES[:2]:
        config, module = VITS[name], make_module(name)
        with torch.inference_mode():
            last = module.norm(run_blocks(module, make_pixels(config))[-1])
            pooled = last[:, 0] if config.pool == "token" else last[:, : config.tokens].mean(dim=1)
            before = module(make_pixels(config))
            torch.testing.assert_close(before, module.head(pooled))
            module.blocks[config.late_block].late_token.neg_()
            assert (module(make_pixels(config)) - before).abs().max() > 1e-3


def test_late_tokens_are_not_turned_where_positions_are_rotary() -> None:
    config = VITS["late_tokens_rotary"]
    cos, sin = make_module("late_tokens_rotary").blocks[0].attn.rotation
    assert cos.shape[1] == config.tokens + config.late_tokens
    assert bool((cos[:, -config.late_tokens :] == 1).all())
    assert not sin[:, -config.late_tokens :].any()
    assert bool(sin[:, -config.late_tokens - 1].any())


def test_features_are_of_the_patches_on_either_side_of_the_joint() -> None:
    config = VITS["late_tokens"]
    model = make_model(config)
    features = select_task(model, Task("features", levels=(0, 2), layout="tokens"))
    pixels = make_pixels(config)
    with torch.inference_mode():
        levels = run_blocks(model.module, pixels)
        for ours, level in zip(features.module(pixels), (levels[0], levels[2]), strict=True):
            torch.testing.assert_close(ours, level[:, config.prefix_tokens : config.tokens])


def test_features_in_front_of_the_joint_leave_late_tokens_out() -> None:
    features = select_task(make_model(VITS["late_tokens"]), Task("features", levels=(1,)))
    config: Any = features.config
    assert (config.depth, config.late_tokens, config.late_block) == (2, 0, 0)
    assert not [name for name, _ in features.module.named_parameters() if "late_token" in name]
