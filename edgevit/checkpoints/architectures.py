"""timm's architecture names as data: the dimensions behind them, and the preprocessing that timm documents for them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgevit.checkpoints.rope import Rope
from edgevit.checkpoints.vit_families import IMAGENET, SIZES, find_vit
from edgevit.core.errors import CheckpointError
from edgevit.models import ModelConfig, SwinConfig, SwinV2Config

# Width of the first stage, depths, heads.
_SWIN: Mapping[str, tuple[int, tuple[int, ...], tuple[int, ...]]] = {
    "tiny": (96, (2, 2, 6, 2), (3, 6, 12, 24)),
    "small": (96, (2, 2, 18, 2), (3, 6, 12, 24)),
    "base": (128, (2, 2, 18, 2), (4, 8, 16, 32)),
    "large": (192, (2, 2, 18, 2), (6, 12, 24, 48)),
}

_DEIT = ("tiny", "small", "base")
_SWIN_NAME = re.compile(
    rf"swin_(?P<size>{'|'.join(_SWIN)})_patch(?P<patch>4)_window(?P<window>\d+)_(?P<image>\d+)(_in22k)?"
)
# ``12to16_192to256``: pre-trained with the first, trained on with the second.
_SWIN_V2_NAME = re.compile(
    rf"swinv2_(?P<size>{'|'.join(_SWIN)})_window((?P<trained>\d+)to)?(?P<window>\d+)_((?P<before>\d+)to)?(?P<image>\d+)"
)

_PE = (("core", 224), ("core", 384), ("spatial", 512))
EXAMPLES = tuple(
    [f"vit_{size}_patch{patch}_{image}" for size in SIZES for patch in (8, 14, 16, 32) for image in (224, 384)]
    + [
        f"vit_{size}_patch14_{kind}"
        for size in ("small", "base", "large", "giant")
        for kind in ("dinov2", "reg4_dinov2")
    ]
    + [
        f"vit_{size}_patch16_dinov3{kind}"
        for size in ("small", "small_plus", "base", "large")
        for kind in ("", "_qkvb")
    ]
    + [f"eva02_{size}_patch14_{image}" for size in ("tiny", "small", "base", "large") for image in (224, 336, 448)]
    + [f"vit_pe_{kind}_{size}_patch16_{image}" for kind, image in _PE for size in ("tiny", "small", "base")]
    + [f"vit_{size}_patch{patch}_clip_224" for size in ("base", "large", "huge") for patch in (14, 16, 32)]
    + [f"vit_{size}_patch16_siglip_{image}" for size in ("base", "large", "so400m") for image in (224, 256, 384)]
    + [f"deit_{size}_{kind}patch16_{image}" for size in _DEIT for kind in ("", "distilled_") for image in (224, 384)]
    + [f"deit3_{size}_patch16_{image}" for size in ("small", "medium", "base", "large") for image in (224, 384)]
    + [f"swinv2_{size}_window{w}_256" for size in ("tiny", "small", "base") for w in (8, 16)]
    + ["swinv2_base_window12to16_192to256", "swinv2_large_window12to24_192to384", "swinv2_base_window12_192"]
    + [f"swin_{size}_patch4_window{w}_{image}" for size in _SWIN for w, image in ((7, 224), (12, 384))]
)
_FORMS = (
    "vit_SIZE_patchP_IMAGE, vit_SIZE_patch14_dinov2, vit_SIZE_patch16_dinov3, vit_SIZE_patchP_clip_IMAGE, "
    "vit_SIZE_patchP_siglip_IMAGE, eva02_SIZE_patchP_IMAGE, vit_pe_KIND_SIZE_patchP_IMAGE, "
    "deit_SIZE_patch16_IMAGE, deit3_SIZE_patch16_IMAGE, swin_SIZE_patch4_windowM_IMAGE, "
    "swinv2_SIZE_windowM_IMAGE"
)

# Names that look like a supported family's, by their beginning, and what sets them apart.
_UNSUPPORTED: tuple[tuple[str, str], ...] = (
    (r"swinv2_cr_", "Swin V2 CR (another Swin V2, with its own attention)"),
    (r"swin_s3_", "Swin S3 (a window for each stage)"),
    (r"eva02_enormous", "EVA-02's enormous CLIP (norms behind attention and MLP)"),
    (r"vit_\w+_rope_mixed_", "ViT with learned rotary angles (rope_mixed, which differ from block to block)"),
    (r"vit_\w+_sapiens2", "Sapiens2 (RMSNorm, norms of queries and keys beside rotary positions)"),
    (r"eva_|eva0\d|vit_pe_|vit_\w*_(rope_|lingbot)", "EVA or its kin in a size that timm does not have"),
    (r"beit3_", "BEiT-3 (norms inside attention and MLP)"),
    (r"beit", "BEiT (relative positions in every block)"),
    (r"cait_", "CaiT (talking heads and class attention)"),
    (r"xcit_", "XCiT (attention across channels)"),
    (r"(maxvit|maxxvit|coatnet|coatnext|rexnet_coat)", "MaxViT and CoAtNet (convolutions between attention)"),
    (r"mobilevit", "MobileViT (convolutions around attention)"),
    (r"aimv2_", "AIMv2 (RMSNorm)"),
    (r"vit_\w+_radio_", "RADIO (positions resampled in another way)"),
    (r"vit_\w+_xp_", "ViT with parallel blocks (xp)"),
    (r"vit_\w+_18x2_", "ViT with parallel blocks (18x2)"),
    (r"vit_\w+_rpn_", "ViT with norms behind attention and MLP (rpn)"),
    (r"vit_d?p?(wee|little)_", "ViT with differential attention or parallel blocks"),
    (r"vit_\w*(_r\d+_|_resnet|_r_s16|_mci_)", "hybrid ViT (a convolutional stem)"),
    (r"vit_relpos_|vit_srelpos_", "ViT with relative positions"),
    (r"naflexvit_", "NaFlexViT (takes lists of patches of any shape)"),
    (r"samvit_", "SAM's ViT (relative positions and windows in every block)"),
    (r"(deit_\w*)?convit", "ConViT (attention gated by positions)"),
    (r"crossvit_", "CrossViT (two branches that attend to each other)"),
    (r"(vitamin_|tiny_vit_|efficientvit_|fastvit_|levit)", "a ViT with convolutions between attention"),
)


@dataclass(frozen=True)
class Architecture:
    """What a timm architecture name stands for.

    Attributes:
        name: Without publisher and tag.
        config: As timm builds it by default.
        pretrained_cfg: The preprocessing that timm documents for it, in timm's own keys.
        rope: Rotary positions, where timm writes it as an EVA.
    """

    name: str
    config: ModelConfig
    pretrained_cfg: Mapping[str, Any]
    rope: Rope | None = None


def find_architecture(name: str) -> Architecture:
    """Look up a timm architecture; a publisher before ``/`` and a tag behind ``.`` are passed over.

    Raises:
        CheckpointError: The name is not known; with close matches.
    """
    bare, _, tag = name.rpartition("/")[2].partition(".")
    try:
        found = find_vit(bare, tag) or _find_swin(bare)
    except (ValueError, ZeroDivisionError) as exc:
        raise CheckpointError(f"architecture {name!r} is not possible: {exc}", "check the name") from exc
    if found is not None:
        return Architecture(bare, *found)
    what = next((what for pattern, what in _UNSUPPORTED if re.match(pattern, bare)), None)
    if what is not None:
        raise CheckpointError(
            f"architecture {name!r} is not supported yet: {what}", "docs/models.md lists the families that can be read"
        )
    close = difflib.get_close_matches(bare, EXAMPLES, n=3)
    guess = f"did you mean {', '.join(close)}? " if close else ""
    raise CheckpointError(
        f"architecture {name!r} is not supported", f"{guess}supported are timm's names of the forms {_FORMS}"
    )


def _find_swin(name: str) -> tuple[ModelConfig, Mapping[str, Any], None] | None:
    match = _SWIN_NAME.fullmatch(name) or _SWIN_V2_NAME.fullmatch(name)
    if match is None:
        return None
    width, depths, heads = _SWIN[match["size"]]
    image, window = int(match["image"]), int(match["window"])
    if not window:
        raise ValueError("a window has at least one token")
    pixels = {"interpolation": "bicubic", "crop_mode": "center", **IMAGENET, "crop_pct": 1.0 if image >= 384 else 0.9}
    if match.re is _SWIN_NAME:
        return SwinConfig((image, image), (4, 4), 3, width, depths, heads, (window, window)), pixels, None
    trained = int(match["trained"] or 0)
    windows = tuple(min(trained, int(match["before"] or 0) // (4 * 2**stage)) for stage in range(len(depths)))
    config = SwinV2Config((image, image), (4, 4), 3, width, depths, heads, (window, window), pretrained_windows=windows)
    return config, pixels, None
