"""Other image sizes: positions and biases against timm's own resampling."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from edgevit.checkpoints import read_checkpoint
from edgevit.checkpoints.positions import resample_bias_table, resample_positions
from edgevit.core.errors import CheckpointError
from tests.support.reference import import_timm, import_transformers, randomise, relative_error
from tests.support.small_checkpoints import small_tensors, write_folder


@pytest.mark.parametrize("prefix", [0, 1, 2])
@pytest.mark.parametrize(("old", "new"), [((14, 14), (24, 24)), ((14, 14), (7, 9)), ((3, 5), (5, 3)), ((4, 4), (1, 1))])
def test_positions_resampled_equal_timms(prefix: int, old: tuple[int, int], new: tuple[int, int]) -> None:
    import_timm()
    from timm.layers import resample_abs_pos_embed

    table = torch.randn(1, prefix + old[0] * old[1], 6)
    theirs = resample_abs_pos_embed(table, list(new), list(old), num_prefix_tokens=prefix)
    assert torch.allclose(resample_positions(table, prefix, old, new), theirs, atol=1e-6)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("old", "new"),
    [((7, 7), (12, 12)), ((7, 7), (5, 5)), ((12, 12), (7, 6)), ((7, 7), (1, 3)), ((2, 2), (16, 16)), ((8, 4), (4, 8))],
)
def test_bias_table_resampled_equals_timms(old: tuple[int, int], new: tuple[int, int]) -> None:
    import_timm()
    from timm.layers import resize_rel_pos_bias_table

    table = torch.randn((2 * old[0] - 1) * (2 * old[1] - 1), 3)
    shape = ((2 * new[0] - 1) * (2 * new[1] - 1), 3)
    theirs = resize_rel_pos_bias_table(table, new, shape, old_window_size=old)
    assert torch.allclose(resample_bias_table(table, old, new), theirs, atol=1e-5)


@pytest.mark.parametrize("size", [(112, 112), (28, 70)])
@pytest.mark.parametrize(
    "name",
    [
        "deit3_small_patch16_224",
        "vit_small_patch14_dinov2",
        "vit_small_patch14_reg4_dinov2",
        "vit_base_patch16_siglip_224",
        "vit_base_patch32_clip_224",
        "vit_so150m_patch16_reg4_gap_256",
    ],
)
def test_every_family_read_at_another_size_equals_timm_resized(
    tmp_path: Path, name: str, size: tuple[int, int]
) -> None:
    timm = import_timm()
    from timm.models._hub import save_for_hf

    args = {"depth": 2, "embed_dim": 48, "num_heads": 4, "patch_size": 14}
    theirs = randomise(timm.create_model(name, **args, img_size=56))
    save_for_hf(theirs, str(tmp_path), safe_serialization=True)
    model = read_checkpoint(tmp_path, image_size=size)
    theirs.set_input_size(img_size=size)
    pixels = torch.randn(1, 3, *size)
    with torch.inference_mode():
        assert relative_error(model.module(pixels), theirs(pixels)) <= 1e-5


@pytest.mark.parametrize("size", [None, (384, 384), (378, 392)])
def test_siglip_of_an_image_that_is_no_multiple_of_the_patch_is_read_at_its_own_size(tmp_path: Path, size: Any) -> None:
    timm = import_timm()
    from timm.models._hub import save_for_hf

    theirs = randomise(timm.create_model("vit_so400m_patch14_siglip_384", depth=1, embed_dim=48, num_heads=4))
    save_for_hf(theirs, str(tmp_path), safe_serialization=True)
    model = read_checkpoint(tmp_path, image_size=size)
    note = "patches of 14 × 14 leave 6 rows and 6 columns of the image unread"
    assert (note in model.source.notes) == (size != (378, 392))
    pixels = torch.randn(1, 3, *model.image_size)
    if size == (378, 392):
        theirs.set_input_size(img_size=size)
    with torch.inference_mode():
        assert relative_error(model.module(pixels), theirs(pixels)) <= 1e-5


@pytest.mark.parametrize("size", [(64, 64), (32, 48), (128, 32)])
def test_vit_read_at_another_size_equals_timm_resized(tmp_path: Path, size: tuple[int, int]) -> None:
    timm = import_timm()
    from timm.models._hub import save_for_hf

    theirs = randomise(timm.create_model("deit_tiny_distilled_patch16_224", depth=2, embed_dim=48, img_size=96))
    save_for_hf(theirs, str(tmp_path), safe_serialization=True)
    model = read_checkpoint(tmp_path, image_size=size)
    assert model.image_size == size
    assert (model.preprocess.height, model.preprocess.width) == size
    assert any("resampled from 6 × 6" in note for note in model.source.notes)
    resized = timm.create_model("deit_tiny_distilled_patch16_224", depth=2, embed_dim=48, img_size=size)
    # The distilled model's own set_input_size does not exist; its loader resamples.
    from timm.models.vision_transformer import checkpoint_filter_fn

    resized.load_state_dict(checkpoint_filter_fn(theirs.state_dict(), resized))
    pixels = torch.randn(2, 3, *size)
    with torch.inference_mode():
        assert relative_error(model.module(pixels), resized.eval()(pixels)) <= 1e-5


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("size", [(224, 224), (160, 160), (96, 160), (256, 200)])
def test_swin_read_at_another_size_equals_timm_built_for_it(tmp_path: Path, size: tuple[int, int]) -> None:
    timm = import_timm()
    from timm.models._hub import save_for_hf
    from timm.models.swin_transformer import checkpoint_filter_fn

    args: dict[str, Any] = {"embed_dim": 16, "depths": (1, 2, 2, 2), "num_heads": (1, 2, 4, 8)}
    theirs = randomise(timm.create_model("swin_tiny_patch4_window7_224", **args))
    save_for_hf(theirs, str(tmp_path), safe_serialization=True)
    model = read_checkpoint(tmp_path, image_size=size)
    small = size != (224, 224) and min(size) < 196
    assert any("relative position biases resampled" in note for note in model.source.notes) == small
    resized = timm.create_model("swin_tiny_patch4_window7_224", img_size=size, **args)
    resized.load_state_dict(checkpoint_filter_fn(theirs.state_dict(), resized))
    pixels = torch.randn(2, 3, *size)
    with torch.inference_mode():
        assert relative_error(model.module(pixels), resized.eval()(pixels)) <= 1e-4


def test_read_when_positions_are_of_another_size_than_stated_resamples_them_and_says_so(tmp_path: Path) -> None:
    tensors = small_tensors()
    square = torch.randn(1, 1 + 36, 16)
    write_folder(tmp_path, {**tensors, "pos_embed": square})
    model = read_checkpoint(tmp_path)
    assert model.image_size == (32, 32)
    assert any("resampled from 6 × 6 to 4 × 4" in note for note in model.source.notes)
    assert torch.allclose(model.module.state_dict()["pos_embed"], resample_positions(square, 1, (6, 6), (4, 4)))


def test_read_at_the_stored_size_leaves_positions_alone(tmp_path: Path) -> None:
    model = read_checkpoint(write_folder(tmp_path), image_size=(32, 32))
    assert torch.equal(model.module.state_dict()["pos_embed"], small_tensors()["pos_embed"])
    assert not any("resampled" in note for note in model.source.notes)


@pytest.mark.parametrize("size", [(30, 32), (0, 32), (-8, 8), (32, 8192), (7, 7)])
def test_read_at_an_impossible_size_names_the_multiples_and_the_nearest(tmp_path: Path, size: tuple[int, int]) -> None:
    with pytest.raises(CheckpointError, match="multiples of 8 and 8 pixels") as caught:
        read_checkpoint(write_folder(tmp_path), image_size=size)
    nearest = caught.value.hint.split()[-3::2]
    assert read_checkpoint(tmp_path, image_size=(int(nearest[0]), 32)).image_size[0] == int(nearest[0])


def test_transformers_swin_on_a_grid_below_its_window_names_the_least_size(tmp_path: Path) -> None:
    transformers = import_transformers()
    config = transformers.SwinConfig(embed_dim=16, depths=[1, 1], num_heads=[1, 2], image_size=64)
    transformers.SwinForImageClassification(config).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="at least 49 × 49") as caught:
        read_checkpoint(tmp_path, image_size=(48, 224))
    assert caught.value.hint == "the nearest possible size is 49 × 224"
    assert read_checkpoint(tmp_path, image_size=(49, 224)).image_size == (49, 224)
