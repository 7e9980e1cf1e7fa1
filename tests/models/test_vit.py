"""The canonical ViT against timm's and transformers' own modules, through checkpoints that they saved themselves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from edgevit.checkpoints import read_checkpoint
from edgevit.models import ViT, ViTConfig
from edgevit.models.layers import sincos_positions
from tests.support.reference import import_timm, import_transformers, randomise, relative_error
from tests.support.timm_folder import TOLERANCE, compare_with_timm


@pytest.mark.parametrize(
    "name",
    [
        "vit_tiny_patch16_224",
        # wider than the first, and else the same
        pytest.param("vit_small_patch16_224", marks=pytest.mark.slow),
        pytest.param("vit_base_patch16_224", marks=pytest.mark.slow),
        pytest.param("vit_base_patch32_384", marks=pytest.mark.slow),
        "deit_tiny_patch16_224",
        "deit_small_distilled_patch16_224",
    ],
)
def test_vit_with_timms_weights_equals_timm(name: str, folder: Path) -> None:
    compare_with_timm(name, folder)


@pytest.mark.parametrize(
    "args",
    [
        {"num_classes": 7},
        {"global_pool": "avg"},
        {"global_pool": "avg", "fc_norm": False},
        {"global_pool": "avg", "class_token": False},
        {"fc_norm": True},
        {"no_embed_class": True},
        {"qkv_bias": False},
        {"final_norm": False},
        {"img_size": (96, 160), "patch_size": (8, 16)},
        {"embed_dim": 96, "depth": 3, "num_heads": 4, "mlp_ratio": 2.5},
        {"act_layer": "gelu_tanh"},
    ],
    ids=",".join,
)
def test_vit_with_timms_arguments_equals_timm(args: dict[str, Any], folder: Path) -> None:
    compare_with_timm("vit_tiny_patch16_224", folder, batch=2, **{"depth": 2, "img_size": 64, **args})


def compare_with_transformers(kind: str, config: Any, folder: Path, batch: int = 2, **save: Any) -> None:
    transformers = import_transformers()
    theirs = randomise(getattr(transformers, kind)(config))
    theirs.save_pretrained(folder, **save)
    model = read_checkpoint(folder)
    assert model.source.architecture == kind
    assert model.source.layout == "transformers folder"
    assert model.parameters == sum(p.numel() for p in theirs.parameters())
    pixels = torch.randn(batch, 3, *model.image_size, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        assert relative_error(model.module(pixels), theirs(pixels).logits) <= TOLERANCE


TINY: dict[str, Any] = {"hidden_size": 192, "num_attention_heads": 3, "intermediate_size": 768}


@pytest.mark.parametrize(
    ("kind", "config"),
    [("ViTForImageClassification", "ViTConfig")]
    + [(f"DeiTForImageClassification{teacher}", "DeiTConfig") for teacher in ("", "WithTeacher")],
)
def test_vit_with_transformers_tiny_weights_equals_transformers(kind: str, config: str, folder: Path) -> None:
    compare_with_transformers(kind, getattr(import_transformers(), config)(**TINY, num_labels=10), folder)


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        ("ViTForImageClassification", "ViTConfig"),
        pytest.param("DeiTForImageClassification", "DeiTConfig", marks=pytest.mark.slow),
    ],
)
def test_vit_with_transformers_base_weights_in_shards_equals_transformers(kind: str, config: str, folder: Path) -> None:
    compare_with_transformers(
        kind, getattr(import_transformers(), config)(num_labels=1000), folder, batch=1, max_shard_size="100MB"
    )
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    assert len(set(index["weight_map"].values())) > 2


@pytest.mark.parametrize(
    "args",
    [
        {"image_size": [48, 64], "patch_size": 16},
        {"layer_norm_eps": 1e-2},
        {"qkv_bias": False},
        {"hidden_act": "gelu_new"},
        {"hidden_act": "relu"},
    ],
    ids=str,
)
def test_vit_with_transformers_settings_equals_transformers(args: dict[str, Any], folder: Path) -> None:
    config = import_transformers().ViTConfig(**{**TINY, "num_hidden_layers": 2, "image_size": 64, **args})
    compare_with_transformers("ViTForImageClassification", config, folder)


def test_vit_saved_with_transformers_own_names_equals_transformers(folder: Path) -> None:
    config = import_transformers().ViTConfig(**TINY, num_hidden_layers=2)
    compare_with_transformers("ViTForImageClassification", config, folder, save_original_format=False)


@pytest.mark.parametrize("grid", [(5, 5), (2, 7)])
@pytest.mark.parametrize("prefix", [0, 2])
def test_sincos_positions_equal_timms_in_the_channel_order_of_mae(grid: tuple[int, int], prefix: int) -> None:
    import_timm()
    from timm.layers.pos_embed_sincos import build_sincos2d_pos_embed

    theirs = build_sincos2d_pos_embed(list(grid), 48).reshape(-1, 2, 2, 12)  # (N, sine or cosine, row or column, 12)
    theirs = theirs.flip(2).transpose(1, 2).flatten(1)  # MAE: the column's sines and cosines, then the row's
    ours = sincos_positions(grid, 48, prefix)
    assert torch.allclose(ours[0, prefix:], theirs, atol=1e-6)
    assert not ours[0, :prefix].any()


def test_vit_with_sincos_positions_has_them_without_weights() -> None:
    config = ViTConfig((32, 48), (16, 16), width=8, depth=1, heads=2, mlp_width=16, classes=3, position="sincos")
    module = ViT(config)
    assert torch.equal(module.pos_embed, sincos_positions((2, 3), 8, 1))
    assert not module.pos_embed.requires_grad


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"width": 190}, "width 190 is not a multiple of 12 heads"),
        ({"image_size": (230, 224)}, "not a multiple of the patch size"),
        ({"class_token": False}, "needs a class token"),
        ({"distillation_head": True}, "needs a distillation token"),
        ({"width": 6, "heads": 2, "position": "sincos"}, "multiple of 4"),
        ({"image_size": (8, 224), "drop_remainder": True}, "smaller than the patch size"),
        ({"pool": "token_mean", "class_token": False}, "needs a class token"),
        ({"position_registers": True}, "need registers"),
        (
            {"register_tokens": 4, "position_registers": True, "position_prefix": False},
            "cover the class token too",
        ),
        ({"distillation_token": True, "distillation_head": True, "projection": 8}, "without another norm"),
        ({"distillation_token": True, "distillation_head": True, "pool": "mean"}, "without another norm"),
        ({"register_tokens": -1}, "register_tokens is -1, below 0"),
        ({"late_tokens": -1, "late_block": 1}, "late_tokens is -1, below 0"),
        ({"late_tokens": 3}, "no tokens join, or not in front of block 0"),
        ({"late_tokens": 3, "late_block": 12}, "no tokens join, or not in front of block 12"),
        ({"late_block": 2}, "no tokens join, or not in front of block 2"),
        ({"late_tokens": 3, "late_block": 2, "windows": (2, 2), "classes": 0}, "do not go with windows"),
        ({"projection": -1}, "projection is -1, below 0"),
        ({"width": 190, "class_token": False}, "12 heads; pooling by class token"),
    ],
)
def test_vit_config_when_impossible_is_refused(args: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ViTConfig(**args)


@pytest.mark.parametrize(
    ("args", "features"),
    [({}, 16), ({"pool": "token_mean"}, 32), ({"projection": 5}, 5), ({"pool": "map"}, 16)],
)
def test_features_have_the_width_that_the_config_says(args: dict[str, Any], features: int) -> None:
    config = ViTConfig((16, 16), (8, 8), width=16, depth=1, heads=2, mlp_width=32, classes=0, **args)
    assert config.features == features
    assert ViT(config).eval()(torch.zeros(2, 3, 16, 16)).shape == (2, features)
