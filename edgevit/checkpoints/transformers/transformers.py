"""transformers: a folder with ``config.json``, weights, also sharded, and ``preprocessor_config.json``.

Which ``model_type`` can be read: ``swin``, and the rows of :data:`edgevit.checkpoints.transformers.vit.VIT_KINDS`.
Written from transformers 5 (``modeling_swin.py``). Parameters are known by the names of version 4, in which version 5
still saves, and by those of version 5's modules.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from edgevit.checkpoints.assemble import Plan, assemble_model
from edgevit.checkpoints.fields import Fields, Size, choose_image_size
from edgevit.checkpoints.files.files import CheckpointFiles
from edgevit.checkpoints.names import Names
from edgevit.checkpoints.preprocess_configs import read_transformers_preprocess
from edgevit.checkpoints.transformers.vit import (
    ACTIVATIONS,
    NOT_USED,
    PREFIXES,
    VIT_KINDS,
    choose_class,
    describe_vit,
    make_names,
)
from edgevit.core.errors import CheckpointError, format_offenders
from edgevit.models import ModelConfig, SwinConfig, SwinV2Config, ViTConfig
from edgevit.models.model import Model

LAYOUT = "transformers folder"

_SWIN_KINDS: Mapping[str, tuple[str, ...]] = {
    "swin": ("SwinForImageClassification", "SwinModel", "SwinBackbone"),
    "swinv2": ("Swinv2ForImageClassification", "Swinv2Model", "Swinv2Backbone"),
}
# Types that look like one of these and are another model, by ``model_type``.
_OTHER_KINDS = {
    "beit": "BEiT, with relative positions in every block",
    "data2vec-vision": "data2vec, which is a BEiT",
    "siglip2": "SigLIP 2 NaFlex, which takes an image as a list of patches; its fixed sizes are stored as siglip",
    "siglip2_vision_model": "SigLIP 2 NaFlex, which takes an image as a list of patches",
    "dinov3_vit": "DINOv3, with rotary positions",
    "dinov3_convnext": "a ConvNeXt",
    "eva": "EVA, with rotary positions",
    "cvt": "CvT, with convolutions in its attention",
    "mobilevit": "MobileViT, with convolutions around attention",
    "mobilevitv2": "MobileViT, with convolutions around attention",
    "vit_msn": "ViT MSN; save its weights as a ViTModel",
    "vit_hybrid": "a hybrid ViT, with a convolutional stem",
    "ijepa": "I-JEPA, which has no class token",
    "swin2sr": "Swin2SR, which makes images",
    "maskformer-swin": "a backbone inside MaskFormer",
    "poolformer": "PoolFormer, which has no attention",
    "levit": "LeViT, with convolutions",
    "pvt": "PVT, whose attention shrinks its keys",
    "aimv2": "AIMv2, with RMSNorm",
    "aimv2_vision_model": "AIMv2, with RMSNorm",
}

_SWIN_BLOCK = (
    ("norm1.*", "layernorm_before.*", "layernorm_before.*"),
    ("attn.q.*", "attention.self.query.*", "attention.q_proj.*"),
    ("attn.k.*", "attention.self.key.*", "attention.k_proj.*"),
    ("attn.v.*", "attention.self.value.*", "attention.v_proj.*"),
    ("attn.proj.*", "attention.output.dense.*", "attention.o_proj.*"),
    (
        "bias.table",
        "attention.self.relative_position_bias_table",
        "attention.relative_position_bias.relative_position_bias_table",
    ),
    ("norm2.*", "layernorm_after.*", "layernorm_after.*"),
    ("mlp.fc1.*", "intermediate.dense.*", "mlp.fc1.*"),
    ("mlp.fc2.*", "output.dense.*", "mlp.fc2.*"),
)
SWIN_NAMES = Names(
    {
        "patch_embed.proj.*": ("embeddings.patch_embeddings.projection.*",),
        "patch_norm.*": ("embeddings.norm.*",),
        **{
            f"layers.{{i}}.blocks.{{j}}.{ours}": tuple(f"encoder.layers.{{i}}.blocks.{{j}}.{t}" for t in theirs)
            for ours, *theirs in _SWIN_BLOCK
        },
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


_V2_ATTENTION = (
    ("attn.q_norm.logit_scale", "attention.self.logit_scale"),
    ("bias.hidden_weight", "attention.self.continuous_position_bias_mlp.0.weight"),
    ("bias.hidden_bias", "attention.self.continuous_position_bias_mlp.0.bias"),
    ("bias.out_weight", "attention.self.continuous_position_bias_mlp.2.weight"),
)
SWIN_V2_NAMES = Names(
    {
        **SWIN_NAMES.table,
        **{f"layers.{{i}}.blocks.{{j}}.{o}": (f"encoder.layers.{{i}}.blocks.{{j}}.{t}",) for o, t in _V2_ATTENTION},
    },
    PREFIXES,
    {**NOT_USED, r".*relative_coords_table": "offsets that follow from the window"},
)


def recognise(files: CheckpointFiles) -> bool:
    """A ``config.json`` that names a ``model_type``, or else the classes that the model is made of."""
    return "model_type" in files.config or "architectures" in files.config


def owns_names(tensors: Iterable[str]) -> bool:
    """Whether the tensors have transformers' names."""
    ends = ("embeddings.patch_embeddings.projection.weight", "embeddings.patch_embedding.weight")
    return any(name.endswith(ends) for name in tensors)


