"""timm's and transformers' preprocessing configurations, read into a :class:`Preprocess`.

Written from timm 1.0 (``timm/data/config.py``, ``transforms_factory.py``) and transformers 5
(``image_processing_backends.py`` and the processors' class attributes); both are references in the tests.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard, cast

from edgevit.checkpoints.fields import is_number
from edgevit.core.errors import CheckpointError, format_offenders
from edgevit.pixels.preprocess import INTERPOLATIONS, Interpolation, Preprocess, Resize

Triple = tuple[float, float, float]

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
CLIP = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)

_TIMM_CROP_PCT = 0.875
_TIMM_CROP_MODES = ("center", "squash", "border")

# By Pillow's code. Not 0, nearest: which of two equally near pixels is taken depends on the processor's backend.
RESAMPLE: dict[int, Interpolation] = {1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}


class ConfigReader:
    """Values of one configuration; collects what is assumed and what is wrong instead of stopping at the first."""

    def __init__(self, config: Mapping[str, Any], publisher: str) -> None:
        self.config = config
        self.publisher = publisher
        self.notes: list[str] = []
        self.problems: list[str] = []

    def take(self, key: str, default: Any) -> Any:
        """The stored value, or the publisher's default with a note."""
        value = self.config.get(key)
        if value is not None and value != "":
            return value
        if default is not None:
            self.notes.append(f"preprocessing: {key} is not stored; {self.publisher}'s default {default} is assumed")
        return default

    def take_flag(self, key: str, default: bool) -> bool:
        """As :meth:`take`, true or false."""
        value = self.take(key, default or None) or False  # steps that are off by default are rarely stored: no note
        if not isinstance(value, bool):
            self.problems.append(f"{key} = {value!r} is not true or false")
        return bool(value)

    def take_triple(self, key: str, default: Triple) -> Triple:
        """As :meth:`take`, a number for each channel."""
        value = self.take(key, default)
        values = [value] * 3 if is_number(value) else value
        if not isinstance(values, Sequence) or len(values) != 3 or not all(is_number(v) for v in values):
            self.problems.append(f"{key} = {value!r} is not three numbers; only RGB models are supported")
            return default
        return cast(Triple, tuple(float(v) for v in values))

    def take_number(self, key: str, default: float) -> float:
        """As :meth:`take`, a finite number above 0."""
        value = self.take(key, default)
        if not is_number(value) or not math.isfinite(value) or value <= 0:
            self.problems.append(f"{key} = {value!r} is not a finite number above 0")
            return default
        return float(value)

    def finish(self, **fields: Any) -> tuple[Preprocess, tuple[str, ...]]:
        """The preprocessing with these fields, and the notes.

        Raises:
            CheckpointError: Naming every problem.
        """
        if not self.problems:
            try:
                return Preprocess(**fields), tuple(self.notes)
            except ValueError as exc:
                self.problems.append(str(exc))
        raise CheckpointError(
            f"the checkpoint's preprocessing ({self.publisher}'s) cannot be reproduced:\n"
            + format_offenders(self.problems),
            "where a value is wrong, correct it in the checkpoint's configuration; a step that is not supported cannot "
            "be left out without changing the answers",
        )


def is_size(value: object) -> TypeGuard[int]:
    """Whether it is a whole number of pixels that an input may have."""
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 2**15


def read_timm_preprocess(
    pretrained_cfg: Mapping[str, Any], input_size: tuple[int, int] | None = None
) -> tuple[Preprocess, tuple[str, ...]]:
    """The transform of ``timm.data.create_transform(is_training=False)`` for a model's ``pretrained_cfg``.

    Args:
        pretrained_cfg: As in the ``config.json`` of a timm hub folder.
        input_size: (height, width) to use instead of the stored size. Where it is the stored ``test_input_size``, the
            stored ``test_crop_pct`` goes with it, as in timm's own evaluation.

    Returns:
        The preprocessing, and a sentence for every value that is not stored and was assumed.

    Raises:
        CheckpointError: Naming every value that cannot be reproduced.
    """
    reader = ConfigReader(pretrained_cfg, "timm")
    height, width = _take_timm_size(reader, input_size)
    crop_key = "crop_pct"
    test_size = pretrained_cfg.get("test_input_size")
    if input_size is not None and pretrained_cfg.get("test_crop_pct") and list(test_size or ())[1:] == [height, width]:
        crop_key = "test_crop_pct"
    crop_pct = reader.take_number(crop_key, _TIMM_CROP_PCT)
    crop_mode = reader.take("crop_mode", "center")
    if crop_mode not in _TIMM_CROP_MODES:
        reader.problems.append(f"crop_mode = {crop_mode!r} is not one of {', '.join(_TIMM_CROP_MODES)}")
    interpolation = reader.take("interpolation", "bicubic")
    if interpolation not in INTERPOLATIONS:
        reader.problems.append(f"interpolation = {interpolation!r} is not one of {', '.join(INTERPOLATIONS)}")
    mean, std = reader.take_triple("mean", IMAGENET[0]), reader.take_triple("std", IMAGENET[1])
    resize: Resize = "squash" if crop_mode == "squash" else "longest" if crop_mode == "border" else "shortest"
    return reader.finish(
        height=height,
        width=width,
        resize=resize,
        resize_height=math.floor(height / crop_pct),
        resize_width=math.floor(width / crop_pct),
        interpolation=interpolation,
        mean=mean,
        std=std,
        fill=tuple(min(max(round(255 * m), 0), 255) for m in mean if math.isfinite(m))
        if resize == "longest"
        else (0, 0, 0),
        crop_ratio=crop_pct,
    )


