"""list_maps: a folder of images beside a folder of maps, of distances or of classes.

The folder holds ``images`` and ``maps``; a map has its image's name, and ends in ``.png`` or ``.npy``. What the values
of a PNG mean stands in ``maps.toml`` beside the two: see :class:`MapForm`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from edgevit.core import schema
from edgevit.core.errors import DataError
from edgevit.core.toml import load_toml
from edgevit.pixels.decode import MAX_PIXELS
from edgevit.pixels.hash_image import hash_image
from edgevit.pixels.images import ImageSet
from edgevit.pixels.listing import list_images
from edgevit.pixels.truths import NO_CLASS

FORM_FILE = "maps.toml"
_ENDINGS = (".png", ".npy")
_IGNORED = 255
_HINT = "give PNG of 8 or 16 bits in one channel, or NumPy's .npy of one number a pixel"


@dataclass(frozen=True)
class MapForm:
    """``maps.toml``: where images and maps lie, and what the maps' values mean.

    Attributes:
        images: The folder of images, relative to the file.
        maps: The folder of maps.
        scale: Of distances: metres a step of a PNG's values: 0.001 for millimetres, 1/256 for KITTI's. A ``.npy`` holds
            metres unless there is a scale.
        farthest: Of distances: in metres, what is farther does not count.
        first_class: Of classes: the value of class 0; smaller ones do not count. 1 for ADE20K's.
        ignored: Of classes: the value of pixels that do not count.
    """

    images: str = "images"
    maps: str = "maps"
    scale: float | None = None
    farthest: float | None = None
    first_class: int = 0
    ignored: int = _IGNORED

    def __post_init__(self) -> None:
        numbers = {"scale": self.scale, "farthest": self.farthest}
        given = {name: value for name, value in numbers.items() if value is not None}
        schema.refuse(
            *(
                (not 0 < value < float("inf"), f"{name} = {value:g} is not a finite number above 0")
                for name, value in given.items()
            ),
            (self.first_class < 0, f"first_class = {self.first_class} is below 0"),
        )


@dataclass(frozen=True, eq=False)
class MapTruths:
    """The maps of a set's images; a :class:`edgevit.pixels.truths.Truths`.

    Attributes:
        root: The folder of maps.
        files: Names of the maps, one an image.
        kind: ``depth``: distances in metres. ``segment``: classes.
        form: What the values mean.
        classes: How many the model has, where that is known.
    """

    root: Path
    files: tuple[str, ...]
    kind: Literal["depth", "segment"]
    form: MapForm
    classes: int | None = None

    def __len__(self) -> int:
        return len(self.files)

    def read(self, index: int) -> npt.NDArray[Any]:
        """``(H, W)``: ``float32`` metres, 0 where nothing was measured, or ``int32`` classes.

        Raises:
            DataError: The map cannot be read, or is none of this kind.
        """
        name = self.files[index]
        values = _load(self.root / name)
        if self.kind == "depth":
            metres: npt.NDArray[np.float32] = np.nan_to_num(
                values.astype(np.float32) * np.float32(self.form.scale or 1), nan=0.0, posinf=0.0, neginf=0.0
            )
            return metres
        if values.dtype.kind not in "iub":
            raise DataError(f"{name}: classes are whole numbers, and these are {values.dtype}", _HINT)
        given = values.astype(np.int32)
        counts = (given != self.form.ignored) & (given >= self.form.first_class)
        return np.where(counts, given - self.form.first_class, NO_CLASS).astype(np.int32)

    def find_fault(self, index: int, size: tuple[int, int]) -> str | None:
        """Why a map does not fit its image of that height and width, or has classes that the model has not."""
        name = f"its map {self.files[index]}"
        try:
            values = self.read(index)
        except DataError as exc:
            return f"its map {exc.message}"
        if values.shape != size:
            return f"{name} is {values.shape[1]} × {values.shape[0]}, and the image {size[1]} × {size[0]}"
        if self.kind == "depth":
            return None if (values > 0).any() else f"{name} has no distance"
        if self.classes is not None and (beyond := np.unique(values[values >= self.classes])).size:
            listed = ", ".join(str(value + self.form.first_class) for value in beyond[:5])
            return f"{name} has values that are no class of the model's {self.classes}: {listed}"
        return None

    def fingerprint(self, index: int) -> str:
        """Of the map's file and of what its values mean."""
        return f"{hash_image(self.root / self.files[index])} {self.form}"

    def pick(self, indices: Sequence[int]) -> MapTruths:
        """Those of some images."""
        files = tuple(self.files[i] for i in indices)
        return MapTruths(self.root, files, self.kind, self.form, self.classes)


