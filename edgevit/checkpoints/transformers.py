"""transformers: a folder with ``config.json`` (``model_type`` ``vit``, ``deit`` or ``swin``), weights, also sharded,
and ``preprocessor_config.json``.

Written from transformers 5 (``modeling_vit.py``, ``modeling_deit.py``, ``modeling_swin.py``). Parameters are known by
the names of version 4, in which version 5 still saves, and by those of version 5's modules.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from edgevit.checkpoints.assemble import Plan, assemble_model
from edgevit.checkpoints.fields import Fields, Size, choose_image_size
from edgevit.checkpoints.files import CheckpointFiles
from edgevit.checkpoints.names import Names
from edgevit.checkpoints.tensors import read_tensors
from edgevit.errors import CheckpointError, format_offenders
from edgevit.model import Model
from edgevit.models import ModelConfig, SwinConfig, ViTConfig
from edgevit.preprocess import Preprocess

LAYOUT = "transformers folder"

_HEADS: Mapping[str, tuple[str, ...]] = {
    "vit": ("ViTForImageClassification",),
    "deit": ("DeiTForImageClassification", "DeiTForImageClassificationWithTeacher"),
    "swin": ("SwinForImageClassification",),
}
_PREFIXES = ("vit.", "deit.", "swin.")
_NOT_USED = {
    r"pooler\.dense\.(weight|bias)": "a pooler that the classifier does not read",
    r"embeddings\.mask_token": "for masked pre-training alone",
    r"decoder\..*": "for masked pre-training alone",
    r".*relative_position_index": "an index that follows from the window",
}

VIT_NAMES = Names(
    {
        "cls_token": ("embeddings.cls_token",),
        "dist_token": ("embeddings.distillation_token",),
        "pos_embed": ("embeddings.position_embeddings",),
        "patch_embed.proj.*": ("embeddings.patch_embeddings.projection.*",),
        **{
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
        },
        "norm.*": ("layernorm.*",),
        "head.*": ("classifier.*", "cls_classifier.*"),
        "head_dist.*": ("distillation_classifier.*",),
    },
    _PREFIXES,
    _NOT_USED,
)
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
        "head.*": ("classifier.*",),
    },
    _PREFIXES,
    _NOT_USED,
)

_ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
}


def recognise(files: CheckpointFiles) -> bool:
    """A ``config.json`` that names a ``model_type``, or else the classes that the model is made of."""
    return "model_type" in files.config or "architectures" in files.config


def owns_names(tensors: Iterable[str]) -> bool:
    """Whether the tensors have transformers' names."""
    return any(name.endswith("embeddings.patch_embeddings.projection.weight") for name in tensors)


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
    names = _name_classes(config)
    architecture = names[0] if names else f"{config['model_type']} classifier"
    return read_model(files, config, image_size, LAYOUT, architecture)


def read_model(
    files: CheckpointFiles, config: Mapping[str, Any], image_size: Size | None, layout: str, architecture: str
) -> Model:
    """Read weights with transformers' names.

    Args:
        files: Weights and, where it is there, ``preprocessor_config.json``.
        config: As in ``config.json``; ``model_type`` is one that is known.
        image_size: The size that is wanted, or ``None`` for the checkpoint's.
        layout: For the model's source.
        architecture: For the model's source.
    """
    kind = config["model_type"]
    tensors, notes = read_tensors(files)
    described, native = _describe_config(config, tensors, image_size, f"{files.source}/config.json")
    size = described.image_size
    preprocess, assumed = Preprocess.from_transformers(files.configs.get("preprocessor_config.json", {}), kind)
    notes += assumed
    if (preprocess.height, preprocess.width) != size:
        if image_size is None:
            notes.append(
                f"preprocessing gives {preprocess.height} × {preprocess.width} pixels, the model takes"
                f" {size[0]} × {size[1]}; its sizes are scaled to the model's"
            )
        preprocess = preprocess.with_size(*size)
    if config.get("problem_type") not in (None, "single_label_classification"):
        notes.append(f"trained for {config['problem_type']}; top-1 and probabilities assume one class an image")
    labels = config.get("id2label")
    plan = Plan(
        layout=layout,
        architecture=architecture,
        config=described,
        names=SWIN_NAMES if kind == "swin" else VIT_NAMES,
        preprocess=preprocess,
        stored_size=native,
        stated_classes=len(labels) if isinstance(labels, Mapping) else None,
        labels=labels,
        labels_key="id2label",
        notes=tuple(notes),
    )
    return assemble_model(files, plan, tensors)


