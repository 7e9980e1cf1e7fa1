"""The text towers of transformers' ``CLIPModel`` and ``SiglipModel`` (SigLIP 2's fixed sizes among them).

Written from transformers 5 (``modeling_clip.py``, ``modeling_siglip.py``, ``zero_shot_image_classification.py``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from edgevit.checkpoints.fields import Fields, refuse_parts
from edgevit.checkpoints.files.files import CheckpointFiles
from edgevit.checkpoints.names import Names, nest
from edgevit.checkpoints.texts.tokenize import TextTokenizer, canonicalize_text, keep_text, lower_text
from edgevit.checkpoints.texts.tower import CLIP_TEMPLATE, SIGLIP_TEMPLATE, TextPlan, read_number
from edgevit.checkpoints.transformers.vit import ACTIVATIONS, TOWER_BLOCK
from edgevit.core.errors import CheckpointError
from edgevit.models.model import Model
from edgevit.models.text_tower import TextConfig

_TOWER = "text_model."
_PROJECTION = "text_projection.weight"
_TABLE = {
    "tokens.weight": (f"{_TOWER}embeddings.token_embedding.weight",),
    "positions": (f"{_TOWER}embeddings.position_embedding.weight",),
    **nest("blocks.{i}.", [_TOWER + "encoder.layers.{i}."], TOWER_BLOCK),
    "norm.*": (f"{_TOWER}final_layer_norm.*",),
}
_NAMES = {
    "clip": Names({**_TABLE, "projection.weight": (_PROJECTION,)}),
    "siglip": Names({**_TABLE, "projection.*": (f"{_TOWER}head.*",)}),
}
_INDEX = f"{_TOWER}embeddings.position_ids"
_OLD_END = 2
"""What configurations said of the end before transformers 4.31; the highest token is meant there."""


def has_tower(files: CheckpointFiles) -> bool:
    """Whether there is a text tower beside the image tower."""
    kind = files.config.get("model_type")
    return kind in _NAMES and any(name.startswith(_TOWER) for name in files.contents.tensors)


def describe_tower(files: CheckpointFiles, model: Model, tokenizer: TextTokenizer) -> TextPlan:
    """What the configuration says of the text tower.

    Raises:
        CheckpointError: It says something that is not possible or not supported.
    """
    config, tensors = files.config, files.contents.tensors
    kind, where = config["model_type"], f"{files.source}/config.json, text_config"
    fields = Fields(Fields(config, where).mapping("text_config"), where)
    built = _describe_clip(fields, model) if kind == "clip" else _describe_siglip(fields)
    if built.embedding != model.config.features:
        raise CheckpointError(
            f"{where} gives texts {built.embedding} numbers, and images have {model.config.features}",
            "correct it there: the two are compared",
        )
    return TextPlan(
        config=built,
        names=_NAMES[kind],
        tensors=_take(tensors),
        scale=read_number(tensors, "logit_scale", files.source),
        bias=read_number(tensors, "logit_bias", files.source) if kind == "siglip" else None,
        template=CLIP_TEMPLATE if kind == "clip" else SIGLIP_TEMPLATE,
        clean=keep_text if kind == "clip" else _choose_clean(tokenizer),
        pad=None if kind == "clip" else _choose_pad(tokenizer, fields),
    )


def _take(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {n: t for n, t in tensors.items() if (n.startswith(_TOWER) and n != _INDEX) or n == _PROJECTION}


def _describe_clip(fields: Fields, model: Model) -> TextConfig:
    end = fields.integer("eos_token_id", 49407, low=0)
    return _finish(
        fields,
        {"width": 512, "mlp_width": 2048, "heads": 8, "context": 77, "vocabulary": 49408},
        "quick_gelu",
        embedding=model.config.features,
        norm_eps=fields.number("layer_norm_eps", 1e-5),
        pool="highest" if end == _OLD_END else "end",
        end=end,
    )


def _describe_siglip(fields: Fields) -> TextConfig:
    width = fields.integer("hidden_size", 768)
    return _finish(
        fields,
        {"width": 768, "mlp_width": 3072, "heads": 12, "context": 64, "vocabulary": 32000},
        "gelu_pytorch_tanh",
        embedding=fields.integer("projection_size", width),
        norm_eps=fields.number("layer_norm_eps", 1e-6),
        projection_bias=True,
        causal=False,
        pool="last",
    )


def _finish(fields: Fields, defaults: Mapping[str, int], activation: str, **values: Any) -> TextConfig:
    act = fields.text("hidden_act", activation)
    refuse_parts([] if act in ACTIVATIONS else [f"activation {act!r}"], f"{fields.where} describes")
    keys = {
        "width": "hidden_size",
        "mlp_width": "intermediate_size",
        "heads": "num_attention_heads",
        "context": "max_position_embeddings",
        "vocabulary": "vocab_size",
    }
    sizes = {ours: fields.integer(theirs, defaults[ours], high=2**20) for ours, theirs in keys.items()}
    depth = fields.integer("num_hidden_layers", 12, high=512)
    return fields.finish(TextConfig, depth=depth, activation=ACTIVATIONS.get(act, "gelu"), **sizes, **values)


def _choose_clean(tokenizer: TextTokenizer) -> Any:
    """What SigLIP's tokenizer does outside its files; SigLIP 2's is Gemma's, of BPE."""
    return (
        lower_text if "Gemma" in tokenizer.kind or tokenizer.kind in ("BPE", "Siglip2Tokenizer") else canonicalize_text
    )


def _choose_pad(tokenizer: TextTokenizer, fields: Fields) -> int:
    return tokenizer.pad if tokenizer.pad is not None else fields.integer("pad_token_id", 1, low=0)
