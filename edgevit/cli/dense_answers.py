"""What ``edgevit run`` shows and saves of depth, classes of pixels, boxes and poses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Image

    from edgevit.runtime import Predictor
    from edgevit.runtime.tasks.answers import DenseAnswer

SUFFIXES = (".npz", ".png")
_MOST_ROWS = 20
"""Of an image's boxes or classes on the screen; ``--json`` and the files have all."""

HEADERS = {
    "depth": ["least", "median", "largest", "unit"],
    "segment": ["class", "label", "pixels"],
    "detect": ["label", "score", "left", "top", "right", "bottom"],
    "pose": ["keypoint", "score", "x", "y"],
}
RIGHT = {"least", "median", "largest", "class", "pixels", "score", "left", "top", "right", "bottom", "x", "y"}


@dataclass(frozen=True)
class Shown:
    """What is left of an answer, whose maps are as large as the image.

    Attributes:
        rows: Of the table, without the image's name.
        more: How many are left out of it.
        document: For ``--json``.
        size: Height and width of the image.
    """

    rows: tuple[tuple[str, ...], ...]
    more: int
    document: dict[str, Any]
    size: tuple[int, int]


def plan_saves(save: Path | None, files: Sequence[Path]) -> dict[Path, Path]:
    """Where each image's numbers and picture go, without the suffix; empty where nothing is saved.

    Args:
        save: A folder, or for one image a ``.npz`` or ``.png`` file, beside which the other is written.
        files: The images.

    Raises:
        OutputError: It is a file of another kind, or one file for several images.
    """
    from edgevit.core.errors import OutputError

    if save is None:
        return {}
    unique = list(dict.fromkeys(files))
    if save.suffix and not save.is_dir():
        if save.suffix not in SUFFIXES:
            raise OutputError(
                f"--save {save} is neither a folder nor a .npz or .png file", "give a folder: each image gets both"
            )
        if len(unique) > 1:
            raise OutputError(f"--save {save} is one file, and there are {len(unique)} images", "give a folder")
        return dict.fromkeys(unique, save.with_suffix(""))
    taken: set[str] = set()
    places = {}
    for file in unique:
        name, number = file.stem, 1
        while name.lower() in taken:  # of another folder, or with another suffix
            number += 1
            name = f"{file.stem}-{number}"
        taken.add(name.lower())
        places[file] = save / name
    return places


def read_options(task: str, threshold: float | None, boxes: Sequence[str]) -> dict[str, Any]:
    """Of the predictor's method for the task, from ``--threshold`` and ``--box``.

    Raises:
        DataError: They are of another task, or a box is not four numbers.
    """
    from edgevit.core.errors import DataError

    for option, given, of in (("--threshold", threshold is not None, "detect"), ("--box", bool(boxes), "pose")):
        if given and task != of:
            raise DataError(f"{option} is for bundles of the task {of}, and this one is for {task}", "leave it out")
    if not boxes:
        return {"threshold": threshold} if task == "detect" else {}
    found = []
    for box in boxes:
        sides = box.split(",")
        try:
            found.append([float(side) for side in sides])
        except ValueError:
            sides = []
        if len(sides) != 4:
            raise DataError(f"--box {box} is not of the form LEFT,TOP,RIGHT,BOTTOM", "give four numbers")
    return {"boxes": found}


def answer_file(opened: Predictor, places: Mapping[Path, Path], options: Mapping[str, Any], file: Path) -> Shown:
    """The answer to an image, saved at once and then shortened, as its maps are as large as the image.

    Args:
        opened: The bundle.
        places: Of :func:`plan_saves`.
        options: Of :func:`read_options`.
        file: The image.

    Raises:
        EdgevitError: The image cannot be answered, or the answer cannot be written.
    """
    from edgevit.pixels.decode import decode_image

    picture = decode_image(file)
    answer = getattr(opened, opened.manifest.task)(picture, **options)
    if file in places:
        save_answer(places[file], picture, answer)
    return show_answer(file, (picture.height, picture.width), answer)


