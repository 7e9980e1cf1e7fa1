"""DINOv3's own files, of timm's module with its project's names; timm's own loader of them is asked too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from edgevit.checkpoints import read_checkpoint
from edgevit.core.errors import CheckpointError
from tests.support.published.dino import name_as_dinov3
from tests.support.reference import build_timm, import_timm, relative_error


def build(name: str = "vit_small_patch16_dinov3_qkvb", **args: Any) -> Any:
    return build_timm(name, **{"depth": 2, "global_pool": "token", **args})


def compare(model: Any, theirs: Any) -> float:
    pixels = torch.randn(1, 3, *model.image_size, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        return relative_error(model.module(pixels), theirs(pixels))


@pytest.mark.parametrize("size", [None, (64, 96), (128, 48)])
@pytest.mark.parametrize("name", ["vit_small_patch16_dinov3_qkvb", "vit_small_plus_patch16_dinov3_qkvb"])
def test_backbone_answers_as_timm_at_any_size(tmp_path: Path, name: str, size: tuple[int, int] | None):
    theirs = build(name, depth=12 if size is None and "plus" not in name else 2)
    torch.save(name_as_dinov3(theirs), tmp_path / "w.pth")
    model = read_checkpoint(tmp_path / "w.pth", image_size=size)
    assert (model.image_size, model.source.layout) == (size or (256, 256), "DINOv3 checkpoint")
    assert (model.classes, model.config.register_tokens) == (0, 4)
    assert compare(model, theirs) <= 1e-5


def test_file_is_one_that_timm_reads_as_the_same(tmp_path: Path):
    theirs = build()
    torch.save(name_as_dinov3(theirs), tmp_path / "w.pth")
    import_timm()
    from timm.models.eva import checkpoint_filter_fn

    other = build(depth=2)
    loaded = checkpoint_filter_fn(torch.load(tmp_path / "w.pth", weights_only=True), other)
    other.load_state_dict(loaded)
    other.rope.periods.copy_(theirs.rope.periods)
    assert compare(read_checkpoint(tmp_path / "w.pth"), other) <= 1e-5


def test_periods_are_those_of_the_file(tmp_path: Path):
    theirs = build()
    state = name_as_dinov3(theirs)
    torch.save(state, tmp_path / "w.pth")
    periods = read_checkpoint(tmp_path / "w.pth").config.rotary_periods
    assert periods == tuple(state["rope_embed.periods"].double().tolist())
    assert periods != tuple(100 ** (i / 16) for i in range(16))


def test_masked_biases_may_be_no_numbers(tmp_path: Path):
    theirs = build()
    state = name_as_dinov3(theirs)
    for block in range(2):
        state[f"blocks.{block}.attn.qkv.bias"][384:768] = torch.nan
    torch.save(state, tmp_path / "w.pth")
    assert compare(read_checkpoint(tmp_path / "w.pth"), theirs) <= 1e-5


def test_name_and_preprocessing_are_what_the_project_documents(tmp_path: Path):
    torch.save(name_as_dinov3(build(depth=12, img_size=64)), tmp_path / "dinov3_vits16_pretrain_lvd1689m.pth")
    model = read_checkpoint(tmp_path / "dinov3_vits16_pretrain_lvd1689m.pth", image_size=(224, 224))
    assert model.source.architecture == "dinov3_vits16"
    assert (model.preprocess.resize, model.preprocess.interpolation) == ("squash", "bilinear")
    assert (model.preprocess.resize_height, model.preprocess.height) == (224, 224)
    assert model.preprocess.mean == (0.485, 0.456, 0.406)
    assert any("web images" in note for note in model.source.notes)
    (tmp_path / "dinov3_vits16_pretrain_lvd1689m.pth").rename(tmp_path / "dinov3_vits16_pretrain_sat493m.pth")
    satellite = read_checkpoint(tmp_path / "dinov3_vits16_pretrain_sat493m.pth")
    assert satellite.preprocess.mean == (0.430, 0.411, 0.296)


def test_norm_of_small_crops_is_left_out_and_one_of_tokens_refused(tmp_path: Path):
    theirs = build()
    state = name_as_dinov3(theirs)
    state |= {"local_cls_norm.weight": torch.ones(384), "local_cls_norm.bias": torch.ones(384)}
    torch.save(state, tmp_path / "w.pth")
    assert compare(read_checkpoint(tmp_path / "w.pth"), theirs) <= 1e-5
    torch.save({**state, "cls_norm.weight": torch.ones(384)}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=r"cls_norm\.weight"):
        read_checkpoint(tmp_path / "w.pth")


def test_architecture_beside_the_file_is_refused(tmp_path: Path):
    torch.save(name_as_dinov3(build()), tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match="say what it is"):
        read_checkpoint(tmp_path / "w.pth", arch="vit_small_patch16_dinov3")