def _name_classes(config: Mapping[str, Any]) -> list[str]:
    names = config.get("architectures")
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


def _check_kind(config: Mapping[str, Any], source: str) -> None:
    kind = config.get("model_type")
    named = _name_classes(config)
    supported = ", ".join(name for several in _HEADS.values() for name in several)
    if not isinstance(kind, str) or kind not in _HEADS:
        what = f" ({', '.join(named)})" if named else ""
        raise CheckpointError(
            f"{source} is a {kind!r} model{what}, not an image classifier that can be read",
            f"model types that can be read: {', '.join(_HEADS)} ({supported})",
        )
    others = [name for name in named if name not in _HEADS[kind]]
    if others:
        headless = others[0].endswith("Model")
        what = "has no classifier head: it gives features, and a build needs classes" if headless else "cannot be read"
        raise CheckpointError(f"{source} holds {others[0]}, which {what}", f"classes that can be read: {supported}")
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


def _describe_config(
    config: Mapping[str, Any], tensors: Iterable[str], image_size: Size | None, where: str
) -> tuple[ModelConfig, Size]:
    kind = config["model_type"]
    fields = Fields(config, where)
    unsupported: list[str] = []
    if fields.integer("num_channels", 3) != 3:
        unsupported.append(f"{config['num_channels']} input channels")
    activation = fields.text("hidden_act", "gelu")
    if activation not in _ACTIVATIONS:
        unsupported.append(f"activation {activation!r}")
    native = fields.size("image_size", (224, 224))
    patch = fields.size("patch_size", (4, 4) if kind == "swin" else (16, 16))
    values: dict[str, Any] = {
        "patch_size": patch,
        "qkv_bias": fields.flag("qkv_bias", True),
        "activation": _ACTIVATIONS.get(activation, "gelu"),
    }
    if kind == "swin":
        values |= _describe_swin(fields, unsupported)
        # The table of biases is for the whole window, so no stage's grid may be smaller.
        smallest_grid = (values["window"][0] - 1) * 2 ** (len(values["depths"]) - 1) + 1
    else:
        values |= _describe_vit(fields, set(tensors), unsupported)
        smallest_grid = 1
    if unsupported:
        raise CheckpointError(
            f"{where} describes parts that are not supported yet:\n{format_offenders(unsupported)}",
            "supported are ViT, DeiT and Swin as in their papers; no part can be left out without changing the answers",
        )
    if not fields.complaints:
        values["image_size"] = choose_image_size(native, image_size, patch, smallest_grid, pads=kind == "swin")
    return fields.finish(SwinConfig if kind == "swin" else ViTConfig, **values), native


def _describe_vit(fields: Fields, tensors: set[str], unsupported: list[str]) -> dict[str, Any]:
    width, heads = fields.integer("hidden_size", 768), fields.integer("num_attention_heads", 12)
    if fields.data.get("head_dim") not in (None, width // heads):
        unsupported.append(f"an explicit head width (head_dim = {fields.data['head_dim']!r})")
    distilled = fields.data["model_type"] == "deit"
    return {
        "width": width,
        "depth": fields.integer("num_hidden_layers", 12, high=512),
        "heads": heads,
        "mlp_width": fields.integer("intermediate_size", 3072),
        "distillation_token": distilled,
        "distillation_head": distilled and any(name.startswith("cls_classifier.") for name in tensors),
        "norm_eps": fields.number("layer_norm_eps", 1e-12),
    }


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
