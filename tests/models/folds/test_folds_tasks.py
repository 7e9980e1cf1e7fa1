"""Folds of models that give embeddings or features: the same numbers, in the same places, not rotated."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import nn

from edgevit.core.target import ExportForm
from edgevit.core.task import Task
from edgevit.models.export import float_module, fold_model
from edgevit.models.folds import apply_folds
from edgevit.models.folds.last_block import fold_last_block
from edgevit.models.folds.residual_rotation import fold_residual_rotation
from edgevit.models.model import Model
from edgevit.models.outlets import Outlet
from edgevit.models.select_task import select_task
from edgevit.models.swin import SwinConfig
from edgevit.models.vit import EncoderBlock, ViTConfig
from tests.support.small_models import SWIN, SWINS, VIT, VITS, make_images, make_model, relative_error

CONFIGS: dict[str, ViTConfig | SwinConfig] = {
    **{f"vit_{name}": config for name, config in VITS.items()},
    **{f"swin_{name}": config for name, config in SWINS.items()},
    "swin_backbone": dataclasses.replace(SWIN, level_norms=(0, 1, 2), final_norm=False, classes=0),
}
TASKS = {
    "embed": Task("embed"),
    "unit": Task("embed", normalize=True),
    "maps": Task("features"),
    "tokens": Task("features", levels=(0, 1), layout="tokens"),
    "normed": Task("features", norm=True),
}
# A Swin has norms of its own for its levels, a backbone has no pooled features.
CASES = [
    (name, task)
    for name in CONFIGS
    for task in TASKS
    if not (name.startswith("swin") and task == "normed")
    and not (name == "swin_backbone" and task in ("embed", "unit"))
]
ROTATED = ExportForm(fold_residual_rotation=True)
TOLERANCE = 2e-5


def run(module: nn.Module, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
    with torch.inference_mode():
        result = module(images)
    return result if isinstance(result, tuple) else (result,)


def choose(config: ViTConfig | SwinConfig, task: str) -> Model:
    return select_task(make_model(config), TASKS[task])


@pytest.mark.parametrize("form", [ExportForm(), ROTATED, ExportForm(patch_embedding="conv", qkv="packed")])
@pytest.mark.parametrize(("name", "task"), CASES)
def test_all_folds_together_keep_every_output(name: str, task: str, form: ExportForm) -> None:
    config = CONFIGS[name]
    model = choose(config, task)
    images = make_images(config)
    expected = run(float_module(model), images)
    folded, _ = fold_model(model, form)
    found = run(folded, images)
    assert [tuple(one.shape[1:]) for one in found] == [spec.shape[1:] for spec in model.outputs]
    for one, other in zip(found, expected, strict=True):
        assert relative_error(one, other) <= TOLERANCE


def test_rotation_is_undone_where_an_embedding_leaves_and_the_stream_is_rotated() -> None:
    model = choose(VIT, "embed")
    folded, records = fold_model(model, ROTATED)
    record = next(r for r in records if r.name == "residual_rotation")
    assert record.applied == ("blocks",)
    head = folded.model.head
    assert isinstance(head, nn.Linear)
    gain = model.module.get_parameter("norm.weight")
    # γ of the last norm is in the Linear: without it, what is left is orthogonal.
    rotation = head.weight / gain[:, None]
    torch.testing.assert_close(rotation @ rotation.T, torch.eye(VIT.width), rtol=0, atol=1e-5)
    assert not torch.allclose(rotation, torch.eye(VIT.width), atol=0.1)


def test_rotation_is_undone_at_every_level_of_a_swin_but_the_first_which_is_not_rotated() -> None:
    folded, records = fold_model(choose(SWIN, "maps"), ROTATED)
    record = next(r for r in records if r.name == "residual_rotation")
    assert record.applied == ("layers.1", "layers.2")
    outlets = [outlet for outlet in folded.model.get_submodule("outlets").children() if isinstance(outlet, Outlet)]
    assert [isinstance(outlet.restore, nn.Linear) for outlet in outlets] == [False, True, True]


def test_rotation_of_a_model_whose_norms_are_not_folded_is_refused_for_every_task() -> None:
    for task in ("embed", "maps"):
        folded, _ = fold_model(choose(VIT, task), dataclasses.replace(ExportForm(), fold_layer_norm_affine=False))
        assert "not folded into what reads it" in fold_residual_rotation(folded).skipped[0].reason


def test_last_block_is_computed_for_all_tokens_where_features_are_read_from_it() -> None:
    model = select_task(make_model(VIT), Task("features", levels=(2,)))
    folded, _ = fold_model(model, ExportForm(fold_last_block=False))
    record = fold_last_block(folded)
    assert (record.applied, record.skipped[0].reason) == ((), "features are read from every token")
    embedding, _ = fold_model(choose(VIT, "embed"), ExportForm())
    blocks: Any = embedding.model.blocks
    last = blocks[-1]
    assert isinstance(last, EncoderBlock)
    assert last.queries == 1


def test_folding_twice_changes_nothing_more() -> None:
    model = choose(SWIN, "maps")
    images = make_images(SWIN)
    folded, _ = fold_model(model, ExportForm())
    expected = run(folded, images)
    apply_folds(folded, ExportForm())
    for one, other in zip(run(folded, images), expected, strict=True):
        assert relative_error(one, other) <= TOLERANCE
