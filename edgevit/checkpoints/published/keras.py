"""Keras: KerasHub's ViT, DeiT and Swin, as preset folders, ``.keras`` archives and bare ``.weights.h5`` files.

Written from KerasHub 0.32. Kernels are ``(in, out)``, those of attention ``(C, A, D)`` and ``(A, D, C)``, the patch
embedding's ``(h, w, in, out)``; GELU is its erf form. Keras names a list's items after their class and numbers them
from the second on: ``vi_t_encoder_block``, ``vi_t_encoder_block_1``.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping

import torch
from torch import Tensor

from edgevit.checkpoints.assemble import Plan, assemble_model
from edgevit.checkpoints.documented import document_preprocess
from edgevit.checkpoints.fields import Size
from edgevit.checkpoints.files.files import CheckpointFiles
from edgevit.checkpoints.files.keras_file import CONFIG
from edgevit.checkpoints.names import Names
from edgevit.checkpoints.preprocess_configs import HALF, IMAGENET
from edgevit.checkpoints.published.keras_config import (
    Description,
    describe,
    describe_backbone,
    find_pool,
    is_keras_config,
    read_converter,
)
from edgevit.checkpoints.shapes import at_image_size, describe_size, measure_swin, measure_vit
from edgevit.core.errors import CheckpointError, format_offenders
from edgevit.models import SwinConfig, ViTConfig
from edgevit.models.model import Model
from edgevit.pixels.preprocess import Preprocess

LAYOUT = "KerasHub model"

_VARIABLE = re.compile(r".*/vars/\d+")
_FIRST = re.compile(r"((?:vi|dei)_t_encoder_block|swin_transformer_(?:stage|block))/")
_DROPPED = {
    r"(.*/)?seed_generator(_\d+)?/.*": "state of random numbers",
    r"(metrics|_?loss_tracker|compile_metrics)(_\d+)?/.*": "the training's state",
}


def _layer(ours: str, *theirs: str) -> dict[str, tuple[str, ...]]:
    """A Linear, a convolution or a norm: kernel or scale, then bias."""
    return {
        f"{ours}.weight": tuple(f"{t}/vars/0" for t in theirs),
        f"{ours}.bias": tuple(f"{t}/vars/1" for t in theirs),
    }


_VIT, _DEIT = "layers/vi_t_patching_and_embedding", "layers/dei_t_embeddings"
_BLOCKS = tuple(f"layers/{k}_t_encoder/encoder_layers/{k}_t_encoder_block_{{i}}" for k in ("vi", "dei"))
VIT_NAMES = Names(
    {
        "cls_token": (f"{_VIT}/vars/0", f"{_DEIT}/vars/0"),
        "dist_token": (f"{_DEIT}/vars/1",),
        "pos_embed": (f"{_VIT}/position_embedding/vars/0", f"{_DEIT}/vars/2"),
        **_layer("patch_embed.proj", f"{_VIT}/patch_embedding", f"{_DEIT}/patch_embedding"),
        **_layer("blocks.{i}.norm1", *(f"{b}/layer_norm_1" for b in _BLOCKS)),
        **_layer("blocks.{i}.attn.q", *(f"{b}/mha/query_dense" for b in _BLOCKS)),
        **_layer("blocks.{i}.attn.k", *(f"{b}/mha/key_dense" for b in _BLOCKS)),
        **_layer("blocks.{i}.attn.v", *(f"{b}/mha/value_dense" for b in _BLOCKS)),
        **_layer("blocks.{i}.attn.proj", *(f"{b}/mha/output_dense" for b in _BLOCKS)),
        **_layer("blocks.{i}.norm2", *(f"{b}/layer_norm_2" for b in _BLOCKS)),
        **_layer("blocks.{i}.mlp.fc1", f"{_BLOCKS[0]}/mlp/dense_1", f"{_BLOCKS[1]}/mlp/dense"),
        **_layer("blocks.{i}.mlp.fc2", f"{_BLOCKS[0]}/mlp/dense_2", f"{_BLOCKS[1]}/output_layer/dense"),
        **_layer("norm", "layers/vi_t_encoder/layer_norm", "layers/dei_t_encoder/layer_norm"),
        **_layer("head", "layers/dense"),
    },
    ("layers/vi_t_backbone/", "layers/dei_t_backbone/"),
    _DROPPED,
)
_STAGE = "layers/swin_transformer_stage_{i}"
_BEFORE = "layers/swin_transformer_stage_{i-1}/downsample"
_OURS = "layers.{i}.blocks.{j}"
_BLOCK = f"{_STAGE}/blocks/swin_transformer_block_{{j}}"
SWIN_NAMES = Names(
    {
        **_layer("patch_embed.proj", "layers/patch_embedding/proj"),
        **_layer("patch_norm", "layers/patch_embedding/norm"),
        f"{_OURS}.bias.table": (f"{_BLOCK}/attn/vars/0",),
        **{
            ours: theirs
            for part in ("norm1", "attn/qkv", "attn/proj", "norm2", "mlp/fc1", "mlp/fc2")
            for ours, theirs in _layer(f"{_OURS}.{part.replace('/', '.')}", f"{_BLOCK}/{part}").items()
        },
        **_layer("layers.{i}.downsample.norm", f"{_BEFORE}/norm"),
        "layers.{i}.downsample.reduction.weight": (f"{_BEFORE}/reduction/vars/0",),
        **_layer("norm", "layers/layer_normalization"),
        **_layer("head", "layers/dense"),
    },
    ("layers/swin_transformer_backbone/",),
    _DROPPED,
)
# Layers that KerasHub's ViT can have without a bias, and the canonical one cannot: zeros are the same.
_BIASLESS = {"use_mha_bias": ("/mha/output_dense",), "use_mlp_bias": ("/mlp/dense_1", "/mlp/dense_2")}
_QUERY = re.compile(r".*_t_encoder_block_0/mha/query_dense/vars/0")


def recognise(files: CheckpointFiles) -> bool:
    """A configuration that Keras serialised, or nothing but Keras' variables."""
    if files.config:
        return is_keras_config(files.config)
    if not files.weights:
        return False
    contents = files.contents
    return CONFIG in contents.stated or all(_VARIABLE.fullmatch(name) for name in contents.tensors)


