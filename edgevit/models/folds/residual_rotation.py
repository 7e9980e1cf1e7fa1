"""Rotate the residual stream, so that no channel of it is an outlier for a quantiser.

For an orthogonal R that keeps the all-ones vector (R·1 = 1), mean and norm of a token are those of the rotated token,
so LN(R·x) = R·LN(x) for a LayerNorm without affine part. R then goes into everything that writes to the stream and Rᵀ
into everything that reads it, at no cost at run time. The idea is that of SliceGPT and QuaRot (Ashkboos et al., 2024,
arXiv:2401.15024 and arXiv:2404.00456), who rotate RMSNorm models; the all-ones condition carries it over to LayerNorm.

Scope: streams between pre-norm blocks whose LayerNorms and layer scales are folded
(:mod:`edgevit.models.folds.layer_norm_affine`, :mod:`edgevit.models.folds.layer_scale`). The norm before a CLIP's
blocks writes to the stream with an affine part, which no rotation passes through: a Linear behind it takes up that part
and R, for a twelfth of one block's products. In a Swin every stage has its own R; the first one keeps its stream,
because the norm behind the patch embedding, where tokens are many and the Linear would cost more, writes to it with an
affine part; in a Swin V2 all norms do so. Where pooled features or feature maps are the output, a Linear with Rᵀ takes
them back, and the affine part of the LayerNorm in front of it goes into that.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn

from edgevit.core.pass_record import PassRecord, Skip
from edgevit.models.folds.weights import drop_affine, make_linear, set_weights
from edgevit.models.layers import Attention, GatedMlp, LayerScale, Mlp
from edgevit.models.outlets import Outlet
from edgevit.models.pixels import PixelModel
from edgevit.models.swin import PatchMerging, Swin, SwinBlock, SwinStage
from edgevit.models.swin_v2 import SwinV2
from edgevit.models.vit import EncoderBlock, ViT


def fold_residual_rotation(pixels: PixelModel, seed: int = 0) -> PassRecord:
    """Rotate every stream that can be rotated, in place; exact to rounding.

    Args:
        pixels: With folded LayerNorms, and positions folded in a ViT.
        seed: Of the random rotations.
    """
    name, model = "residual_rotation", pixels.model
    generator = np.random.default_rng(seed)
    if isinstance(model, ViT):
        reason = _refuse_vit(model)
        if reason is not None:
            return PassRecord(name, "module", skipped=(Skip("blocks", reason),))
        _rotate_vit(model, make_rotation(model.config.width, generator))
        return PassRecord(name, "module", ("blocks",))
    if isinstance(model, SwinV2):
        reason = "norms with an affine part write to the stream (post-norm)"
        return PassRecord(name, "module", skipped=(Skip("layers", reason),))
    assert isinstance(model, Swin)
    return _rotate_swin(model, name, generator)


class RotatedNorm(nn.Module):
    """A LayerNorm whose affine part and R are one Linear: ``(…, C) → (…, C)``."""

    def __init__(self, norm: nn.LayerNorm, rotation: Tensor) -> None:
        super().__init__()
        gain, offset = norm.weight.detach().double(), norm.bias.detach().double()
        self.rotate = make_linear(rotation * gain, rotation @ offset)
        self.norm = nn.LayerNorm(len(gain), eps=norm.eps, device=norm.weight.device).requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        rotated: Tensor = self.rotate(self.norm(x))
        return rotated


def make_rotation(width: int, generator: np.random.Generator) -> Tensor:
    """A random orthogonal matrix with R·1 = 1: ``(width, width) float64``."""
    # A basis whose first vector is the normalised all-ones vector; the rotation acts on the others.
    start = np.concatenate([np.ones((width, 1)), generator.normal(size=(width, width - 1))], axis=1)
    basis = np.linalg.qr(start)[0]
    inner = np.eye(width)
    inner[1:, 1:] = np.linalg.qr(generator.normal(size=(width - 1, width - 1)))[0]
    return torch.from_numpy(basis @ inner @ basis.T)


def _refuse_vit(model: ViT) -> str | None:
    if model.positions is None:
        return "the position embedding is not folded"
    blocks = [block for block in model.blocks if isinstance(block, EncoderBlock)]
    if any(isinstance(scale, LayerScale) for block in blocks for scale in (block.ls1, block.ls2)):
        return "layer scale is not folded"
    norms: list[nn.Module] = [norm for block in blocks for norm in (block.norm1, block.norm2)]
    if not _list_readers(model):  # the affine part of the last norm goes into the Linear that takes the output back
        return _find_affine([*norms, model.norm] if isinstance(model.fc_norm, nn.LayerNorm) else norms)
    # Behind an attention pool the stream is another one.
    return _find_affine([*norms, model.norm, *([model.fc_norm] if model.attn_pool is None else [])])


def _list_readers(model: ViT) -> list[nn.Linear]:
    """The Linears that read the stream behind the last block."""
    pool = model.attn_pool
    if pool is not None:
        return [linear for linear in (pool.score, pool.k, pool.v) if linear is not None]
    heads = [model.projection] if model.projection is not None else [model.head, model.head_dist]
    return [head for head in heads if isinstance(head, nn.Linear)]


def _find_affine(norms: Iterable[nn.Module]) -> str | None:
    for norm in norms:
        if isinstance(norm, nn.LayerNorm) and not (bool((norm.weight == 1).all()) and bool((norm.bias == 0).all())):
            return "a LayerNorm has weights that are not folded into what reads it"
    return None


def _rotate_vit(model: ViT, rotation: Tensor) -> None:
    assert model.positions is not None
    proj = model.patch_embed.proj
    assert isinstance(proj, (nn.Linear, nn.Conv2d))
    if isinstance(model.norm_pre, nn.LayerNorm):
        # It is only of the patches: the prefix, which is rotated below, went through the norm as a constant.
        model.norm_pre = RotatedNorm(model.norm_pre, rotation)
    else:
        _rotate_output(proj, rotation)
        model.positions = (model.positions.double() @ rotation.T).float()
    if model.prefix is not None:
        model.prefix = (model.prefix.double() @ rotation.T).float()
    for block in model.blocks:
        assert isinstance(block, EncoderBlock)
        _rotate_block(block.attn, block.mlp, rotation)
        for name in ("pos_embed", "late_token"):
            if (constant := getattr(block, name)) is not None:
                rotated = (constant.double() @ rotation.T).float()
                setattr(block, name, nn.Parameter(rotated, requires_grad=False))
    for outlet in model.outlets.values():
        assert isinstance(outlet, Outlet)
        outlet.restore = _restore(outlet.norm, rotation)
    readers = _list_readers(model)
    if not readers and not len(model.outlets):
        last = model.fc_norm if isinstance(model.fc_norm, nn.LayerNorm) else model.norm
        model.head = _restore(last, rotation, model.config.pooled // model.config.width)
    for reader in readers:
        times = reader.in_features // model.config.width  # class token and mean side by side
        _rotate_input(reader, torch.kron(torch.eye(times, dtype=rotation.dtype), rotation))


def _rotate_swin(model: Swin, name: str, generator: np.random.Generator) -> PassRecord:
    applied: list[str] = []
    skipped = [Skip("layers.0", "the norm behind the patch embedding writes to it with an affine part")]
    stages = [stage for stage in model.layers if isinstance(stage, SwinStage)]
    for index, stage in enumerate(stages[1:], start=1):
        after = stages[index + 1].downsample if index + 1 < len(stages) else None
        norms: list[nn.Module] = [
            norm for block in stage.blocks if isinstance(block, SwinBlock) for norm in (block.norm1, block.norm2)
        ]
        if isinstance(after, PatchMerging):
            norms.append(after.norm)
        elif isinstance(model.head, nn.Linear):
            norms.append(model.norm)
        reason = _find_affine(norms)
        if reason is not None:
            skipped.append(Skip(f"layers.{index}", reason))
            continue
        rotation = make_rotation(model.config.stage_width(index), generator)
        assert isinstance(stage.downsample, PatchMerging)
        _rotate_output(stage.downsample.reduction, rotation)
        for block in stage.blocks:
            assert isinstance(block, SwinBlock)
            _rotate_block(block.attn, block.mlp, rotation)
        if str(index) in model.outlets:
            outlet = model.outlets[str(index)]
            assert isinstance(outlet, Outlet)
            outlet.restore = _restore(outlet.norm, rotation)
        if isinstance(after, PatchMerging):
            # Merging puts four rotated tokens side by side; together they are rotated by R four times over.
            _rotate_input(after.reduction, torch.kron(torch.eye(4, dtype=rotation.dtype), rotation))
        elif isinstance(model.head, nn.Linear):
            _rotate_input(model.head, rotation)
        elif not len(model.outlets):
            model.head = _restore(model.norm, rotation)
        applied.append(f"layers.{index}")
    return PassRecord(name, "module", tuple(applied), tuple(skipped))


def _rotate_block(attn: Attention, mlp: nn.Module, rotation: Tensor) -> None:
    assert isinstance(mlp, (Mlp, GatedMlp))
    gate = mlp.gate if isinstance(mlp, GatedMlp) else None
    for reader in (attn.qkv, attn.q, attn.k, attn.v, gate, mlp.fc1):
        if reader is not None:
            _rotate_input(reader, rotation)
    for writer in (attn.proj, mlp.fc2):
        _rotate_output(writer, rotation)


def _restore(norm: nn.Module, rotation: Tensor, times: int = 1) -> nn.Linear:
    """A Linear that takes what was rotated back, with the affine part of the norm in front of it, which loses its own.

    Behind a norm ``γ ⊙ Rᵀx + β``, else ``Rᵀx``.

    Args:
        norm: The last module in front of it.
        rotation: R.
        times: Vectors side by side in what it reads.
    """
    weight = torch.kron(torch.eye(times, dtype=rotation.dtype), rotation).T
    bias = torch.zeros(len(weight), dtype=rotation.dtype)
    if isinstance(norm, nn.LayerNorm):
        repeats = len(weight) // len(norm.weight)
        weight = norm.weight.detach().double().repeat(repeats)[:, None] * weight
        bias = norm.bias.detach().double().repeat(repeats)
        drop_affine(norm)
    return make_linear(weight, bias)


def _rotate_output(layer: nn.Linear | nn.Conv2d, rotation: Tensor) -> None:
    weight = layer.weight.detach().double()
    rotated = (rotation @ weight.flatten(1)).reshape(weight.shape)
    set_weights(layer, rotated, None if layer.bias is None else rotation @ layer.bias.detach().double())


def _rotate_input(linear: nn.Linear, rotation: Tensor) -> None:
    set_weights(linear, linear.weight.detach().double() @ rotation.T, linear.bias)
