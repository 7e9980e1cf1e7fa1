"""list_changed_images: images that the engine lost or won against the float model, small enough to lie in a page."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

from PIL import Image

from edgevit.cli.page.sources import Source
from edgevit.core.errors import DataError
from edgevit.core.report.scores import ImageChange
from edgevit.core.schema import to_data
from edgevit.pixels.decode import decode_image
from edgevit.pixels.hash_image import hash_image

SIDE = 112
"""Pixels of a thumbnail's longer side."""
_QUALITY = 80


def list_changed_images(source: Source) -> list[dict[str, Any]]:
    """What the report lists of the chosen variant, with names of classes, and with what is still there to look at.

    Each has ``kind``: ``lost``, ``won``, or ``changed`` where neither is right or nobody knows; and ``thumbnail``: a
    ``data:`` address, ``None`` where the file is not there or not the one that was judged.
    """
    report = source.report
    chosen = next((v for v in report.variants if v.name == report.verdict.chosen), None)
    if chosen is None:
        return []
    validated = any(v.accuracy is not None for v in report.variants)
    figures = chosen.accuracy if validated else chosen.choice_accuracy
    use = report.data.get("validation" if validated else "calibration")
    if figures is None or use is None:
        return []
    place = Path(use.path)
    root = place.parent if place.is_file() else place  # a CSV lists files beside it
    return [
        {
            **to_data(change),
            "kind": _name_kind(change),
            "label": _name_class(source, change.label),
            "reference": _name_class(source, change.reference),
            "answer": _name_class(source, change.answer),
            "thumbnail": _draw(root / change.file, change.sha256),
        }
        for change in figures.changed_images
    ]


def _name_kind(change: ImageChange) -> str:
    return {change.reference: "lost", change.answer: "won"}.get(-1 if change.label is None else change.label, "changed")


def _name_class(source: Source, index: int | None) -> str | None:
    labels = source.manifest.labels
    if index is None:
        return None
    return labels[index] if labels and index < len(labels) else str(index)


def _draw(file: Path, sha256: str) -> str | None:
    try:
        if hash_image(file) != sha256:  # another image of this name, as where the page is made in another folder
            return None
        picture = decode_image(file)
    except DataError:
        return None
    picture.thumbnail((SIDE, SIDE), Image.Resampling.BICUBIC)
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