def show_answer(file: Path, size: tuple[int, int], answer: DenseAnswer) -> Shown:
    """The rows and the document of an answer."""
    from edgevit.runtime.tasks.answers import Depth, Detections, Segmentation

    if isinstance(answer, Depth):
        rows, document = _show_depth(answer)
    elif isinstance(answer, Segmentation):
        rows, document = _show_classes(answer)
    elif isinstance(answer, Detections):
        rows, document = _show_boxes(answer)
    else:
        rows, document = _show_poses(answer)
    document = {"image": str(file), "height": size[0], "width": size[1], **document}
    return Shown(tuple(rows[:_MOST_ROWS]), max(0, len(rows) - _MOST_ROWS), document, size)


def save_answer(place: Path, image: Image, answer: DenseAnswer) -> tuple[Path, Path]:
    """Write the numbers as ``PLACE.npz`` and the picture as ``PLACE.png``; both names.

    Raises:
        OutputError: They cannot be written.
    """
    import dataclasses

    import numpy as np

    from edgevit.core.errors import OutputError
    from edgevit.runtime.tasks.draw import draw_answer

    arrays = {
        field.name: np.asarray(value)
        for field in dataclasses.fields(answer)
        if (value := getattr(answer, field.name)) is not None
    }
    numbers, picture = Path(f"{place}.npz"), Path(f"{place}.png")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(numbers, **arrays)  # type: ignore[arg-type]
        draw_answer(image, answer).save(picture)
    except OSError as exc:
        message = f"{exc.filename or place} cannot be written: {exc.strerror or exc}"
        raise OutputError(message, "check the path and free space") from exc
    return numbers, picture


def _show_depth(answer: Any) -> tuple[list[tuple[str, ...]], dict[str, Any]]:
    import numpy as np

    known = answer.depth[np.isfinite(answer.depth)]
    figures = [float(known.min()), float(np.median(known)), float(known.max())] if known.size else [0.0] * 3
    unit = "m" if answer.metric else "relative"
    document = {"least": figures[0], "median": figures[1], "largest": figures[2], "metric": answer.metric}
    return [(*(f"{figure:.4g}" for figure in figures), unit)], document


def _show_classes(answer: Any) -> tuple[list[tuple[str, ...]], dict[str, Any]]:
    import numpy as np

    from edgevit.runtime.tasks.draw import name_class

    indices, counts = np.unique(answer.classes, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    found = [
        {
            "class": int(indices[at]),
            "label": name_class(answer.labels, int(indices[at])),
            "share": float(counts[at] / answer.classes.size),
        }
        for at in order
    ]
    return [(str(one["class"]), str(one["label"]), f"{one['share']:.2%}") for one in found], {"classes": found}


def _show_boxes(answer: Any) -> tuple[list[tuple[str, ...]], dict[str, Any]]:
    from edgevit.runtime.tasks.draw import name_class

    found = [
        {"class": index, "label": name_class(answer.labels, index), "score": score, "box": box}
        for index, score, box in zip(
            answer.classes.tolist(), answer.scores.tolist(), answer.boxes.tolist(), strict=True
        )
    ]
    rows = [(str(one["label"]), f"{one['score']:.3f}", *(f"{side:.1f}" for side in one["box"])) for one in found]
    return rows or [("nothing found", *[""] * 5)], {"boxes": found}


def _show_poses(answer: Any) -> tuple[list[tuple[str, ...]], dict[str, Any]]:
    from edgevit.runtime.tasks.draw import name_class

    people: list[dict[str, Any]] = []
    rows: list[tuple[str, ...]] = []
    many = len(answer.boxes) > 1
    for person, (keypoints, box, score) in enumerate(
        zip(answer.keypoints.tolist(), answer.boxes.tolist(), answer.scores.tolist(), strict=True)
    ):
        named = [
            {"name": name_class(answer.labels, index), "x": x, "y": y, "score": value}
            for index, (x, y, value) in enumerate(keypoints)
        ]
        people.append({"box": box, "score": score, "keypoints": named})
        whose = f"{person}: " if many else ""
        rows += [
            (f"{whose}{one['name']}", f"{one['score']:.3f}", f"{one['x']:.1f}", f"{one['y']:.1f}") for one in named
        ]
    return rows, {"poses": people}