def read(files: CheckpointFiles, arch: str | None, image_size: Size | None) -> Model:
    """Read a transformers folder; see :func:`edgevit.checkpoints.read_checkpoint`."""
    config = files.config
    _check_kind(config, files.source)
    if arch is not None:
        raise CheckpointError(
            f"{files.source} says itself what it is: {config['model_type']}",
            "leave --arch out: it is for bare weight files",
        )
    files.require_weights()
    return read_model(files, config, image_size, LAYOUT)


def read_model(
    files: CheckpointFiles,
    config: Mapping[str, Any],
    image_size: Size | None,
    layout: str,
    architecture: str | None = None,
) -> Model:
    """Read weights with transformers' names.

    Args:
        files: Weights and, where it is there, ``preprocessor_config.json``.
        config: As in ``config.json``; ``model_type`` is one that is known.
        image_size: The size that is wanted, or ``None`` for the checkpoint's.
        layout: For the model's source.
        architecture: For the model's source; by default the class that the configuration names.
    """
    kind = config["model_type"]
    tensors, notes = files.take_tensors()
    where = f"{files.source}/config.json"
    stored = files.configs.get("preprocessor_config.json", {})
    preprocess, assumed = read_transformers_preprocess(stored, kind)
    notes += assumed
    sees = (preprocess.height, preprocess.width) if stored and image_size is None else None
    if kind in VIT_KINDS:
        found = _describe_vit(config, tensors, image_size, sees, where)
    else:
        found = _describe_swin_config(config, tensors, image_size, where)
        tensors = _add_key_biases(found.config, tensors)
    size = found.config.image_size
    if (preprocess.height, preprocess.width) != size:
        if image_size is None:
            notes.append(
                f"preprocessing gives {preprocess.height} × {preprocess.width} pixels, the model takes"
                f" {size[0]} × {size[1]}; its sizes are scaled to the model's"
            )
        preprocess = preprocess.with_size(*size)
    if config.get("problem_type") not in (None, "single_label_classification"):
        notes.append(f"trained for {config['problem_type']}; top-1 and probabilities assume one class an image")
    labels = config.get("id2label") if found.config.classes else None
    plan = Plan(
        layout=layout,
        architecture=architecture or found.architecture,
        config=found.config,
        names=found.names,
        preprocess=preprocess,
        stored_size=found.stored_size,
        stated_classes=len(labels) if isinstance(labels, Mapping) else None,
        labels=labels,
        labels_key="id2label",
        resampling="antialiased" if found.antialias else "bicubic",
        notes=(*notes, *found.notes),
    )
    return assemble_model(files, plan, tensors)


@dataclass(frozen=True)
class _Description:
    """What a configuration says: the canonical config, the image size of its position table, names and class."""

    config: ModelConfig
    stored_size: Size
    names: Names
    architecture: str
    antialias: bool = False
    notes: tuple[str, ...] = ()


def _name_classes(config: Mapping[str, Any]) -> list[str]:
    names = config.get("architectures")
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


def _check_kind(config: Mapping[str, Any], source: str) -> None:
    kind = config.get("model_type")
    named = _name_classes(config)
    classes = {**_SWIN_KINDS, **{name: tuple(row.classes) for name, row in VIT_KINDS.items()}}
    if not isinstance(kind, str) or kind not in classes:
        what = f" ({', '.join(named)})" if named else ""
        other = _OTHER_KINDS.get(kind) if isinstance(kind, str) else None
        raise CheckpointError(
            f"{source} is a {kind!r} model{what}, which cannot be read{f': {other}' if other else ''}",
            f"model types that can be read: {', '.join(classes)}",
        )
    others = [name for name in named if name not in classes[kind]]
    if others:
        headless = others[0].endswith("Model")
        what = "has no classifier head: it gives features, and a build needs classes" if headless else "cannot be read"
        raise CheckpointError(
            f"{source} holds {others[0]}, which {what}",
            f"classes of {kind!r} that can be read: {', '.join(classes[kind])}",
        )
    code = config.get("auto_map")
    if code:
        entries = [f"{k}: {v}" for k, v in code.items()] if isinstance(code, Mapping) else [repr(code)]
        raise CheckpointError(
            f"{source} says that it needs its own code, and nothing from a checkpoint is executed:\n"
            + format_offenders(entries),
            "load it where you trust it, and save it as one of transformers' own classes",
        )
    if config.get("quantization_config"):
        raise CheckpointError(
            f"{source} holds weights that are quantised already", "name the checkpoint from before it was quantised"
        )


