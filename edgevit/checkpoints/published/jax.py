"""Google's JAX ViT: the ``.npz`` files of ``vision_transformer``, AugReg's among them.

Written from ``vit_jax/models_vit.py`` (Flax): LayerNorm's epsilon is 1e-6, GELU is its tanh form. The heads are in the
shape of the projections. Kernels are ``(in, out)``, the patch embedding's ``(h, w, in, out)``.
"""

from __future__ import annotations

import re

from torch import Tensor

from edgevit.checkpoints.assemble import Plan, assemble_model
from edgevit.checkpoints.documented import document_preprocess
from edgevit.checkpoints.fields import Size
from edgevit.checkpoints.files.files import CheckpointFiles
from edgevit.checkpoints.names import Names, match_patterns
from edgevit.checkpoints.preprocess_configs import HALF
from edgevit.checkpoints.shapes import at_image_size, describe_size, measure_vit
from edgevit.core.errors import CheckpointError, format_offenders
from edgevit.models.model import Model

LAYOUT = "JAX ViT archive (.npz)"

_PREFIXES = ("opt/target/", "params/")
_BLOCK = "Transformer/encoderblock_{i}/"
_ATTENTION = f"{_BLOCK}MultiHeadDotProductAttention_1/"


def _layer(ours: str, theirs: str) -> dict[str, tuple[str, ...]]:
    return {f"{ours}.weight": (f"{theirs}/kernel",), f"{ours}.bias": (f"{theirs}/bias",)}


def _norm(ours: str, theirs: str) -> dict[str, tuple[str, ...]]:
    return {f"{ours}.weight": (f"{theirs}/scale",), f"{ours}.bias": (f"{theirs}/bias",)}


VIT_NAMES = Names(
    {
        "cls_token": ("cls",),
        "pos_embed": ("Transformer/posembed_input/pos_embedding",),
        **_layer("patch_embed.proj", "embedding"),
        **_norm("blocks.{i}.norm1", f"{_BLOCK}LayerNorm_0"),
        **_layer("blocks.{i}.attn.q", f"{_ATTENTION}query"),
        **_layer("blocks.{i}.attn.k", f"{_ATTENTION}key"),
        **_layer("blocks.{i}.attn.v", f"{_ATTENTION}value"),
        **_layer("blocks.{i}.attn.proj", f"{_ATTENTION}out"),
        **_norm("blocks.{i}.norm2", f"{_BLOCK}LayerNorm_2"),
        **_layer("blocks.{i}.mlp.fc1", f"{_BLOCK}MlpBlock_3/Dense_0"),
        **_layer("blocks.{i}.mlp.fc2", f"{_BLOCK}MlpBlock_3/Dense_1"),
        **_norm("norm", "Transformer/encoder_norm"),
        **_layer("head", "head"),
    },
    _PREFIXES,
    {r"opt/state/.*": "the optimiser's state", r"opt/(?!target).*": "the optimiser's state"},
)
_QUERY = re.compile(r"(?:.*/)?Transformer/encoderblock_0/MultiHeadDotProductAttention_1/query/kernel")
_UNSUPPORTED = {
    r"(.*/)?pre_logits/.*": "a hidden layer before the head (pre_logits)",
    r"(.*/)?conv_root/.*": "a convolutional stem (hybrid)",
    r"(.*/)?MAPHead_0/.*": "big_vision's attention pooling",
    r"(.*/)?Transformer/encoderblock/.*": "big_vision's layout of stacked blocks",
    r"(params/|params/img/)?pos_embedding": "big_vision's layout",
    r"(.*/)?(MixerBlock_\d+|Transformer/encoderblock_\d+/(MoeMlp|Moe)[^/]*)/.*": "another model than a ViT",
}


def recognise(files: CheckpointFiles) -> bool:
    """Flax's names with slashes, and the patch embedding that goes with them."""
    return any(name.endswith("embedding/kernel") for name in files.bare_tensors)


def read(files: CheckpointFiles, arch: str | None, image_size: Size | None) -> Model:
    """Read a JAX archive; see :func:`edgevit.checkpoints.read_checkpoint`."""
    tensors, notes = files.take_tensors()
    if arch is not None:
        raise CheckpointError(f"{files.source} is a JAX archive, whose tensors say what it is", "leave --arch out")
    parts = match_patterns(sorted(tensors), _UNSUPPORTED)
    if parts:
        raise CheckpointError(
            f"{files.source} has parts that are not supported:\n"
            + format_offenders([f"{what} (array {names[0]})" for what, names in parts.items()]),
            "load it with timm, which knows these, and save it with timm.models.save_for_hf",
        )
    heads = next((t.shape[1] for name, t in tensors.items() if _QUERY.fullmatch(name) and t.ndim == 3), None)
    tensors = {name: _to_torch(name, value) for name, value in tensors.items()}
    described = measure_vit(VIT_NAMES.pick(tensors), files.source, heads=heads, activation="gelu_tanh")
    config, native = at_image_size(described, image_size), described.image_size
    preprocess, assumed = document_preprocess(
        "vision_transformer", native, config.image_size, native,
        resize="squash", interpolation="bilinear", normalization=HALF, antialias=False,
    )  # fmt: skip
    plan = Plan(
        layout=LAYOUT,
        architecture=describe_size(config),
        config=config,
        names=VIT_NAMES,
        preprocess=preprocess,
        stored_size=native,
        resampling="linear",
        may_lack_head=True,
        notes=(*notes, *assumed),
    )
    return assemble_model(files, plan, tensors)


def _to_torch(name: str, value: Tensor) -> Tensor:
    """Flax's order of axes to torch's; what has another rank than it should is left for the check of shapes."""
    if name.endswith("embedding/kernel") and value.ndim == 4:
        return value.permute(3, 2, 0, 1)
    if name.endswith(("/query/kernel", "/key/kernel", "/value/kernel")) and value.ndim == 3:
        return value.flatten(1).T  # (C, A, D)
    if name.endswith(("/query/bias", "/key/bias", "/value/bias")):
        return value.flatten()
    if name.endswith("/out/kernel") and value.ndim == 3:
        return value.flatten(0, 1).T  # (A, D, C)
    return value.T if name.endswith("kernel") and value.ndim == 2 else value
