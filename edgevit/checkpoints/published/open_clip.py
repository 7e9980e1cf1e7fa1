"""open_clip: the image tower of a CLIP model, in a hub folder with ``open_clip_config.json`` or a bare weight file.

Written from open_clip 3 (``transformer.py``, ``model.py``, ``transform.py``). Towers of timm's models (SigLIP's among
them) have timm's names behind ``visual.trunk.`` and are named in the configuration. A bare file does not say whether it
computes GELU or, as OpenAI's weights, QuickGELU: ``--arch ViT-B-32-quickgelu`` does.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from edgevit.checkpoints.architectures import find_architecture
from edgevit.checkpoints.assemble import Plan, assemble_model
from edgevit.checkpoints.fields import Fields, Size
from edgevit.checkpoints.files.files import CheckpointFiles
from edgevit.checkpoints.names import Names, nest
from edgevit.checkpoints.preprocess_configs import CLIP, HALF, read_timm_preprocess
from edgevit.checkpoints.shapes import at_image_size, describe_size, measure_vit
from edgevit.checkpoints.timm import timm
from edgevit.checkpoints.timm.config import describe_config
from edgevit.checkpoints.timm.eva import join_biases, order_channels
from edgevit.core.errors import CheckpointError
from edgevit.models import ModelConfig, ViTConfig
from edgevit.models.model import Model
from edgevit.pixels.preprocess import Preprocess

LAYOUT = "open_clip image tower"

CONFIG_FILE = "open_clip_config.json"
_TEXT = {r"(?!visual\.).*": "the text tower, and what compares images with texts"}
TEXT_BLOCK = {
    "norm1.*": "ln_1.*",
    "attn.qkv.weight": "attn.in_proj_weight",
    "attn.qkv.bias": "attn.in_proj_bias",
    "attn.proj.*": "attn.out_proj.*",
    "norm2.*": "ln_2.*",
    "mlp.fc1.*": "mlp.c_fc.*",
    "mlp.fc2.*": "mlp.c_proj.*",
}
_BLOCK = {**TEXT_BLOCK, "ls1.gamma": "ls_1.gamma", "ls2.gamma": "ls_2.gamma"}
NAMES = Names(
    {
        "cls_token": ("visual.class_embedding",),
        "pos_embed": ("visual.positional_embedding",),
        "patch_embed.proj.*": ("visual.conv1.*",),
        "norm_pre.*": ("visual.ln_pre.*",),
        **nest("blocks.{i}.", ["visual.transformer.resblocks.{i}."], _BLOCK),
        "fc_norm.*": ("visual.ln_post.*",),
        "projection.weight": ("visual.proj",),
    },
    dropped=_TEXT,
)
_TRUNK = "visual.trunk."
_OWN = {"visual.class_embedding", "visual.conv1.weight", "visual.ln_post.weight"}
_QUICK = re.compile(r"-quickgelu$")


def recognise(files: CheckpointFiles) -> bool:
    """open_clip's own configuration, or the names of its image tower."""
    names = files.bare_tensors.keys()
    return names >= _OWN or _is_tower(names) or any(name.startswith(_TRUNK) for name in names)


def _is_tower(names: Collection[str]) -> bool:
    """Whether the image tower was saved alone, ``model.visual.state_dict()``."""
    return {name.removeprefix("visual.") for name in _OWN} <= set(names)


