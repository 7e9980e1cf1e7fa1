"""DINO's, DINOv2's and DINOv3's containers and names for a timm module's parameters."""

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


def name_as_dinov3(module: Any) -> State:
    """DINOv3's names for timm's module, which from here on has the periods of the file, rounded to bfloat16.

    Masked biases of keys are not zero in the file.
    """
    periods = module.rope.periods
    periods.copy_(periods.bfloat16())
    state: State = module.state_dict()
    width = state["norm.weight"].numel()
    renamed: State = {"mask_token": torch.zeros(1, width), "rope_embed.periods": periods.bfloat16()}
    mask = torch.cat([torch.ones(width), torch.zeros(width), torch.ones(width)])
    for timms, value in state.items():
        name = timms.replace("reg_token", "storage_tokens").replace("gamma_1", "ls1.gamma")
        name = name.replace("gamma_2", "ls2.gamma")
        if "mlp.fc1_g" in timms or "blocks.0.mlp.fc1_g.weight" in state:
            name = name.replace("fc1_g", "w1").replace("fc1_x", "w2").replace("mlp.fc2", "mlp.w3")
        if name.endswith("attn.q_bias"):
            block = name.removesuffix("q_bias")
            renamed[f"{block}qkv.bias"] = torch.cat([value, torch.ones(width), state[f"{block}v_bias"]])
            renamed[f"{block}qkv.bias_mask"] = mask
        elif not name.endswith("attn.v_bias"):
            renamed[name] = value
    return renamed
