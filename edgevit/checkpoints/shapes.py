"""Architectures read off the shapes of tensors, for files that state nothing of themselves."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from torch import Tensor

from edgevit.checkpoints.fields import Size, choose_image_size
from edgevit.core.errors import CheckpointError, format_offenders
from edgevit.models import ModelConfig, SwinConfig, SwinV2Config, ViTConfig

_MASK = re.compile(r"(layers\.)?0\.blocks\.\d+\.attn_mask")
C = TypeVar("C", bound=ModelConfig)
K = TypeVar("K")

# Heads by width: the papers' sizes tiny to gigantic, So400m and DINOv2's giant. The tensors of a packed projection do
# not show them, and another number would give other answers without an error.
HEADS: Mapping[int, int] = {
    192: 3, 384: 6, 768: 12, 1024: 16, 1152: 16, 1280: 16, 1408: 16, 1536: 24, 1664: 16,
}  # fmt: skip


def measure_vit(
    found: Mapping[str, Tensor], source: str, *, prefix_tokens: int = 1, heads: int | None = None, **more: Any
) -> ViTConfig:
    """A ViT's config from its tensors.

    Args:
        found: Tensors by canonical name.
        source: For messages.
        prefix_tokens: Tokens before the patches that the position table covers.
        heads: Where the publisher's tensors show it; by default the one that goes with the width.
        more: Fields of :class:`~edgevit.models.ViTConfig` that shapes do not show, ``image_size`` among them where
            there is no table of positions.

    Raises:
        CheckpointError: A tensor that shows the size is missing or has no such shape, or the number of heads does not
            follow.
    """
    ranks = {"patch_embed.proj.weight": 4, "blocks.0.mlp.fc1.weight": 2}
    patch, fc1 = _require(found, ranks if "image_size" in more else {**ranks, "pos_embed": 3}, source)[:2]
    width, depth = patch.shape[0], 1 + max(int(n.split(".")[1]) for n in found if n.startswith("blocks."))
    if "image_size" not in more:
        side = _find_side(found["pos_embed"].shape[1], prefix_tokens, source)
        more["image_size"] = side * patch.shape[2], side * patch.shape[3]
    heads = heads or HEADS.get(width)
    if heads is None:
        raise CheckpointError(
            f"{source} does not state its number of attention heads, and none is known for width {width}",
            f"known widths are {', '.join(map(str, HEADS))}; save it as a timm or transformers folder, "
            "whose configuration states the heads",
        )
    values: dict[str, Any] = {
        "patch_size": (patch.shape[2], patch.shape[3]),
        "width": width,
        "depth": depth,
        "heads": heads,
        "mlp_width": fc1.shape[0],
        "qkv_bias": any(re.fullmatch(r"blocks\.0\.attn\.(qkv|q)\.bias", name) for name in found),
        "patch_bias": "patch_embed.proj.bias" in found,
    }
    return _build(ViTConfig, {**values, **more}, source)


def _find_side(positions: int, prefix_tokens: int, source: str) -> int:
    """Patches along one side of a square."""
    side = math.isqrt(max(positions - prefix_tokens, 0))
    if not side or side * side != positions - prefix_tokens:
        raise CheckpointError(
            f"{source} has {positions} position embeddings, which is no square of patches and "
            f"{prefix_tokens} token{'' if prefix_tokens == 1 else 's'}",
            "save it as a timm or transformers folder, whose configuration states the image size",
        )
    return side


def measure_swin(
    found: Mapping[str, Tensor], source: str, *, image_size: Size | None = None, **more: Any
) -> SwinConfig:
    """A Swin's config from its tensors.

    Args:
        found: Tensors by canonical name.
        source: For messages.
        image_size: Height and width; no tensor shows them. By default 32 times the window, as published Swins have it.
        more: Fields of :class:`~edgevit.models.SwinConfig` that shapes do not show.

    Raises:
        CheckpointError: A tensor that shows the size is missing or has no such shape.
    """
    shown, tables = _measure_stages(found, source, "bias.table", 2)
    sides = {name: math.isqrt(table.shape[0]) for name, table in tables.items()}
    odd = [
        f"{name}: {tuple(tables[name].shape)}"
        for name, side in sides.items()
        if side * side != tables[name].shape[0] or side % 2 == 0
    ]
    if odd:
        raise CheckpointError(
            f"{source} has tables of position biases that are for no square window:\n{format_offenders(odd)}",
            "check that this is a Swin's checkpoint",
        )
    window = (max(sides.values()) + 1) // 2
    values = {
        **shown,
        "image_size": image_size or (32 * window, 32 * window),
        "heads": tuple(table.shape[1] for table in tables.values()),
        "window": (window, window),
        "qkv_bias": any(re.fullmatch(r"layers\.0\.blocks\.0\.attn\.(qkv|q)\.bias", name) for name in found),
        "patch_norm": "patch_norm.weight" in found,
    }
    return _build(SwinConfig, {**values, **more}, source)


def measure_swin_v2(found: Mapping[str, Tensor], source: str, window: int, **more: Any) -> SwinV2Config:
    """A Swin V2's config from its tensors; its image is 32 times the window unless ``more`` says otherwise.

    Args:
        found: Tensors by canonical name.
        source: For messages.
        window: Side of the window, which no parameter shows.
        more: Fields of :class:`~edgevit.models.SwinV2Config` that shapes do not show.

    Raises:
        CheckpointError: A tensor that shows the size is missing or has no such shape.
    """
    shown, scales = _measure_stages(found, source, "attn.q_norm.logit_scale", 3)
    values = {
        **shown,
        "image_size": (32 * window, 32 * window),
        "heads": tuple(scale.shape[0] for scale in scales.values()),
        "window": (window, window),
        "pretrained_windows": (0,) * len(scales),
    }
    return _build(SwinV2Config, {**values, **more}, source)


def _measure_stages(
    found: Mapping[str, Tensor], source: str, part: str, rank: int
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What both Swins' tensors show alike; and, of every stage's first block, the one that shows the heads."""
    blocks: dict[int, int] = {}
    for name in found:
        if match := re.match(r"layers\.(\d+)\.blocks\.(\d+)\.", name):
            blocks[int(match[1])] = max(blocks.get(int(match[1]), 0), int(match[2]) + 1)
    depths = tuple(blocks.get(i, 0) for i in range(max(blocks, default=0) + 1))
    names = [f"layers.{i}.blocks.0.{part}" for i in range(len(depths))]
    ranks = {"patch_embed.proj.weight": 4, "layers.0.blocks.0.mlp.fc1.weight": 2, **dict.fromkeys(names, rank)}
    patch, fc1, *heads = _require(found, ranks, source)
    width = patch.shape[0]
    values = {"patch_size": tuple(patch.shape[2:]), "width": width, "depths": depths, "mlp_ratio": fc1.shape[0] / width}
    return values, dict(zip(names, heads, strict=True))


