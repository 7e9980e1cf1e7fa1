"""timm's architectures with their ``model_args`` as canonical configs; what those cannot state is refused by name."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from edgevit.checkpoints.architectures import Architecture
from edgevit.checkpoints.fields import Fields, Size, choose_image_size, refuse_parts
from edgevit.checkpoints.names import match_patterns
from edgevit.checkpoints.timm.eva import EVA_ARGS, EVA_FIXED, describe_eva, rename_eva_args
from edgevit.checkpoints.timm.vit import VIT_ARGS, describe_vit
from edgevit.models import ModelConfig, SwinConfig, SwinV2Config, ViTConfig

# Parts of timm's models that the canonical ones have not, by the tensors that show them.
_FEATURES = {
    r"layers\..*\.attn\.[qk]_norm\..*": "q/k norm in a Swin",
    r"blocks\.\d+\.attn\.(gate|lambda_q1|sub_norm)(\..*)?": "another attention (gated or differential)",
    r"blocks\.\d+\.in_proj\..*": "parallel blocks",
    r"blocks\.\d+\.attn\.(rel_pos.*|relative_position_bias_table)": "relative positions in a ViT",
    r"patch_embed\.backbone\..*": "a convolutional stem (hybrid)",
    r"pre_logits\..*": "a hidden layer before the head (pre_logits)",
    r"absolute_pos_embed": "absolute positions in a Swin",
}
# Those that only its EVA has, which is not known by its tensors.
_FEATURES_OF_EVA = {
    r"blocks\.\d+\.(attn|mlp)\.norm\..*": "norms inside attention or MLP",
    r"blocks\.\d+\.attn\.(q|k|v)_proj\..*": "EVA's attention, with rotary positions",
}

# Arguments that change only training or checks.
_HARMLESS = re.compile(
    r".*drop.*|weight_init|fix_init|num_classes|dynamic_img_size|strict_img_size|pretrained|pretrained_cfg.*|device|dtype"
)
# Arguments that must have the value which the canonical models have built in: name to value and what another would be.
_FIXED: Mapping[str, tuple[Any, str]] = {
    "in_chans": (3, "another number of input channels than 3"),
    "scale_attn_norm": (False, "norms inside attention"),
    "scale_mlp_norm": (False, "norms inside the MLP"),
    "proj_bias": (True, "projections without bias"),
    "pool_include_prefix": (False, "mean pooling over prefix tokens"),
    "dynamic_img_pad": (False, "padding to whole patches"),
    "pos_embed": ("learn", "no position embedding"),
    "embed_norm_layer": (None, "a norm in the patch embedding"),
    "head_dim": (None, "an explicit head width"),
}
_SWIN_ARGS = {
    "img_size", "patch_size", "global_pool", "embed_dim", "depths", "num_heads", "mlp_ratio", "qkv_bias", "window_size",
    "always_partition", "norm_layer", "pretrained_window_sizes",
}  # fmt: skip
_LARGEST_WINDOW = 64  # its index has M⁴ entries


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
        defaults: ``global_pool`` and ``input_size``, for where the arguments do not say them.
        tensors: Names; they show pooling and parts that are not supported.
        image_size: The size that is wanted, or ``None`` for the checkpoint's.
        where: For messages.

    Raises:
        CheckpointError: Listing all parts that are not supported, or all values that are not valid.
    """
    names = set(tensors)
    base, rope = architecture.config, architecture.rope
    args = rename_eva_args(args) if rope is not None else args
    merged = {key: value for key, value in {**defaults, **args}.items() if value is not None}
    stored = merged.pop("input_size", None)
    if "img_size" not in merged and isinstance(stored, Sequence) and len(stored) == 3:
        merged["img_size"] = stored[1:]
    parts = match_patterns(sorted(names), _FEATURES if rope is not None else {**_FEATURES, **_FEATURES_OF_EVA})
    unsupported = [f"{what} (tensor {found[0]})" for what, found in parts.items()]
    if rope is not None:
        unsupported += _check_args(args, EVA_ARGS, {**_FIXED, **EVA_FIXED})
    else:
        unsupported += _check_args(args, VIT_ARGS if isinstance(base, ViTConfig) else _SWIN_ARGS, _FIXED)
    fields = Fields(merged, where)
    if isinstance(base, ViTConfig) and rope is not None:
        values = describe_eva(base, rope, fields, names, unsupported)
    elif isinstance(base, ViTConfig):
        values = describe_vit(base, fields, names, unsupported)
    else:
        values = _describe_swin(base, fields, unsupported)
    refuse_parts(unsupported, f"{where} ({architecture.name}) has")
    native = fields.size("img_size", base.image_size)
    patch = fields.size("patch_size", base.patch_size)
    if not fields.complaints:
        whole = not (isinstance(base, ViTConfig) and base.drop_remainder and image_size in (None, native))
        size = choose_image_size(native, image_size, patch) if whole else native
        values |= {"image_size": size, "patch_size": patch}
    kind: Callable[..., ModelConfig] = type(base)
    return fields.finish(kind, **values), native


