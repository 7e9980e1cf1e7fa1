"""Embeddings and features against those of timm's own modules, through folders that timm saved."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from edgevit.checkpoints import read_checkpoint
from edgevit.core.errors import CheckpointError
from edgevit.core.task import Task
from edgevit.models.model import Model
from edgevit.models.select_task import select_task
from edgevit.models.vit import ViTConfig
from tests.support.reference import import_timm, randomise, relative_error, save_timm_folder
from tests.support.small_models import SWIN, VIT, VITS, make_model

TOLERANCE = 1e-4
SWIN_ARGS = {"embed_dim": 16, "depths": (2, 2, 2, 2), "num_heads": (1, 2, 4, 8), "img_size": 96}
VIT_ARGS = {"embed_dim": 32, "depth": 4, "num_heads": 2, "img_size": 64}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "swin": ("swin_tiny_patch4_window7_224", SWIN_ARGS),
    "vit": ("vit_tiny_patch16_224", VIT_ARGS),
    "distilled": ("deit_tiny_distilled_patch16_224", VIT_ARGS),
    "mean": ("vit_tiny_patch16_224", {**VIT_ARGS, "global_pool": "avg"}),
}


def make_both(which: str, folder: Path, **more: Any) -> tuple[Any, Model, torch.Tensor]:
    """timm's module, ours as it was read, and pixels."""
    name, args = MODELS[which]
    theirs = randomise(import_timm().create_model(name, **args, **more))
    save_timm_folder(theirs, folder / "model")
    model = read_checkpoint(folder / "model")
    pixels = torch.randn(2, 3, *model.image_size, generator=torch.Generator().manual_seed(1))
    return theirs, model, pixels


@pytest.mark.parametrize("which", MODELS)
def test_embedding_equals_timms_features_in_front_of_the_head(which: str, tmp_path: Path) -> None:
    theirs, model, pixels = make_both(which, tmp_path)
    ours = select_task(model, Task("embed"))
    with torch.inference_mode():
        expected = theirs.forward_head(theirs.forward_features(pixels), pre_logits=True)
        found = ours.module(pixels)
    assert relative_error(found, expected) <= TOLERANCE
    assert ours.source.notes == model.source.notes
    assert [(spec.name, spec.shape) for spec in ours.outputs] == [("embedding", ("batch", found.shape[1]))]
    assert (ours.classes, ours.labels) == (0, None)
    assert model.classes > 0  # the model that was given is as it was


def test_swin_levels_equal_timms_features_only(tmp_path: Path) -> None:
    theirs, model, pixels = make_both("swin", tmp_path)
    name, args = MODELS["swin"]
    backbone = import_timm().create_model(name, features_only=True, **args).eval()
    weights = {key.replace("layers.", "layers_", 1): value for key, value in theirs.state_dict().items()}
    backbone.load_state_dict(weights, strict=False)
    ours = select_task(model, Task("features"))
    with torch.inference_mode():
        expected = [level.permute(0, 3, 1, 2) for level in backbone(pixels)]
        found = ours.module(pixels)
    assert len(found) == len(expected) == 4
    for level, one, other in zip(ours.outputs, found, expected, strict=True):
        assert relative_error(one, other) <= TOLERANCE
        assert level.shape[1:] == one.shape[1:]
    assert [spec.name for spec in ours.outputs] == ["level0", "level1", "level2", "level3"]
    assert ours.source.notes[-1:] == ("levels are not normalised: the checkpoint has no norm for 0, 1, 2, 3",)


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("layout", ["map", "tokens"])
@pytest.mark.parametrize("which", ["vit", "distilled"])
def test_vit_blocks_equal_timms_intermediates(which: str, layout: Any, norm: bool, tmp_path: Path) -> None:
    theirs, model, pixels = make_both(which, tmp_path)
    ours = select_task(model, Task("features", levels=(0, 2), layout=layout, norm=norm))
    with torch.inference_mode():
        expected = theirs.forward_intermediates(
            pixels,
            indices=[0, 2],
            norm=norm,
            output_fmt="NCHW" if layout == "map" else "NLC",
            intermediates_only=True,
        )
        found = ours.module(pixels)
    for spec, one, other in zip(ours.outputs, found, expected, strict=True):
        assert relative_error(one, other) <= TOLERANCE
        assert spec.shape[1:] == one.shape[1:]
    assert [spec.name for spec in ours.outputs] == ["block0", "block2"]
    assert ours.config.level_count == 3  # block 3 is left out: nobody reads it


def test_features_of_a_vit_without_levels_are_four_blocks_as_timm_gives_them(tmp_path: Path) -> None:
    ours = select_task(make_model(dataclasses.replace(VIT, depth=12)), Task("features"))
    assert ours.task == Task("features", levels=(2, 5, 8, 11), norm=False)