def is_map_set(root: Path) -> bool:
    """Whether a folder holds images and maps side by side."""
    return (root / FORM_FILE).is_file() or all((root / name).is_dir() for name in ("images", "maps"))


def list_maps(
    root: Path, kind: Literal["depth", "segment"], classes: int | None
) -> tuple[ImageSet, list[tuple[str, str]]]:
    """The images that have a map, with their maps; nothing is decoded yet.

    Args:
        root: The folder.
        kind: What the maps hold.
        classes: How many classes the model has, where that is known.

    Returns:
        The set, and (file, reason) of images without a map or with two, and of maps without an image.

    Raises:
        DataError: ``maps.toml`` is not valid, a folder is missing, or nothing says what PNG's values are in metres.
    """
    form = MapForm()
    if (root / FORM_FILE).is_file():
        form = schema.from_data(MapForm, load_toml(root / FORM_FILE, DataError), str(root / FORM_FILE), DataError)
    images, maps = root / form.images, root / form.maps
    for folder in (images, maps):
        if not folder.is_dir():
            raise DataError(
                f"{folder}: no such folder", f"put images and maps side by side, or name them in {root / FORM_FILE}"
            )
    paths, others = list_images([images])
    by_stem: dict[str, list[str]] = {}
    for path in sorted(maps.rglob("*")):
        if path.suffix.lower() in _ENDINGS and path.is_file() and not path.name.startswith("."):
            name = path.relative_to(maps).as_posix()
            by_stem.setdefault(os.path.splitext(name)[0], []).append(name)
    files, found = [], []
    offenders = [(os.path.relpath(name, images), reason) for name, reason in others]
    for path in paths:
        file = path.relative_to(images).as_posix()
        own = by_stem.pop(os.path.splitext(file)[0], [])
        if len(own) == 1:
            files.append(file)
            found.append(own[0])
        else:
            offenders.append((file, f"has the maps {', '.join(own)}" if own else f"has no map in {maps}"))
    offenders += [(f"{form.maps}/{name}", "is a map without an image") for own in by_stem.values() for name in own]
    if kind == "depth" and form.scale is None and any(name.lower().endswith(".png") for name in found):
        raise DataError(
            f"nothing says how many metres a step of the PNG files in {maps} is",
            f"write {root / FORM_FILE} with the line scale = 0.001, where values are millimetres",
        )
    truths = MapTruths(maps, tuple(found), kind, form, classes)
    return ImageSet(images, tuple(files), source=str(root), truths=truths), offenders


def _load(path: Path) -> npt.NDArray[Any]:
    """The values of a file, ``(H, W)``.

    Raises:
        DataError: It cannot be read, or has more than one number a pixel.
    """
    values: npt.NDArray[Any]
    try:
        if path.suffix.lower() == ".npy":
            values = np.load(path, allow_pickle=False)
            values = values[..., 0] if values.ndim == 3 and values.shape[2] == 1 else values
        else:
            with Image.open(path, formats=("PNG",)) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise ValueError(f"{image.width} × {image.height} pixels exceed the limit of {MAX_PIXELS}")
                if image.mode not in ("L", "P", "1", "I", "I;16"):  # a palette's indices are the classes
                    raise ValueError(f"a PNG of colours ({image.mode})")
                values = np.asarray(image)
    except (OSError, ValueError, SyntaxError, EOFError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) and exc.strerror else exc
        raise DataError(f"{path.name}: {reason}", _HINT) from exc
    if values.ndim != 2 or values.dtype.kind not in "iufb":
        raise DataError(f"{path.name}: an array of shape {values.shape} and type {values.dtype}", _HINT)
    return values
