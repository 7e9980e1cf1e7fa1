"""What KerasHub's configurations say: of a backbone, of a classifier on it, of how images are converted.

Written from KerasHub 0.32 (``models/{vit,deit,swin_transformer}``, ``layers/preprocessing/image_converter.py``). Only
plain values are read; the classes that a configuration names are not built.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from edgevit.checkpoints.fields import LARGEST_IMAGE, Fields, Size, is_number
from edgevit.checkpoints.files.files import CheckpointFiles
from edgevit.checkpoints.files.keras_file import CONFIG
from edgevit.core.errors import CheckpointError
from edgevit.models import SwinConfig, ViTConfig
from edgevit.pixels.preprocess import Interpolation, Preprocess, Resize

BACKBONES: Mapping[str, type[ViTConfig | SwinConfig]] = {
    "ViTBackbone": ViTConfig,
    "DeiTBackbone": ViTConfig,
    "SwinTransformerBackbone": SwinConfig,
}
CLASSIFIERS = ("ViTImageClassifier", "DeiTImageClassifier", "SwinTransformerImageClassifier")
_INTERPOLATIONS: Mapping[str, Interpolation] = {
    "bilinear": "bilinear", "bicubic": "bicubic", "lanczos3": "lanczos", "nearest": "nearest"
}  # fmt: skip
_HINT = (
    "KerasHub's ViT, DeiT and Swin are read, as backbones and image classifiers; "
    "export another model to ONNX with Keras, or name the checkpoint that it was converted from"
)


@dataclass(frozen=True)
class Description:
    """The parts of what KerasHub stored; each an object's own configuration, and empty where it was not stored.

    Attributes:
        name: The backbone's class; ``None`` where nothing says it.
        backbone: Of the backbone.
        classifier: Of the classifier.
        converter: Of the image converter.
    """

    name: str | None = None
    backbone: Mapping[str, Any] = field(default_factory=dict)
    classifier: Mapping[str, Any] = field(default_factory=dict)
    converter: Mapping[str, Any] = field(default_factory=dict)


def is_keras_config(config: Mapping[str, Any]) -> bool:
    """Whether a configuration is of an object that Keras serialised."""
    return {"module", "class_name", "config", "registered_name"} <= config.keys()


def describe(files: CheckpointFiles) -> Description:
    """The configurations of a preset's folder or an archive; all empty for bare weights.

    Raises:
        CheckpointError: They are of another model than those that can be read.
    """
    backbone = files.config or files.contents.stated.get(CONFIG, {})
    if not backbone:
        return Description()
    task = files.configs.get("task.json", {})
    if "backbone" in _inner(backbone):  # an archive of a whole task
        task, backbone = backbone, _inner(backbone)["backbone"]
    name = backbone.get("class_name") if isinstance(backbone, Mapping) else None
    if name not in BACKBONES:
        raise CheckpointError(f"{files.source} is a Keras model of the class {name}, which cannot be read", _HINT)
    if task and task.get("class_name") not in CLASSIFIERS:
        raise CheckpointError(
            f"{files.source} is KerasHub's task {task.get('class_name')}, which cannot be read", _HINT
        )
    classifier = _inner(task)
    stored = files.configs.get("preprocessor.json") or classifier.get("preprocessor")
    converter = files.configs.get("image_converter.json") or _inner(stored).get("image_converter")
    return Description(str(name), _inner(backbone), classifier, _inner(converter))


def _inner(config: object) -> Mapping[str, Any]:
    """The values of a serialised object; empty where there is none."""
    inner = config.get("config") if isinstance(config, Mapping) else None
    return inner if isinstance(inner, Mapping) else {}


def describe_backbone(description: Description, pool: Literal["token", "mean"]) -> ViTConfig | SwinConfig:
    """The canonical config at the size that is stored, without a number of classes.

    Args:
        description: With a backbone.
        pool: What the classifier reads.

    Raises:
        CheckpointError: Listing every value that is not valid.
    """
    fields = Fields(description.backbone, "the backbone's configuration")
    size = _read_image_size(fields)
    if description.name == "SwinTransformerBackbone":
        return fields.finish(
            SwinConfig,
            image_size=size,
            patch_size=fields.size("patch_size", (4, 4)),
            width=fields.integer("embed_dim", 96),
            depths=fields.integers("depths", (2, 2, 6, 2)),
            heads=fields.integers("num_heads", (3, 6, 12, 24)),
            window=fields.size("window_size", (7, 7)),
            mlp_ratio=fields.number("mlp_ratio", 4.0),
            qkv_bias=fields.flag("qkv_bias", True),
            patch_norm=fields.flag("patch_norm", True),
            window_fit="smaller",
        )
    is_vit = description.name == "ViTBackbone"
    return fields.finish(
        ViTConfig,
        image_size=size,
        patch_size=fields.size("patch_size", (16, 16)),
        width=fields.integer("hidden_dim", 768),
        depth=fields.integer("num_layers", 12),
        heads=fields.integer("num_heads", 12),
        mlp_width=fields.integer("mlp_dim" if is_vit else "intermediate_dim", 3072),
        qkv_bias=fields.flag("use_mha_bias", True),
        patch_bias=fields.flag("use_patch_bias", True),
        class_token=fields.flag("use_class_token", True),
        distillation_token=not is_vit,
        norm_eps=fields.number("layer_norm_epsilon", 1e-6),
        pool=pool,
    )


def _read_image_size(fields: Fields) -> Size:
    """Height and width of ``image_shape``, which has the channels last or, where that is said, first."""
    shape = fields.integers("image_shape", (224, 224, 3), high=LARGEST_IMAGE)
    if len(shape) != 3:
        fields.complaints.append(f"image_shape = {list(shape)} is not height, width and channels")
        return 224, 224
    first = fields.text("data_format", "channels_last") == "channels_first"
    size, channels = (shape[1:], shape[0]) if first else (shape[:2], shape[2])
    if channels != 3:
        fields.complaints.append(f"image_shape = {list(shape)} is of images with {channels} channels, not 3")
    return size[0], size[1]


def find_pool(description: Description, source: str) -> tuple[Literal["token", "mean"], list[str]]:
    """What the classifier reads, and a note on what is left out of it.

    Raises:
        CheckpointError: A pooling, a hidden layer or an activation that cannot be stated.
    """
    classifier, notes = description.classifier, []
    has_token = description.name == "DeiTBackbone" or description.backbone.get("use_class_token", True) is not False
    pooling = classifier.get("pooling", "token" if has_token else "gap")
    refused = []
    if description.name != "SwinTransformerBackbone" and pooling != ("token" if has_token else "gap"):
        other = "the mean over all tokens, class token included" if has_token else "the first patch"
        refused.append(f"pooling = {pooling!r}" + (f": {other}" if pooling in ("token", "gap") else ""))
    if classifier.get("intermediate_dim") is not None:
        refused.append(f"intermediate_dim = {classifier['intermediate_dim']}: a hidden layer before the head")
    activation = classifier.get("activation")
    if activation in ("softmax", "sigmoid"):
        notes.append(f"the {activation} behind the head is left out: the answers are logits")
    elif activation not in (None, "linear"):
        refused.append(f"activation = {activation!r} behind the head")
    if refused:
        raise CheckpointError(
            f"{source} has a classifier that cannot be read: {'; '.join(refused)}",
            "save only the backbone with its save_to_preset, or export the model to ONNX with Keras",
        )
    return ("token" if has_token else "mean"), notes


def read_converter(description: Description, native: Size) -> tuple[Preprocess, list[str]] | None:
    """What KerasHub's image converter does, and notes on where this differs; ``None`` where none is stored.

    Raises:
        CheckpointError: A value that is not valid.
    """
    stored = description.converter
    if not stored:
        return None
    fields = Fields(stored, "the image converter's configuration")
    height, width = fields.size("image_size", native)
    scale, offset = _read_channels(fields, "scale", 1.0), _read_channels(fields, "offset", 0.0)
    if not all(s > 0 for s in scale):
        fields.complaints.append(f"scale = {stored.get('scale')!r} is not above 0")
        scale = [1.0] * 3
    cut, padded = fields.flag("crop_to_aspect_ratio", True), fields.flag("pad_to_aspect_ratio", False)
    antialias, name = fields.flag("antialias", False), fields.text("interpolation", "bilinear")
    if name not in _INTERPOLATIONS:
        fields.complaints.append(f"interpolation = {name!r} is not one of {', '.join(_INTERPOLATIONS)}")
    interpolation = _INTERPOLATIONS.get(name, "bilinear")
    notes = []
    if not antialias and interpolation in ("bicubic", "lanczos"):
        notes.append(f"images are resized with antialiasing; KerasHub's {name} filter does not antialias here")
    if padded:
        notes.append("images are resized before they are padded; KerasHub pads them first")
    resize: Resize = "longest" if padded else "crop" if cut else "squash"
    std = tuple(1 / (255 * s) for s in scale)
    preprocess = fields.finish(
        Preprocess,
        height=height,
        width=width,
        resize=resize,
        resize_height=height,
        resize_width=width,
        interpolation=interpolation,
        mean=tuple(-o * s for o, s in zip(offset, std, strict=True)),
        std=std,
        resampling="torch",
        antialias=antialias or interpolation != "bilinear",
    )
    return preprocess, notes


def _read_channels(fields: Fields, key: str, default: float) -> list[float]:
    """A number for each of three channels, or one for all."""
    value = fields.data.get(key)
    values: Sequence[Any] = value if isinstance(value, (list, tuple)) else [value] * 3
    if value is None:
        return [default] * 3
    if len(values) != 3 or not all(is_number(v) for v in values):
        fields.complaints.append(f"{key} = {value!r} is not a number, nor three")
        return [default] * 3
    return [float(v) for v in values]
