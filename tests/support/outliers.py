"""A checkpoint with planted outlier channels, whose INT8 loses accuracy and whose float model hardly changes."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path


def plant_outliers(source: Path, out: Path, blocks: Sequence[int], factor: float = 3000.0, channels: int = 8) -> Path:
    """Copy a timm folder of a ViT, with some hidden channels of some MLPs ``factor`` times as large.

    A channel's row of fc1 is multiplied, its column of fc2 divided. Behind GELU, which no factor passes, this is not
    quite the same function: ``gelu(k·x) / k`` nears ``relu(x)``. The changed checkpoint is the model; its fc2 reads one
    tensor of two magnitudes, which one grid of 256 steps does not hold. The channels are those that carry most, so that
    leaving them outside the grid is no way out.
    """
    from safetensors.torch import load_file, save_file

    out.mkdir(parents=True)
    shutil.copyfile(source / "config.json", out / "config.json")
    tensors = load_file(source / "model.safetensors")
    for block in blocks:
        first, second = f"blocks.{block}.mlp.fc1", f"blocks.{block}.mlp.fc2"
        weight = tensors[f"{second}.weight"]
        carried = weight.norm(dim=0) * tensors[f"{first}.weight"].norm(dim=1)
        chosen = carried.argsort(descending=True)[:channels]
        tensors[f"{first}.weight"][chosen] *= factor
        tensors[f"{first}.bias"][chosen] *= factor
        weight[:, chosen] /= factor
    save_file(tensors, out / "model.safetensors")
    return out
