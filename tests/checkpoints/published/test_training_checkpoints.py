"""The files of DeiT, MAE and Swin, whose projects build their models from timm's and keep its names."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from edgevit.checkpoints import read_checkpoint
from edgevit.core.errors import CheckpointError
from edgevit.models.layers import sincos_positions
from tests.support.published.swin import save_swin
from tests.support.reference import build_timm, import_torchvision, relative_error


def compare(ours: torch.nn.Module, theirs: torch.nn.Module, side: int) -> float:
    pixels = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        return relative_error(ours(pixels), theirs(pixels))


def transform(resize: Any, crop: int) -> Any:
    """What the projects' ``build_transform`` composes for evaluation, of torchvision's parts."""
    import_torchvision()
    from torchvision import transforms

    return transforms.Compose([
        transforms.Resize(resize, interpolation=transforms.InterpolationMode.BICUBIC),
        transforms.CenterCrop(crop),
        transforms.ToTensor(),
        transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ])  # fmt: skip


def assert_same_pixels(model: Any, theirs: Any) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)).resize((640, 500))
    ours = model.preprocess.normalize(model.preprocess.apply(image)).transpose(2, 0, 1)
    # One grey level: Pillow's order of the two passes of a resize depends on its version.
    assert np.abs(ours - theirs(image).numpy()).max() <= 1.01 / 255 / 0.224


@pytest.mark.parametrize(
    ("name", "key"), [("deit_tiny_patch16_224", "model"), ("deit_tiny_distilled_patch16_224", "model_ema")]
)
def test_deit_file_equals_timm_with_deits_own_transform(tmp_path: Path, name: str, key: str) -> None:
    theirs = build_timm(name)
    args = argparse.Namespace(model=name, input_size=224, distillation_type="none", finetune="")
    content: dict[str, Any] = {"epoch": 3, "optimizer": {"state": {}}, "args": args, key: theirs.state_dict()}
    if key == "model_ema":
        content["model"] = build_timm(name).state_dict()
    torch.save(content, tmp_path / "checkpoint.pth")
    model = read_checkpoint(tmp_path / "checkpoint.pth")
    assert (model.source.layout, model.source.architecture) == ("DeiT training checkpoint", name)
    assert compare(model.module, theirs, 224) <= 1e-4
    assert_same_pixels(model, transform(256, 224))


def test_deit_file_at_384_is_read_with_its_own_size(tmp_path: Path) -> None:
    theirs = build_timm("deit_tiny_patch16_224", img_size=384, num_classes=7)
    torch.save({"model": theirs.state_dict()}, tmp_path / "w.pth")
    model = read_checkpoint(tmp_path / "w.pth")
    assert (model.source.architecture, model.classes) == ("deit_tiny_patch16_384", 7)
    assert_same_pixels(model, transform(438, 384))


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("deit3_small_patch16_224", {}),
        ("deit3_medium_patch16_224", {"num_classes": 7}),
        ("deit3_small_patch16_384", {"num_classes": 7}),
    ],
)
def test_deit3_file_equals_timm_with_its_own_transform(tmp_path: Path, name: str, args: Any) -> None:
    theirs = build_timm(name, **args)
    # DeiT's own names; it has positions only of the patches, as timm's.
    state = {re.sub(r"\.ls([12])\.gamma", r".gamma_\1", n): value for n, value in theirs.state_dict().items()}
    assert "blocks.0.gamma_1" in state
    torch.save({"model": state}, tmp_path / "w.pth")
    model = read_checkpoint(tmp_path / "w.pth")
    size = model.image_size[0]
    assert (model.source.layout, model.source.architecture) == ("DeiT training checkpoint", name)
    assert compare(model.module, theirs, size) <= 1e-4
    assert_same_pixels(model, transform(size, size))


@pytest.mark.parametrize("place", ["args", "file"])
def test_vit_with_axial_rope_is_refused_where_its_file_says_so(tmp_path: Path, place: str) -> None:
    # Its tensors are those of a DeiT III, name by name and shape by shape.
    theirs = build_timm("vit_small_patch16_rope_ape_224", num_classes=3)
    assert theirs.state_dict()["blocks.0.gamma_1"].shape == (384,)
    args = argparse.Namespace(model="rope_axial_ape_deit_small_patch16_LS" if place == "args" else "x")
    path = tmp_path / ("w.pth" if place == "args" else "rope_axial_ape_deit_small_patch16_LS.pth")
    torch.save({"model": theirs.state_dict(), "args": args}, path)
    with pytest.raises(CheckpointError, match="rotary positions"):
        read_checkpoint(path)
    named = read_checkpoint(path, arch="vit_small_patch16_rope_ape_224")
    assert compare(named.module, theirs, 224) <= 1e-4
    path.rename(tmp_path / "other.pth")
    if place == "file":
        notes = read_checkpoint(tmp_path / "other.pth").source.notes
        assert any("axial RoPE beside its positions has the same tensors" in note for note in notes)


@pytest.mark.parametrize("args", [{"qk_norm": True}, {"init_values": 1e-5}, {"reg_tokens": 2}, {"pre_norm": True}])
def test_file_of_deits_size_with_parts_that_deit_has_not_asks_for_the_architecture(tmp_path: Path, args: Any) -> None:
    torch.save({"model": build_timm("vit_tiny_patch16_224", num_classes=3, **args).state_dict()}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match="does not say its architecture"):
        read_checkpoint(tmp_path / "w.pth")


@pytest.mark.parametrize("size", [(288, 288), (160, 224)])
@pytest.mark.parametrize(("project", "args"), [("DeiT", {}), ("MAE", {"depth": 1, "global_pool": "avg"})])
def test_positions_at_another_size_are_resampled_as_deit_and_mae_do(
    tmp_path: Path, project: str, args: Any, size: tuple[int, int]
) -> None:
    state = build_timm("vit_tiny_patch16_224", num_classes=3, **args).state_dict()
    torch.save({"model": state}, tmp_path / "w.pth")
    model = read_checkpoint(tmp_path / "w.pth", image_size=size)
    assert model.source.layout.startswith(project)
    # Both: bicubic without antialiasing, only of the grid (DeiT's main.py, MAE's util/pos_embed.py).
    grid = state["pos_embed"][:, 1:].reshape(1, 14, 14, -1).permute(0, 3, 1, 2)
    wanted = F.interpolate(grid, size=(size[0] // 16, size[1] // 16), mode="bicubic", align_corners=False)
    found = model.module.state_dict()["pos_embed"]
    assert torch.allclose(found[:, 1:], wanted.flatten(2).transpose(1, 2), atol=1e-6)
    assert torch.equal(found[:, :1], state["pos_embed"][:, :1])


def test_deit_file_with_an_architecture_given_takes_timms_preprocessing(tmp_path: Path) -> None:
    torch.save({"model": build_timm("vit_tiny_patch16_224", num_classes=3).state_dict()}, tmp_path / "w.pth")
    assumed = read_checkpoint(tmp_path / "w.pth")
    assert any("--arch NAME" in note for note in assumed.source.notes)
    told = read_checkpoint(tmp_path / "w.pth", arch="vit_tiny_patch16_224")
    assert told.source.layout == "bare weight file with timm's names"
    assert (assumed.preprocess.mean, told.preprocess.mean) == ((0.485, 0.456, 0.406), (0.5, 0.5, 0.5))


def mae_args(**more: Any) -> argparse.Namespace:
    return argparse.Namespace(model="vit_base_patch16", input_size=224, finetune="pretrained.pth", **more)


@pytest.mark.parametrize("pool", ["avg", "token"])
def test_mae_fine_tuned_file_equals_timm_with_maes_own_transform(tmp_path: Path, pool: str) -> None:
    # One block: the base model's width, without the other eleven.
    theirs = build_timm("vit_base_patch16_224", depth=1, num_classes=10, global_pool=pool)
    content = {"model": theirs.state_dict(), "args": mae_args(global_pool=pool == "avg"), "epoch": 1}
    torch.save(content, tmp_path / "w.pth")
    model = read_checkpoint(tmp_path / "w.pth")
    assert model.source.layout == "MAE checkpoint"
    assert compare(model.module, theirs, 224) <= 1e-4
    assert_same_pixels(model, transform(256, 224))


@pytest.mark.parametrize("decoder", [True, False])
def test_mae_pretrained_file_is_recognised_by_its_decoder_or_positions(tmp_path: Path, decoder: bool) -> None:
    state = build_timm("vit_base_patch16_224", depth=1, num_classes=0).state_dict()
    state["pos_embed"] = torch.randn(1, 197, 768) if decoder else sincos_positions((14, 14), 768, 1)
    if decoder:
        state |= {"decoder_pos_embed": torch.randn(1, 197, 512), "mask_token": torch.randn(1, 1, 512)}
    torch.save({"model": state}, tmp_path / "w.pth")
    model = read_checkpoint(tmp_path / "w.pth")
    assert (model.source.layout, model.classes) == ("MAE checkpoint", 0)
    theirs = build_timm("vit_base_patch16_224", depth=1, num_classes=0)
    theirs.load_state_dict({name: value for name, value in state.items() if name in theirs.state_dict()})
    assert compare(model.module, theirs, 224) <= 1e-4


@pytest.mark.parametrize(("size", "window"), [(224, 7), (384, 12), (256, 4)])
def test_swin_file_equals_timm_with_swins_own_transform(tmp_path: Path, size: int, window: int) -> None:
    real = size == 224
    args: dict[str, Any] = {} if real else {"depths": (2, 1), "num_heads": (3, 6), "num_classes": 4}
    theirs = build_timm("swin_tiny_patch4_window7_224", img_size=size, window_size=window, **args)
    save_swin(theirs, tmp_path / "w.pth")
    model = read_checkpoint(tmp_path / "w.pth")
    assert (model.source.layout, model.image_size) == ("Swin training checkpoint", (size, size))
    if real:
        assert model.source.architecture == "swin_tiny_patch4_window7_224"
    assert compare(model.module, theirs, size) <= 1e-4
    assert_same_pixels(model, transform((384, 384) if size == 384 else size * 256 // 224, size))


SMALL_V2: dict[str, Any] = {"depths": (2, 1, 1), "num_heads": (3, 6, 12), "num_classes": 4}


def test_swin_v2_file_of_real_size_equals_timm_with_swins_own_transform(tmp_path: Path) -> None:
    theirs = build_timm("swinv2_tiny_window8_256")
    save_swin(theirs, tmp_path / "w.pth")
    model = read_checkpoint(tmp_path / "w.pth")
    assert (model.source.layout, model.image_size) == ("Swin training checkpoint", (256, 256))
    assert model.source.architecture == "swinv2_tiny_patch4_window8_256"
    assert compare(model.module, theirs, 256) <= 1e-4
    assert_same_pixels(model, transform(292, 256))


@pytest.mark.parametrize(
    ("size", "window", "trained", "name"),
    [
        (128, 8, (0, 0, 0), "8"),  # the last stage's window is its grid
        (192, 12, (6, 6, 3), "6to12"),
        (384, 24, (12, 12, 12), "12to24"),
    ],
)
def test_swin_v2_file_shows_its_windows_and_those_of_pre_training(
    tmp_path: Path, size: int, window: int, trained: tuple[int, ...], name: str
) -> None:
    args: dict[str, Any] = {"img_size": size, "window_size": window, "pretrained_window_sizes": trained, **SMALL_V2}
    theirs = build_timm("swinv2_tiny_window8_256", **args)
    save_swin(theirs, tmp_path / "w.pth")
    model = read_checkpoint(tmp_path / "w.pth")
    assert model.source.architecture == f"Swin V2 of width 96, depths 2-1-1, window {name}"
    assert compare(model.module, theirs, size) <= 1e-4
    assert_same_pixels(model, transform((384, 384) if size == 384 else size * 256 // 224, size))


def test_swin_v2_file_at_another_size_keeps_the_offsets_that_its_windows_were_trained_with(tmp_path: Path) -> None:
    theirs = build_timm("swinv2_tiny_window8_256", img_size=128, **SMALL_V2)
    save_swin(theirs, tmp_path / "w.pth")
    model = read_checkpoint(tmp_path / "w.pth", image_size=(64, 64))
    # What its training script builds for the other size, told the windows of pre-training.
    trained: dict[str, Any] = {"pretrained_window_sizes": (8, 8, 8), "window_size": 8}
    other = build_timm("swinv2_tiny_window8_256", img_size=64, **SMALL_V2, **trained)
    other.load_state_dict(theirs.state_dict())
    assert compare(model.module, other, 64) <= 1e-4


def test_swin_v2_file_without_offsets_is_refused_or_read_by_timms_name(tmp_path: Path) -> None:
    theirs = build_timm("swinv2_tiny_window8_256")
    save_swin(theirs, tmp_path / "w.pth")
    content = torch.load(tmp_path / "w.pth")
    left = {name: value for name, value in content["model"].items() if not name.endswith("coords_table")}
    torch.save({"model": left}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=r"layers\.3\.blocks\.0\.attn\.relative_coords_table: missing") as caught:
        read_checkpoint(tmp_path / "w.pth")
    assert "--arch swinv2_tiny_window8_256" in caught.value.hint
    model = read_checkpoint(tmp_path / "w.pth", arch="swinv2_tiny_window8_256")
    assert compare(model.module, theirs, 256) <= 1e-4


def test_swin_file_on_a_smaller_grid_has_its_biases_resampled_as_microsoft_does(tmp_path: Path) -> None:
    args: dict[str, Any] = {"depths": (2, 2), "num_heads": (3, 6), "num_classes": 4}
    theirs = build_timm("swin_tiny_patch4_window7_224", img_size=56, **args)
    save_swin(theirs, tmp_path / "w.pth")
    model = read_checkpoint(tmp_path / "w.pth", image_size=(40, 40))  # grids of 10 and 5
    # load_pretrained in Microsoft's utils.py: bicubic, to the window that the smaller grid leaves.
    state = dict(theirs.state_dict())
    for name in [n for n in state if n.startswith("layers.1.") and n.endswith("bias_table")]:
        table = state[name].permute(1, 0).view(1, 6, 13, 13)
        state[name] = F.interpolate(table, size=(9, 9), mode="bicubic").view(6, 81).permute(1, 0)
    found = model.module.state_dict()
    for block in range(2):
        stored = state[f"layers.1.blocks.{block}.attn.relative_position_bias_table"]
        assert torch.allclose(found[f"layers.1.blocks.{block}.bias.table"], stored, atol=1e-6)
    assert [model.config.block_window(1, block) for block in range(2)] == [((5, 5), (0, 0))] * 2


def test_swin_file_on_a_wide_grid_shifts_where_microsoft_does(tmp_path: Path) -> None:
    args: dict[str, Any] = {"depths": (2, 2), "num_heads": (3, 6), "num_classes": 4}
    theirs = build_timm("swin_tiny_patch4_window7_224", img_size=56, **args)
    save_swin(theirs, tmp_path / "w.pth")
    model = read_checkpoint(tmp_path / "w.pth", image_size=(56, 112))  # grids of 14 × 28 and 7 × 14
    other: Any = build_timm("swin_tiny_patch4_window7_224", img_size=(56, 112), **args)
    other.load_state_dict(theirs.state_dict())
    # Microsoft's rule: where the smaller side is no larger than the window, nothing is shifted. timm shifts the other.
    block = other.layers[1].blocks[1]
    assert block.shift_size == (0, 3)
    block.shift_size, block.attn_mask = (0, 0), None
    pixels = torch.randn(1, 3, 56, 112, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        assert relative_error(model.module(pixels), other(pixels)) <= 1e-4


def test_swin_file_without_masks_says_which_size_is_assumed(tmp_path: Path) -> None:
    theirs = build_timm("swin_tiny_patch4_window7_224", depths=(1, 1), num_heads=(3, 6), num_classes=4)
    save_swin(theirs, tmp_path / "w.pth")
    model = read_checkpoint(tmp_path / "w.pth")
    assert any("the image size is not stored; 224 is assumed" in note for note in model.source.notes)
    assert read_checkpoint(tmp_path / "w.pth", image_size=(256, 320)).image_size == (256, 320)


def test_swin_file_that_is_not_whole_lists_everything(tmp_path: Path) -> None:
    save_swin(build_timm("swin_tiny_patch4_window7_224", depths=(1, 1), num_heads=(3, 6)), tmp_path / "w.pth")
    content = torch.load(tmp_path / "w.pth")
    del content["model"]["layers.0.downsample.norm.bias"]
    content["model"]["absolute_pos_embed"] = torch.ones(1, 3136, 96)
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match="1 missing, 1 unexpected") as caught:
        read_checkpoint(tmp_path / "w.pth")
    assert "layers.0.downsample.norm.bias" in caught.value.message
    assert "absolute_pos_embed" in caught.value.message


@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", "swinv2_tiny_window8_256"])
def test_swin_file_without_a_head_gives_features(tmp_path: Path, name: str) -> None:
    theirs = build_timm(name, depths=(1, 1), num_heads=(3, 6), num_classes=0)
    save_swin(theirs, tmp_path / "w.pth")
    model = read_checkpoint(tmp_path / "w.pth")
    assert model.classes == 0
    assert compare(model.module, theirs, model.image_size[0]) <= 1e-4
