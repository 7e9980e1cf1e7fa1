"""timm: a hub folder, ``config.json`` with an ``architecture`` beside ``model.safetensors`` or ``pytorch_model.bin``.

Written from timm 1.0 (``vision_transformer.py``, ``deit.py``, ``swin_transformer.py``, ``_hub.py``). The same folder wrapped
by transformers (``model_type`` ``timm_wrapper``) is read too.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from typing import Any

from edgevit.checkpoints.architectures import Architecture, find_architecture
from edgevit.checkpoints.assemble import assemble_module
from edgevit.checkpoints.fields import Fields, Size, choose_image_size
from edgevit.checkpoints.files import CheckpointFiles
from edgevit.checkpoints.labels import read_labels
from edgevit.checkpoints.names import Names
from edgevit.checkpoints.tensors import read_tensors
from edgevit.errors import CheckpointError, format_offenders
from edgevit.model import Model, Source
from edgevit.models import ModelConfig, SwinConfig, ViTConfig
from edgevit.preprocess import Preprocess

LAYOUT = "timm hub folder"

_BLOCK = ("norm1.*", "attn.qkv.*", "attn.proj.*", "norm2.*", "mlp.fc1.*", "mlp.fc2.*")
_SAME = ("cls_token", "dist_token", "pos_embed", "patch_embed.proj.*", "norm.*", "fc_norm.*", "head.*", "head_dist.*")
_NOT_USED = {
    r".*relative_position_index": "an index that follows from the window",
    r".*attn_mask": "a mask that follows from the window",
    r"mask_token": "for masked pre-training alone",
}

VIT_NAMES = Names(
    {name: (name,) for name in (*_SAME, *(f"blocks.{{i}}.{part}" for part in _BLOCK))}, dropped=_NOT_USED
)
_SWIN = {
    "patch_embed.proj.*": ("patch_embed.proj.*",),
    "patch_norm.*": ("patch_embed.norm.*",),
    **{f"layers.{{i}}.blocks.{{j}}.{part}": (f"layers.{{i}}.blocks.{{j}}.{part}",) for part in _BLOCK},
    "layers.{i}.blocks.{j}.bias.table": ("layers.{i}.blocks.{j}.attn.relative_position_bias_table",),
    "norm.*": ("norm.*",),
    "head.*": ("head.fc.*", "head.*"),
}
_MERGING = ("layers.{i}.downsample.norm.*", "layers.{i}.downsample.reduction.weight")
SWIN_NAMES = Names({**_SWIN, **{name: (name,) for name in _MERGING}}, dropped=_NOT_USED)
# Before timm 0.9, as in Microsoft's files, a stage ended with the merging that leads to the next.
OLD_SWIN_NAMES = Names(
    {**_SWIN, **{name: (name.replace("{i}", "{i-1}"),) for name in _MERGING}}, dropped=_NOT_USED
)

# Parts of timm's models that the canonical ones have not, by the tensors that show them.
_FEATURES = {
    r"blocks\.\d+\.(ls[12]\.gamma|gamma_[12])": "layer scale",
    r"reg_token": "register tokens",
    r"(blocks|layers)\..*\.attn\.[qk]_norm\..*": "q/k norm",
    r"blocks\.\d+\.mlp\.(fc1_[gx]|w12|w1|gate_proj)\..*": "SwiGLU",
    r"blocks\.\d+\.(attn|mlp)\.norm\..*": "norms inside attention or MLP",
    r"attn_pool\..*": "attention pooling",
    r"norm_pre\..*": "a norm before the blocks (pre_norm)",
    r"blocks\.\d+\.attn\.(rel_pos.*|relative_position_bias_table)": "relative positions in a ViT",
    r"patch_embed\.backbone\..*": "a convolutional stem (hybrid)",
    r"pre_logits\..*": "a hidden layer before the head (pre_logits)",
    r".*\.attn\.(cpb_mlp\..*|logit_scale)": "Swin V2 attention",
    r"absolute_pos_embed": "absolute positions in a Swin",
}

# Arguments that change training or checks alone.
_HARMLESS = re.compile(r".*drop.*|weight_init|fix_init|num_classes|dynamic_img_size|strict_img_size|pretrained.*|device|dtype")
# Arguments that must have the value which the canonical models have built in: name to value and what another would be.
_FIXED: Mapping[str, tuple[Any, str]] = {
    "in_chans": (3, "another number of input channels than 3"),
    "qk_norm": (False, "q/k norm"),
    "scale_attn_norm": (False, "norms inside attention"),
    "scale_mlp_norm": (False, "norms inside the MLP"),
    "proj_bias": (True, "projections without bias"),
    "init_values": (None, "layer scale"),
    "reg_tokens": (0, "register tokens"),
    "pre_norm": (False, "a norm before the blocks (pre_norm)"),
    "pool_include_prefix": (False, "mean pooling over prefix tokens"),
    "dynamic_img_pad": (False, "padding to whole patches"),
    "pos_embed": ("learn", "no position embedding"),
    "embed_norm_layer": (None, "a norm in the patch embedding"),
    "head_dim": (None, "an explicit head width"),
}
_VIT_ARGS = {
    "img_size", "patch_size", "global_pool", "embed_dim", "depth", "num_heads", "mlp_ratio", "qkv_bias", "class_token",
    "no_embed_class", "fc_norm", "final_norm", "act_layer", "norm_layer",
}  # fmt: skip
_SWIN_ARGS = {
    "img_size", "patch_size", "global_pool", "embed_dim", "depths", "num_heads", "mlp_ratio", "qkv_bias", "window_size",
    "always_partition", "norm_layer",
}  # fmt: skip
_ACTIVATIONS = {"gelu": "gelu", "gelu_tanh": "gelu_tanh", "relu": "relu"}
_CFG_KEYS = ("mean", "std", "crop_pct", "interpolation")


def recognise(files: CheckpointFiles) -> bool:
    """A ``config.json`` that names an ``architecture``."""
    return "architecture" in files.config and files.config.get("model_type", "timm_wrapper") == "timm_wrapper"


def read(files: CheckpointFiles, arch: str | None, image_size: Size | None) -> Model:
    """Read a timm hub folder; see :func:`edgevit.checkpoints.read_checkpoint`."""
    files.require_weights()
    where = f"{files.source}/config.json"
    stored = Fields(files.config, where)
    name = stored.text("architecture", "")
    pretrained_cfg = stored.mapping("pretrained_cfg") or files.config  # one flat table before timm 0.9
    args = stored.mapping("model_args")
    stored.finish(dict)
    architecture = find_architecture(name)
    if arch is not None and find_architecture(arch).name != architecture.name:
        raise CheckpointError(
            f"{where} says architecture {name!r}, not {arch!r}", "leave --arch out: it is for bare weight files"
        )
    defaults = {key: pretrained_cfg[key] for key in ("global_pool", "input_size") if pretrained_cfg.get(key)}
    defaults.setdefault("global_pool", files.config.get("global_pool"))
    tensors, notes = read_tensors(files)
    config, native = describe_config(architecture, args, defaults, tensors, image_size, where)
    module, more = assemble_module(config, tensors, find_names(config, tensors), native, files.source)
    notes += more
    preprocess, more = _read_preprocess(architecture, pretrained_cfg, native, config.image_size)
    notes += more
    classes = module.config.classes  # type: ignore[union-attr]
    names = files.config.get("label_names") or pretrained_cfg.get("label_names") or files.config.get("labels")
    labels, more = read_labels(names, classes, "label_names")  # type: ignore[arg-type]
    layout = LAYOUT + (" wrapped by transformers" if "model_type" in files.config else "")
    source = Source(files.source, layout, name, files.sha256(), (*notes, *more))
    return Model(module, preprocess, labels, source)


def _read_preprocess(
    architecture: Architecture, pretrained_cfg: Mapping[str, Any], native: Size, size: Size
) -> tuple[Preprocess, tuple[str, ...]]:
    if not any(pretrained_cfg.get(key) for key in _CFG_KEYS):
        return default_preprocess(architecture, native, size)
    preprocess, notes = Preprocess.from_timm(pretrained_cfg, native)
    return (preprocess if native == size else preprocess.with_size(*size)), notes


def default_preprocess(architecture: Architecture, native: Size, size: Size) -> tuple[Preprocess, tuple[str, ...]]:
    """timm's documented preprocessing of an architecture, with a note that it is assumed."""
    preprocess, _ = Preprocess.from_timm(architecture.pretrained_cfg, native)
    preprocess = preprocess if native == size else preprocess.with_size(*size)
    what = f"timm's default for {architecture.name} is assumed: {preprocess.describe()}"
    return preprocess, (f"preprocessing is not stored; {what}",)


