"""Which files a folder or a CSV lists, and of which classes; nothing is decoded here."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgevit.core.errors import DataError, format_offenders

SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp"})
_OTHER_SUFFIXES = frozenset({".gif", ".tif", ".tiff", ".heic", ".heif", ".avif", ".jp2", ".jxl", ".ppm", ".pgm"})
_OTHER_FORMAT = "not JPEG, PNG, WebP or BMP"
_OTHER_MARKS = {
    ";": "semicolon",
    "\t": "tab",
    "|": "bar",
}  # what spreadsheets write in some countries, and what they can
_CSV_HINT = "give a CSV with the header file,label, a folder per class, or a folder of images"


@dataclass(frozen=True)
class Listing:
    """Names relative to ``root``, class indices, the names that made them, and (file, reason) of what is wrong."""

    root: Path
    files: tuple[str, ...]
    labels: tuple[int, ...] | None
    class_names: tuple[str, ...] | None
    offenders: tuple[tuple[str, str], ...]


def list_folder(root: Path, labels: Sequence[str] | None) -> Listing:
    """One folder per class, or only images; the rules are those of :meth:`edgevit.pixels.images.ImageSet.read`.

    Raises:
        DataError: Images beside folders, or folders that do not fit ``labels``.
    """
    direct: list[Path] = []
    folders: list[Path] = []
    offenders: list[tuple[str, str]] = []
    for entry in _list_entries(root):
        (folders if entry.is_dir() else direct).append(entry)
    images = [entry.name for entry in direct if entry.suffix.lower() in SUFFIXES]
    if images and folders:
        some = ", ".join(folder.name for folder in folders[:3])
        raise DataError(
            f"{root} holds images beside folders ({some})",
            "give either a folder per class, or a folder of images alone",
        )
    offenders += [(e.name, _OTHER_FORMAT) for e in direct if e.suffix.lower() in _OTHER_SUFFIXES]
    if not folders:
        return Listing(root, tuple(images), None, None, tuple(offenders))
    per_class = {folder.name: list(_walk_images(folder, root, offenders)) for folder in folders}
    if not any(per_class.values()):
        return Listing(root, (), None, None, tuple(offenders))
    offenders += [(f"{name}/", "a class folder without images") for name, files in per_class.items() if not files]
    index_of, class_names = _index_folders(list(per_class), labels, root)
    files = tuple(file for found in per_class.values() for file in found)
    indices = tuple(index_of[name] for name, found in per_class.items() for _ in found)
    return Listing(root, files, indices, class_names, tuple(offenders))


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
        if entry.is_dir():
            yield from _walk_images(entry, root, offenders, above | {real})
        elif entry.suffix.lower() in SUFFIXES:
            yield name
        elif entry.suffix.lower() in _OTHER_SUFFIXES:
            offenders.append((name, _OTHER_FORMAT))


def _index_folders(
    names: list[str], labels: Sequence[str] | None, root: Path
) -> tuple[dict[str, int], tuple[str, ...] | None]:
    """Class index of each folder name, and the names by index where the order of the folders made it."""
    by_name = _LabelNames(labels or ())
    known = {name: by_name.find(name) for name in names}
    if all(index is not None for index in known.values()):
        return {name: index for name, index in known.items() if index is not None}, None
    if all(_is_index(name) for name in names):
        return {name: int(name) for name in names}, None
    unknown = [name for name in names if known[name] is None]
    if labels is None or (len(unknown) == len(names) and len(names) == len(labels)):
        return {name: index for index, name in enumerate(names)}, tuple(names)
    tables = sorted(entry.name for entry in root.glob("*.csv"))
    raise DataError(
        f"{root}: {len(unknown)} of {len(names)} folders cannot be matched with the model's {len(labels)} classes:\n"
        + format_offenders([f"{name}{by_name.explain(name)}" for name in unknown]),
        f"did you mean {root / tables[0]}?"
        if tables
        else "name folders after the model's labels or class indices, or give a CSV",
    )


def list_csv(path: Path, labels: Sequence[str] | None) -> Listing:
    """The rows of a CSV, whose files may be missing.

    The rules are those of :meth:`edgevit.pixels.images.ImageSet.read`.

    Raises:
        DataError: Not a CSV, or one without the column ``file``.
    """
    header, rows = _read_rows(path)
    file_column = header.index("file")
    label_column = header.index("label") if "label" in header else None
    cells = [row[label_column] for _, row in rows if len(row) == len(header)] if label_column is not None else []
    class_names: tuple[str, ...] | None = None
    if labels is None and any(cells) and not any(re.fullmatch(r"[-+]?\d+(\.\d*)?", cell) for cell in cells):
        class_names = tuple(sorted({cell for cell in cells if cell}))
    by_order = {name: index for index, name in enumerate(class_names or ())}
    by_name = _LabelNames(labels or ())

    files: list[str] = []
    indices: list[int] = []
    offenders: list[tuple[str, str]] = []
    first_line: dict[str, int] = {}
    for line, row in rows:
        if len(row) != len(header):
            offenders.append((f"line {line}", f"{len(row)} fields, not {len(header)} as in the header"))
            continue
        file = Path(row[file_column]).as_posix()
        cell = row[label_column] if label_column is not None else "0"
        index = by_order.get(cell, int(cell) if _is_index(cell) else by_name.find(cell))
        first = first_line.setdefault(os.path.normpath(file), line)
        if not row[file_column]:
            offenders.append((f"line {line}", "no file name"))
        elif first != line:
            offenders.append((f"line {line}", f"{file} again, after line {first}"))
        elif index is None:
            offenders.append((file, f"label {cell!r} is not a class index or name{by_name.explain(cell)}"))
        else:
            files.append(file)
            indices.append(index)
    labelled = label_column is not None
    return Listing(path.parent, tuple(files), tuple(indices) if labelled else None, class_names, tuple(offenders))


def _read_rows(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The header, and (line number, fields) of each row that is not blank."""
    if path.suffix.lower() in SUFFIXES | _OTHER_SUFFIXES:
        raise DataError(f"{path} is a single image", _CSV_HINT)
    try:
        reader = csv.reader(io.StringIO(path.read_bytes().decode("utf-8-sig"), newline=""), strict=True)
        rows = [(reader.line_num, [field.strip() for field in row]) for row in reader if row]
    except OSError as exc:
        raise DataError(f"{path}: {exc.strerror}", "check the path and its permissions") from exc
    except (UnicodeDecodeError, csv.Error) as exc:
        raise DataError(f"{path} is not a CSV in UTF-8: {exc}", _CSV_HINT) from exc
    header = rows[0][1] if rows else []
    if "file" not in header:
        for mark, name in _OTHER_MARKS.items():
            if len(header) == 1 and "file" in (part.strip().strip('"') for part in header[0].split(mark)):
                raise DataError(f"{path} has its columns separated by {name}s", "separate them by commas")
        raise DataError(f"{path} has no column named file; its columns: {', '.join(header) or 'none'}", _CSV_HINT)
    if len(set(header)) != len(header):
        raise DataError(f"{path} has two columns of one name: {', '.join(header)}", _CSV_HINT)
    return header, rows[1:]


class _LabelNames:
    """Class indices by name, regardless of case and of ``_`` for a space. A name that two classes share fits none."""

    def __init__(self, labels: Sequence[str]) -> None:
        self._indices: dict[str, list[int]] = {}
        for index, label in enumerate(labels):
            self._indices.setdefault(self._fold(label), []).append(index)

    @staticmethod
    def _fold(name: str) -> str:
        return " ".join(name.replace("_", " ").casefold().split())

    def find(self, name: str) -> int | None:
        indices = self._indices.get(self._fold(name), [])
        return indices[0] if len(indices) == 1 else None

    def explain(self, name: str) -> str:
        indices = self._indices.get(self._fold(name), [])
        return f": the name of classes {' and '.join(map(str, indices))}" if indices else ""


def _is_index(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 9
