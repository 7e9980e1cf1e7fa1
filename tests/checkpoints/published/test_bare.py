"""Bare weight files with the architecture given beside them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from edgevit.checkpoints import read_checkpoint
from edgevit.core.errors import CheckpointError
from tests.support.reference import import_timm, import_transformers, randomise, relative_error
from tests.support.small_checkpoints import write_folder


def save(tensors: dict[str, torch.Tensor], path: Path) -> Path:
    if path.suffix == ".safetensors":
        save_file({n: t.contiguous() for n, t in tensors.items()}, path)
    else:
        torch.save({"model": tensors}, path)
    return path


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("vit_tiny_patch16_224", ".safetensors"),
        ("vit_tiny_patch16_224", ".pt"),
        ("deit_tiny_distilled_patch16_224", ".bin"),
        ("swin_tiny_patch4_window7_224", ".pth"),
    ],
)
def test_bare_file_with_timms_names_equals_timm(tmp_path: Path, name: str, suffix: str) -> None:
    theirs = randomise(import_timm().create_model(name, num_classes=10))
    model = read_checkpoint(save(theirs.state_dict(), tmp_path / f"w{suffix}"), arch=f"{name}.tag")
    assert model.source.layout == "bare weight file with timm's names"
    assert model.source.architecture == name
    assert (model.classes, model.labels) == (10, None)
    assert any(f"timm's default for {name} is assumed" in note for note in model.source.notes)
    pixels = torch.randn(1, 3, 224, 224)
    with torch.inference_mode():
        assert relative_error(model.module(pixels), theirs(pixels)) <= 1e-4


TINY: dict[str, Any] = {"hidden_size": 192, "num_attention_heads": 3, "intermediate_size": 768}


@pytest.mark.parametrize(
    ("kind", "args", "arch"),
    [
        ("ViT", TINY, "deit_tiny_patch16_224"),
        ("DeiT", TINY, "deit_tiny_distilled_patch16_224"),
        ("Swin", {}, "swin_tiny_patch4_window7_224"),
    ],
)
def test_bare_file_with_transformers_names_equals_transformers(
    tmp_path: Path, kind: str, args: dict[str, Any], arch: str
) -> None:
    transformers = import_transformers()
    theirs = randomise(
        getattr(transformers, f"{kind}ForImageClassification")(getattr(transformers, f"{kind}Config")(**args))
    )
    theirs.save_pretrained(tmp_path)
    (tmp_path / "config.json").unlink()
    for source in (tmp_path, tmp_path / "model.safetensors"):
        model = read_checkpoint(source, arch=arch)
        assert model.source.layout == "bare weight file with transformers' names"
        assert any("ImageProcessor is assumed" in note for note in model.source.notes)
        pixels = torch.randn(1, 3, 224, 224)
        with torch.inference_mode():
            assert relative_error(model.module(pixels), theirs(pixels).logits) <= 1e-4


def test_bare_file_without_an_architecture_says_how_to_give_one(tmp_path: Path) -> None:
    file = save({"a": torch.ones(1)}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match="does not say its architecture") as caught:
        read_checkpoint(file)
    assert "--arch" in caught.value.hint


def test_bare_file_beside_a_config_names_its_folder(tmp_path: Path) -> None:
    write_folder(tmp_path)
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(tmp_path / "model.safetensors")
    assert str(tmp_path) in caught.value.hint
    assert "config.json" in caught.value.hint


def test_bare_file_of_another_model_than_given_lists_what_does_not_fit(tmp_path: Path) -> None:
    theirs = import_timm().create_model("vit_tiny_patch16_224", depth=1)
    file = save(theirs.state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(CheckpointError, match=r"blocks\.0\.mlp\.fc1\.weight: \(768, 192\), expected \(1536, 384\)"):
        read_checkpoint(file, arch="vit_small_patch16_224")


def test_bare_file_pooled_by_mean_is_recognised_by_its_norm(tmp_path: Path) -> None:
    theirs = randomise(import_timm().create_model("vit_tiny_patch16_224", global_pool="avg"))
    model = read_checkpoint(save(theirs.state_dict(), tmp_path / "w.safetensors"), arch="vit_tiny_patch16_224")
    pixels = torch.randn(1, 3, 224, 224)
    with torch.inference_mode():
        assert relative_error(model.module(pixels), theirs(pixels)) <= 1e-4


def test_bare_file_of_another_image_size_is_resampled_to_the_architectures(tmp_path: Path) -> None:
    theirs = import_timm().create_model("vit_tiny_patch16_384")
    file = save(theirs.state_dict(), tmp_path / "w.safetensors")
    model = read_checkpoint(file, arch="vit_tiny_patch16_224")
    assert model.image_size == (224, 224)
    assert any("resampled from 24 × 24 to 14 × 14" in note for note in model.source.notes)


@pytest.mark.parametrize(
    ("kind", "config", "more"),
    [
        ("Dinov2Model", "Dinov2Config", {}),
        ("Dinov2WithRegistersModel", "Dinov2WithRegistersConfig", {"patch_size": 14}),
    ],
)
def test_bare_dinov2_with_transformers_names_equals_transformers(
    tmp_path: Path, kind: str, config: str, more: dict[str, Any]
) -> None:
    transformers = import_transformers()
    sizes = {"hidden_size": 384, "num_attention_heads": 6, "image_size": 518}
    theirs = randomise(getattr(transformers, kind)(getattr(transformers, config)(**sizes, **more)))
    arch = f"vit_small_patch14_{'reg4_' if more else ''}dinov2"
    model = read_checkpoint(save(theirs.state_dict(), tmp_path / "w.pth"), arch=arch, image_size=(70, 84))
    pixels = torch.randn(1, 3, 70, 84)
    with torch.inference_mode():
        assert relative_error(model.module(pixels), theirs(pixels).pooler_output) <= 1e-5


@pytest.mark.parametrize(
    ("arch", "projection"),
    [("vit_base_patch32_clip_224.openai", 512), ("vit_base_patch32_clip_224.openai_ft_in1k", 0)],
)
def test_head_of_a_clip_tower_without_bias_is_its_projection_but_for_a_fine_tuned_one(
    tmp_path: Path, arch: str, projection: int
) -> None:
    theirs = randomise(import_timm().create_model("vit_base_patch32_clip_224", num_classes=512))
    torch.nn.init.zeros_(theirs.head.bias)
    model = read_checkpoint(save(theirs.state_dict(), tmp_path / "w.pth"), arch=arch)
    assert (model.config.projection, model.classes) == (projection, 0 if projection else 512)
    pixels = torch.randn(1, 3, 224, 224)
    with torch.inference_mode():
        assert relative_error(model.module(pixels), theirs(pixels)) <= 1e-5


def test_file_of_timms_training_script_says_itself_what_it_is(tmp_path: Path) -> None:
    timm = import_timm()
    from timm.utils import CheckpointSaver, ModelEmaV3

    kwargs: dict[str, Any] = {"depth": 2}
    args = argparse.Namespace(
        model="vit_tiny_patch16_224", img_size=96, input_size=None, num_classes=7, model_kwargs=kwargs, gp=None,
        mean=(0.4, 0.5, 0.6), std=None, crop_pct=1.0, interpolation="", train_interpolation="random",
    )  # fmt: skip
    theirs = randomise(timm.create_model(args.model, img_size=96, num_classes=7, **kwargs))
    averaged = ModelEmaV3(theirs)
    randomise(averaged.module, seed=1)
    optimizer = torch.optim.AdamW(theirs.parameters())
    saver = CheckpointSaver(theirs, optimizer, args=args, model_ema=averaged, checkpoint_dir=str(tmp_path))
    saver._save(str(tmp_path / "last.pth.tar"), epoch=3)
    pixels = torch.randn(1, 3, 96, 96)
    for which, module in ((None, averaged.module), ("ema", averaged.module), ("model", theirs)):
        model = read_checkpoint(tmp_path / "last.pth.tar", weights=which)  # type: ignore[arg-type]
        assert (model.source.architecture, model.image_size, model.classes) == (args.model, (96, 96), 7)
        with torch.inference_mode():
            assert relative_error(model.module(pixels), module(pixels)) <= 1e-4
    assert any("taken from the training's arguments" in note for note in model.source.notes)
    # timm's validation resolves the same from these arguments.
    config = timm.data.resolve_data_config(vars(args), model=theirs)
    preprocess = model.preprocess
    assert (preprocess.mean, preprocess.std) == (config["mean"], config["std"])
    assert (preprocess.interpolation, preprocess.crop_ratio) == (config["interpolation"], config["crop_pct"])


def test_file_whose_training_states_an_architecture_that_timm_does_not_know_asks_for_one(tmp_path: Path) -> None:
    torch.save({"state_dict": {"a": torch.ones(2)}, "arch": "resnet50"}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match="does not say its architecture"):
        read_checkpoint(tmp_path / "w.pth")


def test_bare_file_of_a_module_that_kept_its_model_under_a_name_of_its_own(tmp_path: Path) -> None:
    theirs = randomise(import_timm().create_model("vit_tiny_patch16_224", depth=1, num_classes=3))
    wrapped = {f"model.feature_extractor.{name}": value for name, value in theirs.state_dict().items()}
    torch.save(
        {"state_dict": wrapped, "arch": "vit_tiny_patch16_224", "model_kwargs": {"depth": 1}}, tmp_path / "w.pth"
    )
    pixels = torch.randn(1, 3, 224, 224)
    with torch.inference_mode():
        assert relative_error(read_checkpoint(tmp_path / "w.pth").module(pixels), theirs(pixels)) <= 1e-4
