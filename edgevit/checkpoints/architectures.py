"""timm's architecture names as data: the dimensions behind them, and the preprocessing that timm documents for them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgevit.errors import CheckpointError
from edgevit.models import ModelConfig, SwinConfig, ViTConfig

_IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
_HALF = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
_CLIP = {"mean": [0.48145466, 0.4578275, 0.40821073], "std": [0.26862954, 0.26130258, 0.27577711]}
_COMMON = {"interpolation": "bicubic", "crop_mode": "center"}

# Width, depth, heads, MLP width over width.
_VIT: Mapping[str, tuple[int, int, int, float]] = {
    "tiny": (192, 12, 3, 4),
    "small": (384, 12, 6, 4),
    "base": (768, 12, 12, 4),
    "large": (1024, 24, 16, 4),
    "huge": (1280, 32, 16, 4),
    "giant": (1408, 40, 16, 48 / 11),
    "gigantic": (1664, 48, 16, 64 / 13),
}
_DEIT = ("tiny", "small", "base")
# Width of the first stage, depths, heads.
_SWIN: Mapping[str, tuple[int, tuple[int, ...], tuple[int, ...]]] = {
    "tiny": (96, (2, 2, 6, 2), (3, 6, 12, 24)),
    "small": (96, (2, 2, 18, 2), (3, 6, 12, 24)),
    "base": (128, (2, 2, 18, 2), (4, 8, 16, 32)),
    "large": (192, (2, 2, 18, 2), (6, 12, 24, 48)),
}

# Suffixes of timm's older names, from before tags; they do not change the model.
_VIT_NAME = re.compile(rf"vit_(?P<size>{'|'.join(_VIT)})_patch(?P<patch>\d+)_(?P<image>\d+)(_miil)?(_in21k|_sam)?")
_DEIT_NAME = re.compile(
    rf"deit_(?P<size>{'|'.join(_DEIT)})_(?P<distilled>distilled_)?patch(?P<patch>16)_(?P<image>\d+)"
)
_SWIN_NAME = re.compile(
    rf"swin_(?P<size>{'|'.join(_SWIN)})_patch(?P<patch>4)_window(?P<window>\d+)_(?P<image>\d+)(_in22k)?"
)

EXAMPLES = tuple(
    [f"vit_{size}_patch{patch}_{image}" for size in _VIT for patch in (8, 14, 16, 32) for image in (224, 384)]
    + [f"deit_{size}_{kind}patch16_{image}" for size in _DEIT for kind in ("", "distilled_") for image in (224, 384)]
    + [f"swin_{size}_patch4_window{w}_{image}" for size in _SWIN for w, image in ((7, 224), (12, 384))]
)
_FORMS = (
    "vit_SIZE_patchP_IMAGE, deit_SIZE_patch16_IMAGE, deit_SIZE_distilled_patch16_IMAGE, swin_SIZE_patch4_windowM_IMAGE"
)

# Weights that saw other pixels than their architecture's default: by tag, or by a name whose default they are.
_OTHER_PIXELS: Mapping[str, Mapping[str, Any]] = {
    "dino": _IMAGENET,
    "mae": _IMAGENET,
    "bamboo": {**_CLIP, "crop_pct": 1.0},
    "vit_small_patch8_224": _IMAGENET,
    "vit_base_patch16_224_miil": {
        "mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0], "crop_pct": 0.875, "interpolation": "bilinear",
    },
}  # fmt: skip

# What the rest of timm's nearest families has and the canonical models have not.
_UNSUPPORTED = {
    "deit3_": "DeiT III (layer scale)",
    "swinv2_": "Swin V2",
    "swin_s3_": "Swin S3 (a window for each stage)",
    "beit": "BEiT",
    "eva": "EVA",
    "cait_": "CaiT",
    "xcit_": "XCiT",
}


@dataclass(frozen=True)
class Architecture:
    """What a timm architecture name stands for.

    Attributes:
        name: Without publisher and tag.
        config: As timm builds it by default.
        pretrained_cfg: The preprocessing that timm documents for it, in timm's own keys.
    """

    name: str
    config: ModelConfig
    pretrained_cfg: Mapping[str, Any]


def find_architecture(name: str) -> Architecture:
    """Look up a timm architecture; a publisher before ``/`` and a tag behind ``.`` are passed over.

    Raises:
        CheckpointError: The name is not known; with close matches.
    """
    bare, _, tag = name.rpartition("/")[2].partition(".")
    for pattern, build in ((_VIT_NAME, _build_vit), (_DEIT_NAME, _build_deit), (_SWIN_NAME, _build_swin)):
        if match := pattern.fullmatch(bare):
            try:
                config, pixels = build(match)
            except (ValueError, ZeroDivisionError) as exc:
                raise CheckpointError(f"architecture {name!r} is not possible: {exc}", "check the name") from exc
            cfg = {**_COMMON, **pixels, "crop_pct": 1.0 if int(match["image"]) >= 384 else 0.9}
            return Architecture(bare, config, {**cfg, **_OTHER_PIXELS.get(bare, {}), **_OTHER_PIXELS.get(tag, {})})
    what = next((what for prefix, what in _UNSUPPORTED.items() if bare.startswith(prefix)), None)
    close = difflib.get_close_matches(bare, EXAMPLES, n=3)
    raise CheckpointError(
        f"architecture {name!r} is not {'supported' if what is None else f'supported yet: {what}'}",
        f"{f'did you mean {chr(44).join(close)}? ' if close else ''}supported are timm's names of the forms {_FORMS}",
    )


def _build_vit(match: re.Match[str], **more: Any) -> tuple[ModelConfig, Mapping[str, Any]]:
    width, depth, heads, ratio = _VIT[match["size"]]
    image, patch = int(match["image"]), int(match["patch"])
    if "miil" in match[0]:
        more["qkv_bias"] = False
    config = ViTConfig((image, image), (patch, patch), 3, width, depth, heads, int(width * ratio), **more)
    return config, _HALF


def _build_deit(match: re.Match[str]) -> tuple[ModelConfig, Mapping[str, Any]]:
    distilled = bool(match["distilled"])
    return _build_vit(match, distillation_token=distilled, distillation_head=distilled)[0], _IMAGENET


def _build_swin(match: re.Match[str]) -> tuple[ModelConfig, Mapping[str, Any]]:
    width, depths, heads = _SWIN[match["size"]]
    image, window = int(match["image"]), int(match["window"])
    if not window:
        raise ValueError("a window has at least one token")
    return SwinConfig((image, image), (4, 4), 3, width, depths, heads, (window, window)), _IMAGENET
