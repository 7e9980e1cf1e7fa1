"""DINO's and DINOv2's own files, of timm's modules with their projects' names and containers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from edgevit.checkpoints import read_checkpoint
from edgevit.core.errors import CheckpointError
from tests.support.published.dino import dino_checkpoint, name_as_dinov2
from tests.support.reference import build_timm, randomise, relative_error


def compare(ours: torch.nn.Module, theirs: torch.nn.Module, side: int) -> float:
    pixels = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        return relative_error(ours(pixels), theirs(pixels))


@pytest.mark.parametrize(("weights", "seed"), [(None, 1), ("ema", 1), ("model", 0)])
def test_dino_checkpoint_gives_teacher_or_student(tmp_path: Path, weights: Any, seed: int) -> None:
    both = [build_timm("vit_small_patch16_224", s, num_classes=0, depth=2) for s in (0, 1)]
    torch.save(dino_checkpoint(*both), tmp_path / "checkpoint.pth")
    model = read_checkpoint(tmp_path / "checkpoint.pth", weights=weights)
    assert (model.source.layout, model.classes) == ("DINO training checkpoint", 0)
    assert (model.preprocess.resize_height, model.preprocess.height) == (256, 224)
    assert compare(model.module, both[seed], 224) <= 1e-4


@pytest.mark.parametrize("size", [(320, 320), (160, 208)])
def test_dino_at_another_size_resamples_positions_as_its_module_does(tmp_path: Path, size: tuple[int, int]) -> None:
    theirs = build_timm("vit_small_patch16_224", num_classes=0, depth=1)
    torch.save(dino_checkpoint(theirs, theirs), tmp_path / "w.pth")
    model = read_checkpoint(tmp_path / "w.pth", image_size=size)
    # The published code: a scale with an offset of 0.1 patches, and no antialiasing.
    grid = theirs.state_dict()["pos_embed"][:, 1:].reshape(1, 14, 14, -1).permute(0, 3, 1, 2)
    scales = tuple((side // 16 + 0.1) / 14 for side in size)
    wanted = F.interpolate(grid, scale_factor=scales, mode="bicubic").flatten(2).transpose(1, 2)
    assert torch.allclose(model.module.state_dict()["pos_embed"][:, 1:], wanted, atol=1e-6)


@pytest.mark.parametrize(
    "name", [pytest.param("vit_small_patch14_dinov2", marks=pytest.mark.slow), "vit_small_patch14_reg4_dinov2"]
)
def test_dinov2_backbone_of_real_size_equals_timm(tmp_path: Path, name: str) -> None:
    theirs = build_timm(name)
    torch.save(name_as_dinov2(theirs.state_dict()), tmp_path / "w.pth")
    model = read_checkpoint(tmp_path / "w.pth")
    assert model.source.architecture == "dinov2_vits14" + ("_reg4" if "reg4" in name else "")
    assert (model.image_size, model.preprocess.resize_height, model.classes) == ((518, 518), 592, 0)
    assert any("--image-size 224" in note for note in model.source.notes)
    assert compare(model.module, theirs, 518) <= 1e-4


@pytest.mark.parametrize("chunks", [pytest.param(0, marks=pytest.mark.slow), 2])
def test_dinov2_giant_in_a_training_checkpoint_equals_timm(tmp_path: Path, chunks: int) -> None:
    theirs = build_timm("vit_giant_patch14_dinov2", depth=2, img_size=28)
    state = {
        n.replace("mlp.fc1", "mlp.w12").replace("mlp.fc2", "mlp.w3"): t
        for n, t in name_as_dinov2(theirs.state_dict(), chunks).items()
    }
    teacher = {f"backbone.{n}": t for n, t in state.items()} | {"dino_head.mlp.0.weight": torch.ones(4, 4)}
    torch.save({"teacher": teacher}, tmp_path / "teacher_checkpoint.pth")
    model = read_checkpoint(tmp_path / "teacher_checkpoint.pth")
    assert model.source.layout == "DINOv2 checkpoint"
    assert compare(model.module, theirs, 28) <= 1e-4


def test_dinov2_hub_classifier_reads_token_and_mean(tmp_path: Path) -> None:
    backbone = build_timm("vit_small_patch14_dinov2", depth=2, img_size=28)
    linear = randomise(torch.nn.Linear(2 * 384, 10), 3)
    state = {f"backbone.{n}": t for n, t in name_as_dinov2(backbone.state_dict()).items()}
    state |= {f"linear_head.{n}": t for n, t in linear.state_dict().items()}
    torch.save(state, tmp_path / "w.pth")
    model = read_checkpoint(tmp_path / "w.pth")
    pixels = torch.randn(2, 3, 28, 28)
    with torch.inference_mode():
        tokens = backbone.forward_features(pixels)
        theirs = linear(torch.cat([tokens[:, 0], tokens[:, 1:].mean(dim=1)], dim=1))
        assert relative_error(model.module(pixels), theirs) <= 1e-4


@pytest.mark.parametrize("registers", [False, True])
def test_dinov2_at_another_size_resamples_positions_as_its_module_does(tmp_path: Path, registers: bool) -> None:
    theirs = build_timm(f"vit_small_patch14_{'reg4_' if registers else ''}dinov2", depth=1)
    state = name_as_dinov2(theirs.state_dict())
    torch.save(state, tmp_path / "w.pth")
    model = read_checkpoint(tmp_path / "w.pth", image_size=(224, 196))
    # The published code: an offset of 0.1 patches and no antialiasing, or antialiasing where there are registers.
    grid = state["pos_embed"][:, 1:].reshape(1, 37, 37, -1).permute(0, 3, 1, 2)
    if registers:
        wanted = F.interpolate(grid, mode="bicubic", antialias=True, size=(16, 14))
    else:
        wanted = F.interpolate(grid, mode="bicubic", antialias=False, scale_factor=((16 + 0.1) / 37, (14 + 0.1) / 37))
    found = model.module.state_dict()["pos_embed"][:, 1:]
    assert torch.allclose(found, wanted.flatten(2).transpose(1, 2), atol=1e-6)
    assert model.image_size == (224, 196)


def test_dinov2_backbone_that_is_not_whole_lists_everything(tmp_path: Path) -> None:
    state = name_as_dinov2(build_timm("vit_small_patch14_dinov2", depth=1, img_size=28).state_dict())
    del state["blocks.0.ls2.gamma"]
    state["extra"] = torch.ones(1)
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match="1 missing, 1 unexpected") as caught:
        read_checkpoint(tmp_path / "w.pth")
    assert "blocks.0.ls2.gamma" in caught.value.message


@pytest.mark.parametrize("chunks", [0, 2])
def test_dinov2_file_of_its_own_package_equals_it_at_any_size(tmp_path: Path, chunks: int) -> None:
    """Its package on PyPI, an early release, pins an old torch: ``pip install --no-deps dinov2==0.0.1.dev2``."""
    models = pytest.importorskip("dinov2.models.vision_transformer", reason="dinov2 is not installed")
    args = {"img_size": 518, "patch_size": 14, "init_values": 1.0, "block_chunks": chunks, "depth": 4}
    theirs = randomise(models.DinoVisionTransformer(embed_dim=384, num_heads=6, block_fn=models.Block, **args))
    teacher = {f"backbone.{name}": value for name, value in theirs.state_dict().items()}
    torch.save({"teacher": teacher}, tmp_path / "w.pth")
    for size in ((518, 518), (224, 280)):
        model = read_checkpoint(tmp_path / "w.pth", image_size=size)
        pixels = torch.randn(1, 3, *size)
        with torch.inference_mode():
            assert relative_error(model.module(pixels), theirs(pixels)) <= 1e-4
