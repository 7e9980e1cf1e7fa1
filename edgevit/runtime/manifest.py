"""Manifest: what a bundle is, in its ``manifest.json``.

The file carries a digest of its own content, so that a changed manifest is noticed like any other changed file. It
guards against damage, not against somebody who computes the digest again.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from edgevit.core import schema
from edgevit.core.engine import LARGEST_BATCH, Engine, TensorSpec
from edgevit.core.errors import BundleError
from edgevit.core.json_text import parse_json
from edgevit.core.report.place import CanaryRecord
from edgevit.core.target import Target
from edgevit.core.task import Task
from edgevit.pixels.preprocess import Preprocess

SCHEMA_VERSION = 1
MANIFEST_FILE = "manifest.json"

ASSUMED = "assumed"
"""Key of ``source``: what nothing said of the preprocessing."""

_DIGEST_KEY = "manifest_sha256"
_REBUILD = "build the bundle again"


@dataclass(frozen=True)
class FileRecord:
    """Content hash and size of one file of a bundle."""

    sha256: str
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a bundle is.

    Attributes:
        name: Of the model.
        task: ``classify``, ``embed`` or ``features``.
        created: When, as ISO 8601 with time zone.
        edgevit_version: That wrote it.
        target: What it is for, in full, as the device may not have a user's own target file.
        inputs: ``(B, H, W, 3) uint8``.
        outputs: ``(B, K) float32``; of features one for each level, ``(B, C, h, w)`` or ``(B, h·w, C)``.
        preprocess: From an image to the input.
        classes: Length of the logits; 0 for another task.
        batch: Least, best and largest.
        precision: Of the engine.
        engine: ``None`` in a portable bundle, whose engine is compiled on the device.
        labels: Names of the classes in order.
        task_options: How the task was chosen, as in a recipe; see :class:`edgevit.core.task.Task`.
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
    source: Mapping[str, Any] = field(default_factory=dict)
    figures: Mapping[str, Any] = field(default_factory=dict)
    canary: CanaryRecord | None = None
    files: Mapping[str, FileRecord] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        unsafe = [name for name in self.files if not is_safe_name(name)]
        labels = self.classes if self.labels is None else len(self.labels)
        image, sides = [spec.shape for spec in self.inputs], (self.preprocess.height, self.preprocess.width, 3)
        widths = {spec.shape[-1] for spec in self.outputs if spec.shape}
        least, best, largest = self.batch
        ports = self.engine is not None and [_drop_batch(s) for s in (self.engine.inputs, self.engine.outputs)]
        own = [_drop_batch(s) for s in (self.inputs, self.outputs)]
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
            (labels != self.classes, f"there are {labels} labels for {self.classes} classes"),
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


def _drop_batch(specs: Sequence[TensorSpec]) -> list[tuple[tuple[int | str, ...], str]]:
    return [(spec.shape[1:], spec.dtype) for spec in specs]


def is_safe_name(name: str) -> bool:
    """Whether a name is a plain relative path, below the bundle's folder on every system."""
    path = PurePosixPath(name)
    return bool(name) and not path.is_absolute() and ".." not in path.parts and not set(name) & set('\\:\0"<>|?*')


def dump_manifest(manifest: Manifest) -> bytes:
    """The bytes of ``manifest.json``.

    Raises:
        ValueError: ``source`` or ``figures`` holds something that JSON has no form for, such as NaN.
    """
    data = manifest.to_data()
    return (json.dumps({**data, _DIGEST_KEY: _digest(data)}, indent=1, allow_nan=False) + "\n").encode()


def load_manifest(path: Path) -> Manifest:
    """Read a bundle's ``manifest.json``.

    Args:
        path: The bundle's folder.

    Raises:
        BundleError: There is none, it is damaged, was changed, or is of a newer edgevit.
    """
    file = path / MANIFEST_FILE
    try:
        if is_irregular(path, MANIFEST_FILE):
            raise BundleError(f"{file} is a link, a folder or a device, not a file", _REBUILD)
        data = parse_json(file.read_bytes())
    except FileNotFoundError as exc:
        raise BundleError(
            f"{path} is not a bundle: it has no {MANIFEST_FILE}" if path.is_dir() else f"{path} is not there",
            "give the folder that edgevit build wrote",
        ) from exc
    except NotADirectoryError as exc:
        raise BundleError(f"{path} is not a folder", "give the folder that edgevit build wrote") from exc
    except OSError as exc:
        raise BundleError(f"{file} cannot be read: {exc.strerror or exc}", "check its permissions") from exc
    except ValueError as exc:
        raise BundleError(f"{file} is damaged: it is not JSON ({exc})", _REBUILD) from exc
    version = data.get("schema_version") if isinstance(data, dict) else None
    if not isinstance(version, int):
        raise BundleError(f"{file} is not a bundle's manifest: it has no schema_version", _REBUILD)
    if version != SCHEMA_VERSION:
        made_by = data.get("edgevit_version", "an unknown version")
        raise BundleError(
            f"{file} has schema version {version}; this edgevit reads {SCHEMA_VERSION}",
            f"install the edgevit that wrote it ({made_by}) or {_REBUILD}",
        )
    recorded = data.pop(_DIGEST_KEY, None)
    found = _digest(data)
    if recorded != found:
        raise BundleError(f"{file} was changed: its content has the SHA-256 {found}, it records {recorded}", _REBUILD)
    return schema.from_data(Manifest, data, str(file), BundleError)


def is_irregular(folder: Path, name: str) -> bool:
    """Whether a name in a bundle is anything but a regular file below its folder: reading such a one may wait for ever.

    Raises:
        OSError: It is not there, or cannot be looked at.
    """
    parts = PurePosixPath(name).parts
    between = [folder.joinpath(*parts[:count]) for count in range(1, len(parts))]
    return any(map(os.path.islink, between)) or not stat.S_ISREG((folder / name).lstat().st_mode)


def hash_file(path: Path) -> FileRecord:
    """Content hash and size of a file."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
            size += len(block)
    return FileRecord(digest.hexdigest(), size)


def _digest(data: Mapping[str, Any]) -> str:
    canonical = json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()
