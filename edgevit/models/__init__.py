"""Canonical models, one module a family, and their folds."""

from __future__ import annotations

from torch import nn

from edgevit.models.swin import Swin, SwinConfig
from edgevit.models.swin_v2 import SwinV2, SwinV2Config
from edgevit.models.vit import ViT, ViTConfig

__all__ = [
    "MODELS",
    "ModelConfig",
    "Swin",
    "SwinConfig",
    "SwinV2",
    "SwinV2Config",
    "ViT",
    "ViTConfig",
    "build_module",
    "find_family",
]

ModelConfig = ViTConfig | SwinConfig

MODELS: dict[str, tuple[type[ModelConfig], type[nn.Module]]] = {
    "vit": (ViTConfig, ViT),
    "swin": (SwinConfig, Swin),
    "swin_v2": (SwinV2Config, SwinV2),
}


def find_family(config: ModelConfig) -> str:
    """The registry name of a config's family."""
    return next(name for name, (kind, _) in MODELS.items() if type(config) is kind)


def build_module(config: ModelConfig) -> nn.Module:
    """The untrained module that a config describes."""
    module: nn.Module = MODELS[find_family(config)][1](config)
    return module
