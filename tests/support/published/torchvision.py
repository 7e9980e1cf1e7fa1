"""Small models of torchvision's own classes."""

from __future__ import annotations

from typing import Any

import torch

from tests.support.reference import import_torchvision, randomise


def build_vit(**changes: Any) -> torch.nn.Module:
    """A ViT of two blocks."""
    import_torchvision()
    from torchvision.models.vision_transformer import VisionTransformer

    args: dict[str, Any] = {"image_size": 32, "patch_size": 8, "num_layers": 2, "num_heads": 2, "hidden_dim": 16}
    return randomise(VisionTransformer(**{**args, "mlp_dim": 24, "num_classes": 5, **changes}))


def build_swin(**changes: Any) -> torch.nn.Module:
    """A Swin of two stages."""
    import_torchvision()
    from torchvision.models.swin_transformer import SwinTransformer

    args: dict[str, Any] = {
        "patch_size": [4, 4], "embed_dim": 12, "depths": [2, 2], "num_heads": [2, 3], "window_size": [3, 3],
        "num_classes": 4,
    }  # fmt: skip
    return randomise(SwinTransformer(**{**args, **changes}))
