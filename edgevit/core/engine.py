"""Engine: what a compiler leaves on disk, and everything that is needed to open it again.

Only the standard library, because the device runtime reads it.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from edgevit.core import schema
from edgevit.core.contents import Contents
from edgevit.core.errors import BundleError, ErrorMaker
from edgevit.core.json_text import parse_json

Setting: TypeAlias = str | int | float | bool

ENGINE_FILE = "engine.json"


LARGEST_BATCH = 4096
"""A call; a bundle or a recipe that asks for more asks for memory and nothing else."""


@dataclass(frozen=True)
class TensorSpec:
    """Name, shape and type of an input or output; a dimension that may vary is a text."""

    name: str
    shape: tuple[int | str, ...]
    dtype: str


@dataclass(frozen=True)
class GpuRecord:
    """What an NVIDIA engine was compiled for.

    Attributes:
        compute_capability: As in ``8.7``.
        name: The GPU that it was compiled on; ``None`` where it was compiled ahead of time, without one.
        multiprocessors: Of that GPU: one name may cover several sizes, as all Orin modules are called Orin.
    """

    compute_capability: str
    name: str | None = None
    multiprocessors: int | None = None


@dataclass(frozen=True, kw_only=True)
class Engine:
    """A compiled model.

    Attributes:
        backend: Registry name of the library.
        device: The library's name of the device.
        precision: ``fp32``, ``fp16``, ``int8`` or ``fp8``.
        files: Names in ``directory``; the first is the one to open.
        inputs: One: ``(B, H, W, 3) uint8``.
        outputs: ``(B, …) float32`` each; logits ``(B, K)``, or those of another task.
        batch: Least, best and largest batch that the engine takes.
        settings: How to open it; see ``edgevit/runtime/settings.py``.
        versions: Of the library that compiled it.
        gpu: What an NVIDIA engine is for; ``None`` for other engines.
        directory: Where the files lie; not part of the stored form.
        contents: Of an engine in a packed bundle, whose files cannot be opened by a path: where they lie. Not stored.
    """

    backend: str
    device: str
    precision: str
    files: tuple[str, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    batch: tuple[int, int, int] = (1, 1, 1)
    settings: Mapping[str, Setting] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    gpu: GpuRecord | None = None
    directory: Path = field(default=Path(), metadata=schema.NOT_STORED)
    contents: Contents | None = field(default=None, compare=False, repr=False, metadata=schema.NOT_STORED)

    def __post_init__(self) -> None:
        least, best, largest = self.batch
        rises = 1 <= least <= best <= largest
        schema.refuse(
            (not rises, f"batch = {self.batch} is not of the form 1 ≤ least ≤ best ≤ largest"),
            (not self.files, "files is empty"),
        )

    @property
    def path(self) -> Path:
        """The file to open."""
        return self.directory / self.files[0]

    @property
    def size_bytes(self) -> int:
        """Size of all files."""
        return sum(self._measure(name) for name in self.files)

    def _measure(self, name: str) -> int:
        return (self.directory / name).stat().st_size if self.contents is None else self.contents.measure(name)

    def read(self, name: str) -> bytes:
        """The bytes of one of the files.

        Raises:
            OSError: It cannot be read.
        """
        return (self.directory / name).read_bytes() if self.contents is None else self.contents.read(name)

    def to_data(self) -> dict[str, Any]:
        """Plain data, without where the files lie."""
        data: dict[str, Any] = schema.to_data(self)
        return data

    @classmethod
    def from_data(cls, data: object, directory: Path, where: str, error: ErrorMaker) -> Engine:
        """The inverse of :meth:`to_data`; see :func:`edgevit.core.schema.from_data`."""
        return dataclasses.replace(schema.from_data(cls, data, where, error), directory=directory)


def save_engine(engine: Engine) -> Path:
    """Describe an engine in ``engine.json`` beside its files, so that another process can open the folder."""
    path = engine.directory / ENGINE_FILE
    path.write_text(json.dumps(engine.to_data(), indent=1) + "\n", encoding="utf-8")
    return path


def load_engine(directory: Path) -> Engine:
    """The engine that :func:`save_engine` described.

    Raises:
        BundleError: The description is missing or damaged, or a file of the engine is missing.
    """
    path = directory / ENGINE_FILE
    try:
        data = parse_json(path.read_bytes())
    except (OSError, ValueError) as exc:
        raise BundleError(f"{path} cannot be read: {exc}", "compile the engine again") from exc
    engine = Engine.from_data(data, directory, str(path), BundleError)
    missing = [name for name in engine.files if not (directory / name).is_file()]
    if missing:
        raise BundleError(f"{directory} lacks {', '.join(missing)}", "compile the engine again")
    return engine