def _check_args(args: Mapping[str, Any], known: Iterable[str], fixed: Mapping[str, tuple[Any, str]]) -> list[str]:
    found = []
    for key, value in args.items():
        if value is None or _HARMLESS.fullmatch(key):
            continue
        if key in fixed:
            if value != fixed[key][0]:
                found.append(f"{fixed[key][1]} (model_args: {key} = {value!r})")
        elif key not in known or (key == "norm_layer" and value != "layernorm"):
            found.append(f"model_args: {key} = {value!r}")
    return found


def _describe_swin(base: SwinConfig, fields: Fields, unsupported: list[str]) -> dict[str, Any]:
    depths = fields.integers("depths", base.depths)
    if fields.text("global_pool", "avg") != "avg":
        unsupported.append(f"pooling {fields.data['global_pool']!r}")
    windows = _read_windows(fields, len(depths), base.window)
    if len(set(windows)) > 1:
        unsupported.append(f"a window for each stage (window_size = {list(windows)})")
    return {
        "width": fields.integer("embed_dim", base.width),
        "depths": depths,
        "heads": fields.integers("num_heads", base.heads),
        "window": windows[0],
        "mlp_ratio": fields.number("mlp_ratio", base.mlp_ratio),
        "qkv_bias": fields.flag("qkv_bias", base.qkv_bias),
        "window_fit": "never" if fields.flag("always_partition", False) else "axis",
        **_describe_pretraining(base, fields, len(depths)),
    }


def _describe_pretraining(base: SwinConfig, fields: Fields, stages: int) -> dict[str, Any]:
    """Of a Swin V2 the windows of pre-training: one number for all stages, or one for each."""
    if not isinstance(base, SwinV2Config):
        return {}
    value = fields.data.get("pretrained_window_sizes", base.pretrained_windows)
    windows = [value] * stages if isinstance(value, int) else value
    if not isinstance(windows, Sequence) or not all(isinstance(w, int) and 0 <= w <= _LARGEST_WINDOW for w in windows):
        fields.complaints.append(f"pretrained_window_sizes = {value!r} are not whole numbers up to {_LARGEST_WINDOW}")
        return {}
    if "pretrained_window_sizes" not in fields.data and not any(windows):
        windows = [0] * stages
    return {"pretrained_windows": tuple(windows)[:stages]}  # timm takes those of its stages


def _read_windows(fields: Fields, stages: int, default: Size) -> tuple[Size, ...]:
    """timm's spellings: one number, (height, width), or one of these for every stage."""
    value = fields.data.get("window_size", default)
    several = isinstance(value, Sequence) and (len(value) != 2 or isinstance(value[0], Sequence))
    windows = []
    for item in value if several else [value]:
        one = Fields({"window_size": item}, fields.where)
        windows.append(one.size("window_size", default))
        fields.complaints += one.complaints
    if several and len(windows) != stages:
        fields.complaints.append(f"window_size = {value!r} is not a window for each of {stages} stages")
    if any(side > _LARGEST_WINDOW for window in windows for side in window):
        fields.complaints.append(f"window_size = {value!r} is above {_LARGEST_WINDOW}")
    return tuple(windows) or (default,)
