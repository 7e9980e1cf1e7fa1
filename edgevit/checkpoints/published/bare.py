"""A bare weight file, ``.safetensors`` or ``.pth``: a publisher's names, and the architecture given beside it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from edgevit.checkpoints.architectures import Architecture, find_architecture
from edgevit.checkpoints.assemble import Plan, assemble_model
from edgevit.checkpoints.fields import Size
from edgevit.checkpoints.files.files import CheckpointFiles
from edgevit.checkpoints.timm import timm
from edgevit.checkpoints.timm.config import describe_config
from edgevit.checkpoints.timm.eva import join_biases, order_channels
from edgevit.checkpoints.timm.vit import find_projection
from edgevit.checkpoints.transformers import transformers
from edgevit.core.errors import CheckpointError
from edgevit.models import SwinConfig, SwinV2Config, ViTConfig
from edgevit.models.model import Model

LAYOUT = "bare weight file (.safetensors, .pth) with --arch NAME"


def recognise(files: CheckpointFiles) -> bool:
    """A file, or a folder with weights and no configuration."""
    return bool(files.weights) and not files.config


def read(files: CheckpointFiles, arch: str | None, image_size: Size | None) -> Model:
    """Read a bare weight file; see :func:`edgevit.checkpoints.read_checkpoint`."""
    stated = _read_training(files.contents.stated)
    if arch is None and stated is None:
        beside = (files.path.parent / "config.json").is_file() and files.path.is_file()
        folder = f"name its folder {files.path.parent}, which has a config.json, or " if beside else ""
        raise CheckpointError(
            f"{files.source} is a bare weight file, which does not say its architecture",
            f"{folder}add --arch NAME with timm's name, for example --arch deit_tiny_patch16_224",
        )
    tensors, notes = files.take_tensors()
    if arch is None and stated is not None:
        arch = stated.arch
        notes.append(f"architecture {arch} is taken from the training's arguments, which the file holds")
    assert arch is not None
    architecture = find_architecture(arch)
    training = (
        stated if stated is not None and find_architecture(stated.arch).name == architecture.name else _Training()
    )
    if not transformers.owns_names(tensors):
        tensors = join_biases(tensors)
    if transformers.owns_names(tensors):
        layout = "bare weight file with transformers' names"
        return transformers.read_model(
            files, _transformers_config(architecture, tensors), image_size, layout, architecture.name
        )
    config, native = describe_config(
        architecture, training.model_args, training.defaults, tensors, image_size, files.source
    )
    tensors = order_channels(architecture.rope, training.model_args, config, tensors)
    config, tensors = find_projection(config, tensors, architecture.name, arch.partition(".")[2], None)
    cfg = {**architecture.pretrained_cfg, **training.pixels} if training.pixels else {}
    preprocess, assumed = timm.find_preprocess(cfg, architecture, native, config.image_size)
    plan = Plan(
        layout="bare weight file with timm's names",
        architecture=architecture.name,
        config=config,
        names=timm.find_names(config, tensors),
        preprocess=preprocess,
        stored_size=native,
        may_lack_head=True,
        notes=(*notes, *assumed),
    )
    return assemble_model(files, plan, tensors)


@dataclass(frozen=True)
class _Training:
    """What timm's ``train.py`` writes beside the weights: the arguments that made the model and its images."""

    arch: str = ""
    model_args: Mapping[str, Any] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    pixels: Mapping[str, Any] = field(default_factory=dict)


def _read_training(stated: Mapping[str, Any]) -> _Training | None:
    """timm's training arguments, or ``None`` where a file states no architecture that timm names so."""
    arch = stated.get("arch")
    try:
        find_architecture(arch if isinstance(arch, str) else "")
    except CheckpointError:
        return None
    kwargs = stated.get("model_kwargs")
    size = {"img_size": stated["img_size"]} if isinstance(stated.get("img_size"), int) else {}
    return _Training(
        str(arch),
        {**size, **(kwargs if isinstance(kwargs, Mapping) else {})},
        {"input_size": stated.get("input_size"), "global_pool": stated.get("gp")},
        {key: stated[key] for key in timm.CFG_KEYS if stated.get(key)},
    )


def _transformers_config(architecture: Architecture, tensors: Iterable[str]) -> dict[str, Any]:
    """What a ``config.json`` of transformers would say of an architecture."""
    config = architecture.config
    if isinstance(config, SwinConfig):
        pretrained = {"pretrained_window_sizes": config.pretrained_windows} if isinstance(config, SwinV2Config) else {}
        return {
            "model_type": "swinv2" if pretrained else "swin",
            **pretrained,
            "image_size": config.image_size,
            "patch_size": config.patch_size,
            "embed_dim": config.width,
            "depths": config.depths,
            "num_heads": config.heads,
            "window_size": config.window[0],
        }
    names = set(tensors)
    found: dict[str, Any] = {
        "model_type": _name_vit_type(config, names),
        "image_size": config.image_size,
        "patch_size": config.patch_size,
        "hidden_size": config.width,
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.heads,
        "intermediate_size": config.mlp_width,
        "mlp_ratio": (config.mlp_width * 3 / 2 if config.gated_mlp else config.mlp_width) / config.width,
        "use_swiglu_ffn": config.gated_mlp,
        "qkv_bias": config.qkv_bias,
    }
    if config.norm_before_blocks:  # timm's name says which GELU a CLIP has
        found["hidden_act"] = "quick_gelu" if config.activation == "quick_gelu" else "gelu"
    if config.register_tokens:
        found["num_register_tokens"] = config.register_tokens
    return found


def _name_vit_type(config: ViTConfig, names: Collection[str]) -> str:
    if config.norm_before_blocks:
        return "clip_vision_model"
    if config.pool == "map":
        return "siglip_vision_model"
    if any(name.endswith("layer_scale1.lambda1") for name in names):
        return "dinov2_with_registers" if config.register_tokens else "dinov2"
    # There DeiT always has a distillation token, and without it is called a ViT.
    return "deit" if any(name.endswith("distillation_token") for name in names) else "vit"
