"""The canonical Swin V2 against timm's and transformers' own modules, through checkpoints that they saved."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from edgevit.checkpoints import read_checkpoint
from edgevit.core.errors import CheckpointError
from edgevit.core.task import Task
from edgevit.models import SwinV2Config
from edgevit.models.select_task import select_task
from edgevit.models.swin_v2 import HeadCosine, log_spaced_offsets
from tests.support.reference import import_timm, import_transformers, randomise, relative_error

TOLERANCE = 1e-4
SMALL: dict[str, Any] = {"embed_dim": 16, "depths": (2, 2, 2, 2), "num_heads": (1, 2, 4, 8)}


def randomise_cosines(module: nn.Module) -> Any:
    """Scales on both sides of where they are clamped, too."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, value in randomise(module).named_parameters():
            if name.endswith("logit_scale"):
                value.copy_(math.log(10) + 2 * torch.randn(value.shape, generator=generator))
    return module


def compare_with_timm(name: str, folder: Path, batch: int = 1, **args: Any) -> SwinV2Config:
    timm = import_timm()
    from timm.models._hub import save_for_hf

    theirs = randomise_cosines(timm.create_model(name, **args))
    save_for_hf(theirs, str(folder), safe_serialization=True)
    model = read_checkpoint(folder)
    assert (model.source.architecture, model.family) == (name, "swin_v2")
    pixels = torch.randn(batch, 3, *model.image_size, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        assert relative_error(model.module(pixels), theirs(pixels)) <= TOLERANCE
        embedded = select_task(model, Task("embed")).module(pixels)
        assert relative_error(embedded, theirs.forward_head(theirs.forward_features(pixels), pre_logits=True)) <= 1e-4
        levels = select_task(model, Task("features")).module(pixels)
        for ours, other in zip(levels, theirs.forward_intermediates(pixels, intermediates_only=True), strict=True):
            assert relative_error(ours, other) <= TOLERANCE
    assert isinstance(model.config, SwinV2Config)
    return model.config


def test_swin_v2_with_timms_weights_equals_timm_for_every_task(folder: Path) -> None:
    config = compare_with_timm("swinv2_tiny_window8_256", folder)
    assert config.pretrained_windows == (0, 0, 0, 0)


def test_swin_v2_pretrained_with_another_window_equals_timm(folder: Path) -> None:
    config = compare_with_timm("swinv2_base_window12to16_192to256", folder, depths=(2, 2, 2, 2))
    assert config.pretrained_windows == (12, 12, 12, 6)


@pytest.mark.parametrize(
    "args",
    [
        {"img_size": (200, 168), "window_size": 7},  # windows overhang, odd grids are merged
        {"img_size": (64, 128), "window_size": 4},
        {"img_size": 96, "window_size": (3, 6)},
        {"img_size": 64, "window_size": 4, "pretrained_window_sizes": (8, 8, 4, 2)},
        # Windows of more stages than there are: timm takes the first.
        {
            "img_size": 64,
            "window_size": 4,
            "pretrained_window_sizes": (8, 8, 4, 2),
            "depths": (1, 2),
            "num_heads": (1, 2),
        },
        {"img_size": 64, "window_size": 4, "qkv_bias": False, "num_classes": 3},
        {"img_size": 100, "window_size": 7, "always_partition": True},
    ],
    ids=lambda args: ",".join(f"{k}={v}" for k, v in args.items()),
)
def test_swin_v2_with_timms_arguments_equals_timm(args: dict[str, Any], folder: Path) -> None:
    compare_with_timm("swinv2_tiny_window8_256", folder, batch=2, **{**SMALL, **args})


def make_transformers(kind: str, config: Any, folder: Path) -> tuple[nn.Module, torch.Tensor]:
    theirs = randomise_cosines(getattr(import_transformers(), kind)(config))
    theirs.save_pretrained(folder)
    size = config.image_size if isinstance(config.image_size, (list, tuple)) else (config.image_size,) * 2
    return theirs, torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    "args",
    [
        {"image_size": 64, "window_size": 4},
        {"image_size": 64, "window_size": 4, "pretrained_window_sizes": [8, 8, 4, 2]},
        {"image_size": [72, 104], "window_size": 4},  # windows overhang
        {"image_size": 64, "window_size": 4, "qkv_bias": False, "layer_norm_eps": 1e-3},
    ],
    ids=lambda args: ",".join(f"{k}={v}" for k, v in args.items()),
)
def test_swin_v2_with_transformers_weights_equals_transformers(args: dict[str, Any], folder: Path) -> None:
    config = import_transformers().Swinv2Config(**{**SMALL, **args}, num_labels=5)
    theirs, pixels = make_transformers("Swinv2ForImageClassification", config, folder)
    model = read_checkpoint(folder)
    with torch.inference_mode():
        assert relative_error(model.module(pixels), theirs(pixels).logits) <= TOLERANCE


