"""Manifest: what a bundle is, in its ``manifest.json``.

The file carries a digest of its own content, so that a changed manifest is noticed like any other changed file. It
guards against damage, not against somebody who computes the digest again.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from edgevit.core import schema
from edgevit.core.answer import Answer
from edgevit.core.contents import Contents
from edgevit.core.engine import LARGEST_BATCH, Engine, TensorSpec
from edgevit.core.errors import BundleError, format_offenders
from edgevit.core.json_text import MOST_VALUES, RepeatedKeyError, count_values, parse_json
from edgevit.core.report.place import CanaryRecord
from edgevit.core.target import Target
from edgevit.core.task import ANSWERED_TASKS, Task
from edgevit.pixels.preprocess import Preprocess
from edgevit.runtime.folder import FolderContents, is_safe_name
from edgevit.runtime.packed import MOST_FILES, open_contents
from edgevit.runtime.signature import SIGNATURE_FILE

SCHEMA_VERSION = 1
MANIFEST_FILE = "manifest.json"

ASSUMED = "assumed"
"""Key of ``source``: what nothing said of the preprocessing."""

DIGEST_KEY = "manifest_sha256"
MOST_LEVELS = 32
MOST_BYTES = 4 << 20
"""Of the file: the largest of a thousand labels has 60 KiB, and a hundred thousand labels have 2 MiB."""

_REBUILD = "build the bundle again"
_INVALID = partial(BundleError, code="manifest")
_MOST_VALUES = 1 << 31
"""An input or output has fewer for an image: what has more is no image, and its size no number that a device holds."""


@dataclass(frozen=True)
class FileRecord:
    """Content hash and size of one file of a bundle."""

    sha256: str
    size_bytes: int

    def __post_init__(self) -> None:
        schema.refuse(
            (
                not re.fullmatch("[0-9a-f]{64}", self.sha256),
                f"sha256 = {self.sha256[:80]!r} is not 64 hexadecimal digits",
            ),
            (self.size_bytes < 0, f"size_bytes = {self.size_bytes} is below 0"),
        )


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a bundle is.

    Attributes:
        name: Of the model.
        task: As of :class:`edgevit.core.task.Task`, but never ``auto``.
        created: When, as ISO 8601 with time zone.
        edgevit_version: That wrote it.
        target: What it is for, in full, as the device may not have a user's own target file.
        inputs: ``(B, H, W, 3) uint8``.
        outputs: ``(B, K) float32``; of features one for each level, ``(B, C, h, w)`` or ``(B, h·w, C)``.
        preprocess: From an image to the input.
        classes: Length of the logits; for a task with an ``answer`` how many classes or keypoints have a name; 0 for
            another task.
        batch: Least, best and largest.
        precision: Of the engine.
        engine: ``None`` in a portable bundle, whose engine is compiled on the device.
        labels: Names of the classes in order.
        task_options: How the task was chosen, as in a recipe; see :class:`edgevit.core.task.Task`.
        answer: How the outputs become depth, classes, boxes or poses; ``None`` for a task of another kind.
        source: The checkpoint that it came from.
        figures: The report's key figures.
        canary: What an engine must answer, in ``canary.npz``; ``None`` in portable bundles and those of earlier
            versions.
        files: Every other file of the bundle, by its path inside it.
        schema_version: Of this form.
    """

    name: str
    task: str
    created: str
    edgevit_version: str
    target: Target
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    preprocess: Preprocess
    classes: int
    batch: tuple[int, int, int] = (1, 1, 1)
    precision: str = "fp32"
    engine: Engine | None = None
    labels: tuple[str, ...] | None = None
    task_options: Mapping[str, Any] = field(default_factory=dict)
    answer: Answer | None = None
    source: Mapping[str, Any] = field(default_factory=dict)
    figures: Mapping[str, Any] = field(default_factory=dict)
    canary: CanaryRecord | None = None
    files: Mapping[str, FileRecord] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        unsafe = find_unsafe_names(self.files)
        labels = self.classes if self.labels is None else len(self.labels)
        image, sides = [spec.shape for spec in self.inputs], (self.preprocess.height, self.preprocess.width, 3)
        widths = {spec.shape[-1] for spec in self.outputs if spec.shape}
        least, best, largest = self.batch
        ports = self.engine is not None and [_drop_batch(s) for s in (self.engine.inputs, self.engine.outputs)]
        own = [_drop_batch(s) for s in (self.inputs, self.outputs)]
        named = None if self.labels is None else len(self.labels)
        problems = [] if self.answer is None else self.answer.find_problems(self.outputs, named)
        schema.refuse(
            (len(image) != 1 or not self.outputs, f"there are {len(image)} inputs and {len(self.outputs)} outputs"),
            (image and image[0][1:] != sides, f"preprocess gives {sides}, and the input is {image and image[0]}"),
            (ports and ports != own, f"the engine has {ports}, and the bundle {own}"),
            (
                self.task == "classify" and widths != {self.classes},
                f"there are {self.classes} classes, and the outputs have {sorted(map(str, widths))}",
            ),
            (
                not 1 <= least <= best <= largest <= LARGEST_BATCH,
                f"batch = {list(self.batch)} is not of the form 1 ≤ least ≤ best ≤ largest ≤ {LARGEST_BATCH}",
            ),
            *(
                (not _is_possible(spec.shape), f"{spec.name} has the shape {_show(list(spec.shape))}")
                for spec in (*self.inputs, *self.outputs)
            ),
            (
                self.engine is not None and self.engine.batch[2] > LARGEST_BATCH,
                f"the engine takes more than {LARGEST_BATCH} images a call",
            ),
            (labels != self.classes, f"there are {labels} labels for {self.classes} classes"),
            (
                (self.answer.task if self.answer else None) != (self.task if self.task in ANSWERED_TASKS else None),
                f"the task is {self.task}, and answer is of {self.answer and self.answer.task}",
            ),
            *((True, problem) for problem in problems),
            (unsafe, f"files has names that lead out of the bundle: {', '.join(unsafe)}"),
        )

    @property
    def portable(self) -> bool:
        """Whether the engine is still to be compiled on the device."""
        return self.engine is None

    @property
    def for_trials(self) -> bool:
        """Whether random pixels calibrated it, so that only its latency means something."""
        from edgevit.core.quantization import RANDOM_MARK  # an app has no use of the rest of that module

        return bool(self.figures.get("calibration") == RANDOM_MARK)

    @property
    def assumed(self) -> tuple[str, ...]:
        """What nothing said of the preprocessing at the build, so that answers to images need not be the model's."""
        found = self.source.get(ASSUMED)
        return tuple(map(str, found)) if isinstance(found, list | tuple) else ()

    @property
    def templates(self) -> tuple[str, ...]:
        """What the labels were put into, where the head was made of their texts."""
        found = self.source.get("templates")
        return tuple(map(str, found)) if isinstance(found, list | tuple) else ()

    @property
    def scores(self) -> str:
        """What the outputs of ``classify`` mean; ``softmax`` in bundles of versions that knew nothing else."""
        return str(self.task_options.get("scores") or "softmax")

    def read_task(self) -> Task:
        """The task with its options.

        Raises:
            BundleError: It is not one that this edgevit knows.
        """
        return schema.from_data(Task, {**self.task_options, "name": self.task}, "task_options", BundleError)

    def to_data(self) -> dict[str, Any]:
        """Plain data."""
        data: dict[str, Any] = schema.to_data(dataclasses.replace(self, engine=None))
        if self.engine is not None:
            data["engine"] = self.engine.to_data()
        return data