def _take_timm_size(reader: ConfigReader, input_size: tuple[int, int] | None) -> tuple[int, int]:
    stored = (3, *input_size) if input_size is not None else reader.take("input_size", (3, 224, 224))
    if not isinstance(stored, Sequence) or len(stored) != 3 or not all(is_size(s) for s in stored):
        reader.problems.append(f"input_size = {stored!r} is not (3, height, width)")
        return 224, 224
    if stored[0] != 3:
        reader.problems.append(f"input_size = {list(stored)}: {stored[0]} channels; only RGB models are supported")
    return stored[1], stored[2]


@dataclass(frozen=True)
class _Processor:
    """Defaults of one of transformers' image processor classes."""

    size: Mapping[str, int]
    resample: int
    normalization: tuple[Triple, Triple]
    crop_size: Mapping[str, int] | None = None
    center_crop: bool = False
    square: bool = True  # what a size of one number means: a square, or the short side


_SQUARE_224 = {"height": 224, "width": 224}
_CLIP_LIKE = _Processor({"shortest_edge": 224}, 3, CLIP, _SQUARE_224, True, square=False)

# Only processors that this module reproduces; each is compared with the original in the tests.
_PROCESSORS = {
    "ViT": _Processor(_SQUARE_224, 2, HALF),
    "DeiT": _Processor({"height": 256, "width": 256}, 3, HALF, _SQUARE_224, True),
    "Beit": _Processor(_SQUARE_224, 3, HALF, _SQUARE_224),
    "Bit": _CLIP_LIKE,
    "CLIP": _CLIP_LIKE,
    "ChineseCLIP": _CLIP_LIKE,
    "Siglip": _Processor(_SQUARE_224, 3, HALF, square=False),
    "DINOv3ViT": _Processor(_SQUARE_224, 2, IMAGENET),
    "ConvNext": _Processor({"shortest_edge": 384}, 3, HALF, square=False),
}

_PROCESSOR_OF_MODEL = {
    "vit": "ViT",
    "vit_msn": "ViT",
    "vit_mae": "ViT",
    "deit": "DeiT",
    "swin": "ViT",
    "swinv2": "ViT",
    "beit": "Beit",
    "data2vec-vision": "Beit",
    "dinov2": "Bit",
    "dinov2_with_registers": "Bit",
    "dinov3_vit": "DINOv3ViT",
    "clip": "CLIP",
    "clip_vision_model": "CLIP",
    "siglip": "Siglip",
    "siglip_vision_model": "Siglip",
}

# Steps that are reproduced, or that leave the pixels of an RGB image alone.
_KNOWN_STEPS = {"do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_convert_rgb", "do_reduce_labels"}


def read_transformers_preprocess(
    preprocessor_config: Mapping[str, Any], model_type: str | None = None
) -> tuple[Preprocess, tuple[str, ...]]:
    """The steps of a transformers image processor.

    Args:
        preprocessor_config: A ``preprocessor_config.json``; empty where the checkpoint has none.
        model_type: The model's ``model_type``; says which processor's defaults hold where the configuration names none.

    Returns:
        The preprocessing, and a sentence for every value that is not stored and was assumed.

    Raises:
        CheckpointError: Naming every value or step that cannot be reproduced.
    """
    if isinstance(preprocessor_config.get("pretrained_cfg"), Mapping):  # TimmWrapperImageProcessor
        return read_timm_preprocess(preprocessor_config["pretrained_cfg"])
    reader = ConfigReader(preprocessor_config, "transformers")
    name, processor = _find_processor(reader, model_type)
    reader.publisher = f"{name}ImageProcessor"
    for key, value in preprocessor_config.items():
        if value and (
            (key.startswith("do_") and key not in _KNOWN_STEPS) or key in ("rescale_offset", "use_square_size")
        ):
            reader.problems.append(f"{key} = {value!r} is a step that is not supported")

    resize, resize_size, crop_size, ratio = _take_transformers_sizes(reader, name, processor)
    return reader.finish(
        height=crop_size[0],
        width=crop_size[1],
        resize=resize,
        resize_height=resize_size[0],
        resize_width=resize_size[1],
        crop_rounding="floor",
        crop_ratio=ratio,
        **take_numbers(reader, reader.take("resample", processor.resample), processor.normalization),
    )


