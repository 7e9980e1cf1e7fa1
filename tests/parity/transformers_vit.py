"""transformers' Vision Transformers, at the sizes of each family's smallest checkpoint; DINOv2 at its configuration's
224 pixels, not at 518."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from edgevit.core.task import TaskName
from tests.parity.case import Answer, Case, read_inputs
from tests.support.reference import import_transformers

_TINY = {"hidden_size": 192, "num_attention_heads": 3, "intermediate_size": 768}
_SMALL = {"hidden_size": 384, "num_attention_heads": 6}


def _find_tower(module: Any) -> Any:
    """The image tower of a model that has a head or a text tower beside it."""
    names = ("vit", "deit", "dinov2", "dinov2_with_registers", "vision_model")
    return next((getattr(module, name) for name in names if hasattr(module, name)), module)


def _run_tower(module: Any, pixels: Tensor, **more: Any) -> Any:
    tower = _find_tower(module)
    if "noise" in inspect.signature(tower.forward).parameters:  # MAE shuffles the patches by it
        more["noise"] = torch.arange((pixels.shape[-1] // tower.config.patch_size) ** 2).expand(len(pixels), -1)
    return tower(pixels, **more)


def read_tokens(module: Any, pixels: Tensor) -> Tensor:
    hidden = _run_tower(module, pixels, output_hidden_states=True).hidden_states  # the first is the embedding
    depth = len(hidden) - 1
    config = _find_tower(module).config
    prefix = 0 if "siglip" in config.model_type else 1 + (config.model_type == "deit")
    prefix += getattr(config, "num_register_tokens", 0)
    return torch.cat([hidden[depth // 2], hidden[depth]], dim=-1)[:, prefix:]


def read_heads(module: Any, pixels: Tensor) -> Tensor:
    """What the classifier reads; of two, for class and distillation token, the mean."""
    names = ("classifier", "cls_classifier", "distillation_classifier")
    heads = [getattr(module, name) for name in names if hasattr(module, name)]
    return torch.stack(read_inputs(module, pixels, *heads)).mean(dim=0)


_LOGITS: Mapping[TaskName, Answer] = {
    "classify": lambda module, pixels: module(pixels).logits,
    "embed": read_heads,
    "features": read_tokens,
}
_TOKEN: Mapping[TaskName, Answer] = {
    "embed": lambda module, pixels: _run_tower(module, pixels).last_hidden_state[:, 0],
    "features": read_tokens,
}
_POOLED: Mapping[TaskName, Answer] = {
    "embed": lambda module, pixels: _run_tower(module, pixels).pooler_output,
    "features": read_tokens,
}
_PROJECTED: Mapping[TaskName, Answer] = {
    "embed": lambda module, pixels: module(pixels).image_embeds,
    "features": read_tokens,
}
_IMAGE_FEATURES: Mapping[TaskName, Answer] = {
    "embed": lambda module, pixels: module.get_image_features(pixels).pooler_output,
    "features": read_tokens,
}


def save(module: Any, folder: Path) -> Path:
    module.save_pretrained(folder)
    return folder


def _case(family: str, kind: str, config: str, answers: Mapping[TaskName, Answer], **args: Any) -> Case:
    def build() -> Any:
        transformers = import_transformers()
        return getattr(transformers, kind)(getattr(transformers, config)(**args))

    return Case(family, "transformers", kind, build, save, answers)


_TEXT = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
_TOWER = {**_SMALL, "intermediate_size": 1536, "num_hidden_layers": 4}

CASES = (
    _case("ViT", "ViTForImageClassification", "ViTConfig", _LOGITS, **_TINY),
    _case("DINO", "ViTModel", "ViTConfig", _TOKEN, **_TINY),
    _case("DeiT", "DeiTForImageClassification", "DeiTConfig", _LOGITS, **_TINY),
    _case("DeiT, distilled", "DeiTForImageClassificationWithTeacher", "DeiTConfig", _LOGITS, **_TINY),
    _case("MAE", "ViTMAEModel", "ViTMAEConfig", _TOKEN, mask_ratio=0.0),
    _case("DINOv2", "Dinov2ForImageClassification", "Dinov2Config", _LOGITS, **_SMALL),
    _case("DINOv2", "Dinov2Model", "Dinov2Config", _POOLED, **_SMALL, use_swiglu_ffn=True),
    _case(
        "DINOv2, with registers",
        "Dinov2WithRegistersForImageClassification",
        "Dinov2WithRegistersConfig",
        _LOGITS,
        **_SMALL,
        patch_size=14,
    ),
    _case(
        "DINOv2, with registers",
        "Dinov2WithRegistersModel",
        "Dinov2WithRegistersConfig",
        _POOLED,
        **_SMALL,
        patch_size=14,
    ),
    _case("DINOv3", "DINOv3ViTModel", "DINOv3ViTConfig", _POOLED, num_register_tokens=4),
    _case("CLIP", "CLIPVisionModel", "CLIPVisionConfig", _POOLED),
    _case("CLIP, with projection", "CLIPVisionModelWithProjection", "CLIPVisionConfig", _PROJECTED),
    _case("CLIP, with text tower", "CLIPModel", "CLIPConfig", _IMAGE_FEATURES, vision_config=_TOWER, text_config=_TEXT),
    _case(
        "CLIP classifier",
        "CLIPForImageClassification",
        "CLIPConfig",
        _LOGITS,
        vision_config=_TOWER,
        text_config=_TEXT,
        num_labels=10,
    ),
    _case("SigLIP", "SiglipVisionModel", "SiglipVisionConfig", _POOLED),
    _case(
        "SigLIP, SigLIP 2 (fixed size), with text tower",
        "SiglipModel",
        "SiglipConfig",
        _IMAGE_FEATURES,
        vision_config=_TOWER,
        text_config=_TEXT,
    ),
    _case(
        "SigLIP classifier",
        "SiglipForImageClassification",
        "SiglipConfig",
        _LOGITS,
        vision_config={**_TOWER, "image_size": 100, "patch_size": 14},
        text_config=_TEXT,
        num_labels=10,
    ),
)