def _is_possible(shape: tuple[int | str, ...]) -> bool:
    """Whether an image's values can be counted and held."""
    values = 1
    for side in shape:
        values *= side if isinstance(side, int) else 1
        if not 0 < values < _MOST_VALUES:
            return False
    return True


def _drop_batch(specs: Sequence[TensorSpec]) -> list[tuple[tuple[int | str, ...], str]]:
    return [(spec.shape[1:], spec.dtype) for spec in specs]


def find_unsafe_names(names: Iterable[str]) -> list[str]:
    """Those that a bundle's files may not have: they lead out of it, or are of what describes the others."""
    return [name for name in names if not is_safe_name(name) or name in (MANIFEST_FILE, SIGNATURE_FILE)]


def dump_manifest(manifest: Manifest) -> bytes:
    """The bytes of ``manifest.json``.

    Raises:
        ValueError: ``source`` or ``figures`` holds something that JSON has no form for, such as NaN.
        BundleError: It would be larger than what is read.
    """
    data = _write_whole_characters(manifest.to_data())
    text = json.dumps({**data, DIGEST_KEY: _digest(data)}, indent=1, allow_nan=False) + "\n"
    for found, most, what in ((len(text), MOST_BYTES, "bytes"), (count_values(text), MOST_VALUES, "values")):
        if found > most:
            hint = "build from a checkpoint with fewer or shorter labels"
            raise _INVALID(f"{MANIFEST_FILE} would have {found} {what}, and {most} are the most", hint)
    return text.encode()


