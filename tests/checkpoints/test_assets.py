"""The real checkpoints: configuration, labels and preprocessing, and the same numbers as timm."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from edgevit.checkpoints import read_checkpoint
from edgevit.models import SwinConfig, ViTConfig
from tests.support.reference import import_timm, relative_error, save_deit_as_transformers, save_swin_as_transformers


def test_deit_is_read_with_its_preprocessing_and_equals_timm(assets: Path) -> None:
    folder = assets / "deit_tiny_imagenet"
    model = read_checkpoint(folder)
    assert model.config == ViTConfig(width=192, heads=3, mlp_width=768)
    assert (model.family, model.classes, model.parameters, model.labels) == ("vit", 1000, 5_717_416, None)
    assert model.source.layout == "timm hub folder"
    preprocess = model.preprocess
    assert (preprocess.resize, preprocess.resize_height, preprocess.height) == ("shortest", 248, 224)
    assert (preprocess.interpolation, preprocess.mean) == ("bicubic", (0.485, 0.456, 0.406))
    theirs = import_timm().create_model("deit_tiny_patch16_224").eval()
    theirs.load_state_dict(load_file(folder / "model.safetensors"))
    pixels = torch.randn(2, 3, 224, 224)
    with torch.inference_mode():
        assert relative_error(model.module(pixels), theirs(pixels)) <= 1e-5


def test_swin_is_read_with_its_labels_and_equals_timm(assets: Path) -> None:
    folder = assets / "swin_imagenette"
    model = read_checkpoint(folder)
    assert model.config == SwinConfig(
        image_size=(128, 128), width=32, depths=(2, 2, 6, 2), heads=(1, 2, 4, 8), window=(4, 4), classes=10
    )
    assert model.family == "swin"
    assert model.labels is not None
    assert model.labels[::9] == ("tench", "parachute")
    assert (model.preprocess.resize, model.preprocess.resize_height, model.preprocess.height) == ("squash", 144, 128)
    theirs = import_timm().create_model(
        "swin_tiny_patch4_window7_224",
        img_size=128,
        window_size=4,
        embed_dim=32,
        depths=(2, 2, 6, 2),
        num_heads=(1, 2, 4, 8),
        num_classes=10,
    )
    theirs.load_state_dict(load_file(folder / "model.safetensors"))
    pixels = torch.randn(2, 3, 128, 128)
    with torch.inference_mode():
        assert relative_error(model.module(pixels), theirs.eval()(pixels)) <= 1e-5


@pytest.mark.parametrize(
    ("name", "save"),
    [("deit_tiny_imagenet", save_deit_as_transformers), ("swin_imagenette", save_swin_as_transformers)],
)
def test_saved_again_by_transformers_is_the_same_model(
    assets: Path, tmp_path: Path, name: str, save: Callable[[Path, Path], None]
) -> None:
    save(assets / name, tmp_path)
    first, again = read_checkpoint(assets / name), read_checkpoint(tmp_path)
    assert again.source.layout == "transformers folder"
    assert again.source.notes == ()
    assert again.labels is not None
    assert first.labels in (None, again.labels)
    for key in (
        "resize",
        "resize_height",
        "resize_width",
        "height",
        "width",
        "interpolation",
        "mean",
        "std",
        "rescale",
    ):
        assert getattr(first.preprocess, key) == getattr(again.preprocess, key)
    pixels = torch.randn(2, 3, *first.image_size)
    with torch.inference_mode():
        assert relative_error(again.module(pixels), first.module(pixels)) <= 1e-5


def test_deit_weights_alone_equal_the_folder(assets: Path) -> None:
    folder = assets / "deit_tiny_imagenet"
    whole = read_checkpoint(folder)
    bare = read_checkpoint(folder / "model.safetensors", arch="deit_tiny_patch16_224")
    assert bare.preprocess == whole.preprocess
    for name, value in bare.module.state_dict().items():
        assert torch.equal(value, whole.module.state_dict()[name])
