"""Which files a folder or a CSV lists, and of which classes; nothing is decoded here."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgevit.core.errors import DataError, count_things, format_offenders
from edgevit.pixels.class_names import Matching, match_classes
from edgevit.pixels.store import Store

SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp"})
OTHER_SUFFIXES = frozenset({".gif", ".tif", ".tiff", ".heic", ".heif", ".avif", ".jp2", ".jxl", ".ppm", ".pgm"})
OTHER_FORMAT = "not JPEG, PNG, WebP or BMP"
# What spreadsheets write in some countries, and what they can.
_OTHER_MARKS = {";": "semicolon", "\t": "tab", "|": "bar"}
_LIKE_FILE = ("filename", "file_name", "filepath", "file_path", "path", "image", "image_path", "images", "files")
LIKE_LABEL = (
    *("labels", "label_id", "label_name", "class", "classes", "class_id", "class_name", "class_index", "category"),
    *("categories", "category_id", "category_name", "target", "targets", "y", "species", "synset", "wnid"),
)
_CSV_HINT = "give a CSV with the header file,label, a folder per class, or a folder of images"


@dataclass(frozen=True)
class Listing:
    """Names relative to ``root``, class indices, how these were found, and (file, reason) of what is wrong.

    ``store`` holds files that are none of their own.
    """

    root: Path
    files: tuple[str, ...]
    labels: tuple[int, ...] | None
    matching: Matching | None
    offenders: tuple[tuple[str, str], ...]
    store: Store | None = None


def list_folder(root: Path, labels: Sequence[str] | None, classes: int | None, labelled: bool) -> Listing:
    """One folder per class, or only images; the rules are those of :meth:`edgevit.pixels.images.ImageSet.read`.

    Raises:
        DataError: Images beside folders, or folders that do not fit ``labels``.
    """
    direct: list[Path] = []
    folders: list[Path] = []
    offenders: list[tuple[str, str]] = []
    for entry in _list_entries(root):
        (folders if os.path.isdir(entry) else direct).append(entry)
    images = [entry.name for entry in direct if entry.suffix.lower() in SUFFIXES]
    if images and folders:
        some = ", ".join(folder.name for folder in folders[:3])
        raise DataError(
            f"{root} holds images beside folders ({some})",
            "give either a folder per class, or a folder of images only",
        )
    offenders += [(e.name, OTHER_FORMAT) for e in direct if e.suffix.lower() in OTHER_SUFFIXES]
    if not folders:
        return Listing(root, tuple(images), None, None, tuple(offenders))
    above = frozenset({os.path.realpath(root)})
    per_class = {folder.name: list(_walk_images(folder, root, offenders, above)) for folder in folders}
    files = tuple(file for found in per_class.values() for file in found)
    if not labelled or not files:
        return Listing(root, files, None, None, tuple(offenders))
    offenders += [(f"{name}/", "a class folder without images") for name, files in per_class.items() if not files]
    try:
        matching = match_classes(per_class, labels, classes, root, "folders")
    except DataError as exc:
        tables = sorted(entry.name for entry in root.glob("*.csv"))
        raise DataError(exc.whole, f"did you mean {root / tables[0]}?" if tables else exc.hint) from exc
    indices = tuple(matching.index_of[name] for name, found in per_class.items() for _ in found)
    return Listing(root, files, indices, matching, tuple(offenders))


def _list_entries(folder: Path) -> list[Path]:
    try:
        return sorted((e for e in folder.iterdir() if not e.name.startswith(".")), key=lambda e: e.name)
    except OSError as exc:
        raise DataError(f"{folder}: {exc.strerror}", "check the path and its permissions") from exc


def _walk_images(
    folder: Path, root: Path, offenders: list[tuple[str, str]], above: frozenset[str] = frozenset()
) -> Iterator[str]:
    real = os.path.realpath(folder)
    if real in above:  # a link to a folder that holds it
        return
    for entry in _list_entries(folder):
        name = entry.relative_to(root).as_posix()
        if os.path.isdir(entry):
            yield from _walk_images(entry, root, offenders, above | {real})
        elif entry.suffix.lower() in SUFFIXES:
            yield name
        elif entry.suffix.lower() in OTHER_SUFFIXES:
            offenders.append((name, OTHER_FORMAT))


def list_images(paths: Iterable[Path]) -> tuple[list[Path], list[tuple[str, str]]]:
    """The files themselves, and of folders all images at any depth; beside them (file, reason) of what is wrong.

    Raises:
        DataError: A folder that cannot be read.
    """
    found: list[Path] = []
    offenders: list[tuple[str, str]] = []
    for path in paths:
        if not os.path.isdir(path):
            found.append(path)
            continue
        others: list[tuple[str, str]] = []
        images = [path / name for name in _walk_images(path, path, others)]
        offenders += [(str(path / name), reason) for name, reason in others]
        if not images and not others:
            offenders.append((str(path), "a folder without images"))
        found += images
    return found, offenders


def list_csv(path: Path, labels: Sequence[str] | None, classes: int | None, labelled: bool) -> Listing:
    """The rows of a CSV, whose files may be missing.

    The rules are those of :meth:`edgevit.pixels.images.ImageSet.read`.

    Raises:
        DataError: Not a CSV, or one without the column ``file``, or labels that fit no class.
    """
    header, rows = _read_rows(path)
    like = [name for name in header if name in LIKE_LABEL]
    if labelled and "label" not in header and like:
        raise DataError(
            f"{path} has no column named label, and one named {like[0]}",
            f"call the column {like[0]} label, if it holds the classes; leave it out for images without labels",
        )
    file_column = header.index("file")
    label_column = header.index("label") if labelled and "label" in header else None
    cells = {row[label_column] for _, row in rows if len(row) == len(header)} - {""} if label_column is not None else ()
    matching = None
    refused: DataError | None = None
    try:
        matching = match_classes(cells, labels, classes, path, "labels") if cells else None
    except DataError as exc:
        refused = exc
    _refuse_unlabelled(path, rows, file_column, label_column, refused)
    files: list[str] = []
    indices: list[int] = []
    offenders: list[tuple[str, str]] = []
    first_line: dict[str, int] = {}
    for line, row in rows:
        if len(row) != len(header):
            offenders.append((f"line {line}", f"{count_things(len(row), 'field')}, not {len(header)} as in the header"))
            continue
        file = Path(row[file_column]).as_posix()
        cell = row[label_column] if label_column is not None else None
        first = first_line.setdefault(os.path.normpath(file), line)
        if not row[file_column]:
            offenders.append((f"line {line}", "no file name"))
        elif first != line:
            offenders.append((f"line {line}", f"{file} again, after line {first}"))
        else:
            files.append(file)
            if matching is not None and cell is not None:
                indices.append(matching.index_of[cell])
    labelled = label_column is not None
    return Listing(path.parent, tuple(files), tuple(indices) if labelled else None, matching, tuple(offenders))


def _refuse_unlabelled(
    path: Path, rows: list[tuple[int, list[str]]], files: int, labels: int | None, other: DataError | None
) -> None:
    """Rows without a label are never left out: accuracy would be that of the others."""
    bare = [f"line {at}: {row[files]}" for at, row in rows if labels is not None and row[labels : labels + 1] == [""]]
    if not bare:
        if other is not None:
            raise other
        return
    have = "has" if len(bare) == 1 else "have"
    message = f"{path}: {len(bare)} of {count_things(len(rows), 'row')} {have} no label:\n{format_offenders(bare)}"
    hint = "label them, or remove them; without the column label all images are taken as unlabelled"
    if other is not None:
        message, hint = f"{other.whole}\n{message}", f"{other.hint}; {hint}"
    raise DataError(message, hint)


def _read_rows(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The header, and (line number, fields) of each row that is not blank."""
    if path.suffix.lower() in SUFFIXES | OTHER_SUFFIXES:
        raise DataError(f"{path} is a single image", _CSV_HINT)
    reader = None
    try:
        reader = csv.reader(io.StringIO(path.read_bytes().decode("utf-8-sig"), newline=""), strict=True)
        rows = [(reader.line_num, [field.strip() for field in row]) for row in reader if row]
    except OSError as exc:
        raise DataError(f"{path}: {exc.strerror}", "check the path and its permissions") from exc
    except UnicodeDecodeError as exc:
        raise DataError(f"{path} is not a CSV in UTF-8: {exc}", _CSV_HINT) from exc
    except csv.Error as exc:
        line = reader.line_num if reader is not None else 0
        raise DataError(
            f"{path} is not a CSV: line {line}: {exc}", "look for a quotation mark that is not closed"
        ) from exc
    header = [name.casefold() for name in rows[0][1]] if rows else []
    if "file" not in header:
        for mark, name in _OTHER_MARKS.items():
            if len(header) == 1 and "file" in (part.strip().strip('"') for part in header[0].split(mark)):
                raise DataError(f"{path} has its columns separated by {name}s", "separate them by commas")
        near = next((name for name in header if name in _LIKE_FILE), None)
        raise DataError(
            f"{path} has no column named file; its columns: {', '.join(header) or 'none'}",
            f"call the column {near} file, if it holds the images' paths" if near else _CSV_HINT,
        )
    if len(set(header)) != len(header):
        raise DataError(f"{path} has two columns of one name: {', '.join(header)}", _CSV_HINT)
    return header, rows[1:]