def test_unit_length_embedding_equals_torchs_normalize() -> None:
    from edgevit.models.export import float_module
    from tests.support.small_models import make_images

    plain = select_task(make_model(VIT), Task("embed"))
    unit = select_task(make_model(VIT), Task("embed", normalize=True))
    images = make_images(VIT)
    expected = torch.nn.functional.normalize(float_module(plain)(images), dim=-1)
    torch.testing.assert_close(float_module(unit)(images), expected, rtol=1e-6, atol=1e-7)


def test_model_without_a_head_becomes_an_embedding_with_a_note_and_refuses_to_classify() -> None:
    model = make_model(dataclasses.replace(VIT, classes=0))
    ours = select_task(model, Task())
    assert ours.task == Task("embed")
    assert ours.source.notes == ("the checkpoint has no classification head: it is built for the task embed",)
    with pytest.raises(CheckpointError, match="no classification head: it cannot classify"):
        select_task(model, Task("classify"))


def test_model_with_a_head_classifies_by_itself() -> None:
    ours = select_task(make_model(SWIN), Task())
    assert (ours.task, ours.source.notes) == (Task("classify", scores="softmax"), ())


@pytest.mark.parametrize(
    ("config", "task", "words"),
    [
        (VIT, Task("features", levels=(1, 3, 9)), "no block 3, 9"),
        (SWIN, Task("features", levels=(3,)), "no level 3"),
        (SWIN, Task("features", norm=True), "normalised by the norms that its checkpoint has"),
        (VIT, Task(normalize=True), "the task is classify: normalize is for embed"),
        (VITS["plain"], Task(levels=(1,)), "the task is classify: levels is for features"),
    ],
)
def test_task_that_the_model_cannot_do_is_refused(config: Any, task: Task, words: str) -> None:
    with pytest.raises(CheckpointError, match=words):
        select_task(make_model(config), task)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"name": "features", "normalize": True}, "normalize is for embed"),
        ({"name": "embed", "levels": (1,)}, "levels is for features"),
        ({"name": "classify", "layout": "tokens"}, "layout is for features"),
        ({"name": "features", "levels": (2, 1)}, "ascending"),
        ({"name": "features", "levels": (-1,)}, "from 0"),
    ],
)
def test_task_when_its_options_do_not_fit_is_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Task(**values)


@pytest.mark.parametrize(
    ("classes", "said", "wanted", "scores"),
    [
        (4, None, None, "softmax"),
        (4, "sigmoid", None, "sigmoid"),
        (4, "sigmoid", "softmax", "softmax"),
        (1, None, None, "sigmoid"),
        (1, "identity", None, "identity"),
        (1, "identity", "sigmoid", "sigmoid"),
    ],
)
def test_scores_are_the_users_then_the_checkpoints_then_by_the_number_of_outputs(
    classes: int, said: Any, wanted: Any, scores: Any
) -> None:
    model = make_model(dataclasses.replace(VIT, classes=classes))
    model = dataclasses.replace(model, task=Task("classify", scores=said))
    found = select_task(model, Task(scores=wanted))
    assert found.task == Task("classify", scores=scores)
    guessed = [note for note in found.source.notes if "one output" in note]
    assert bool(guessed) == (classes == 1 and said is None and wanted is None)


def test_softmax_of_one_output_is_refused() -> None:
    with pytest.raises(CheckpointError, match="softmax is always 1"):
        select_task(make_model(dataclasses.replace(VIT, classes=1)), Task(scores="softmax"))


def test_scores_of_another_task_are_refused() -> None:
    with pytest.raises(ValueError, match="scores is for classify, not for embed"):
        Task("embed", scores="sigmoid")


def test_head_of_labels_is_centred_where_softmax_reads_it_and_only_there() -> None:
    model = make_model(ViTConfig((32, 32), (8, 8), width=16, depth=1, heads=2, mlp_width=32, classes=5, compares=True))
    pixels = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        plain = model.module(pixels)
        softmax, sigmoid = (select_task(model, Task("classify", scores=s)) for s in ("softmax", "sigmoid"))
        centred = softmax.module(pixels)
        assert torch.equal(sigmoid.module(pixels), plain)
        assert torch.equal(model.module(pixels), plain)
    assert centred.mean(dim=1).abs().max() <= 1e-6 < plain.mean(dim=1).abs().min()
    assert (centred.softmax(dim=1) - plain.softmax(dim=1)).abs().max() <= 1e-6
    said = [any("less by their mean" in note for note in m.source.notes) for m in (softmax, sigmoid)]
    assert said == [True, False]
