"""Bare weight files with the architecture given beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from edgevit.checkpoints import read_checkpoint
from edgevit.errors import CheckpointError
from tests.checkpoints.small import write_folder
from tests.reference import import_timm, import_transformers, randomise, relative_error


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