def find_masked_size(tensors: Mapping[str, Tensor]) -> Size | None:
    """A Swin's image size from a shift mask of its first stage, ``(…, nW, …, M·M, M·M)`` with axes of length 1 between.

    Windows times the tokens of one are the grid, which is square; the patch is the embedding's.
    """
    patch = tensors.get("patch_embed.proj.weight")
    for name, mask in tensors.items():
        if patch is not None and patch.ndim == 4 and _MASK.fullmatch(name) and mask.ndim >= 3:
            tokens = mask.numel() // mask.shape[-1] if mask.numel() else 0
            side = math.isqrt(tokens)
            if side and side * side == tokens:
                return side * patch.shape[2], side * patch.shape[3]
    return None


def describe_size(config: ModelConfig) -> str:
    """What a size that nobody published is called: ``ViT of width 16, depth 2, patch 8``."""
    if isinstance(config, SwinConfig):
        kind = "Swin V2" if isinstance(config, SwinV2Config) else "Swin"
        return f"{kind} of width {config.width}, depths {'-'.join(map(str, config.depths))}"
    return f"ViT of width {config.width}, depth {config.depth}, patch {config.patch_size[0]}"


def at_image_size(config: C, wanted: Size | None) -> C:
    """The config for another image size, or its own for ``None``.

    Raises:
        CheckpointError: The size is not possible.
    """
    size = choose_image_size(config.image_size, wanted, config.patch_size)
    return dataclasses.replace(config, image_size=size)


def _require(found: Mapping[str, Tensor], ranks: Mapping[str, int], source: str) -> list[Tensor]:
    lacking = [
        f"{name}: {'missing' if name not in found else f'shape {tuple(found[name].shape)}'}"
        for name, rank in ranks.items()
        if name not in found or found[name].ndim != rank or 0 in found[name].shape
    ]
    if lacking:
        raise CheckpointError(
            f"{source} lacks tensors that show the model's size (by timm's names):\n{format_offenders(lacking)}",
            "check that the file is whole, and that it is a ViT's or Swin's",
        )
    return [found[name] for name in ranks]


def _build(kind: Callable[..., K], values: Mapping[str, Any], source: str) -> K:
    try:
        return kind(**values)
    except (ValueError, ZeroDivisionError) as exc:
        raise CheckpointError(
            f"{source} describes no possible model: {exc}", "check that the file is whole, and its architecture"
        ) from exc
