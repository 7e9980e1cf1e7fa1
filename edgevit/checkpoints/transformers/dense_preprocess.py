"""Preprocessing of transformers' depth estimators, segmenters, detectors and pose estimators, at one fixed size.

Written from transformers 5 (``image_processing_*.py`` of the classes below), which are the references in the tests.
Where a processor keeps an image's aspect ratio, its inputs have many sizes, and a bundle has one: images are squashed
to it, and a note says so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgevit.checkpoints.preprocess_configs import CLIP, HALF, IMAGENET, ConfigReader, Triple, is_size, take_numbers
from edgevit.core.errors import CheckpointError
from edgevit.pixels.preprocess import Preprocess, Resize

Size = tuple[int, int]


@dataclass(frozen=True)
class _Processor:
    """Defaults of one of transformers' image processor classes.

    Attributes:
        size: As stored in a configuration.
        resample: Pillow's code of the filter.
        normalization: Mean and standard deviation.
        antialias: Whether the filter widens where an image shrinks.
        divisor: What both sides are rounded up to.
        squares: Whether it fills images up to squares unless it is told not to.
        steps: Steps that it has beside the usual ones, and that leave an image of the fixed size as it is.
    """

    size: Mapping[str, int | None]
    resample: int = 2
    normalization: tuple[Triple, Triple] = IMAGENET
    antialias: bool = True
    divisor: int = 1
    squares: bool = False
    steps: frozenset[str] = frozenset()


_SHORTEST_800: Mapping[str, int | None] = {"shortest_edge": 800, "longest_edge": 1333}
_PADDING = frozenset({"do_pad", "do_convert_annotations", "do_convert_rgb"})
PROCESSORS: Mapping[str, _Processor] = {
    "DPT": _Processor({"height": 384, "width": 384}, 3, HALF),
    "Segformer": _Processor({"height": 512, "width": 512}, steps=frozenset({"do_reduce_labels"})),
    "Beit": _Processor({"height": 224, "width": 224}, 3, HALF, steps=frozenset({"do_reduce_labels"})),
    "Mask2Former": _Processor(_SHORTEST_800, divisor=32, steps=_PADDING | {"do_reduce_labels"}),
    "Eomt": _Processor({"shortest_edge": 640, "longest_edge": 640}, steps=frozenset({"do_split_image", "do_pad"})),
    "RfDetr": _Processor(_SHORTEST_800, antialias=False, steps=_PADDING),
    "OwlViT": _Processor({"height": 768, "width": 768}, 3, CLIP),
    "Owlv2": _Processor({"height": 960, "width": 960}, 2, CLIP, squares=True, steps=frozenset({"do_pad"})),
    "Yolos": _Processor(_SHORTEST_800, steps=_PADDING),
    "VitPose": _Processor({"height": 256, "width": 192}, steps=frozenset({"do_affine_transform"})),
}

_USUAL = frozenset({"do_resize", "do_rescale", "do_normalize", "do_convert_rgb"})


@dataclass(frozen=True)
class DensePreprocess:
    """How an image becomes an input.

    Attributes:
        preprocess: At the fixed size.
        stored: ``shortest_edge`` and ``longest_edge`` of the processor, or its height and width.
        tiles: Whether the processor cuts an image into overlapping squares.
        notes: On what was assumed or is done in another way.
    """

    preprocess: Preprocess
    stored: Size
    tiles: bool
    notes: tuple[str, ...]


def read_dense_preprocess(
    stored: Mapping[str, Any] | None, names: tuple[str, ...], model_size: Size | None, size: Size | None
) -> DensePreprocess:
    """The steps of one of :data:`PROCESSORS`.

    Args:
        stored: A ``preprocessor_config.json``; ``None`` where there is none.
        names: Processors of the model's class; the first is assumed where none is named.
        model_size: Height and width that the model's configuration names.
        size: The input's, in place of what is stored.

    Raises:
        CheckpointError: Naming every value or step that cannot be reproduced.
    """
    reader = ConfigReader(stored or {}, "transformers")
    name = _find_name(reader, names)
    processor = PROCESSORS[name]
    reader.publisher = f"{name}ImageProcessor"
    for key, value in reader.config.items():
        if value and key.startswith("do_") and key not in _USUAL | processor.steps:
            reader.problems.append(f"{key} = {value!r} is a step that is not supported")
    for key in ("do_resize", "do_affine_transform"):
        if reader.config.get(key) is False and (key != "do_resize" or name != "VitPose"):
            reader.problems.append(f"{key} is false: images would keep their own size")
    if reader.config.get("normalize_factor") not in (None, 200, 200.0):
        reader.problems.append("normalize_factor is not 200, which the answer is computed with")
    tiles = bool(reader.config.get("do_split_image"))
    edges = _read_edges(reader, processor)
    sides = _choose_size(reader, edges, processor, model_size, size)
    warps = name == "VitPose"
    code = 2 if warps else reader.take("resample", processor.resample)
    numbers = take_numbers(reader, code, processor.normalization)
    if tiles and sides[0] != sides[1]:
        reader.problems.append(f"do_split_image makes squares, and the input is {sides[0]} × {sides[1]}")
    preprocess, notes = reader.finish(
        height=sides[0],
        width=sides[1],
        resize=_choose_resize(reader, processor, tiles=tiles),
        resize_height=sides[0],
        resize_width=sides[1],
        crop_rounding="floor",
        antialias=processor.antialias and not warps,
        **numbers,
    )
    return DensePreprocess(preprocess, edges or sides, tiles, notes)


def _choose_resize(reader: ConfigReader, processor: _Processor, *, tiles: bool) -> Resize:
    if "do_affine_transform" in processor.steps:
        return "warp"
    if processor.squares and reader.take_flag("do_pad", True):
        reader.notes.append(
            f"preprocessing: {reader.publisher} blurs an image that it shrinks by a Gaussian and takes the four pixels "
            "around a place; here the filter of the resize widens, as everywhere else"
        )
        return "pad"
    return "shortest" if tiles else "squash"


def _find_name(reader: ConfigReader, names: tuple[str, ...]) -> str:
    stored = reader.config.get("image_processor_type") or reader.config.get("feature_extractor_type")
    if stored is None:
        reader.notes.append(f"preprocessing: no image processor is named; {names[0]}ImageProcessor is assumed")
        return names[0]
    name = str(stored)
    for suffix in ("Fast", "Pil", "ImageProcessor", "FeatureExtractor"):
        name = name.removesuffix(suffix)
    if name not in names:
        raise CheckpointError(
            f"image processor {stored!r} is not supported with this model",
            f"supported in preprocessor_config.json: {', '.join(f'{known}ImageProcessor' for known in names)}",
        )
    return name


def _read_edges(reader: ConfigReader, processor: _Processor) -> Size | None:
    """The two numbers of the stored size, whichever they are."""
    stored = reader.take("size", dict(processor.size))
    if is_size(stored):
        return stored, stored
    if isinstance(stored, list | tuple) and len(stored) == 2:
        stored = dict(zip(("height", "width"), stored, strict=True))
    values = {k: v for k, v in stored.items() if v is not None} if isinstance(stored, Mapping) else {}
    if all(is_size(value) for value in values.values()):
        if set(values) == {"height", "width"}:
            return values["height"], values["width"]
        if "shortest_edge" in values and set(values) <= {"shortest_edge", "longest_edge"}:
            return values["shortest_edge"], values.get("longest_edge", values["shortest_edge"])
        if set(values) == {"max_height", "max_width"}:
            return values["max_height"], values["max_width"]
    reader.problems.append(f"size = {stored!r} is not a height and a width or a shortest_edge")
    return None


def _choose_size(
    reader: ConfigReader, edges: Size | None, processor: _Processor, model_size: Size | None, wanted: Size | None
) -> Size:
    """The input's height and width, with a note where the processor gives images of many sizes."""
    stored = reader.config.get("size") or processor.size
    fixed = not isinstance(stored, Mapping) or {"height", "width"} <= {k for k, v in stored.items() if v is not None}
    multiple = reader.config.get("ensure_multiple_of") or 1
    if not is_size(multiple):
        reader.problems.append(f"ensure_multiple_of = {multiple!r} is not a whole number from 1")
        multiple = 1
    if fixed:
        sides = edges or (1, 1)
        chosen = (
            max(multiple, round(sides[0] / multiple) * multiple),
            max(multiple, round(sides[1] / multiple) * multiple),
        )
        varies = bool(reader.config.get("keep_aspect_ratio"))
    else:
        short = edges[0] if edges else 1
        chosen, varies = model_size or (short, short), not reader.config.get("do_split_image")
        if reader.config.get("do_split_image"):
            chosen = short, short
    step = reader.config.get("size_divisor") or processor.divisor
    if is_size(step):
        chosen = math.ceil(chosen[0] / step) * step, math.ceil(chosen[1] / step) * step
    chosen = wanted or chosen
    if varies:
        reader.notes.append(
            f"preprocessing: {reader.publisher} keeps the aspect ratio, so that its inputs have many sizes; a bundle "
            f"has one, and images are squashed to {chosen[0]} × {chosen[1]}"
        )
    return chosen
