"""read_coco: images, categories and annotations of a COCO file, with everything that contradicts itself.

The form is https://cocodataset.org/#format-data; only what is needed is looked at. Images lie beside the file, in
``images`` beside it or beside its folder, or in the folder that its own name ends in, as ``val2017`` of
``annotations/instances_val2017.json``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgevit.core.errors import DataError
from edgevit.core.json_text import parse_json

_HINT = "give a file in COCO's form: images, annotations and categories"


@dataclass(frozen=True)
class CocoImage:
    """An image of the file, and its annotations in the file's order; height and width where the file has them."""

    file: str
    size: tuple[int, int] | None
    annotations: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class CocoFile:
    """What a COCO file lists.

    Attributes:
        root: The folder that the images' names are relative to.
        images: In the file's order.
        categories: Those that annotations are of, by their number.
        offenders: (what, reason) of everything that contradicts itself.
    """

    root: Path
    images: tuple[CocoImage, ...]
    categories: Mapping[int, Mapping[str, Any]]
    offenders: tuple[tuple[str, str], ...]


def read_coco(path: Path) -> CocoFile:
    """Read a file of annotations.

    Raises:
        DataError: It is no COCO file.
    """
    try:
        data = parse_json(path.read_bytes())
    except OSError as exc:
        raise DataError(f"{path}: {exc.strerror}", "check the path and its permissions") from exc
    except ValueError as exc:
        raise DataError(f"{path} is not JSON: {exc}", _HINT) from exc
    tables = {name: data.get(name) if isinstance(data, dict) else None for name in ("images", "categories")}
    tables["annotations"] = data.get("annotations", []) if isinstance(data, dict) else None
    missing = [name for name, table in tables.items() if not isinstance(table, list)]
    if missing:
        raise DataError(f"{path} has no list of {' and none of '.join(missing)}", _HINT)
    offenders: list[tuple[str, str]] = []
    images = _index(tables["images"], "image", lambda entry: isinstance(entry.get("file_name"), str), offenders)
    categories = _index(tables["categories"], "category", lambda entry: isinstance(entry.get("name"), str), offenders)
    by_image: dict[int, list[Mapping[str, Any]]] = {number: [] for number in images}
    used = set()
    for place, annotation in enumerate(tables["annotations"] or ()):
        reason = _find_fault(annotation, images, categories)
        if reason is not None:
            number = annotation.get("id", place) if isinstance(annotation, dict) else place
            offenders.append((f"annotation {number}", reason))
            continue
        by_image[annotation["image_id"]].append(annotation)
        used.add(annotation["category_id"])
    listed = tuple(
        CocoImage(Path(entry["file_name"]).as_posix(), _read_size(entry), tuple(by_image[number]))
        for number, entry in images.items()
    )
    root = _find_root(path, [image.file for image in listed])
    return CocoFile(root, listed, {number: categories[number] for number in sorted(used)}, tuple(offenders))


def _index(
    entries: Sequence[Any] | None, what: str, is_whole: Any, offenders: list[tuple[str, str]]
) -> dict[int, dict[str, Any]]:
    """By number; those without one, or of another's, are offenders."""
    found: dict[int, dict[str, Any]] = {}
    for place, entry in enumerate(entries or ()):
        number = entry.get("id") if isinstance(entry, dict) else None
        if type(number) is not int or not is_whole(entry):
            offenders.append((f"{what} at place {place}", "has no id or no name"))
        elif number in found:
            offenders.append((f"{what} {number}", "is there twice"))
        else:
            found[number] = entry
    return found


def _find_fault(annotation: Any, images: Mapping[int, Any], categories: Mapping[int, Any]) -> str | None:
    if not isinstance(annotation, dict):
        return "is no table"
    image, category = annotation.get("image_id"), annotation.get("category_id")
    if type(image) is not int or image not in images:
        return f"is of image {image}, which is not listed"
    if type(category) is not int or category not in categories:
        return f"is of category {category}, which is not listed"
    box = annotation.get("bbox")
    if box is not None and not (_are_numbers(box, 4) and box[2] >= 0 and box[3] >= 0):
        return f"has the box {box}, which is not left, top, width and height"
    points = annotation.get("keypoints")
    if points is not None and not (isinstance(points, list) and len(points) % 3 == 0 and _are_numbers(points)):
        return "has keypoints that are not x, y and visibility each"
    return None


def _are_numbers(values: Any, count: int | None = None) -> bool:
    whole = isinstance(values, list) and (count is None or len(values) == count)
    return whole and all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def _read_size(entry: Mapping[str, Any]) -> tuple[int, int] | None:
    height, width = entry.get("height"), entry.get("width")
    return (height, width) if isinstance(height, int) and isinstance(width, int) else None


def _find_root(path: Path, files: Sequence[str]) -> Path:
    """The folder that holds most of the first images; the file's own where none does."""
    split = re.split(r"[_.]", path.stem)[-1]
    around = (path.parent, path.parent.parent)
    places = [path.parent, *(folder / name for folder in around for name in ("images", split, f"images/{split}"))]
    return max(places, key=lambda place: sum((place / file).is_file() for file in files[:20]))