@pytest.mark.parametrize("size", [(64, 64), (96, 48), (40, 72)])
def test_swin_v2_at_another_size_equals_transformers_configured_for_it(size: tuple[int, int], folder: Path) -> None:
    transformers = import_transformers()
    # Two stages; the configuration's default names the windows of four, and the module takes those of its own.
    args: dict[str, Any] = {"embed_dim": 16, "depths": [2, 2], "num_heads": [1, 2], "window_size": 7, "num_labels": 5}
    config = transformers.Swinv2Config(**args, image_size=56)
    assert len(config.pretrained_window_sizes) == 4
    theirs, _ = make_transformers("Swinv2ForImageClassification", config, folder)
    model = read_checkpoint(folder, image_size=size)
    other = transformers.Swinv2ForImageClassification(transformers.Swinv2Config(**args, image_size=list(size)))
    other.load_state_dict(theirs.state_dict())
    pixels = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        assert relative_error(model.module(pixels), other.eval()(pixels).logits) <= TOLERANCE


@pytest.mark.parametrize("family", ["Swin", "Swinv2"])
def test_model_without_a_head_equals_transformers_pooled_features(family: str, folder: Path) -> None:
    config = getattr(import_transformers(), f"{family}Config")(**SMALL, image_size=128, window_size=4)
    theirs, pixels = make_transformers(f"{family}Model", config, folder)
    model = select_task(read_checkpoint(folder), Task())
    assert model.task == Task("embed")
    with torch.inference_mode():
        assert relative_error(model.module(pixels), theirs(pixels).pooler_output) <= TOLERANCE


@pytest.mark.parametrize("family", ["Swin", "Swinv2"])
def test_backbone_equals_transformers_feature_maps_and_gives_nothing_else(family: str, folder: Path) -> None:
    stages = ["stage1", "stage2", "stage4"]
    make = getattr(import_transformers(), f"{family}Config")
    theirs, pixels = make_transformers(
        f"{family}Backbone", make(**SMALL, image_size=128, window_size=4, out_features=stages), folder
    )
    model = read_checkpoint(folder)
    features = select_task(model, Task(levels=(0, 1, 3)))
    with torch.inference_mode():
        found = features.module(pixels)
        for ours, other in zip(found, theirs(pixels).feature_maps, strict=True):
            assert relative_error(ours, other) <= TOLERANCE
    assert [spec.name for spec in features.outputs] == ["level0", "level1", "level3"]
    with pytest.raises(CheckpointError, match="is a backbone"):
        select_task(model, Task("embed"))


def test_offsets_are_those_of_the_papers_formula() -> None:
    offsets = log_spaced_offsets((3, 5), 9)
    assert offsets.shape == (5 * 9, 2)
    row, column = offsets[4 * 9 + 7]  # 2 down, 3 to the right, of 8 each way
    assert float(row) == pytest.approx(math.log2(1 + 8 * 2 / 8) / 3, rel=1e-6)
    assert float(column) == pytest.approx(math.log2(1 + 8 * 3 / 8) / 3, rel=1e-6)


def test_cosines_equal_torchs_and_the_scale_is_clamped() -> None:
    q, k = torch.randn(2, 3, 5, 8), torch.randn(2, 3, 5, 8)
    query, key = (HeadCosine(3, 8, scaled=scaled, padded=False) for scaled in (True, False))
    assert query.logit_scale is not None
    query.logit_scale.data = torch.tensor([0.0, math.log(50), 9.0]).reshape(3, 1, 1)
    cosines = torch.nn.functional.cosine_similarity(q[:, :, :, None], k[:, :, None], dim=-1)
    expected = cosines * torch.tensor([1.0, 50.0, 100.0]).reshape(3, 1, 1)
    torch.testing.assert_close(query(q) @ key(k).transpose(-2, -1), expected, rtol=1e-5, atol=1e-4)


def test_config_when_pretrained_windows_do_not_fit_the_stages_is_refused() -> None:
    with pytest.raises(ValueError, match="2 pretrained windows do not go with 4 stages"):
        SwinV2Config(pretrained_windows=(8, 8))