def read(files: CheckpointFiles, arch: str | None, image_size: Size | None) -> Model:
    """Read a model of KerasHub; see :func:`edgevit.checkpoints.read_checkpoint`."""
    if arch is not None:
        raise CheckpointError(f"{files.source} is a Keras model, which says what it is", "leave --arch out")
    files.require_weights()
    description = describe(files)
    stored, notes = files.take_tensors()
    tensors = {_number(name): _to_torch(name, value) for name, value in stored.items()}
    tensors |= _make_biases(description, tensors)
    described, names, assumed = _describe_config(files, description, tensors, stored)
    config, native = at_image_size(described, image_size), described.image_size
    if isinstance(config, SwinConfig):
        _check_windows(config, files.source)
    preprocess, said = _describe_preprocess(description, config, native)
    plan = Plan(
        layout=LAYOUT,
        architecture=describe_size(config),
        config=config,
        names=names,
        preprocess=preprocess,
        stored_size=native,
        stated_classes=description.classifier.get("num_classes"),
        may_lack_head=True,
        notes=(*notes, *assumed, *said),
    )
    return assemble_model(files, plan, tensors)


def _describe_config(
    files: CheckpointFiles, description: Description, tensors: Mapping[str, Tensor], stored: Mapping[str, Tensor]
) -> tuple[ViTConfig | SwinConfig, Names, list[str]]:
    """From what is stored, or else from the shapes of bare weights; with what was assumed."""
    if description.name is not None:
        pool, notes = find_pool(description, files.source)
        names = SWIN_NAMES if description.name == "SwinTransformerBackbone" else VIT_NAMES
        return describe_backbone(description, pool), names, notes
    for names in (VIT_NAMES, SWIN_NAMES):
        found = names.pick(tensors)
        if not {"blocks.0.norm1.weight", "layers.0.blocks.0.norm1.weight"}.isdisjoint(found):
            break
    else:
        layers = sorted({name.split("/")[1] if name.startswith("layers/") else name.split("/")[0] for name in stored})
        raise CheckpointError(
            f"{files.source} holds Keras weights of no ViT, DeiT or Swin of KerasHub; it has the layers\n"
            f"{format_offenders(layers)}",
            "save the whole model as .keras, or export it to ONNX with Keras",
        )
    if names is SWIN_NAMES:
        swin = measure_swin(found, files.source, window_fit="smaller")
        size = f"{swin.image_size[0]} × {swin.image_size[1]}"
        return swin, names, [f"the file does not say the image size: {size} is assumed (--image-size says another)"]
    heads = next((int(v.shape[1]) for n, v in stored.items() if _QUERY.fullmatch(_number(n)) and v.ndim == 3), None)
    has_token, distilled = "cls_token" in found, "dist_token" in found
    config = measure_vit(
        found,
        files.source,
        prefix_tokens=has_token + distilled,
        heads=heads,
        class_token=has_token,
        distillation_token=distilled,
        pool="token" if has_token else "mean",
    )
    kind = "class token" if has_token else "mean of the tokens"
    return config, names, [f"the file says nothing of its classifier: it is taken to read the {kind}, as by default"]


