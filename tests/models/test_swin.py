"""The canonical Swin against timm's and transformers' own modules, through checkpoints that they saved themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from edgevit.checkpoints import read_checkpoint
from edgevit.models import SwinConfig
from tests.support.reference import import_timm, import_transformers, randomise, relative_error
from tests.support.timm_folder import TOLERANCE, compare_with_timm

SMALL: dict[str, Any] = {"embed_dim": 16, "depths": (2, 2, 2, 2), "num_heads": (1, 2, 4, 8)}


@pytest.mark.parametrize(
    "name",
    [
        "swin_tiny_patch4_window7_224",
        # wider and deeper than the first, and else the same
        pytest.param("swin_small_patch4_window7_224", marks=pytest.mark.slow),
        pytest.param("swin_base_patch4_window7_224", marks=pytest.mark.slow),
        pytest.param("swin_base_patch4_window12_384", marks=pytest.mark.slow),
    ],
)
def test_swin_with_timms_weights_equals_timm(name: str, folder: Path) -> None:
    assert isinstance(compare_with_timm(name, folder).config, SwinConfig)


@pytest.mark.parametrize(
    "args",
    [
        {"num_classes": 3},
        {"img_size": (200, 168)},  # windows overhang, odd grids are merged, the last window is 7 × 6
        {"img_size": (224, 448)},  # a stage shifts along only one axis
        {"img_size": 96, "window_size": (3, 5)},
        {"img_size": 64, "window_size": [4, 4, 4, 4]},
        {"img_size": 100, "always_partition": True},
        {"img_size": 64, "window_size": 4, "mlp_ratio": 1.5, "qkv_bias": False},
        {"img_size": 64, "patch_size": 2, "depths": (1, 3), "num_heads": (2, 2)},
        {"img_size": 4},
    ],
    ids=lambda args: ",".join(f"{k}={v}" for k, v in args.items()),
)
def test_swin_with_timms_arguments_equals_timm(args: dict[str, Any], folder: Path) -> None:
    compare_with_timm("swin_tiny_patch4_window7_224", folder, batch=2, **{**SMALL, **args})


@pytest.mark.filterwarnings("ignore::UserWarning:timm")
def test_swin_after_timms_set_input_size_equals_timm(folder: Path) -> None:
    timm = import_timm()
    from timm.models._hub import save_for_hf

    theirs = timm.create_model("swin_tiny_patch4_window7_224", **SMALL)
    theirs.set_input_size((192, 256))
    save_for_hf(randomise(theirs), str(folder), safe_serialization=True)
    model = read_checkpoint(folder)
    assert isinstance(model.config, SwinConfig)
    assert model.config.window == (6, 8)
    pixels = torch.randn(2, 3, 192, 256)
    with torch.inference_mode():
        assert relative_error(model.module(pixels), theirs(pixels)) <= TOLERANCE


def compare_with_transformers(config: Any, folder: Path, batch: int = 2, **save: Any) -> None:
    theirs = randomise(import_transformers().SwinForImageClassification(config))
    theirs.save_pretrained(folder, **save)
    model = read_checkpoint(folder)
    assert model.source.architecture == "SwinForImageClassification"
    assert model.parameters == sum(p.numel() for p in theirs.parameters())
    pixels = torch.randn(batch, 3, *model.image_size, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        assert relative_error(model.module(pixels), theirs(pixels).logits) <= TOLERANCE


def test_swin_with_transformers_tiny_weights_equals_transformers(folder: Path) -> None:
    compare_with_transformers(import_transformers().SwinConfig(num_labels=1000), folder)


def test_swin_with_transformers_weights_in_shards_equals_transformers(folder: Path) -> None:
    config = import_transformers().SwinConfig(depths=[2, 2, 2, 2], num_labels=10)
    compare_with_transformers(config, folder, batch=1, max_shard_size="20MB")
    assert len(list(folder.glob("model-*.safetensors"))) > 2


@pytest.mark.parametrize(
    "args",
    [
        {"image_size": [212, 196]},  # windows overhang and odd grids are merged
        {"image_size": [213, 195]},  # so does the last patch
        {"image_size": [224, 448]},  # the last stage's grid is 7 × 14: no shift at all
        {"layer_norm_eps": 1e-2},  # the norms of embedding and merging keep 1e-5
        {"qkv_bias": False, "mlp_ratio": 1.5},
        {"window_size": 4, "image_size": 128, "patch_size": 4},
    ],
    ids=lambda args: ",".join(f"{k}={v}" for k, v in args.items()),
)
def test_swin_with_transformers_settings_equals_transformers(args: dict[str, Any], folder: Path) -> None:
    compare_with_transformers(import_transformers().SwinConfig(**{**SMALL, **args}), folder)


def test_swin_saved_with_transformers_own_names_equals_transformers(folder: Path) -> None:
    compare_with_transformers(import_transformers().SwinConfig(**SMALL), folder, save_original_format=False)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"heads": (3, 6, 12)}, "4 depths do not go with 3"),
        ({"width": 97}, "width 97 is not a multiple of 3 heads"),
        ({"image_size": (2, 224)}, "too small"),
    ],
)
def test_swin_config_when_impossible_is_refused(args: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SwinConfig(**args)
