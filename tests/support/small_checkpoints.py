"""Small checkpoints for tests that need one and not a publisher's code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from edgevit.models import ViT, ViTConfig
from tests.support.reference import randomise

ARGS: dict[str, Any] = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2}
CONFIG: dict[str, Any] = {
    "architecture": "vit_tiny_patch16_224",
    "num_classes": 3,
    "model_args": ARGS,
    "label_names": ["one", "two", "three"],
    "pretrained_cfg": {
        "input_size": [3, 32, 32],
        "interpolation": "bicubic",
        "crop_pct": 0.9,
        "crop_mode": "center",
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
    },
}


def small_tensors(seed: int = 0) -> dict[str, Tensor]:
    """A small ViT's parameters; the canonical names are timm's."""
    config = ViTConfig((32, 32), (8, 8), width=16, depth=2, heads=2, mlp_width=64, classes=3)
    return {name: value.detach() for name, value in randomise(ViT(config), seed).state_dict().items()}


def write_config(folder: Path, **changes: Any) -> None:
    """``config.json``; a change to ``None`` removes the key."""
    config = {key: value for key, value in {**CONFIG, **changes}.items() if value is not None}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))


def write_folder(folder: Path, tensors: dict[str, Tensor] | None = None, **changes: Any) -> Path:
    """A timm hub folder."""
    write_config(folder, **changes)
    save_file(small_tensors() if tensors is None else tensors, folder / "model.safetensors")
    return folder
