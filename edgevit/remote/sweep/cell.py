"""Cell: one build of a sweep, with everything that it depends on."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from edgevit.build.order import Inputs, Order, plan_order
from edgevit.checkpoints.files.contents import WhichWeights
from edgevit.checkpoints.texts.label_texts import read_given_texts
from edgevit.core import schema
from edgevit.core.errors import RecipeError
from edgevit.core.recipe import Choice, Recipe, load_recipe
from edgevit.core.target import Budget, load_target
from edgevit.core.task import Task, TaskName

FILES = ("source", "target", "recipe", "calibration", "validation", "labels", "templates")
"""Fields that may be paths."""
_LONGEST = 60
"""Characters of one part of a cell's name."""


@dataclass(frozen=True)
class Cell:
    """One build. Paths are absolute, so that they mean the same to every process.

    Attributes:
        source: The checkpoint: a path or a hub id.
        target: A profile's name, or a TOML file.
        recipe: A recipe's name, or a TOML file.
        task: What is computed; ``auto`` leaves it to the checkpoint and the recipe.
        precision: One precision; by default the recipe's.
        image_size: Height and width, instead of the checkpoint's own.
        arch: Architecture of a bare weight file.
        weights: Of a training checkpoint with two sets.
        labels: Of a CLIP or SigLIP with its text tower.
        templates: Of the same.
        calibration: Images to calibrate on, or ``random``.
        validation: Held-out images to judge by.
        budget: What a faster variant may cost.
        seed: For everything that is drawn; by default the recipe's.
        skip_bad_images: Whether images that cannot be used are left out.
        accept_chance: Whether a float model that does no better than chance is built.
        portable: Whether the engine is left to the device, as a board of a fleet finishes it.
    """

    source: str
    target: str
    recipe: str = "default"
    task: TaskName = "auto"
    precision: Choice | None = None
    image_size: tuple[int, int] | None = None
    arch: str | None = None
    weights: WhichWeights | None = None
    labels: str | None = None
    templates: str | None = None
    calibration: str | None = None
    validation: str | None = None
    budget: Budget = field(default_factory=Budget)
    seed: int | None = None
    skip_bad_images: bool = False
    accept_chance: bool = False
    portable: bool = False

    def read_recipe(self) -> Recipe:
        """The recipe with what the cell says on top.

        Raises:
            RecipeError: It cannot be read, or does not take what the cell says.
        """
        recipe = load_recipe(self.recipe)
        given = {name: getattr(self, name) for name in ("precision", "image_size", "seed")}
        changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        if self.task not in ("auto", recipe.task.name):
            changes["task"] = Task(self.task)
        try:
            return dataclasses.replace(recipe, **changes)
        except schema.FieldError as exc:
            raise RecipeError(str(exc), f"correct it in the plan; the recipe is {self.recipe}") from exc

    def plan(self) -> tuple[Inputs, Order]:
        """What a build is given.

        Raises:
            EdgevitError: What can be refused before anything is read: target, recipe, precision, batch, texts.
        """
        inputs = Inputs(
            self.source,
            self.arch,
            self.weights,
            None,
            self.calibration,
            self.validation,
            self.skip_bad_images,
            self.accept_chance,
            read_given_texts(self.labels, self.templates),
        )
        order = plan_order(
            load_target(self.target),
            self.read_recipe(),
            self.budget,
            calibrated=self.calibration is not None,
            portable=self.portable,
        )
        return inputs, order

    def list_files(self) -> dict[str, Path]:
        """The fields that name files or folders."""
        named = {name: getattr(self, name) for name in FILES}
        return {name: Path(text) for name, text in named.items() if text is not None and os.path.isabs(text)}

    def identify(self, prints: dict[str, str] | None = None) -> str:
        """Hash of the cell, of edgevit's version, and of names, sizes and times of all files that it names.

        Args:
            prints: Of files that were looked at already, by path; those of this cell are added.
        """
        prints = {} if prints is None else prints
        for path in self.list_files().values():
            if str(path) not in prints:
                prints[str(path)] = print_files(path)
        files = {name: prints[str(path)] for name, path in self.list_files().items()}
        data = [schema.to_data(self), files, metadata.version("edgevit")]
        return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:32]

    def describe(self) -> str:
        """A name for people and for a folder: ``deit-tiny_intel-cpu_int8``. Other cells may have the same."""
        height, width = self.image_size or (0, 0)
        parts = [
            _stem(self.source),
            _stem(self.target),
            *([_stem(self.recipe)] if self.recipe != "default" else []),
            *([self.task] if self.task != "auto" else []),
            *([self.precision] if self.precision not in (None, "auto") else []),
            *([f"{height}" if height == width else f"{height}x{width}"] if height else []),
        ]
        return "_".join(re.sub(r"[^\w.-]+", "-", part) for part in parts if part)


def print_files(path: Path) -> str:
    """Hash of the names, sizes and times of a file, or of all files below a folder; contents are not read."""
    found = []
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    for file in files:
        try:
            status = file.stat()
        except OSError:
            continue
        if not file.is_dir():
            found.append([str(file.relative_to(path)), status.st_size, status.st_mtime_ns])
    return hashlib.sha256(json.dumps(found).encode("utf-8", "surrogateescape")).hexdigest()[:32]


def name_cells(cells: tuple[Cell, ...]) -> dict[str, Cell]:
    """The cells by names that none shares with another: those of the same description are numbered."""
    named: dict[str, Cell] = {}
    for cell in cells:
        name, number = cell.describe(), 1
        while name in named:
            number += 1
            name = f"{cell.describe()}_{number}"
        named[name] = cell
    return named


def _stem(text: str) -> str:
    """The last part of a path without its ending; a long one without its middle, as file systems take 255 bytes."""
    name = re.sub(r"\.(toml|onnx|safetensors|pth|pt|bin|npz|h5|keras|ckpt)$", "", Path(text).name or text)
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST // 2]}-{name[-_LONGEST // 2 + 1 :]}"