def _describe_vit(
    config: Mapping[str, Any], tensors: Mapping[str, Tensor], image_size: Size | None, sees: Size | None, where: str
) -> _Description:
    kind = VIT_KINDS[config["model_type"]]
    name, chosen = choose_class(kind, _name_classes(config), tensors)
    outer = Fields(config, where)
    inner = outer.mapping(kind.nested) if kind.nested else config
    fields = Fields(inner, f"{where}, {kind.nested}" if kind.nested else where)
    fields.complaints += outer.complaints
    unsupported = _find_channels(fields)
    values = describe_vit(kind, chosen, fields, outer.integer("projection_dim", 512), unsupported)
    stored = fields.size("image_size", (224, 224))
    patch = fields.size("patch_size", _pair(kind.defaults.get("patch_size", 16)))
    _refuse(unsupported, where)
    if not fields.complaints:
        native = sees if kind.resamples and sees is not None else stored
        drops = image_size in (None, native) and (kind.drops_remainder or native is sees)
        values["image_size"] = native if drops else choose_image_size(native, image_size, patch)
        values["drop_remainder"] = any(side % step for side, step in zip(values["image_size"], patch, strict=True))
    notes = []
    if not fields.flag("vision_use_head", True):
        notes.append("the tower has no pooling head; the features are the mean of its tokens")
    built = fields.finish(ViTConfig, **values, patch_size=patch)
    return _Description(built, stored, make_names(kind, chosen), name, kind.antialias, tuple(notes))


def _add_key_biases(config: ModelConfig, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A Swin V2's keys have no bias: zeros, as queries and values have one."""
    if not isinstance(config, SwinV2Config):
        return dict(tensors)
    zeros = {
        n.replace(".query.", ".key."): torch.zeros_like(t) for n, t in tensors.items() if n.endswith(".query.bias")
    }
    return {**tensors, **zeros}


def _describe_swin_config(
    config: Mapping[str, Any], tensors: Mapping[str, Tensor], image_size: Size | None, where: str
) -> _Description:
    fields = Fields(config, where)
    unsupported = _find_channels(fields)
    activation = fields.text("hidden_act", "gelu")
    if activation not in ACTIVATIONS:
        unsupported.append(f"activation {activation!r}")
    native, patch = fields.size("image_size", (224, 224)), fields.size("patch_size", (4, 4))
    values = _describe_swin(fields, unsupported)
    _refuse(unsupported, where)
    values |= {"qkv_bias": fields.flag("qkv_bias", True), "activation": ACTIVATIONS.get(activation, "gelu")}
    if not fields.complaints:
        # The table of biases is for the whole window, so no stage's grid may be smaller.
        second = config["model_type"] == "swinv2"
        smallest_grid = 1 if second else (values["window"][0] - 1) * 2 ** (len(values["depths"]) - 1) + 1
        values["image_size"] = choose_image_size(native, image_size, patch, smallest_grid, pads=True)
    name = next(iter(_name_classes(config)), _SWIN_KINDS[config["model_type"]][0])
    values |= _describe_swin_head(name, tensors)
    if not values.get("final_norm", True):
        values["window_fit"] = "never"  # a backbone partitions and shifts on any grid
    if config["model_type"] == "swinv2":
        stages = len(values["depths"])
        # As the module, which takes those of its stages: the configuration's default is always four.
        values["pretrained_windows"] = tuple(fields.data.get("pretrained_window_sizes") or (0,) * stages)[:stages]
        values |= {"window_fit": "rows", "mask": -200.0}
        built = fields.finish(SwinV2Config, **values, patch_size=patch)
    else:
        built = fields.finish(SwinConfig, **values, patch_size=patch)
    names = SWIN_V2_NAMES if isinstance(built, SwinV2Config) else SWIN_NAMES
    if not built.final_norm:
        unused = {r"layernorm\.(weight|bias)": "a norm that a backbone does not use"}
        names = replace(names, dropped={**names.dropped, **unused})
    return _Description(built, native, names, name)


def _describe_swin_head(name: str, tensors: Iterable[str]) -> dict[str, Any]:
    """What stands behind the stages: a head, the pooled features, or a norm for each level of a backbone."""
    if name.endswith("ForImageClassification"):
        return {}
    if name.endswith("Model"):
        return {"classes": 0}
    found = (re.search(r"hidden_states_norms\.stage(\d+)\.weight$", tensor) for tensor in tensors)
    levels = sorted(int(match[1]) - 1 for match in found if match)
    return {"classes": 0, "final_norm": False, "level_norms": tuple(levels)}


def _pair(side: int) -> Size:
    return side, side


def _find_channels(fields: Fields) -> list[str]:
    channels = fields.integer("num_channels", 3)
    return [f"{channels} input channels"] if channels != 3 else []


def _refuse(unsupported: list[str], where: str) -> None:
    if unsupported:
        raise CheckpointError(
            f"{where} describes parts that are not supported yet:\n{format_offenders(unsupported)}",
            "docs/models.md lists the families that can be read; no part can be left out without changing the answers",
        )


def _describe_swin(fields: Fields, unsupported: list[str]) -> dict[str, Any]:
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