def find_names(config: ModelConfig, tensors: Iterable[str]) -> Names:
    """The table for a family, and for Swin the one of the age of these tensors."""
    if isinstance(config, ViTConfig):
        return VIT_NAMES
    return OLD_SWIN_NAMES if "layers.0.downsample.reduction.weight" in tensors else SWIN_NAMES


def describe_config(
    architecture: Architecture,
    args: Mapping[str, Any],
    defaults: Mapping[str, Any],
    tensors: Iterable[str],
    image_size: Size | None,
    where: str,
) -> tuple[ModelConfig, Size]:
    """The config of an architecture with timm's ``model_args``, and the image size that the weights are for.

    Args:
        architecture: The base.
        args: timm's keyword arguments.
        defaults: ``global_pool`` and ``input_size`` where the arguments do not have them.
        tensors: Names; they show pooling and parts that are not supported.
        image_size: The size that is wanted, or ``None`` for the checkpoint's.
        where: For messages.

    Raises:
        CheckpointError: Listing all parts that are not supported, or all values that are not valid.
    """
    base = architecture.config
    names = list(tensors)
    unsupported = [f"{what} (tensor {n})" for pattern, what in _FEATURES.items() for n in _first(pattern, names)]
    # Swin's tables are its own; only a ViT's are foreign.
    known = _VIT_ARGS if isinstance(base, ViTConfig) else _SWIN_ARGS
    for key, value in args.items():
        if key in _FIXED:
            if value is not None and value != _FIXED[key][0]:
                unsupported.append(f"{_FIXED[key][1]} (model_args: {key} = {value!r})")
        elif key not in known and not _HARMLESS.fullmatch(key):
            unsupported.append(f"model_args: {key} = {value!r}")
    if args.get("norm_layer") not in (None, "layernorm"):
        unsupported.append(f"model_args: norm_layer = {args['norm_layer']!r}")
    merged = {**{k: v for k, v in defaults.items() if v is not None}, **{k: v for k, v in args.items() if v is not None}}
    if "img_size" not in merged and isinstance(merged.get("input_size"), (list, tuple)):
        merged["img_size"] = merged["input_size"][-2:]
    fields = Fields(merged, where)
    if isinstance(base, ViTConfig):
        build, values = _describe_vit(base, fields, names, unsupported), ViTConfig
    else:
        build, values = _describe_swin(base, fields, unsupported), SwinConfig
    raise NotImplementedError