def read(files: CheckpointFiles, arch: str | None, image_size: Size | None) -> Model:
    """Read an open_clip model's image tower; see :func:`edgevit.checkpoints.read_checkpoint`."""
    tensors, notes = files.take_tensors()
    if _is_tower(tensors):
        tensors = {f"visual.{name}": value for name, value in tensors.items()}
    where = f"{files.source}/{CONFIG_FILE}"
    fields = Fields(files.configs.get(CONFIG_FILE, {}), where)
    model, pixels = fields.mapping("model_cfg"), fields.mapping("preprocess_cfg")
    vision = Fields(model, where).mapping("vision_cfg")
    fields.finish(dict)
    config: ModelConfig
    whose = "CLIP"
    if any(name.startswith(_TRUNK) for name in tensors):
        trunk = {name.removeprefix(_TRUNK): t for name, t in tensors.items() if name.startswith(_TRUNK)}
        beside = len(tensors) - len(trunk)
        trunk = join_biases(trunk)
        name = arch or vision.get("timm_model_name")
        if not isinstance(name, str):
            raise CheckpointError(
                f"{files.source} is a tower of a timm model and does not say which",
                "name the folder with its open_clip_config.json, or add --arch NAME with timm's name",
            )
        architecture = find_architecture(name)
        _refuse_beside_trunk(tensors, files.source)
        pool = vision.get("timm_pool") or None
        config, native = describe_config(
            architecture, {"num_classes": 0}, {"global_pool": pool}, trunk, image_size, where
        )
        trunk = order_channels(architecture.rope, {}, config, trunk)
        projection = {name: value for name, value in trunk.items() if name.startswith("head.")}
        if isinstance(config, ViTConfig) and "head.weight" in projection:  # timm_proj is null: timm's own head projects
            trunk = {
                name.replace("head.", "projection.") if name in projection else name: t for name, t in trunk.items()
            }
            width = int(projection["head.weight"].shape[0])
            config = replace(config, projection=width, projection_bias="head.bias" in projection)
        names = timm.find_names(config, trunk)
        notes.append(f"dropped {beside} tensors ({next(iter(_TEXT.values()))})")
        tensors, label = trunk, architecture.name
        whose = "SigLIP" if "siglip" in label else "PE" if label.startswith("vit_pe_") else whose
    else:
        described = _describe(tensors, model, vision, arch, files.source)
        if "visual.proj" in tensors and tensors["visual.proj"].ndim == 2:
            tensors["visual.proj"] = tensors["visual.proj"].T
        config, native, names = at_image_size(described, image_size), described.image_size, NAMES
        label = arch or describe_size(described)
        if not model and arch is None:
            notes.append("GELU is assumed; for OpenAI's weights, which compute QuickGELU, add --arch NAME-quickgelu")
    preprocess, assumed = _read_preprocess(pixels, native, whose)
    plan = Plan(
        layout=LAYOUT,
        architecture=label,
        config=config,
        names=names,
        preprocess=preprocess if native == config.image_size else preprocess.with_size(*config.image_size),
        stored_size=native,
        may_lack_head=True,
        notes=(*notes, *assumed),
    )
    return assemble_model(files, plan, tensors)


def _describe(
    tensors: Mapping[str, Tensor], model: Mapping[str, Any], vision: Mapping[str, Any], arch: str | None, source: str
) -> ViTConfig:
    found = NAMES.pick(tensors)
    for name in ("cls_token", "pos_embed"):  # stored without the axes of length 1 ahead
        if name in found:
            found[name] = found[name].reshape(1, -1, found[name].shape[-1])
    width = found["patch_embed.proj.weight"].shape[0]
    head_width = vision.get("head_width")
    heads = width // head_width if isinstance(head_width, int) and head_width > 0 else None
    if vision and heads is None:
        heads = width // 64  # open_clip's default
    quick = bool(model.get("quick_gelu")) or (arch is not None and bool(_QUICK.search(arch)))
    return measure_vit(
        found,
        source,
        heads=heads,
        classes=0,
        norm_eps=1e-5,
        activation="quick_gelu" if quick else "gelu",
        norm_before_blocks="norm_pre.weight" in found,
        norm_before_pool=False,
        norm_after_pool=True,
        layer_scale="blocks.0.ls1.gamma" in found,
        pool="mean" if vision.get("pool_type") == "avg" else "token",
        projection=tensors["visual.proj"].shape[-1] if "visual.proj" in tensors else 0,
    )


def _refuse_beside_trunk(tensors: Mapping[str, Tensor], source: str) -> None:
    head = sorted(name for name in tensors if name.startswith("visual.head."))
    if head:
        raise CheckpointError(
            f"{source} projects the features of a timm model ({', '.join(head)}), which is not supported",
            "save only its trunk with timm.models.save_for_hf",
        )


def _read_preprocess(pixels: Mapping[str, Any], size: Size, whose: str) -> tuple[Preprocess, tuple[str, ...]]:
    """open_clip's evaluation transform, in timm's terms, which say the same."""
    # What all of SigLIP's and PE's published weights say; see open_clip's ``pretrained.py``.
    own = whose != "CLIP" and not pixels
    mode = pixels.get("resize_mode", "squash" if own else "shortest")
    if mode not in ("shortest", "squash", "longest"):
        raise CheckpointError(
            f"open_clip_config.json says resize_mode = {mode!r}, which is none of shortest, squash and longest",
            "correct it there",
        )
    mean, std = HALF if own else CLIP
    cfg = {
        "mean": pixels.get("mean") or mean,
        "std": pixels.get("std") or std,
        "interpolation": pixels.get("interpolation") or ("bilinear" if own and whose == "PE" else "bicubic"),
        "crop_pct": 1.0,
        "crop_mode": {"shortest": "center", "squash": "squash", "longest": "border"}[mode],
    }
    preprocess, _ = read_timm_preprocess(cfg, size)
    if pixels:
        return preprocess, ()
    return preprocess, (f"preprocessing is not stored; open_clip's for {whose} is assumed: {preprocess.describe()}",)
