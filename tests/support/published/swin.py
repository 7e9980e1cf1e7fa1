"""A Swin file with the names of Microsoft's project."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import torch


def save_swin(theirs: torch.nn.Module, path: Path | BytesIO) -> None:
    """Microsoft's names: a merging at its stage's end, a head without ``fc``, masks and indices stored."""
    names: dict[str, torch.Tensor] = {}
    for name, value in theirs.state_dict(keep_vars=True).items():
        parts = name.split(".")
        if "downsample" in parts:
            parts[1] = str(int(parts[1]) - 1)
        names[".".join(parts).replace("head.fc.", "head.")] = value.detach()
    for name, buffer in theirs.named_buffers():
        if name.endswith(("attn_mask", "relative_position_index", "relative_coords_table")):
            names[name] = buffer
    torch.save({"model": names}, path)
