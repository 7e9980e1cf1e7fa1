"""Small canonical models with random weights, for tests of what happens behind the checkpoint."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from edgevit.models import build_module, find_family
from edgevit.models.model import Model, Source
from edgevit.models.pixels import PixelModel, copy_structure
from edgevit.models.swin import SwinConfig
from edgevit.models.swin_v2 import SwinV2Config
from edgevit.models.vit import ViTConfig
from edgevit.pixels.preprocess import Preprocess
from tests.support.reference import randomise

VIT = ViTConfig(image_size=(32, 48), patch_size=(8, 8), width=32, depth=3, heads=4, mlp_width=64, classes=7)
SWIN = SwinConfig(
    image_size=(64, 64), patch_size=(4, 4), width=16, depths=(2, 2, 2), heads=(1, 2, 4), window=(4, 4), classes=7
)
SWIN_V2 = SwinV2Config(**dataclasses.asdict(SWIN), pretrained_windows=(0, 0, 0))

VITS: dict[str, ViTConfig] = {
    "plain": VIT,
    "distilled": dataclasses.replace(VIT, distillation_token=True, distillation_head=True),
    "mean": dataclasses.replace(VIT, pool="mean", norm_before_pool=False, norm_after_pool=True),
    "mean_normed": dataclasses.replace(VIT, pool="mean"),
    "no_prefix_positions": dataclasses.replace(VIT, position_prefix=False),
    "no_class_token": dataclasses.replace(VIT, pool="mean", class_token=False),
    "no_biases": dataclasses.replace(VIT, qkv_bias=False, patch_bias=False),
    "registers": dataclasses.replace(VIT, register_tokens=3, layer_scale=True),
    "registers_with_positions": dataclasses.replace(VIT, register_tokens=2, position_registers=True),
    "registers_without_positions": dataclasses.replace(VIT, register_tokens=2, position_prefix=False, pool="mean"),
    "token_mean": dataclasses.replace(VIT, pool="token_mean", layer_scale=True, gated_mlp=True, activation="silu"),
    "clip": dataclasses.replace(
        VIT, norm_before_blocks=True, patch_bias=False, projection=10, classes=0, activation="quick_gelu"
    ),
    "siglip": dataclasses.replace(VIT, class_token=False, pool="map", classes=0, activation="gelu_tanh"),
    "siglip_head": dataclasses.replace(VIT, class_token=False, pool="map"),
    "map_prefix_fc_norm": dataclasses.replace(VIT, pool="map", register_tokens=1, norm_after_pool=True),
    "qk_norm": dataclasses.replace(VIT, qk_norm=True),
    "features": dataclasses.replace(VIT, classes=0, register_tokens=2, layer_scale=True),
    "features_distilled": dataclasses.replace(VIT, classes=0, distillation_token=True, distillation_head=True),
    "remainder": dataclasses.replace(VIT, image_size=(35, 50), drop_remainder=True),
    "rotary": dataclasses.replace(
        VIT, position="rotary", rotary_periods=(1.0, 10.0), register_tokens=2, position_prefix=False, layer_scale=True
    ),
    "rotary_mean": dataclasses.replace(VIT, position="rotary", rotary_periods=(1.0, 3.0), pool="mean", gated_mlp=True),
    "rotary_features": dataclasses.replace(
        VIT, position="rotary", rotary_periods=(1.0, 10.0), register_tokens=2, patch_bias=False, classes=0
    ),
    # EVA-02, of other grids than that of the reference, and its CLIP
    "eva": dataclasses.replace(
        VIT,
        rotary_periods=(6.0, 60.0),
        rotary_start=0.0,
        rotary_reference=(3, 5),
        pool="mean",
        norm_before_pool=False,
        norm_after_pool=True,
        gated_mlp=True,
        activation="silu",
        mlp_norm=True,
    ),
    "eva_clip": dataclasses.replace(
        VIT, rotary_periods=(6.0, 60.0), rotary_start=0.0, mlp_norm=True, attention_norm=True, gated_mlp=True
    ),
    "perception_encoder": dataclasses.replace(
        VIT,
        rotary_periods=(6.0, 60.0),
        rotary_start=1.0,
        norm_before_blocks=True,
        patch_bias=False,
        pool="map",
        pool_prefix=True,
        pool_heads=2,
        pool_mlp_width=48,
        projection=10,
        classes=0,
    ),
    "padded_patches": dataclasses.replace(VIT, patch_padding=(2, 3)),
    "padded_patches_rest": dataclasses.replace(VIT, image_size=(29, 45), patch_padding=(3, 1), patch_bias=False),
    "padded_patches_mean": dataclasses.replace(VIT, patch_padding=(2, 2), pool="mean", class_token=False),
    "block_positions": dataclasses.replace(VIT, block_positions=True, register_tokens=3),
    "late_tokens": dataclasses.replace(VIT, late_tokens=5, late_block=2, register_tokens=2, layer_scale=True),
    "late_tokens_mean": dataclasses.replace(
        VIT, late_tokens=2, late_block=1, class_token=False, pool="mean", block_positions=True
    ),
    "late_tokens_rotary": dataclasses.replace(
        VIT, depth=4, late_tokens=3, late_block=2, position="rotary", rotary_periods=(1.0, 10.0), classes=0
    ),
    "windows": dataclasses.replace(
        VIT, windows=(2, 3), window_blocks=(0, 2), classes=0, layer_scale=True, register_tokens=1, block_positions=True
    ),
    "windows_mean": dataclasses.replace(
        VIT, windows=(2, 1), window_blocks=(1,), classes=0, pool="mean", class_token=False
    ),
    "windows_last_global": dataclasses.replace(VIT, windows=(1, 2), window_blocks=(0, 1), classes=0),
    "token_fc_norm": dataclasses.replace(VIT, norm_before_pool=False, norm_after_pool=True),
}
SWINS: dict[str, SwinConfig] = {
    "plain": SWIN,
    "window_is_grid": dataclasses.replace(SWIN, image_size=(32, 32), window=(8, 8)),
    "overhang": dataclasses.replace(SWIN, image_size=(56, 72)),
    "overhang_before_shift": dataclasses.replace(SWIN, image_size=(56, 72), pad="before_shift", window_fit="smaller"),
    "odd_grid": dataclasses.replace(SWIN, image_size=(36, 52)),
    "padded_image": dataclasses.replace(SWIN, image_size=(30, 50)),
    "odd_window": dataclasses.replace(SWIN, image_size=(56, 56), window=(7, 7)),
    "oblong_window": dataclasses.replace(SWIN, image_size=(64, 96), window=(4, 6)),
    "no_patch_norm": dataclasses.replace(SWIN, patch_norm=False, qkv_bias=False),
    "v2": SWIN_V2,
    "v2_overhang": dataclasses.replace(SWIN_V2, image_size=(56, 72)),
    "v2_other_window": dataclasses.replace(SWIN_V2, pretrained_windows=(8, 8, 2), mask=-200.0, qkv_bias=False),
}


def make_preprocess(height: int, width: int) -> Preprocess:
    """Squash to the size; a mean and deviation that differ by channel."""
    values: dict[str, Any] = {"resize": "squash", "resize_height": height, "resize_width": width}
    return Preprocess(
        height=height,
        width=width,
        interpolation="bicubic",
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        **values,
    )


def make_model(config: ViTConfig | SwinConfig, seed: int = 0, labels: tuple[str, ...] | None = None) -> Model:
    """A model as a reader of checkpoints would give it."""
    module = randomise(build_module(config), seed)
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    family = find_family(config)
    source = Source("memory", "test", f"small_{family}", f"{seed}{config!r}")
    return Model(module.eval(), make_preprocess(*config.image_size), labels, source)


def make_images(config: ViTConfig | SwinConfig, batch: int = 2, seed: int = 0) -> torch.Tensor:
    """``(batch, H, W, 3) uint8``."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (batch, *config.image_size, 3), dtype=torch.uint8, generator=generator)


def copy_pixels(model: Model) -> PixelModel:
    """The model behind uint8 pixels, with structure of its own to fold."""
    return PixelModel(copy_structure(model.module), model.preprocess).eval()


def relative_error(actual: torch.Tensor, expected: torch.Tensor) -> float:
    """Largest absolute difference over the largest absolute value expected."""
    return float((actual - expected).abs().max() / expected.abs().max())
