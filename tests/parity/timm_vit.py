"""timm's Vision Transformers, at their real sizes; those that need gigabytes with fewer blocks, and DINOv2 once at its
518 pixels: it computes nine times as long there, with the same code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from edgevit.core.task import TaskName
from tests.parity.case import Answer, Case
from tests.support.reference import import_timm


def read_tokens(module: Any, pixels: Tensor) -> Tensor:
    depth = len(module.blocks)
    indices = [depth // 2 - 1, depth - 1]
    return torch.cat(
        module.forward_intermediates(pixels, indices=indices, output_fmt="NLC", intermediates_only=True), dim=-1
    )


_CLASSIFY: Mapping[TaskName, Answer] = {
    "classify": lambda module, pixels: module(pixels),
    "embed": lambda module, pixels: module.forward_head(module.forward_features(pixels), pre_logits=True),
    "features": read_tokens,
}
_EMBED: Mapping[TaskName, Answer] = {"embed": _CLASSIFY["classify"], "features": read_tokens}


def save(module: Any, folder: Path) -> Path:
    from timm.models import save_for_hf

    save_for_hf(module, str(folder), safe_serialization=True)
    return folder


def _case(family: str, name: str, answers: Mapping[TaskName, Answer] = _CLASSIFY, **args: Any) -> Case:
    shown = ", ".join([name, *(f"{key}={value}" for key, value in args.items())])

    def build() -> Any:
        timm = import_timm()
        first = (
            {} if timm.models.is_model_in_modules(name, ["eva"]) else {"weight_init": "skip"}
        )  # an EVA draws its weights
        return timm.create_model(name, **first, **args)

    return Case(family, "timm", shown, build, save, answers)


CASES = (
    _case("ViT (AugReg)", "vit_tiny_patch16_224"),
    _case("DeiT", "deit_tiny_patch16_224"),
    _case("DeiT, distilled", "deit_tiny_distilled_patch16_224"),
    _case("DeiT III", "deit3_small_patch16_224"),
    _case("DINO", "vit_small_patch16_224.dino", _EMBED, num_classes=0),
    _case("MAE", "vit_base_patch16_224.mae", _EMBED, num_classes=0),
    _case("DINOv2", "vit_small_patch14_dinov2", _EMBED),
    _case("DINOv2, with registers", "vit_small_patch14_reg4_dinov2", _EMBED, img_size=224),
    _case("DINOv2 classifier", "vit_small_patch14_reg4_dinov2", num_classes=1000, depth=4, img_size=224),
    _case("DINOv2, giant (SwiGLU)", "vit_giant_patch14_reg4_dinov2", _EMBED, depth=2, img_size=224),
    _case("DINOv3", "vit_small_patch16_dinov3", _EMBED),
    _case("DINOv3 classifier", "vit_small_patch16_dinov3_qkvb", num_classes=1000, depth=4, img_size=(160, 288)),
    _case("DINOv3, plus (SwiGLU)", "vit_small_plus_patch16_dinov3", _EMBED, global_pool="token", depth=4),
    _case("EVA-02", "eva02_tiny_patch14_224", _EMBED),
    _case("EVA-02 classifier", "eva02_base_patch14_448", num_classes=1000, depth=2, img_size=(224, 336)),
    _case("EVA-02, CLIP's image tower", "eva02_base_patch16_clip_224", _EMBED, depth=2),
    _case("EVA, giant", "eva_giant_patch14_224", depth=2),
    _case("Perception Encoder, core", "vit_pe_core_tiny_patch16_384", _EMBED, num_classes=0),
    _case("Perception Encoder, core, classifier", "vit_pe_core_base_patch16_224", num_classes=1000, depth=2),
    _case("Perception Encoder, spatial", "vit_pe_spatial_tiny_patch16_512", _EMBED, img_size=(256, 384)),
    _case("Perception Encoder, lang", "vit_pe_lang_large_patch14_448", _EMBED, depth=2, img_size=224),
    _case("LingBot-Vision", "vit_small_patch16_lingbot", _EMBED, depth=4, img_size=224),
    _case("ViT with RoPE, mean of tokens", "vit_medium_patch16_rope_reg1_gap_256", depth=4),
    _case("ViT with RoPE (Naver)", "vit_small_patch16_rope_224", depth=4),
    _case("ViT with RoPE beside a table (Naver)", "vit_small_patch16_rope_ape_224", depth=4),
    _case("CLIP", "vit_base_patch32_clip_224"),
    _case("CLIP (quick GELU)", "vit_base_patch32_clip_quickgelu_224", num_classes=512, depth=4),
    _case("SigLIP", "vit_base_patch16_siglip_224", _EMBED),
    _case("SigLIP classifier", "vit_base_patch16_siglip_224", num_classes=1000, depth=4),
    _case("SigLIP 2 and SoViT-400M", "vit_so400m_patch16_siglip_256", _EMBED, depth=3),
    _case("SigLIP, 384 pixels by patches of 14", "vit_so400m_patch14_siglip_384", _EMBED, depth=2),
    _case("ViT with q/k norm", "vit_small_patch16_224", qk_norm=True, depth=4),
    _case("ViT with registers, mean of tokens", "vit_wee_patch16_reg1_gap_256"),
)