def _make_biases(description: Description, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Zeros for the biases that the configuration says are not there."""
    lacking = [
        layer for flag, layers in _BIASLESS.items() if description.backbone.get(flag) is False for layer in layers
    ]
    kernels = {f"{layer}/vars/0" for layer in lacking}
    return {
        name[:-1] + "1": torch.zeros(value.shape[0])
        for name, value in tensors.items()
        if value.ndim and any(name.endswith(kernel) for kernel in kernels)
    }


def _describe_preprocess(
    description: Description, config: ViTConfig | SwinConfig, native: Size
) -> tuple[Preprocess, list[str]]:
    read = read_converter(description, native)
    if read is None:
        normalization = HALF if isinstance(config, ViTConfig) and not config.distillation_token else IMAGENET
        preprocess, assumed = document_preprocess(
            "KerasHub", native, config.image_size, native,
            resize="crop", interpolation="bilinear", normalization=normalization, antialias=False,
        )  # fmt: skip
        return preprocess, list(assumed)
    preprocess, notes = read
    if (preprocess.height, preprocess.width) != config.image_size:
        if config.image_size == native:
            notes.append(f"the image converter gives {preprocess.height} × {preprocess.width} pixels; the model counts")
        preprocess = dataclasses.replace(
            preprocess,
            height=config.image_size[0], width=config.image_size[1],
            resize_height=config.image_size[0], resize_width=config.image_size[1],
        )  # fmt: skip
    return preprocess, notes


def _check_windows(config: SwinConfig, source: str) -> None:
    """KerasHub masks the padding of a grid in a way of its own, and its bias needs whole windows."""
    grids = {stage: config.stage_grid(stage) for stage in range(len(config.depths))}
    odd = [
        f"stage {stage}: {h} × {w} tokens, windows of {config.window[0]}"
        for stage, (h, w) in grids.items()
        if h % config.window[0] or w % config.window[1]
    ]
    if odd:
        step = config.patch_size[0] * config.window[0] * 2 ** (len(config.depths) - 1)
        raise CheckpointError(
            f"{source}: KerasHub's Swin is read where every stage is made of whole windows; it is not at "
            f"{config.image_size[0]} × {config.image_size[1]} pixels:\n{format_offenders(odd)}",
            f"take sides that are multiples of {step} pixels",
        )


def _number(name: str) -> str:
    """Keras' path with the number that it leaves out at the first of a list."""
    return _FIRST.sub(r"\1_0/", name)


def _to_torch(name: str, value: Tensor) -> Tensor:
    """Keras' order of axes to torch's; what has another rank than it should is left for the check of shapes."""
    if re.search(r"/(query|key|value)_dense/vars/0$", name) and value.ndim == 3:
        return value.flatten(1).T  # (C, A, D)
    if re.search(r"/(query|key|value)_dense/vars/1$", name) and value.ndim == 2:
        return value.flatten()
    if name.endswith("/output_dense/vars/0") and value.ndim == 3:
        return value.flatten(0, 1).T  # (A, D, C)
    if value.ndim == 4:
        return value.permute(3, 2, 0, 1)
    if name.endswith("/position_embedding/vars/0"):
        return value.unsqueeze(0)  # an Embedding, (N, C)
    return value.T if value.ndim == 2 and not name.endswith("/attn/vars/0") else value  # Swin's table of biases
