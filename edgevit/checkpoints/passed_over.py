"""list_passed_over: what a checkpoint's configurations state and its reader neither reads nor refuses.

A key that is stated and lost may change the answers, so it is listed with its value, unless it is known to have no
effect on them: it is about training, about the publisher's own code, or follows from the weights.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edgevit.checkpoints.transformers.dense_tasks import find_dense_class
from edgevit.core.notes import note_names

if TYPE_CHECKING:
    from edgevit.checkpoints.files.files import CheckpointFiles

_LISTED = 10
_LONGEST_VALUE = 40


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Of transformers' configurations: read for every kind, then by kind.
_READ = _names(
    "model_type architectures image_size patch_size num_channels problem_type id2label hidden_act layer_norm_eps "
    "qkv_bias auto_map quantization_config"
)
_READ_VIT = _names("hidden_size num_hidden_layers num_attention_heads intermediate_size head_dim vision_use_head")
_READ_DINOV2 = _READ_VIT | _names("mlp_ratio use_swiglu_ffn num_register_tokens apply_layernorm")
# Biases that are there or not show in the weights, and coordinates are moved only in training.
_READ_DINOV3 = _READ_VIT | _names(
    "rope_theta num_register_tokens use_gated_mlp apply_layernorm query_bias key_bias value_bias proj_bias mlp_bias "
    "pos_embed_shift pos_embed_jitter pos_embed_rescale"
)
_READ_SWIN = _names("embed_dim depths num_heads window_size mlp_ratio use_absolute_embeddings pretrained_window_sizes")
_READ_TOWER = _names("projection_dim")
_KINDS: Mapping[str, frozenset[str]] = {
    "swin": _READ_SWIN,
    "swinv2": _READ_SWIN,
    "dinov2": _READ_DINOV2,
    "dinov2_with_registers": _READ_DINOV2,
    "dinov3_vit": _READ_DINOV3,
    "clip_vision_model": _READ_VIT | _READ_TOWER,
    "siglip_vision_model": _READ_VIT,
}
# Without effect on a classifier's answers: training, transformers' own outputs, and what follows from other keys.
_INERT = _names(
    "torch_dtype dtype transformers_version label2id num_labels attention_probs_dropout_prob hidden_dropout_prob "
    "attention_dropout dropout drop_path_rate classifier_dropout initializer_range initializer_factor "
    "layerscale_value encoder_stride chunk_size_feed_forward is_encoder_decoder output_attentions "
    "output_hidden_states return_dict use_return_dict torchscript pooler_act pooler_output_size out_features "
    "out_indices stage_names reshape_hidden_states use_mask_token mask_ratio norm_pix_loss decoder_hidden_size "
    "decoder_intermediate_size decoder_num_attention_heads decoder_num_hidden_layers text_config vision_config "
    "logit_scale_init_value finetuning_task task_specific_params attn_implementation gradient_checkpointing"
)
_INERT_SWIN = _names("hidden_size num_layers path_norm")
_INERT_DINOV2 = _names("intermediate_size")  # which older versions state and take from mlp_ratio

_TIMM = _names(
    "architecture num_classes num_features global_pool model_args pretrained_cfg label_names labels model_type "
    "problem_type do_pooling id2label "
    "training"  # how the demonstration's models came about
)
_TIMM_CFG = _names(
    "input_size test_input_size crop_pct test_crop_pct crop_mode interpolation mean std global_pool tag num_classes "
    "label_names labels "
    # where it came from, what it may be used for, and how timm fits its weights to another head
    "architecture url file source state_dict hf_hub_id hf_hub_filename custom_load first_conv classifier license "
    "origin_url paper_name paper_ids notes description tags label_descriptions pool_size fixed_input_size "
    "min_input_size num_features"
)
_PROCESSOR = _names(
    "image_processor_type feature_extractor_type size crop_size resample rescale_factor image_mean image_std "
    "rescale_offset use_square_size pretrained_cfg architecture "
    "processor_class return_tensors data_format input_data_format device disable_grouping default_to_square "
    "model_input_names auto_map crop_pct"
)
_DENSE_PROCESSOR = _names(
    "ensure_multiple_of keep_aspect_ratio size_divisor normalize_factor "
    # of training's masks and boxes, and of inputs that differ in size within a batch
    "ignore_index num_labels pad_size format"
)
_CLIP = _names("model_cfg preprocess_cfg")
_CLIP_MODEL = _names(
    "vision_cfg quick_gelu embed_dim text_cfg multimodal_cfg custom_text output_dict cast_dtype init_logit_scale "
    "init_logit_bias nonscalar_logit_scale hf_model_name"
)
_CLIP_VISION = _names(
    "head_width pool_type timm_model_name timm_pool timm_proj timm_proj_bias timm_drop timm_drop_path "
    "timm_model_pretrained layers width patch_size image_size mlp_ratio ls_init_value patch_dropout output_tokens "
    "no_ln_pre"
)
_CLIP_TEXT = _names(
    "context_length vocab_size hf_tokenizer_name hf_tokenizer_revision tokenizer_kwargs width heads layers mlp_ratio "
    "embed_cls eos_id no_causal_mask pool_type proj_bias act_kwargs norm_kwargs "
    # what follows from the tensors, or has no effect on a text's embedding
    "pad_id proj_type ls_init_value final_ln_after_pool output_tokens block_type hf_model_pretrained hf_proj_type "
    "hf_pooler_type"
)
_CLIP_PIXELS = _names("mean std interpolation resize_mode size")
_NO_EFFECT_AS: Mapping[str, tuple[Any, ...]] = {
    "attentional_pool": (False,),
    "final_ln_after_pool": (False,),
    "pos_embed_type": ("learnable",),
    "mode": ("RGB",),
    "fill_color": (0,),
}
"""Keys that are not read, by the values that say what the reader does anyway."""


def list_passed_over(reader: str, files: CheckpointFiles, *, texts: bool = False) -> tuple[str, ...]:
    """One note, ``passed over: key = value, …``; none where everything was read.

    Args:
        reader: Of :data:`edgevit.checkpoints.READERS`, which has read the files.
        files: With their configurations.
        texts: Whether open_clip's text tower was read too; transformers' configurations of text towers have dozens of
            keys about the generation of text.
    """
    configs = files.configs
    found: list[str] = []
    config = configs.get("config.json", {})
    if reader == "transformers" and find_dense_class(config) is None:  # transformers itself reads all of that
        kind = str(config.get("model_type"))
        found += _list_unknown(config, _read_by(kind), "config.json")
        found += _list_unknown(config.get("vision_config"), _read_by("vit"), "vision_config")
    elif reader == "timm":
        cfg = config.get("pretrained_cfg")
        flat = frozenset() if isinstance(cfg, Mapping) and cfg else _TIMM_CFG  # one table before timm 0.9
        found += _list_unknown(config, _TIMM | _INERT | flat, "config.json")
        found += _list_unknown(cfg, _TIMM_CFG, "pretrained_cfg")
    elif reader == "open_clip":
        stored = configs.get("open_clip_config.json", {})
        found += _list_unknown(stored, _CLIP, "open_clip_config.json")
        model = stored.get("model_cfg")
        found += _list_unknown(model, _CLIP_MODEL, "model_cfg")
        found += _list_unknown(
            model.get("vision_cfg") if isinstance(model, Mapping) else None, _CLIP_VISION, "vision_cfg"
        )
        if texts and isinstance(model, Mapping):
            found += _list_unknown(model.get("text_cfg"), _CLIP_TEXT, "text_cfg")
        found += _list_unknown(stored.get("preprocess_cfg"), _CLIP_PIXELS, "preprocess_cfg")
    if reader in ("transformers", "onnx"):
        steps = configs.get("preprocessor_config.json", {})
        more = _DENSE_PROCESSOR if find_dense_class(config) is not None else frozenset()
        read = _PROCESSOR | more | {key for key in steps if key.startswith("do_")}  # which are read or refused
        found += _list_unknown(steps, read, "preprocessor_config.json")
    return (note_names("passed over: ", found, _LISTED),) if found else ()


def _read_by(kind: str) -> frozenset[str]:
    own = _KINDS.get(kind, _READ_VIT)
    inert = _INERT_SWIN if own is _READ_SWIN else _INERT_DINOV2 if own is _READ_DINOV2 else frozenset()
    return _READ | own | _INERT | inert | (_READ_TOWER if kind in ("clip", "vit") else frozenset())


def _list_unknown(table: Any, known: frozenset[str], where: str) -> list[str]:
    """``key = value (where)`` of every key that says something and is not known."""
    if not isinstance(table, Mapping):
        return []
    return [
        f"{key} = {_show(value)} ({where})"
        for key, value in table.items()
        if key not in known
        and not key.startswith("_")
        and (value is not None and value not in ("", [], {}))
        and value not in _NO_EFFECT_AS.get(key, ())
    ]


def _show(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 1]}…"
