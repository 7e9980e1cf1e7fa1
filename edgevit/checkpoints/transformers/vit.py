"""transformers' Vision Transformers as data: one row a ``model_type``, its names, and what each class reads out.

Written from transformers 5 (``modeling_vit.py``, ``modeling_deit.py``, ``modeling_vit_mae.py``, ``modeling_dinov2.py``,
``modeling_dinov2_with_registers.py``, ``modeling_dinov3_vit.py``, ``modeling_clip.py``, ``modeling_siglip.py``).
Parameters are known by the names of version 4, in which version 5 still saves, and by those of version 5's modules.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from edgevit.checkpoints.fields import Fields
from edgevit.checkpoints.names import Names, Rows, nest
from edgevit.checkpoints.transformers import dinov3

ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "quick_gelu": "quick_gelu",
    "silu": "silu",
    "swish": "silu",
    "relu": "relu",
}
PREFIXES = ("vit.", "deit.", "swin.", "swinv2.", "dinov2_with_registers.", "dinov2.", "vision_model.")
NOT_USED = {
    r"pooler\.dense\.(weight|bias)": "a pooler behind the class token, which no classifier reads",
    r"embeddings\.mask_token": "only for masked pre-training",
    r"decoder\..*": "only for masked pre-training",
    r".*relative_position_index": "an index that follows from the window",
    r"embeddings\.position_ids": "an index that follows from the image size",
    r"text_model\..*": "the text tower",
    r"text_projection\.weight|logit_scale|logit_bias": "for comparing images with texts",
}
_UNREAD_POOL = {r"head\..*": "a pooling head, which the classifier does not read"}
_UNREAD_NORM = {r"post_layernorm\..*": "a norm of the class token, which the classifier does not read"}

_FEATURES = {"classes": 0}
_ENCODER = {
    f"blocks.{{i}}.{ours}.*": (f"encoder.layer.{{i}}.{four}.*", f"layers.{{i}}.{five}.*")
    for ours, four, five in (
        ("norm1", "layernorm_before", "layernorm_before"),
        ("attn.q", "attention.attention.query", "attention.q_proj"),
        ("attn.k", "attention.attention.key", "attention.k_proj"),
        ("attn.v", "attention.attention.value", "attention.v_proj"),
        ("attn.proj", "attention.output.dense", "attention.o_proj"),
        ("norm2", "layernorm_after", "layernorm_after"),
        ("mlp.fc1", "intermediate.dense", "mlp.fc1"),
        ("mlp.fc2", "output.dense", "mlp.fc2"),
    )
}
_EMBEDDINGS = {
    "cls_token": ("embeddings.cls_token",),
    "dist_token": ("embeddings.distillation_token",),
    "reg_token": ("embeddings.register_tokens",),
    "pos_embed": ("embeddings.position_embeddings",),
    "patch_embed.proj.*": ("embeddings.patch_embeddings.projection.*",),
    "norm.*": ("layernorm.*",),
    "head.*": ("classifier.*", "cls_classifier.*"),
    "head_dist.*": ("distillation_classifier.*",),
}
_PLAIN = {**_EMBEDDINGS, **_ENCODER}
_DINOV2_BLOCK: Rows = {
    "norm1.*": "norm1.*",
    "attn.q.*": ("attention.attention.query.*", "attention.q_proj.*"),
    "attn.k.*": ("attention.attention.key.*", "attention.k_proj.*"),
    "attn.v.*": ("attention.attention.value.*", "attention.v_proj.*"),
    "attn.proj.*": ("attention.output.dense.*", "attention.o_proj.*"),
    "ls1.gamma": "layer_scale1.lambda1",
    "norm2.*": "norm2.*",
    "mlp.fc1.*": ("mlp.fc1.*", "mlp.up_proj.*"),
    "mlp.fc2.*": ("mlp.fc2.*", "mlp.weights_out.*", "mlp.down_proj.*"),
    "mlp.gate.*": "mlp.gate_proj.*",
    "mlp.gate_fc1.*": "mlp.weights_in.*",
    "ls2.gamma": "layer_scale2.lambda1",
}
_DINOV2 = {**_EMBEDDINGS, **nest("blocks.{i}.", ["encoder.layer.{i}."], _DINOV2_BLOCK)}
TOWER_BLOCK = {
    "norm1.*": "layer_norm1.*",
    "attn.q.*": "self_attn.q_proj.*",
    "attn.k.*": "self_attn.k_proj.*",
    "attn.v.*": "self_attn.v_proj.*",
    "attn.proj.*": "self_attn.out_proj.*",
    "norm2.*": "layer_norm2.*",
    "mlp.fc1.*": "mlp.fc1.*",
    "mlp.fc2.*": "mlp.fc2.*",
}
_TOWER = {
    "cls_token": ("embeddings.class_embedding",),
    "pos_embed": ("embeddings.position_embedding.weight",),
    "patch_embed.proj.*": ("embeddings.patch_embedding.*",),
    "norm_pre.*": ("pre_layrnorm.*",),
    **nest("blocks.{i}.", ["encoder.layers.{i}."], TOWER_BLOCK),
    "norm.*": ("post_layernorm.*",),
    "attn_pool.latent": ("head.probe",),
    "attn_pool.qkv.*": ("head.attention.in_proj_*",),
    "attn_pool.proj.*": ("head.attention.out_proj.*",),
    "attn_pool.norm.*": ("head.layernorm.*",),
    "attn_pool.mlp.fc1.*": ("head.mlp.fc1.*",),
    "attn_pool.mlp.fc2.*": ("head.mlp.fc2.*",),
    "projection.weight": ("visual_projection.weight",),
    "head.*": ("classifier.*",),
}


@dataclass(frozen=True)
class ViTClass:
    """What one of transformers' classes reads out.

    Attributes:
        fields: Of :class:`~edgevit.models.ViTConfig`.
        dropped: Patterns of further tensors that it does not read, with the reason.
    """

    fields: Mapping[str, Any] = field(default_factory=dict)
    dropped: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ViTKind:
    """One ``model_type``.

    Attributes:
        classes: By name. Where a configuration names none, the tensors show which: by a classifier or a projection.
        table: Canonical names to transformers'.
        fields: Of :class:`~edgevit.models.ViTConfig`, the same for all its classes.
        defaults: Of the configuration's keys.
        nested: The key under which the image tower's configuration stands.
        antialias: Whether the module resamples positions with antialiasing.
        resamples: Whether the module itself fits its positions to any image that it is given. The image processor's
            size then counts, and not the configuration's, which is that of the position table.
        drops_remainder: Whether checkpoints are known whose image is no multiple of the patch.
    """

    classes: Mapping[str, ViTClass]
    table: Mapping[str, tuple[str, ...]]
    fields: Mapping[str, Any] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    nested: str | None = None
    antialias: bool = False
    resamples: bool = False
    drops_remainder: bool = False


_MEAN_WITHOUT_NORM = {"pool": "mean", "norm_before_pool": False}
_PROJECTED = {**_FEATURES, "projection": 512}
# Kinds of which several types are: their classes differ, and where the tower stands in the configuration.
_CLIP = ViTKind(
    {},
    _TOWER,
    {"norm_before_blocks": True, "patch_bias": False},
    {"patch_size": 32, "layer_norm_eps": 1e-5, "hidden_act": "quick_gelu"},
)
_SIGLIP = ViTKind(
    {},
    _TOWER,
    {"class_token": False, "pool": "map"},
    {"layer_norm_eps": 1e-6, "hidden_act": "gelu_pytorch_tanh"},
    drops_remainder=True,
)


def _dinov2(name: str, defaults: Mapping[str, Any], *, antialias: bool = False) -> ViTKind:
    classes = {
        f"{name}ForImageClassification": ViTClass({"pool": "token_mean"}),
        f"{name}Backbone": ViTClass({**_FEATURES, "level_norm": True}),
        f"{name}Model": ViTClass(_FEATURES),
    }
    return ViTKind(classes, _DINOV2, {"layer_scale": True}, defaults, antialias=antialias, resamples=True)


VIT_KINDS: Mapping[str, ViTKind] = {
    "vit": ViTKind({"ViTForImageClassification": ViTClass(), "ViTModel": ViTClass(_FEATURES)}, _PLAIN),
    "deit": ViTKind(
        {
            "DeiTForImageClassification": ViTClass(),
            "DeiTForImageClassificationWithTeacher": ViTClass({"distillation_head": True}),
            "DeiTModel": ViTClass(_FEATURES),
        },
        _PLAIN,
        {"distillation_token": True},
    ),
    "vit_mae": ViTKind({"ViTMAEForPreTraining": ViTClass(_FEATURES), "ViTMAEModel": ViTClass(_FEATURES)}, _PLAIN),
    "dinov2": _dinov2("Dinov2", {"patch_size": 14, "layer_norm_eps": 1e-6}),
    "dinov2_with_registers": _dinov2("Dinov2WithRegisters", {"layer_norm_eps": 1e-6}, antialias=True),
    "dinov3_vit": ViTKind(
        {
            "DINOv3ViTBackbone": ViTClass({**_FEATURES, "level_norm": True}),
            "DINOv3ViTModel": ViTClass(_FEATURES),
        },
        dinov3.NAMES,
        dinov3.FIELDS,
        {"layer_norm_eps": 1e-5},
        resamples=True,
    ),
    "clip_vision_model": replace(
        _CLIP,
        classes={
            "CLIPVisionModelWithProjection": ViTClass(_PROJECTED),
            "CLIPVisionModel": ViTClass(_FEATURES),
        },
    ),
    "clip": replace(
        _CLIP,
        classes={
            "CLIPForImageClassification": ViTClass(_MEAN_WITHOUT_NORM, _UNREAD_NORM),
            "CLIPModel": ViTClass(_PROJECTED),
        },
        nested="vision_config",
    ),
    "siglip_vision_model": replace(_SIGLIP, classes={"SiglipVisionModel": ViTClass(_FEATURES)}),
    "siglip": replace(
        _SIGLIP,
        classes={
            "SiglipForImageClassification": ViTClass({"pool": "mean"}, _UNREAD_POOL),
            "SiglipModel": ViTClass(_FEATURES),
        },
        nested="vision_config",
    ),
}


def choose_class(kind: ViTKind, named: Iterable[str], tensors: Iterable[str]) -> tuple[str, ViTClass]:
    """The class that a configuration names, or else the one that the tensors show."""
    for name in named:
        if name in kind.classes:
            return name, kind.classes[name]
    names = list(tensors)
    if any(name.startswith("cls_classifier.") for name in names):
        return "DeiTForImageClassificationWithTeacher", kind.classes["DeiTForImageClassificationWithTeacher"]
    shown = {key: any(name.startswith(key) for name in names) for key in ("classifier.", "visual_projection.")}
    for name, found in kind.classes.items():
        headless = found.fields.get("classes") == 0
        if (shown["classifier."], shown["visual_projection."]) == (not headless, "projection" in found.fields):
            return name, found
    return list(kind.classes.items())[-1]


def describe_vit(
    kind: ViTKind, chosen: ViTClass, fields: Fields, projection: int, unsupported: list[str]
) -> dict[str, Any]:
    """Fields of :class:`~edgevit.models.ViTConfig`, but for the sizes of image and patch.

    Args:
        kind: The row of the model's type.
        chosen: The class's.
        fields: The image tower's configuration.
        projection: Width of CLIP's projection, where the class has one.
        unsupported: Parts that the canonical model has not are added.
    """
    width, heads = fields.integer("hidden_size", 768), fields.integer("num_attention_heads", 12)
    if fields.data.get("head_dim") not in (None, width // heads):
        unsupported.append(f"an explicit head width (head_dim = {fields.data['head_dim']!r})")
    activation = fields.text("hidden_act", kind.defaults.get("hidden_act", "gelu"))
    if activation not in ACTIVATIONS:
        unsupported.append(f"activation {activation!r}")
    values: dict[str, Any] = {
        "width": width,
        "depth": fields.integer("num_hidden_layers", 12, high=512),
        "heads": heads,
        "mlp_width": fields.integer("intermediate_size", 3072),
        "norm_eps": fields.number("layer_norm_eps", kind.defaults.get("layer_norm_eps", 1e-12)),
        "qkv_bias": fields.flag("qkv_bias", True),
        "activation": ACTIVATIONS.get(activation, "gelu"),
        **kind.fields,
        **chosen.fields,
    }
    if "level_norm" in values:
        values["level_norm"] = fields.flag("apply_layernorm", True)
    if values.get("position") == "rotary":
        values |= dinov3.describe(fields, width, heads)
    elif values.get("layer_scale"):
        values |= _describe_dinov2(fields, width)
    if values.get("projection"):
        values["projection"] = projection
    if values.get("pool") == "map" and not fields.flag("vision_use_head", True):
        values["pool"] = "mean"
    return values


def _describe_dinov2(fields: Fields, width: int) -> dict[str, Any]:
    hidden = int(width * fields.number("mlp_ratio", 4.0))
    values: dict[str, Any] = {"mlp_width": hidden}
    if fields.flag("use_swiglu_ffn", False):
        # Two thirds, up to a multiple of 8; with SiLU, whatever the configuration says.
        values = {"mlp_width": (int(hidden * 2 / 3) + 7) // 8 * 8, "gated_mlp": True, "activation": "silu"}
    if "num_register_tokens" in fields.data or fields.data.get("model_type") == "dinov2_with_registers":
        values["register_tokens"] = fields.integer("num_register_tokens", 4, low=0)
    return values


def make_names(kind: ViTKind, chosen: ViTClass) -> Names:
    """The table of a class."""
    return Names(kind.table, PREFIXES, {**NOT_USED, **chosen.dropped})
