"""Fold a LayerNorm's weight and bias into the Linear that reads it: ``W·(γ⊙x + β) + b = (W·diag γ)·x + (b + W·β)``.

Engines run the normalisation as one kernel and its affine part as another; folded, the second is gone. What is left of
the LayerNorm is invariant under rotations that keep the all-ones vector.

Scope: the norms before attention, MLP, patch merging, attention pooling and head, and those inside attention and MLP.
The mean over tokens in front of a head is linear, so the fold passes through it. Left alone: the norm behind Swin's
patch embedding and the one before a CLIP's blocks, which write to the residual stream; those of queries and keys, whose
reader is a product of two activations.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn

from edgevit.core.pass_record import PassRecord, Skip
from edgevit.models.attention_pool import AttentionPool
from edgevit.models.folds.weights import drop_affine, set_weights
from edgevit.models.layers import Attention, GatedMlp, Mlp
from edgevit.models.outlets import Outlet
from edgevit.models.pixels import PixelModel
from edgevit.models.swin import PatchMerging, RolledWindows, Swin, SwinBlock
from edgevit.models.swin_v2 import PatchMergingV2, SwinV2Block
from edgevit.models.vit import EncoderBlock, ViT


def fold_layer_norm_affine(pixels: PixelModel) -> PassRecord:
    """Fold in place, wherever every reader of a LayerNorm is a Linear; exact to rounding."""
    applied: list[str] = []
    skipped: list[Skip] = []
    for site, norm, readers in _pairs(pixels.model):
        if not isinstance(norm, nn.LayerNorm):
            continue
        if isinstance(readers, str):
            skipped.append(Skip(site, readers))
            continue
        weight, bias = norm.weight.detach().double(), norm.bias.detach().double()
        for linear in readers:
            times = linear.in_features // len(weight)  # class token and mean side by side
            _absorb(linear, weight.repeat(times), bias.repeat(times))
        drop_affine(norm)
        applied.append(site)
    return PassRecord("layer_norm_affine", "module", tuple(applied), tuple(skipped))


def _absorb(linear: nn.Linear, weight: Tensor, bias: Tensor) -> None:
    matrix = linear.weight.detach().double()
    offset = matrix @ bias
    if linear.bias is not None:
        offset = offset + linear.bias.detach().double()
    set_weights(linear, matrix * weight, offset)


def _pairs(model: nn.Module) -> Iterator[tuple[str, nn.Module, list[nn.Linear] | str]]:
    """Every LayerNorm, with the Linears that read it or the reason why it cannot be folded."""
    for name, module in model.named_modules():
        if isinstance(module, (EncoderBlock, SwinBlock)):
            padded = isinstance(module, SwinBlock) and _overhangs(module.windows)
            reason = "windows overhang the grid: their padding is zeros behind this norm"
            yield f"{name}.norm1", module.norm1, reason if padded else _projections(module.attn)
            assert isinstance(module.mlp, (Mlp, GatedMlp))
            gate = [module.mlp.gate] if isinstance(module.mlp, GatedMlp) else []
            yield f"{name}.norm2", module.norm2, [*gate, module.mlp.fc1]
            yield f"{name}.mlp.norm", module.mlp.norm, [module.mlp.fc2]
        elif isinstance(module, Attention):
            for part in ("q_norm", "k_norm"):
                yield f"{name}.{part}", getattr(module, part), "a product of two activations reads it"
            yield f"{name}.norm", module.norm, [module.proj]
        elif isinstance(module, AttentionPool):
            yield f"{name}.norm", module.norm, [module.mlp.fc1]
        elif isinstance(module, (SwinV2Block, PatchMergingV2)):
            for part in ("norm1", "norm2") if isinstance(module, SwinV2Block) else ("norm",):
                yield f"{name}.{part}", getattr(module, part), "it writes to the residual stream"
        elif isinstance(module, PatchMerging):
            yield f"{name}.norm", module.norm, [module.reduction]
        elif isinstance(module, Outlet):
            yield f"{name}.norm", module.norm, "features leave the model behind it"
    if isinstance(model, Swin):
        yield "patch_norm", model.patch_norm, "it writes to the residual stream"
    if isinstance(model, ViT):
        yield "norm_pre", model.norm_pre, "it writes to the residual stream"
    yield from _pairs_of_head(model)


def _pairs_of_head(model: nn.Module) -> Iterator[tuple[str, nn.Module, list[nn.Linear] | str]]:
    heads = [h for h in (model.head, getattr(model, "head_dist", None)) if isinstance(h, nn.Linear)]
    norm = model.norm
    assert isinstance(norm, nn.Module)
    if isinstance(model, ViT):
        heads = [model.projection] if model.projection is not None else heads
        pool = model.attn_pool
        if isinstance(model.fc_norm, nn.LayerNorm):
            yield "fc_norm", model.fc_norm, heads or "it is the model's output"
            if pool is None:
                yield "norm", norm, "another LayerNorm reads it"
                return
        if pool is not None:
            yield "norm", norm, [linear for linear in (pool.score, pool.k, pool.v) if linear is not None]
            return
    yield "norm", norm, heads or "it is the model's output"


def _overhangs(windows: nn.Module) -> bool:
    if isinstance(windows, RolledWindows):
        return windows.padded != windows.grid
    enter = getattr(windows, "enter", None)
    return enter is not None and bool(enter.overhang)


def _projections(attn: Attention) -> list[nn.Linear]:
    return [linear for linear in (attn.qkv, attn.q, attn.k, attn.v) if linear is not None]
