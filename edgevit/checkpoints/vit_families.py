"""timm's names of Vision Transformers as data: the families, the dimensions behind them, the pixels that they saw.

Written from timm 1.0 (``vision_transformer.py``, ``deit.py``, ``eva.py``);
``tests/checkpoints/test_architectures.py`` compares every name that timm knows.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from edgevit.checkpoints.rope import Rope
from edgevit.models import ViTConfig

# Width, depth, heads, MLP width over width.
Dimensions = tuple[int, int, int, float]

IMAGENET: Mapping[str, Any] = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
_HALF = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
_CLIP = {"mean": [0.48145466, 0.4578275, 0.40821073], "std": [0.26862954, 0.26130258, 0.27577711]}
_SATELLITE = {"mean": [0.430, 0.411, 0.296], "std": [0.213, 0.156, 0.143]}
_RAW = {"mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0]}
_SQUASH = {"crop_mode": "squash"}

SIZES: Mapping[str, Dimensions] = {
    "tiny": (192, 12, 3, 4),
    "small": (384, 12, 6, 4),
    "base": (768, 12, 12, 4),
    "large": (1024, 24, 16, 4),
    "huge": (1280, 32, 16, 4),
    "giant": (1408, 40, 16, 48 / 11),
    "gigantic": (1664, 48, 16, 64 / 13),
}
_PLUS: Mapping[str, Dimensions] = {"base": (896, 12, 14, 4)}
_BETWEEN: Mapping[str, Dimensions] = {"medium": (512, 12, 8, 4), "betwixt": (640, 12, 10, 4)}
_CLIP_SIZES: Mapping[str, Dimensions] = {**SIZES, **_BETWEEN, "xsmall": (256, 10, 4, 4)}
# DINOv2's giant has a gated MLP, whose hidden width is a third less.
_DINO_SIZES: Mapping[str, Dimensions] = {**SIZES, "so400m": (1152, 27, 16, 4304 / 1152), "giant": (1536, 40, 24, 8 / 3)}
# Of DINOv3 the plus models and the 7B have gated MLPs.
_COMMON = {size: SIZES[size] for size in ("tiny", "small", "base", "large")}
_DINOV3_SIZES: Mapping[str, Dimensions] = {
    **_COMMON,
    "small_plus": SIZES["small"],
    "huge_plus": (1280, 32, 20, 4),
    "7b": (4096, 40, 32, 2),
}
_LINGBOT_SIZES: Mapping[str, Dimensions] = {**_COMMON, "giant": (1536, 40, 24, 8 / 3)}
_EVA02_SIZES: Mapping[str, Dimensions] = {size: (*_COMMON[size][:3], 8 / 3) for size in _COMMON}
_PE_GIGANTIC: Mapping[str, Dimensions] = {"gigantic": (1536, 50, 16, 8960 / 1536)}
_PE_LANG: Mapping[str, Mapping[str, Dimensions]] = {
    "large": {"large": (1024, 23, 16, 4)},
    "gigantic": {"gigantic": (1536, 47, 16, 8960 / 1536)},
}
_SIGLIP_SIZES: Mapping[str, Dimensions] = {**SIZES, "so400m": (1152, 27, 16, 3.7362), "giantopt": (1536, 40, 16, 4)}
_GAP_SIZES: Mapping[str, Dimensions] = {**SIZES, "base": (768, 12, 16, 4)}
_REGISTER_SIZES: Mapping[str, Dimensions] = {
    **_BETWEEN,
    "wee": (256, 14, 4, 5),
    "little": (320, 14, 5, 5.6),
    "mediumd": (512, 20, 8, 4),
}
_DEIT3_SIZES: Mapping[str, Dimensions] = {**SIZES, "medium": (512, 12, 8, 4)}

_CLIP_FIELDS = {"norm_before_blocks": True, "patch_bias": False, "norm_eps": 1e-5}
_MAP_FIELDS = {"class_token": False, "pool": "map"}
_GAP_FIELDS = {"class_token": False, "pool": "mean"}
_NO_PREFIX = {"position_prefix": False}
_SCALED = {"layer_scale": True}
_ROTARY = {"position": "rotary", "position_prefix": False, **_SCALED}
_NORM_LAST = {"norm_before_pool": False, "norm_after_pool": True}
_DINOV3_FIELDS = {**_ROTARY, "norm_eps": 1e-5, "register_tokens": 4}
_DINOV3_ROPE = Rope(centred=True, temperature=100.0, half=True)
_EVA02_FIELDS = {"gated_mlp": True, "activation": "silu"}
_EVA02_ROPE = Rope(reference=(16, 16))
_PE_FIELDS = {**_CLIP_FIELDS, "pool": "mean", "norm_before_pool": False}
_PE_CORE_FIELDS = {**_CLIP_FIELDS, "pool": "map", "pool_prefix": True, "pool_heads": 8}
_PE_ROPE = Rope(columns_first=True, offset=1.0)  # its reference is the grid of the name
_PE_ROPE_GIGANTIC = Rope(columns_first=True)
_NAVER_ROPE = Rope(temperature=100.0, columns_first=True)


@dataclass(frozen=True)
class ViTFamily:
    """Names of one form.

    Attributes:
        pattern: With groups ``size`` and, where the name says them, ``patch``, ``image`` and ``registers``.
        sizes: Dimensions by the name's size.
        fields: Of :class:`~edgevit.models.ViTConfig`, where they are not its defaults.
        pixels: In timm's keys of ``pretrained_cfg``.
        image: Where the name does not say it.
        patch: Where the name does not say it.
        rope: Rotary positions, where timm writes it as an EVA.
    """

    pattern: str
    sizes: Mapping[str, Dimensions] = field(default_factory=lambda: SIZES)
    fields: Mapping[str, Any] = field(default_factory=dict)
    pixels: Mapping[str, Any] = field(default_factory=lambda: _HALF)
    image: int = 224
    patch: int = 16
    rope: Rope | None = None


def _vit(rest: str) -> str:
    return rf"vit_(?P<size>[a-z0-9]+)_patch(?P<patch>\d+)_{rest}"


def _pe(kind: str) -> str:
    return rf"vit_pe_{kind}_(?P<size>[a-z]+)_patch(?P<patch>\d+)_(?P<image>\d+)"


_REGISTERS_GAP = _vit(r"reg(?P<registers>\d+)_gap_(?P<image>\d+)")
_SO150M = {"so150m": (896, 18, 14, 2.572)}

# The first that matches counts. Behind the plain names are suffixes from before timm had tags.
FAMILIES: tuple[ViTFamily, ...] = (
    ViTFamily(_vit(r"(?P<image>\d+)_miil(_in21k)?"), fields={"qkv_bias": False}),
    ViTFamily(_vit(r"(?P<image>\d+)(_in21k|_sam|_dino)?")),
    ViTFamily(_vit(r"(?P<image>\d+)_clip_laion2b"), _CLIP_SIZES, _CLIP_FIELDS, _CLIP),
    ViTFamily(_vit(r"plus_(?P<image>\d+)"), _PLUS, _SCALED),
    ViTFamily(_vit(r"36x1_(?P<image>\d+)"), {"small": (384, 36, 6, 4)}, _SCALED),
    ViTFamily(r"deit_(?P<size>tiny|small|base)_patch(?P<patch>16)_(?P<image>\d+)", pixels=IMAGENET),
    ViTFamily(
        r"deit_(?P<size>tiny|small|base)_distilled_patch(?P<patch>16)_(?P<image>\d+)",
        fields={"distillation_token": True, "distillation_head": True},
        pixels=IMAGENET,
    ),
    ViTFamily(
        r"deit3_(?P<size>[a-z]+)_patch(?P<patch>\d+)_(?P<image>\d+)", _DEIT3_SIZES, {**_NO_PREFIX, **_SCALED}, IMAGENET
    ),
    ViTFamily(_vit("dinov2"), _DINO_SIZES, _SCALED, IMAGENET, image=518),
    ViTFamily(_vit(r"reg(?P<registers>\d+)_dinov2"), _DINO_SIZES, {**_SCALED, **_NO_PREFIX}, IMAGENET, image=518),
    ViTFamily(  # without registers in the name there are four; timm reads out the mean, its publisher the class token
        r"vit_(?P<size>[a-z0-9]+(_plus)?)_patch(?P<patch>\d+)_dinov3(_qkvb)?",
        _DINOV3_SIZES,
        {**_DINOV3_FIELDS, "qkv_bias": False, "pool": "mean"},
        IMAGENET,
        image=256,
        rope=_DINOV3_ROPE,
    ),
    ViTFamily(_vit("lingbot"), _LINGBOT_SIZES, _DINOV3_FIELDS, IMAGENET, image=512, rope=_DINOV3_ROPE),
    ViTFamily(
        r"eva02_(?P<size>tiny|small|base|large)_patch(?P<patch>\d+)_(?P<image>\d+)",
        _EVA02_SIZES,
        {**_EVA02_FIELDS, **_NORM_LAST, "pool": "mean"},
        _CLIP,
        rope=_EVA02_ROPE,
    ),
    ViTFamily(
        r"eva02_(?P<size>base|large)_patch(?P<patch>\d+)_clip_(?P<image>\d+)",
        _EVA02_SIZES,
        {**_EVA02_FIELDS, "attention_norm": True},
        _CLIP,
        rope=_EVA02_ROPE,
    ),
    ViTFamily(_pe("core"), _COMMON, _PE_CORE_FIELDS, rope=_PE_ROPE),
    ViTFamily(
        _pe("core"),
        _PE_GIGANTIC,
        {**_PE_CORE_FIELDS, "class_token": False, "pool_mlp_width": 6144},
        rope=_PE_ROPE_GIGANTIC,
    ),
    ViTFamily(_pe("lang"), _PE_LANG["large"], {**_PE_FIELDS, **_SCALED}, rope=_PE_ROPE),
    ViTFamily(_pe("spatial"), _COMMON, _PE_FIELDS, rope=_PE_ROPE),
    *(
        ViTFamily(_pe(kind), sizes, {**_PE_FIELDS, **_SCALED, "class_token": False}, rope=_PE_ROPE_GIGANTIC)
        for kind, sizes in (("lang", _PE_LANG["gigantic"]), ("spatial", _PE_GIGANTIC))
    ),
    ViTFamily(
        _vit(r"rope_reg(?P<registers>\d+)_gap_(?P<image>\d+)"),
        {**_REGISTER_SIZES, "base": SIZES["base"]},
        {**_ROTARY, **_GAP_FIELDS, **_NORM_LAST},
        rope=_EVA02_ROPE,
    ),
    ViTFamily(_vit(r"rope_(?P<image>\d+)"), _COMMON, _ROTARY, IMAGENET, rope=_NAVER_ROPE),
    ViTFamily(_vit(r"rope_ape_(?P<image>\d+)"), _COMMON, {**_NO_PREFIX, **_SCALED}, IMAGENET, rope=_NAVER_ROPE),
    ViTFamily(_vit(r"reg(?P<registers>\d+)_tipsv2"), _DINO_SIZES, {**_SCALED, **_NO_PREFIX}, _RAW, image=448),
    ViTFamily(_vit(r"clip_(?P<image>\d+)"), _CLIP_SIZES, _CLIP_FIELDS, _CLIP),
    ViTFamily(_vit(r"plus_clip_(?P<image>\d+)"), _PLUS, _CLIP_FIELDS, _CLIP),
    ViTFamily(_vit(r"clip_quickgelu_(?P<image>\d+)"), _CLIP_SIZES, {**_CLIP_FIELDS, "activation": "quick_gelu"}, _CLIP),
    ViTFamily(_vit(r"siglip_(?P<image>\d+)"), _SIGLIP_SIZES, _MAP_FIELDS),
    ViTFamily(_vit(r"siglip_gap_(?P<image>\d+)"), _SIGLIP_SIZES, _GAP_FIELDS),
    ViTFamily(_vit(r"gap_(?P<image>\d+)"), _BETWEEN, {**_GAP_FIELDS, **_SCALED, "qkv_bias": False}),
    ViTFamily(_vit(r"gap_(?P<image>\d+)"), _GAP_SIZES, _GAP_FIELDS),
    ViTFamily(_REGISTERS_GAP, _REGISTER_SIZES, {**_GAP_FIELDS, **_NO_PREFIX, **_NORM_LAST, **_SCALED}),
    ViTFamily(_REGISTERS_GAP, {"base": SIZES["base"]}, {**_GAP_FIELDS, **_NO_PREFIX, **_NORM_LAST}),
    ViTFamily(_REGISTERS_GAP, _SO150M, {**_GAP_FIELDS, "position_registers": True}),
    ViTFamily(_vit(r"reg(?P<registers>\d+)_map_(?P<image>\d+)"), _SO150M, {**_MAP_FIELDS, "position_registers": True}),
    ViTFamily(
        _REGISTERS_GAP,
        {"so150m2": (832, 21, 13, 34 / 13)},
        {**_GAP_FIELDS, **_NORM_LAST, **_SCALED, "position_registers": True, "qkv_bias": False},
    ),
    ViTFamily(r"flexivit_(?P<size>small|base|large)", fields=_NO_PREFIX, pixels={**_HALF, "crop_pct": 0.95}, image=240),
    # MAE's ViT-L with the mean of all tokens, trained by EVA's authors, and their giant, which has no other positions.
    ViTFamily(
        r"eva_(?P<size>large)_patch(?P<patch>14)_(?P<image>\d+)",
        fields={"pool": "mean", **_NORM_LAST},
        pixels={**_CLIP, "crop_pct": 1.0},
    ),
    ViTFamily(
        r"eva_(?P<size>giant)_patch(?P<patch>14)_(?P<image>\d+)",
        fields={"pool": "mean", **_NORM_LAST},
        pixels=_CLIP,
    ),
    ViTFamily(r"eva_(?P<size>giant)_patch(?P<patch>14)_clip_(?P<image>\d+)", pixels=_CLIP),
    ViTFamily(
        r"vit_(?P<size>intern300m)_patch(?P<patch>14)_(?P<image>\d+)",
        {"intern300m": (1024, 24, 16, 4)},
        {**_SCALED, "norm_before_pool": False},
        IMAGENET,
    ),
)

# More fields, by the name without its tag.
_FIELDS: tuple[tuple[str, Mapping[str, Any]], ...] = (
    (
        r"vit_giant_.*(dinov2|tipsv2)|vit_(\w+_plus|7b)_.*dinov3.*|vit_giant_.*lingbot",
        {"gated_mlp": True, "activation": "silu"},
    ),
    (
        r"vit_(base_patch32|so400m_patch16|giantopt_patch16)_siglip_.*|vit_large_patch16_siglip_(gap_)?512",
        {"activation": "gelu_tanh"},
    ),
    (r".*_siglip_.*", {"drop_remainder": True}),
    (r".*_qkvb", {"qkv_bias": True}),
    (r"vit_giant_.*lingbot|vit_mediumd_.*_rope_.*", {"qkv_bias": False}),
    (r"eva02_(base|large)_.*", {"mlp_norm": True}),
)

# What weights saw, by name and tag as ``name.tag``; of several that match, the later counts.
_PIXELS: tuple[tuple[str, Mapping[str, Any]], ...] = (
    (r"[^.]*_(384|448|512|518|896)\..*|[^.]*dinov[23](_qkvb)?\..*|[^.]*tipsv2\..*|[^.]*_clip_.*", {"crop_pct": 1.0}),
    (r".*\.(dino|mae)", IMAGENET),
    (r".*\.sat493m", _SATELLITE),
    (r"vit_small_patch8_224\.|vit_\w+_224_dino\.", IMAGENET),
    (r".*\.bamboo", {**_CLIP, "crop_pct": 1.0}),
    (r"[^.]*_miil.*", {**_RAW, "crop_pct": 0.875, "interpolation": "bilinear"}),
    (r"deit3_.*\.fb_in22k_ft_in1k", {"crop_pct": 1.0}),
    (r"vit_\w+_plus_(240|256)\..*", {"crop_pct": 0.95}),
    (r"vit_(medium|betwixt)_patch16_gap_.*|vit_\w+_reg[14]_gap_256\..*", {"crop_pct": 0.95}),
    (r"vit_base_patch16_reg4_gap_256\..*", {"crop_pct": 0.9}),
    (r"vit_so150m2_.*", {"crop_pct": 1.0}),
    (r"vit_medium_patch16_gap_384\..*|vit_so150m2_patch16_reg1_gap_448\..*", _SQUASH),
    (r"vit_(huge|giant)_patch\d+_gap_.*", IMAGENET),
    (r"eva_large_patch14_336\..*", _SQUASH),
    (r"eva_giant_patch14_(336|560)\..*", {"crop_pct": 1.0, **_SQUASH}),
    (r"eva_giant_patch14_\d+\.m30m.*|eva_giant_patch14_560\.", IMAGENET),
    (r"eva\w*_clip_224\..*", {"crop_pct": 0.9}),
    (r"eva02_\w+_(336|448)\..*|vit_pe_.*", {"crop_pct": 1.0}),
    (r"eva02_\w+_448\.(.*_ft_in22k(_in1k)?)?", _SQUASH),
    (r"vit_\w+_rope_reg\d_gap_.*", {"crop_pct": 0.95}),
    (r"vit_betwixt_\w+_rope_reg\d_gap_.*", _CLIP),
    (r"vit_\w+_lingbot\..*", {"crop_pct": 1.0, "interpolation": "bilinear", **_SQUASH}),
    (r"[^.]*_siglip_.*", {"crop_pct": 0.9}),
    (r"vit_so400m_patch14_siglip_(gap_)?378\.webli_ft_in1k", {"crop_pct": 1.0, **_SQUASH}),
    (r"vit_so400m_patch14_siglip_gap_(378\.webli|(384|448|896)\..*)", {"crop_pct": 1.0}),
    (r"vit_(xsmall|medium|betwixt)_patch\d+_clip_.*|vit_base_patch32_clip_(quickgelu_)?224\..*", {"crop_pct": 0.9}),
    (r"vit_base_patch32_clip_.*\.(datacompxl|metaclip.*)", {"crop_pct": 1.0}),
    (r"vit_base_patch16_clip_224\.(laion2b_ft_in12k|openai|openai_ft_in1k|openai_ft_in12k)", {"crop_pct": 0.9}),
    (r"vit_base_patch16_clip_quickgelu_224\.openai", {"crop_pct": 0.9}),
    (r"vit_base_patch16_clip_224\.(.*_ft_in12k_in1k)?", {"crop_pct": 0.95}),
    (r"vit_base_patch16_clip_384\..*", _SQUASH),
    (r"vit_base_patch(16|32)_clip_384\.openai_ft_in12k_in1k", {"crop_pct": 0.95, **_SQUASH}),
    (r"vit_large_patch14_clip_(224|336)\.(laion2b.*)?|vit_large_patch14_224_clip_laion2b\.", _HALF),
    (r"vit_large_patch14_clip_336\.(?!openai$).*|vit_huge_patch14_clip_336\..*", _SQUASH),
    (r"vit_huge_patch14_clip_378\.metaclip2_worldwide|vit_gigantic_patch14_clip_378\..*", _SQUASH),
)

_IN_EVERY_PIXELS = {"interpolation": "bicubic", "crop_mode": "center", "crop_pct": 0.9}


def find_vit(name: str, tag: str) -> tuple[ViTConfig, Mapping[str, Any], Rope | None] | None:
    """A name's config, documented preprocessing and rotary positions, or ``None`` for one that is in no family.

    Raises:
        ValueError: Of a family, but not possible.
    """
    for family in FAMILIES:
        match = re.fullmatch(family.pattern, name)
        if match is None or match["size"] not in family.sizes:
            continue
        groups = match.groupdict()
        width, depth, heads, ratio = family.sizes[match["size"]]
        image = int(groups.get("image") or family.image)
        patch = int(groups.get("patch") or family.patch)
        if not patch:
            raise ValueError("a patch has at least one pixel")
        fields: dict[str, Any] = {**family.fields}
        if groups.get("registers"):
            fields["register_tokens"] = int(groups["registers"])
        for pattern, more in _FIELDS:
            if re.fullmatch(pattern, name):
                fields |= more
        rope = family.rope
        if rope is not None:
            if rope in (_PE_ROPE, _PE_ROPE_GIGANTIC):
                rope = replace(rope, reference=(image // patch, image // patch))
            fields |= rope.describe(width // heads)
        fields["drop_remainder"] = bool(fields.get("drop_remainder")) and image % patch != 0
        config = ViTConfig((image, image), (patch, patch), 3, width, depth, heads, int(width * ratio), **fields)
        pixels: dict[str, Any] = {**_IN_EVERY_PIXELS, **family.pixels}
        for pattern, changes in _PIXELS:
            if re.fullmatch(pattern, f"{name}.{tag}"):
                pixels |= changes
        return config, pixels, rope
    return None
