"""transformers' Swin and Swin V2: their names, and what their configurations say.

Written from transformers 5 (``modeling_swin.py``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from edgevit.checkpoints.fields import Fields, Size, choose_image_size, refuse_parts
from edgevit.checkpoints.names import Names, Rows, nest
from edgevit.checkpoints.transformers.description import Description, find_channels, name_classes
from edgevit.checkpoints.transformers.vit import ACTIVATIONS, NOT_USED, PREFIXES
from edgevit.models import ModelConfig, SwinConfig, SwinV2Config

SWIN_KINDS: Mapping[str, tuple[str, ...]] = {
    "swin": ("SwinForImageClassification", "SwinModel", "SwinBackbone"),
    "swinv2": ("Swinv2ForImageClassification", "Swinv2Model", "Swinv2Backbone"),
}

_BLOCKS = "layers.{i}.blocks.{j}."
_TABLE = "relative_position_bias_table"
_SWIN_BLOCK: Rows = {
    "norm1.*": "layernorm_before.*",
    "attn.q.*": ("attention.self.query.*", "attention.q_proj.*"),
    "attn.k.*": ("attention.self.key.*", "attention.k_proj.*"),
    "attn.v.*": ("attention.self.value.*", "attention.v_proj.*"),
    "attn.proj.*": ("attention.output.dense.*", "attention.o_proj.*"),
    "bias.table": (f"attention.self.{_TABLE}", f"attention.relative_position_bias.{_TABLE}"),
    "norm2.*": "layernorm_after.*",
    "mlp.fc1.*": ("intermediate.dense.*", "mlp.fc1.*"),
    "mlp.fc2.*": ("output.dense.*", "mlp.fc2.*"),
}
SWIN_NAMES = Names(
    {
        "patch_embed.proj.*": ("embeddings.patch_embeddings.projection.*",),
        "patch_norm.*": ("embeddings.norm.*",),
        **nest(_BLOCKS, [f"encoder.{_BLOCKS}"], _SWIN_BLOCK),
        # A stage ends with the merging that leads to the next.
        "layers.{i}.downsample.norm.*": ("encoder.layers.{i-1}.downsample.norm.*",),
        "layers.{i}.downsample.reduction.weight": ("encoder.layers.{i-1}.downsample.reduction.weight",),
        "norm.*": ("layernorm.*",),
        # A backbone counts its stages from 1, behind the stem.
        **{f"level_norms.{i}.*": (f"hidden_states_norms.stage{i + 1}.*",) for i in range(8)},
        "head.*": ("classifier.*",),
    },
    PREFIXES,
    NOT_USED,
)
_V2_ATTENTION = {
    "attn.q_norm.logit_scale": "logit_scale",
    "bias.hidden_weight": "continuous_position_bias_mlp.0.weight",
    "bias.hidden_bias": "continuous_position_bias_mlp.0.bias",
    "bias.out_weight": "continuous_position_bias_mlp.2.weight",
}
SWIN_V2_NAMES = Names(
    {**SWIN_NAMES.table, **nest(_BLOCKS, [f"encoder.{_BLOCKS}attention.self."], _V2_ATTENTION)},
    PREFIXES,
    {**NOT_USED, r".*relative_coords_table": "offsets that follow from the window"},
)


def describe_swin(
    config: Mapping[str, Any], tensors: Mapping[str, Tensor], image_size: Size | None, where: str
) -> Description:
    """Read the configuration of a Swin or Swin V2.

    Args:
        config: ``config.json``; its ``model_type`` is a key of :data:`SWIN_KINDS`.
        tensors: The weights, of which a backbone's norms are counted.
        image_size: The size that is wanted, or ``None`` for the checkpoint's.
        where: For messages.

    Raises:
        CheckpointError: It describes parts that are not supported, or its values make no model.
    """
    fields, second = Fields(config, where), config["model_type"] == "swinv2"
    unsupported = find_channels(fields)
    activation = fields.text("hidden_act", "gelu")
    if activation not in ACTIVATIONS:
        unsupported.append(f"activation {activation!r}")
    native, patch = fields.size("image_size", (224, 224)), fields.size("patch_size", (4, 4))
    values = _read_values(fields, unsupported)
    refuse_parts(unsupported, f"{where} describes")
    values |= {"qkv_bias": fields.flag("qkv_bias", True), "activation": ACTIVATIONS.get(activation, "gelu")}
    if not fields.complaints:
        # The table of biases is for the whole window, so no stage's grid may be smaller.
        smallest_grid = 1 if second else (values["window"][0] - 1) * 2 ** (len(values["depths"]) - 1) + 1
        values["image_size"] = choose_image_size(native, image_size, patch, smallest_grid, pads=True)
    name = next(iter(name_classes(config)), SWIN_KINDS[config["model_type"]][0])
    values |= _read_head(name, tensors)
    if not values.get("final_norm", True):
        values["window_fit"] = "never"  # a backbone partitions and shifts on any grid
    if second:
        stages = len(values["depths"])
        # As the module, which takes those of its stages: the configuration's default is always four.
        values["pretrained_windows"] = tuple(fields.data.get("pretrained_window_sizes") or (0,) * stages)[:stages]
        values |= {"window_fit": "rows", "mask": -200.0}
    kind: Callable[..., SwinConfig] = SwinV2Config if second else SwinConfig
    built = fields.finish(kind, **values, patch_size=patch)
    names = SWIN_V2_NAMES if isinstance(built, SwinV2Config) else SWIN_NAMES
    if not built.final_norm:
        unused = {r"layernorm\.(weight|bias)": "a norm that a backbone does not use"}
        names = replace(names, dropped={**names.dropped, **unused})
    return Description(built, native, names, name)


def add_key_biases(config: ModelConfig, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors, of a Swin V2 with zeros as the biases of keys: it has none, and queries and values have."""
    if not isinstance(config, SwinV2Config):
        return dict(tensors)
    zeros = {
        n.replace(".query.", ".key."): torch.zeros_like(t) for n, t in tensors.items() if n.endswith(".query.bias")
    }
    return {**tensors, **zeros}


def _read_head(name: str, tensors: Iterable[str]) -> dict[str, Any]:
    """What stands behind the stages: a head, the pooled features, or a norm for each level of a backbone."""
    if name.endswith("ForImageClassification"):
        return {}
    if name.endswith("Model"):
        return {"classes": 0}
    found = (re.search(r"hidden_states_norms\.stage(\d+)\.weight$", tensor) for tensor in tensors)
    levels = sorted(int(match[1]) - 1 for match in found if match)
    return {"classes": 0, "final_norm": False, "level_norms": tuple(levels)}


def _read_values(fields: Fields, unsupported: list[str]) -> dict[str, Any]:
    if fields.flag("use_absolute_embeddings", False):
        unsupported.append("absolute positions in a Swin (use_absolute_embeddings)")
    window = fields.integer("window_size", 7, high=64)
    return {
        "width": fields.integer("embed_dim", 96),
        "depths": fields.integers("depths", (2, 2, 6, 2)),
        "heads": fields.integers("num_heads", (3, 6, 12, 24)),
        "window": (window, window),
        "mlp_ratio": fields.number("mlp_ratio", 4.0),
        "norm_eps": fields.number("layer_norm_eps", 1e-5),
        "window_fit": "smaller",
        "pad": "before_shift",
    }
