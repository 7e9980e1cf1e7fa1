"""draw_answer: an answer drawn over its image, for people to look at; with Pillow and its own font."""

from __future__ import annotations

import colorsys

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from edgevit.core.errors import MissingPackageError
from edgevit.runtime.tasks.answers import DenseAnswer, Depth, Detections, Poses, Segmentation

Colour = tuple[int, int, int]

_RAMP = ((48, 18, 59), (65, 105, 225), (30, 200, 180), (165, 230, 60), (250, 175, 45), (220, 60, 20), (122, 4, 3))
"""From the least to the largest: dark blue, green, yellow, red, whose lightness rises and falls once."""

_MASK_SHARE = 0.55
_LEAST_SHARE = 0.002
"""Of the pixels, that a class of the legend has."""
_MOST_NAMES = 20
_LONGEST_NAME = 60
_LEAST_KEYPOINT = 0.3
"""Score below which a keypoint is not drawn, as in the publishers' own demonstrations."""


def draw_answer(picture: Image.Image, answer: DenseAnswer) -> Image.Image:
    """The image with boxes and names, coloured masks and their legend, or skeletons; of depth its map with a scale.

    Args:
        picture: RGB, as ``decode_image`` gives it.
        answer: To this image.
    """
    if isinstance(answer, Depth):
        return _draw_depth(answer)
    if isinstance(answer, Segmentation):
        return _draw_classes(picture, answer)
    if isinstance(answer, Detections):
        return _draw_boxes(picture, answer)
    return _draw_poses(picture, answer)


def name_class(labels: tuple[str, ...] | None, index: int) -> str:
    """Its name, or its number; ``none`` below 0. Short and on one line, as a bundle's labels may hold anything."""
    if index < 0:
        return "none"
    name = labels[index] if labels is not None and index < len(labels) else str(index)
    shown = " ".join(name.split()) or '""'
    return shown if len(shown) <= _LONGEST_NAME else f"{shown[:_LONGEST_NAME]}…"


