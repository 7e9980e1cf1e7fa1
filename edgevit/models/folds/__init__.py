"""Exact rewrites of the canonical module before it is exported: what the weights allow is folded here.

A fold changes a :class:`~edgevit.models.pixels.PixelModel` in place, replaces tensors instead of writing into them
(the model that the parity check runs may share them), and returns a :class:`~edgevit.core.pass_record.PassRecord`.
"""

from __future__ import annotations

from collections.abc import Callable

from edgevit.core.pass_record import PassRecord
from edgevit.core.target import ExportForm
from edgevit.models.folds.attention_bias import fold_attention_bias
from edgevit.models.folds.attention_pool import fold_attention_pool
from edgevit.models.folds.attention_scale import fold_attention_scale
from edgevit.models.folds.class_token_mlp import fold_class_token_mlp
from edgevit.models.folds.class_token_share import fold_class_token_share
from edgevit.models.folds.input_normalization import fold_input_normalization
from edgevit.models.folds.last_block import fold_last_block
from edgevit.models.folds.layer_norm_affine import fold_layer_norm_affine
from edgevit.models.folds.layer_scale import fold_layer_scale
from edgevit.models.folds.patch_linear import fold_patch_linear
from edgevit.models.folds.position_embedding import fold_position_embedding
from edgevit.models.folds.residual_rotation import fold_residual_rotation
from edgevit.models.folds.split_qkv import fold_split_qkv
from edgevit.models.folds.token_padding import fold_token_padding
from edgevit.models.folds.window_gather import fold_window_gather
from edgevit.models.pixels import PixelModel

Fold = Callable[[PixelModel], PassRecord]

# Name, and whether a form asks for it. Normalisation comes before the positions, which take up the convolution's bias;
# the attention pool's query before the norm whose readers are then fewer; all of them before the rotation.
FOLDS: tuple[tuple[str, Fold, Callable[[ExportForm], bool]], ...] = (
    ("split_qkv", fold_split_qkv, lambda form: form.qkv == "separate"),
    ("layer_scale", fold_layer_scale, lambda form: form.fold_layer_scale),
    ("attention_pool", fold_attention_pool, lambda form: form.fold_attention_pool),
    ("layer_norm_affine", fold_layer_norm_affine, lambda form: form.fold_layer_norm_affine),
    ("attention_scale", fold_attention_scale, lambda form: form.fold_attention_scale),
    ("input_normalization", fold_input_normalization, lambda form: form.fold_input_normalization),
    ("position_embedding", fold_position_embedding, lambda form: form.fold_position_embedding),
    ("patch_linear", fold_patch_linear, lambda form: form.patch_embedding == "linear"),
    ("last_block", fold_last_block, lambda form: form.fold_last_block),
    ("attention_bias", fold_attention_bias, lambda form: form.fold_attention_bias),
    ("residual_rotation", fold_residual_rotation, lambda form: form.fold_residual_rotation),
    ("window_gather", fold_window_gather, lambda form: form.fold_window_gather),
    ("class_token_mlp", fold_class_token_mlp, lambda form: form.fold_class_token_mlp),
    ("token_padding", fold_token_padding, lambda form: form.fold_token_padding),
    ("class_token_share", fold_class_token_share, lambda form: form.fold_class_token_share),
)


def apply_folds(pixels: PixelModel, form: ExportForm) -> tuple[PassRecord, ...]:
    """Apply in place, in order, every fold that ``form`` asks for; the others are recorded as switched off."""
    records = []
    for name, fold, wanted in FOLDS:
        records.append(fold(pixels) if wanted(form) else PassRecord(name, "module", enabled=False))
    return tuple(records)
