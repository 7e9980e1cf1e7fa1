"""timm's EVA-02, Perception Encoder and other EVAs: arguments, sizes, layouts of weights, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from edgevit.checkpoints import read_checkpoint
from edgevit.core.errors import CheckpointError
from edgevit.core.task import Task
from edgevit.models.select_task import select_task
from tests.support.reference import build_timm, relative_error, save_timm_folder

SMALL = {"embed_dim": 64, "num_heads": 4, "img_size": 56}
PE = "vit_pe_core_tiny_patch16_384"
EVA02 = "eva02_tiny_patch14_224"


def compare(ours: Any, theirs: Any) -> float:
    pixels = torch.randn(2, 3, *ours.config.image_size, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        return relative_error(ours(pixels), theirs(pixels))


@pytest.mark.parametrize(
    ("name", "args"),
    [
        (EVA02, {}),
        (EVA02, {"img_size": (56, 98), "num_classes": 7, "num_reg_tokens": 2, "ref_feat_shape": (5, 7)}),
        (EVA02, {"img_size": 56, "global_pool": "token", "rope_grid_offset": 0.5, "rope_temperature": 50.0}),
        (EVA02, {"img_size": 56, "no_embed_class": True, "use_pre_transformer_norm": True, "scale_mlp": True}),
        (EVA02, {"img_size": 56, "attn_type": "rope", "qkv_fused": False, "use_fc_norm": False, "mlp_ratio": 2.0}),
        (EVA02, {"img_size": 56, "rope_grid_indexing": "xy", "rope_rotate_half": True, "qkv_bias": False}),
        (EVA02, {"img_size": 56, "use_post_transformer_norm": True, "swiglu_align_to": 20, "mlp_ratio": 1.3}),
        (EVA02, {"img_size": 56, "swiglu_mlp": False, "global_pool": "map", "attn_pool_num_heads": 6}),
        (EVA02, {"img_size": 56, "swiglu_mlp": False, "global_pool": "map", "attn_pool_mlp_ratio": 2.0}),
        ("eva02_base_patch14_224", SMALL),
        ("eva02_base_patch16_clip_224", {**SMALL, "img_size": 64}),
        (PE, {"img_size": (96, 160)}),
        (PE, {"img_size": 48, "global_pool": "avg"}),
        ("vit_pe_core_gigantic_patch14_448", SMALL),
        ("vit_pe_lang_large_patch14_448", {**SMALL, "img_size": (56, 84)}),
        ("vit_pe_lang_large_patch14_448", {**SMALL, "use_fc_norm": True}),
        ("vit_pe_spatial_tiny_patch16_512", {"img_size": 96}),
        ("vit_pe_spatial_gigantic_patch14_448", SMALL),
        ("vit_medium_patch16_rope_reg1_gap_256", {**SMALL, "img_size": (64, 96)}),
        ("vit_mediumd_patch16_rope_reg1_gap_256", {**SMALL, "img_size": 64}),
        ("vit_small_patch16_rope_224", {"img_size": (64, 96)}),
        ("vit_small_patch16_rope_ape_224", {"img_size": (64, 96), "use_fc_norm": False, "global_pool": "avg"}),
        ("vit_small_patch16_lingbot", {"img_size": (64, 96)}),
        ("vit_giant_patch16_lingbot", {**SMALL, "img_size": 64}),
        ("eva_giant_patch14_224", SMALL),
        ("eva_giant_patch14_clip_224", {**SMALL, "num_classes": 0}),
    ],
    ids=str,
)
def test_eva_with_timms_arguments_equals_timm(name: str, args: dict[str, Any], tmp_path: Path) -> None:
    theirs = build_timm(name, **{"depth": 2, **args})
    save_timm_folder(theirs, tmp_path / "model")
    model = read_checkpoint(tmp_path / "model")
    assert model.source.architecture == name
    assert compare(model.module, theirs) <= 1e-5


@pytest.mark.parametrize(("name", "native"), [(EVA02, 224), (PE, 384), ("vit_small_patch16_rope_ape_224", 224)])
def test_another_image_size_equals_timms_set_input_size(name: str, native: int, tmp_path: Path) -> None:
    """The table is resampled; EVA-02's and PE's patches are counted as those of the grid of their training."""
    theirs = build_timm(name, depth=2)
    save_timm_folder(theirs, tmp_path / "model")
    size = (112, 224) if name == EVA02 else (96, 160)
    model = read_checkpoint(tmp_path / "model", image_size=size)
    assert read_checkpoint(tmp_path / "model").image_size == (native, native)
    theirs.set_input_size(size)
    assert compare(model.module, theirs) <= 1e-5


@pytest.mark.parametrize(
    ("args", "what"),
    [
        ({"use_post_norm": True}, "norms behind attention and MLP"),
        ({"use_rot_pos_emb": False}, "no rotary positions"),
        ({"rope_type": "mixed"}, "rotary positions of the type 'mixed'"),
        ({"attn_only_layer_scale": True, "init_values": 0.1}, "layer scale behind attention only"),
        ({"global_pool": "map"}, "an attention pool whose MLP is not that of the blocks"),
        ({"global_pool": "avgmax"}, "pooling 'avgmax'"),
        ({"attn_type": "rope", "qkv_fused": False, "num_kv_heads": 1}, "num_kv_heads = 1"),
    ],
    ids=str,
)
def test_what_the_canonical_model_has_not_is_refused_by_name(args: dict[str, Any], what: str, tmp_path: Path) -> None:
    save_timm_folder(build_timm(EVA02, depth=1, img_size=28, **args), tmp_path / "model")
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(tmp_path / "model")
    assert what in caught.value.message


def test_norms_of_queries_and_keys_are_refused_beside_rotary_positions(tmp_path: Path) -> None:
    save_timm_folder(build_timm(EVA02, depth=1, img_size=28, qk_norm=True), tmp_path / "model")
    with pytest.raises(CheckpointError, match="not known together"):
        read_checkpoint(tmp_path / "model")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("eva02_enormous_patch14_clip_224", "norms behind attention and MLP"),
        ("vit_small_patch16_rope_mixed_224", "learned rotary angles"),
        ("vit_base_patch16_sapiens2", "RMSNorm"),
        ("vit_pe_core_giant_patch14_448", "in a size that timm does not have"),
    ],
)
def test_names_that_are_not_read_say_why(name: str, message: str, tmp_path: Path) -> None:
    save_file({"cls_token": torch.zeros(1, 1, 8)}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(tmp_path / "model.safetensors", arch=name)


@pytest.mark.parametrize(
    ("name", "zero", "projected"),
    [(PE, True, True), (PE, False, False), ("eva02_base_patch16_clip_224", False, True), (EVA02, True, False)],
)
def test_a_clips_head_is_its_projection(name: str, zero: bool, projected: bool, tmp_path: Path) -> None:
    theirs = build_timm(name, **{**SMALL, "num_classes": 12, "depth": 1, "img_size": 112})
    if zero:
        torch.nn.init.zeros_(theirs.head.bias)
    save_timm_folder(theirs, tmp_path / "model")
    model = read_checkpoint(tmp_path / "model")
    assert (model.classes, model.config.projection) == ((0, 12) if projected else (12, 0))
    assert model.config.projection_bias == (projected and not zero)
    assert compare(model.module, theirs) <= 1e-5


def test_a_bare_file_is_read_by_its_name(tmp_path: Path) -> None:
    theirs = build_timm(EVA02)
    save_file(theirs.state_dict(), tmp_path / "model.safetensors")
    assert compare(read_checkpoint(tmp_path / "model.safetensors", arch=EVA02).module, theirs) <= 1e-5


@pytest.mark.parametrize("name", ["vit_pe_spatial_tiny_patch16_512", EVA02])
def test_features_equal_timms(name: str, tmp_path: Path) -> None:
    theirs = build_timm(name, depth=3, img_size=112)
    save_timm_folder(theirs, tmp_path / "model")
    model = select_task(read_checkpoint(tmp_path / "model"), Task("features", levels=(0, 2)))
    pixels = torch.randn(1, 3, 112, 112, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = theirs.forward_intermediates(pixels, indices=[0, 2], intermediates_only=True)
        for ours, wanted in zip(model.module(pixels), expected, strict=True):
            assert relative_error(ours, wanted) <= 1e-5
