"""transformers: a folder with ``config.json``, weights, also sharded, and ``preprocessor_config.json``.

Which ``model_type`` can be read: the rows of :data:`edgevit.checkpoints.transformers.vit.VIT_KINDS` and of
:data:`edgevit.checkpoints.transformers.swin.SWIN_KINDS`. Parameters are known by the names of version 4, in which
version 5 still saves, and by those of version 5's modules.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

from edgevit.checkpoints.assemble import Plan, assemble_model
from edgevit.checkpoints.fields import Fields, Size, choose_image_size, refuse_parts
from edgevit.checkpoints.files.adapters import CONFIG_FILE
from edgevit.checkpoints.files.files import CheckpointFiles
from edgevit.checkpoints.files.wrappers import HEADS
from edgevit.checkpoints.labels import read_scores
from edgevit.checkpoints.preprocess_configs import read_transformers_preprocess
from edgevit.checkpoints.texts.label_texts import LabelTexts
from edgevit.checkpoints.transformers import dinov3
from edgevit.checkpoints.transformers.description import Description, find_channels, name_classes
from edgevit.checkpoints.transformers.swin import SWIN_KINDS, add_key_biases, describe_swin
from edgevit.checkpoints.transformers.vit import VIT_KINDS, choose_class, describe_vit, make_names
from edgevit.checkpoints.transformers.whole import is_whole, read_whole_model
from edgevit.core.errors import CheckpointError, format_offenders
from edgevit.core.progress import Progress, ignore_progress
from edgevit.models import ViTConfig
from edgevit.models.model import Model

LAYOUT = "transformers folder"

# Types that look like one of these and are another model, by ``model_type``.
_OTHER_KINDS = {
    "beit": "BEiT, with relative positions in every block",
    "data2vec-vision": "data2vec, which is a BEiT",
    "siglip2": "SigLIP 2 NaFlex, which takes an image as a list of patches; its fixed sizes are stored as siglip",
    "siglip2_vision_model": "SigLIP 2 NaFlex, which takes an image as a list of patches",
    "dinov3_convnext": "a ConvNeXt",
    "eva": "EVA in a layout of its own; timm's folders of it are read",
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


def recognise(files: CheckpointFiles) -> bool:
    """A ``config.json`` that names a ``model_type``, or else the classes that the model is made of."""
    return "model_type" in files.config or "architectures" in files.config


def owns_names(tensors: Iterable[str]) -> bool:
    """Whether the tensors have transformers' names."""
    ends = ("embeddings.patch_embeddings.projection.weight", "embeddings.patch_embedding.weight")
    return any(name.endswith(ends) for name in tensors)


def read(
    files: CheckpointFiles,
    arch: str | None,
    image_size: Size | None,
    texts: LabelTexts | None = None,
    progress: Progress = ignore_progress,
) -> Model:
    """Read a transformers folder; see :func:`edgevit.checkpoints.read_checkpoint`.

    ``texts`` are read only where :func:`~edgevit.checkpoints.transformers.open_vocabulary.takes_labels` says so.
    """
    config = files.config
    whole = is_whole(config)
    _check_code(config, files.source)
    if not whole:
        _check_kind(config, files.source)
    if arch is not None:
        raise CheckpointError(
            f"{files.source} says itself what it is: {config['model_type']}",
            "leave --arch out: it is for bare weight files",
        )
    if whole:
        return read_whole_model(files, image_size, texts, progress)
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
    if CONFIG_FILE in files.configs and any(name.partition(".")[0] in HEADS for name in tensors):
        config = {**config, "architectures": None}  # the base model's, which an adapter gave a head
    where = f"{files.source}/config.json"
    stored = files.image_processor or {}
    preprocess, assumed = read_transformers_preprocess(stored, kind)
    notes += assumed
    sees = (preprocess.height, preprocess.width) if stored and image_size is None else None
    if kind in VIT_KINDS:
        found = _describe_vit(config, tensors, image_size, sees, where)
        tensors = dinov3.fill_up(tensors) if kind == "dinov3_vit" else tensors
    else:
        found = describe_swin(config, tensors, image_size, where)
        tensors = add_key_biases(found.config, tensors)
    size = found.config.image_size
    if (preprocess.height, preprocess.width) != size:
        if image_size is None:
            notes.append(
                f"preprocessing gives {preprocess.height} × {preprocess.width} pixels, the model takes"
                f" {size[0]} × {size[1]}; its sizes are scaled to the model's"
            )
        preprocess = preprocess.with_size(*size)
    scores = read_scores(config, where)
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
        scores=scores if found.config.classes else None,
        resampling="antialiased" if found.antialias else "bicubic",
        notes=(*notes, *found.notes),
    )
    return assemble_model(files, plan, tensors)


def _check_kind(config: Mapping[str, Any], source: str) -> None:
    kind = config.get("model_type")
    named = name_classes(config)
    classes = {**SWIN_KINDS, **{name: tuple(row.classes) for name, row in VIT_KINDS.items()}}
    if not isinstance(kind, str) or kind not in classes:
        what = f" ({', '.join(named)})" if named else ""
        other = _OTHER_KINDS.get(kind) if isinstance(kind, str) else None
        raise CheckpointError(
            f"{source} is a {kind!r} model{what}, which cannot be read{f': {other}' if other else ''}",
            f"model types that can be read: {', '.join(classes)}",
        )
    others = [name for name in named if name not in classes[kind]]
    if others:
        raise CheckpointError(
            f"{source} holds {others[0]}, which cannot be read",
            f"classes of {kind!r} that can be read: {', '.join(classes[kind])}",
        )


def _check_code(config: Mapping[str, Any], source: str) -> None:
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
) -> Description:
    kind = VIT_KINDS[config["model_type"]]
    name, chosen = choose_class(kind, name_classes(config), tensors)
    outer = Fields(config, where)
    inner = outer.mapping(kind.nested) if kind.nested else config
    fields = Fields(inner, f"{where}, {kind.nested}" if kind.nested else where)
    fields.complaints += outer.complaints
    unsupported = find_channels(fields)
    values = describe_vit(kind, chosen, fields, outer.integer("projection_dim", 512), unsupported)
    stored = fields.size("image_size", (224, 224))
    patch = fields.size("patch_size", _pair(kind.defaults.get("patch_size", 16)))
    refuse_parts(unsupported, f"{where} describes")
    if not fields.complaints:
        native = sees if kind.resamples and sees is not None else stored
        drops = image_size in (None, native) and (kind.drops_remainder or native is sees)
        values["image_size"] = native if drops else choose_image_size(native, image_size, patch)
        values["drop_remainder"] = any(side % step for side, step in zip(values["image_size"], patch, strict=True))
    notes = []
    if not fields.flag("vision_use_head", True):
        notes.append("the tower has no pooling head; the features are the mean of its tokens")
    built = fields.finish(ViTConfig, **values, patch_size=patch)
    return Description(built, stored, make_names(kind, chosen), name, kind.antialias, tuple(notes))


def _pair(side: int) -> Size:
    return side, side