def _write_whole_characters(value: Any) -> Any:
    """The value with escapes for what is no character, as a path has that is not UTF-8: no other reader takes those."""
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    if isinstance(value, Mapping):
        return {_write_whole_characters(key): _write_whole_characters(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_write_whole_characters(item) for item in value]
    return value


def load_manifest(path: Path) -> Manifest:
    """A bundle's manifest.

    Args:
        path: The bundle's folder, or a packed bundle.

    Raises:
        BundleError: There is none, it is damaged, was changed, or is of a newer edgevit.
    """
    contents = open_contents(path)
    return parse_manifest(read_manifest(contents), path)


def read_manifest(contents: Contents) -> bytes:
    """The bytes of ``manifest.json``.

    Raises:
        BundleError: There is none, or it cannot be read.
    """
    file = contents.path / MANIFEST_FILE
    try:
        if contents.is_irregular(MANIFEST_FILE):
            raise BundleError(f"{file} is a link, a folder or a device, not a file", _REBUILD, code="unsafe")
        return contents.read(MANIFEST_FILE, MOST_BYTES)
    except FileNotFoundError as exc:
        message = f"{contents.path} is not a bundle: it has no {MANIFEST_FILE}"
        raise BundleError(message, "give the folder that edgevit build wrote", code="not-a-bundle") from exc
    except OSError as exc:
        message = f"{file} cannot be read: {exc.strerror or exc}"
        raise BundleError(message, "check its permissions", code="not-a-bundle") from exc
    except ValueError as exc:
        raise _INVALID(f"{file} is too large: {exc}", _REBUILD) from exc


def parse_manifest(content: bytes, path: Path) -> Manifest:
    """The manifest that ``manifest.json`` holds.

    Args:
        content: Of the file.
        path: The bundle's, for messages.

    Raises:
        BundleError: It is damaged, was changed, or is of a newer edgevit.
    """
    file = path / MANIFEST_FILE
    try:
        data = parse_json(content, most_levels=MOST_LEVELS, unique=True)
    except RepeatedKeyError as exc:
        raise BundleError(f"{file} can be read in two ways: {exc}", _REBUILD, code="unsafe") from exc
    except ValueError as exc:
        raise _INVALID(f"{file} is damaged: it is not JSON ({exc})", _REBUILD) from exc
    version = data.get("schema_version") if isinstance(data, dict) else None
    if not isinstance(version, int) or isinstance(version, bool):
        raise _INVALID(f"{file} is not a bundle's manifest: it has no schema_version", _REBUILD)
    if version > SCHEMA_VERSION:
        made_by = data.get("edgevit_version", "an unknown version")
        raise BundleError(
            f"{file} has schema version {version}; this edgevit reads {SCHEMA_VERSION}",
            f"install the edgevit that wrote it ({_show(made_by)}) or {_REBUILD}",
            code="schema",
        )
    if version < 1:
        raise _INVALID(f"{file} has schema version {version}; the first was 1", _REBUILD)
    recorded = data.pop(DIGEST_KEY, None)
    found = _digest(data)
    if recorded != found:
        raise _INVALID(
            f"{file} was changed: its content has the SHA-256 {found}, it records {_show(recorded)}", _REBUILD
        )
    files = data.get("files")
    if isinstance(files, dict) and len(files) >= MOST_FILES:
        raise _INVALID(f"{file} lists {len(files)} files, and {MOST_FILES - 1} are the most", _REBUILD)
    if unsafe := find_unsafe_names(files if isinstance(files, dict) else ()):
        lines = format_offenders([shorten_name(name) for name in unsafe])
        message = f"{file} lists files with names that lead out of the bundle:\n{lines}"
        raise BundleError(message, _REBUILD, code="unsafe")
    return schema.from_data(Manifest, data, str(file), _INVALID)


def hash_file(path: Path) -> FileRecord:
    """Content hash and size of a file."""
    return FileRecord(*FolderContents(path.parent).hash(path.name))


def shorten_name(name: str, most: int = 100) -> str:
    """A name from a bundle, for a message: on one line, and not a whole document."""
    shown = "".join(char if char.isprintable() else "?" for char in name[:most])
    return shown if len(name) <= most else f"{shown}…"


def _show(value: object) -> str:
    """In a message, where somebody may have put a whole document in place of it."""
    text = str(value)
    return text if len(text) <= 80 else f"{text[:80]} …"


def _digest(data: Mapping[str, Any]) -> str:
    canonical = json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()