def choose_colour(index: int) -> Colour:
    """Of a class: neighbours differ, as their hues lie a golden ratio apart."""
    red, green, blue = colorsys.hsv_to_rgb(index * 0.61803398875 % 1.0, (0.85, 0.6)[index // 3 % 2], 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)


def _draw_depth(answer: Depth) -> Image.Image:
    seen = np.isfinite(answer.depth)
    known = answer.depth[seen]
    least, largest = (float(known.min()), float(known.max())) if known.size else (0.0, 0.0)
    span = (largest - least) or 1.0
    shares = np.where(seen, (np.where(seen, answer.depth, least) - least) / span, 0.0)
    coloured = _apply_ramp(shares)
    coloured[~seen] = 128
    height, width = answer.depth.shape
    font = _choose_font(height, width)
    texts = [f"{least + span * share:.3g}{' m' if answer.metric else ''}" for share in (1.0, 0.5, 0.0)]
    if not known.size or least == largest:
        texts = [texts[-1]] * 3
    bar = max(8, height // 30)
    room = round(max(font.getlength(text) for text in texts))
    canvas = Image.new("RGB", (width + 3 * bar + room, height), (255, 255, 255))
    canvas.paste(Image.fromarray(coloured), (0, 0))
    steps = np.linspace(1.0, 0.0, max(2, height - 2 * bar))
    strip = np.repeat(_apply_ramp(steps)[:, None], bar, axis=1)
    canvas.paste(Image.fromarray(strip), (width + bar, bar))
    draw = ImageDraw.Draw(canvas)
    for text, y, anchor in zip(texts, (bar, height / 2, height - bar), ("la", "lm", "ld"), strict=True):
        draw.text((width + 2.4 * bar, y), text, (0, 0, 0), font=font, anchor=anchor)
    return canvas


def _apply_ramp(shares: npt.NDArray[np.floating]) -> npt.NDArray[np.uint8]:
    stops = np.linspace(0.0, 1.0, len(_RAMP))
    channels = [np.interp(shares, stops, [colour[channel] for colour in _RAMP]) for channel in range(3)]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


def _draw_classes(picture: Image.Image, answer: Segmentation) -> Image.Image:
    indices, counts = np.unique(answer.classes, return_counts=True)
    height, width = answer.classes.shape
    palette = np.array([choose_colour(index) for index in indices.tolist()], np.float32)
    pixels = np.asarray(picture).copy()
    for row in range(height):  # a photo's colours in float at once are gigabytes
        of = answer.classes[row] >= 0
        colours = palette[np.searchsorted(indices, answer.classes[row][of])]
        pixels[row][of] = (pixels[row][of] * (1 - _MASK_SHARE) + colours * _MASK_SHARE).round().astype(np.uint8)
    order = [at for at in np.argsort(-counts, kind="stable") if counts[at] >= _LEAST_SHARE * height * width]
    font = _choose_font(height, width)
    line = round(font.size * 1.4)
    order = order[: max(1, min(_MOST_NAMES, (height - line) // line))]
    names = [name_class(answer.labels, int(indices[at])) for at in order]
    shares = [f"{counts[at] / answer.classes.size:.1%}" for at in order]
    wide = round(max((font.getlength(name) for name in names), default=0))
    room = wide + round(max((font.getlength(share) for share in shares), default=0)) + 4 * line
    canvas = Image.new("RGB", (width + room, height), (255, 255, 255))
    canvas.paste(Image.fromarray(pixels), (0, 0))
    draw = ImageDraw.Draw(canvas)
    side = round(font.size)
    for row, (at, name, share) in enumerate(zip(order, names, shares, strict=True)):
        top = line // 2 + row * line
        colour = choose_colour(int(indices[at])) if indices[at] >= 0 else (255, 255, 255)
        left = width + line // 2
        draw.rectangle((left, top, left + side, top + side), colour, (0, 0, 0))
        draw.text((width + 2 * line, top + side / 2), name, (0, 0, 0), font=font, anchor="lm")
        draw.text((width + room - line // 2, top + side / 2), share, (0, 0, 0), font=font, anchor="rm")
    return canvas


def _draw_boxes(picture: Image.Image, answer: Detections) -> Image.Image:
    canvas = picture.copy()
    draw = ImageDraw.Draw(canvas)
    font = _choose_font(canvas.height, canvas.width)
    thick = _choose_thickness(canvas)
    for box, score, index in reversed(
        list(zip(answer.boxes.tolist(), answer.scores.tolist(), answer.classes.tolist(), strict=True))
    ):  # the surest on top
        colour = choose_colour(index)
        left, top, right, bottom = _order_corners(box)
        draw.rectangle((left, top, right, bottom), outline=colour, width=thick)
        text = f"{name_class(answer.labels, index)}:  {score:.2f}"  # the font's space is narrow
        wide, high = font.getlength(text) + 2 * thick, font.size * 1.25
        x = min(max(0.0, left), max(0.0, canvas.width - wide))
        y = top - high if top >= high else min(max(0.0, top), canvas.height - high)
        draw.rectangle((x, y, x + wide, y + high), colour)
        draw.text((x + thick, y + high / 2), text, _choose_ink(colour), font=font, anchor="lm")
    return canvas


def _draw_poses(picture: Image.Image, answer: Poses) -> Image.Image:
    canvas = picture.copy()
    draw = ImageDraw.Draw(canvas)
    thick = _choose_thickness(canvas)
    for person, (keypoints, box) in enumerate(zip(answer.keypoints.tolist(), answer.boxes.tolist(), strict=True)):
        colour = choose_colour(person)
        draw.rectangle(_order_corners(box), outline=colour, width=max(1, thick // 2))
        for first, second in answer.edges:
            ends = keypoints[first], keypoints[second]
            if all(end[2] >= _LEAST_KEYPOINT for end in ends):
                draw.line([(end[0] + 0.5, end[1] + 0.5) for end in ends], fill=colour, width=thick)
        for index, (x, y, score) in enumerate(keypoints):
            if score >= _LEAST_KEYPOINT:
                reach = 1.5 * thick
                circle = (x + 0.5 - reach, y + 0.5 - reach, x + 0.5 + reach, y + 0.5 + reach)
                draw.ellipse(circle, choose_colour(index), (0, 0, 0))
    return canvas


def _order_corners(box: list[float]) -> tuple[float, float, float, float]:
    """Pillow refuses a box whose corners are the wrong way round, which a model may give, and far numbers."""
    left, top, right, bottom = (min(max(value, -1e6), 1e6) for value in box)
    return min(left, right), min(top, bottom), max(left, right), max(top, bottom)


def _choose_ink(colour: Colour) -> Colour:
    red, green, blue = colour
    return (0, 0, 0) if 0.3 * red + 0.59 * green + 0.11 * blue > 120 else (255, 255, 255)


def _choose_thickness(canvas: Image.Image) -> int:
    return max(2, round(min(canvas.size) / 200))


def _choose_font(height: int, width: int) -> ImageFont.FreeTypeFont:
    try:
        font = ImageFont.load_default(max(11, round(min(height, width) / 35)))
    except (TypeError, ImportError) as exc:
        raise MissingPackageError(
            f"this Pillow has no font of a chosen size: {exc}", "pip install 'pillow>=10.1'"
        ) from exc
    assert isinstance(font, ImageFont.FreeTypeFont)
    return font
