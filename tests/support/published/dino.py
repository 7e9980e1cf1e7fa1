"""DINO's and DINOv2's containers and names for a timm module's parameters."""

from __future__ import annotations

import argparse
from typing import Any

import torch
from torch import Tensor

State = dict[str, Tensor]


def dino_checkpoint(student: torch.nn.Module, teacher: torch.nn.Module) -> dict[str, Any]:
    """What ``main_dino.py`` saves; the student is wrapped for parallel training, the teacher is not."""

    def name(state: State, before: str) -> State:
        head = {f"{before}head.mlp.0.weight": torch.ones(8, 4), f"{before}head.last_layer.weight_g": torch.ones(8, 1)}
        return {f"{before}backbone.{n}": t for n, t in state.items()} | head

    return {
        "student": name(student.state_dict(), "module."),
        "teacher": name(teacher.state_dict(), ""),
        "optimizer": {"state": {}, "param_groups": []},
        "epoch": 100,
        "args": argparse.Namespace(arch="vit_small", patch_size=16),
        "dino_loss": {"center": torch.zeros(1, 65536)},
    }


def name_as_dinov2(state: State, chunks: int = 0) -> State:
    """timm's names back to DINOv2's; timm adds the class token's position to the token where there are registers."""
    renamed: State = {"mask_token": torch.zeros(1, state["norm.weight"].numel())}
    blocks = 1 + max(int(n.split(".")[1]) for n in state if n.startswith("blocks."))
    for timms, value in state.items():
        name = timms.replace("reg_token", "register_tokens")
        if name.startswith("blocks.") and chunks:
            number = int(name.split(".")[1])
            renamed[name.replace(f"blocks.{number}.", f"blocks.{number * chunks // blocks}.{number}.")] = value
        else:
            renamed[name] = value
    if "register_tokens" in renamed:
        position = torch.randn(1, 1, renamed["pos_embed"].shape[-1])
        renamed["pos_embed"] = torch.cat([position, renamed["pos_embed"]], dim=1)
        renamed["cls_token"] = renamed["cls_token"] - position
    return renamed