def take_numbers(reader: ConfigReader, code: object, normalization: tuple[Triple, Triple]) -> dict[str, Any]:
    """Interpolation, scale, mean and deviation of a processor of transformers, as :class:`Preprocess` has them.

    Args:
        reader: Of the processor's config; told of a code that means nothing.
        code: Of the interpolation, as Pillow numbers them.
        normalization: Mean and standard deviation where the config says none.
    """
    interpolation = RESAMPLE.get(code) if isinstance(code, int) and not isinstance(code, bool) else None
    if interpolation is None:
        known = ", ".join(f"{code} ({name})" for code, name in RESAMPLE.items())
        reader.problems.append(f"resample = {code!r} is not one of {known}")
    rescale = reader.take_number("rescale_factor", 1 / 255) if reader.take_flag("do_rescale", True) else 1.0
    mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    if reader.take_flag("do_normalize", True):
        mean = reader.take_triple("image_mean", normalization[0])
        std = reader.take_triple("image_std", normalization[1])
    return {
        "interpolation": interpolation,
        "mean": mean,
        "std": std,
        "rescale": rescale,
        # torchvision's tensor resize, which is the default, has no box or hamming; these go through Pillow.
        "resampling": "pillow" if interpolation in ("box", "hamming") else "torch",
    }


def _find_processor(reader: ConfigReader, model_type: str | None) -> tuple[str, _Processor]:
    stored = reader.config.get("image_processor_type") or reader.config.get("feature_extractor_type")
    if stored is None:
        name = _PROCESSOR_OF_MODEL.get(model_type or "", "")
        if name:
            reader.notes.append(f"preprocessing: no image processor is named; {name}ImageProcessor is assumed")
    else:
        name = str(stored)
        for suffix in ("Fast", "Pil", "ImageProcessor", "FeatureExtractor"):
            name = name.removesuffix(suffix)
    if name in _PROCESSORS:
        return name, _PROCESSORS[name]
    what = (
        f"image processor {stored!r}" if stored is not None else f"model type {model_type!r} without an image processor"
    )
    known = ", ".join(f"{p}ImageProcessor" for p in _PROCESSORS)
    raise CheckpointError(f"{what} is not supported", f"supported in preprocessor_config.json: {known}")


def _take_transformers_sizes(
    reader: ConfigReader, name: str, processor: _Processor
) -> tuple[Resize, tuple[int, int], tuple[int, int], float | None]:
    """Way to resize, (height, width) to resize to, (height, width) of the crop, and their ratio where it is stated."""
    fallback = (224, 224)
    crop = None
    if reader.take_flag("do_center_crop", processor.center_crop):
        stored = reader.take("crop_size", processor.crop_size)
        crop = _parse_size(stored, square=True)
        if crop is None or crop[0] != "squash":
            reader.problems.append(f"crop_size = {stored!r} is not a height and a width")
            return "squash", fallback, fallback, None
    if not reader.take_flag("do_resize", True):
        if crop is None:
            reader.problems.append("do_resize and do_center_crop are both false: images would keep their own size")
            return "squash", fallback, fallback, None
        return "none", crop[1], crop[1], None
    stored = reader.take("size", processor.size)
    parsed = _parse_size(stored, square=processor.square)
    if parsed is None:
        reader.problems.append(f"size = {stored!r} is not a height and a width or a shortest_edge")
        return "squash", fallback, fallback, None
    resize, size = parsed
    if name == "ConvNext" and crop is None:
        if resize != "shortest":
            reader.problems.append(f"size = {stored!r} is not a shortest_edge")
        if size[0] >= 384:  # the class squashes large images and ignores crop_pct
            return "squash", size, size, None
        ratio = reader.take_number("crop_pct", 224 / 256)
        larger = int(size[0] / ratio)
        return "shortest", (larger, larger), size, ratio
    if crop is None:
        if resize == "shortest":
            reader.problems.append(f"size = {stored!r} without do_center_crop gives images of varying size")
        return resize, size, size, None
    return resize, size, crop[1], None


def _parse_size(value: object, square: bool) -> tuple[Resize, tuple[int, int]] | None:
    """transformers' size in any of its spellings: a dictionary, a number, or (height, width)."""
    if isinstance(value, Mapping):
        sizes = {k: v for k, v in value.items() if v is not None}
        if set(sizes) == {"height", "width"} and all(is_size(v) for v in sizes.values()):
            return "squash", (sizes["height"], sizes["width"])
        if set(sizes) == {"shortest_edge"} and is_size(sizes["shortest_edge"]):
            return "shortest", (sizes["shortest_edge"], sizes["shortest_edge"])
        return None
    if is_size(value):
        return ("squash" if square else "shortest"), (value, value)
    if isinstance(value, (list, tuple)) and len(value) == 2 and all(is_size(v) for v in value):
        return "squash", (value[0], value[1])
    return None
