"""load_plan: a sweep's file to its cells; everything that can be refused is refused before the first build."""

from __future__ import annotations

import contextlib
import dataclasses
import fnmatch
import itertools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgevit.build.order import RANDOM
from edgevit.checkpoints.files.contents import WhichWeights
from edgevit.checkpoints.files.files import is_hub_id
from edgevit.core import schema
from edgevit.core.errors import RecipeError, format_offenders
from edgevit.core.recipe import Choice
from edgevit.core.target import Budget
from edgevit.core.task import TaskName
from edgevit.core.toml import load_toml
from edgevit.remote.sweep.cell import Cell, name_cells
from edgevit.remote.sweep.check_cells import check_cells, check_question
from edgevit.remote.sweep.check_sources import check_sources
from edgevit.remote.sweep.question import Question

Size = int | str
MOST_CELLS = 100_000
_PATHS = ("calibration", "validation", "labels", "templates")


@dataclass(frozen=True)
class Source:
    """A checkpoint of a plan that needs more than its path.

    Attributes:
        path: The checkpoint, or a hub id.
        arch: Architecture of a bare weight file.
        weights: Of a training checkpoint with two sets.
        labels: Of a CLIP or SigLIP with its text tower.
        templates: Of the same.
    """

    path: str
    arch: str | None = None
    weights: WhichWeights | None = None
    labels: str | None = None
    templates: str | None = None


@dataclass(frozen=True)
class Changes:
    """What an override sets; what it leaves out stays. See :class:`Plan` for the fields."""

    recipe: str | None = None
    task: TaskName | None = None
    precision: Choice | None = None
    image_size: Size | None = None
    calibration: str | None = None
    validation: str | None = None
    budget: Budget | None = None
    seed: int | None = None
    skip_bad_images: bool | None = None
    accept_chance: bool | None = None


@dataclass(frozen=True)
class Match:
    """Cells by patterns of their fields, as in file names: ``*`` and ``?``. What is left out fits all.

    Attributes:
        source: Of the path as the plan writes it, or of its last part.
        target: Of the target as the plan writes it.
        recipe: Likewise.
        task: Likewise.
        precision: Likewise.
        image_size: The very size, as ``224`` or ``256x192``; no pattern.
    """

    source: str | None = None
    target: str | None = None
    recipe: str | None = None
    task: str | None = None
    precision: str | None = None
    image_size: Size | None = None

    def __post_init__(self) -> None:
        schema.refuse((self == _EVERYTHING, "a match without source, target, recipe, task, precision or image_size"))


@dataclass(frozen=True)
class Override:
    """Changes of the cells that match."""

    match: Match
    set: Changes


@dataclass(frozen=True)
class Include:
    """A cell besides those of the axes."""

    source: str | Source
    target: str
    set: Changes = field(default_factory=Changes)


@dataclass(frozen=True)
class Plan:
    """A sweep's file. Every source is built for every target with every recipe, task, precision and image size.

    Attributes:
        sources: Checkpoints.
        targets: Profiles, or TOML files.
        recipes: Recipes, or TOML files.
        tasks: What is computed.
        precisions: One precision each; ``auto`` tries all.
        image_sizes: ``224`` or ``"256x192"``; none leaves the checkpoint's own.
        calibration: Images to calibrate on, of all cells.
        validation: Held-out images to judge by.
        budget: What a faster variant may cost.
        seed: For everything that is drawn.
        skip_bad_images: Whether images that cannot be used are left out.
        accept_chance: Whether a float model that does no better than chance is built.
        override: Changes of some cells.
        include: Further cells.
        exclude: Cells to leave out.
        question: Which cell is wanted.
    """

    sources: tuple[str | Source, ...] = ()
    targets: tuple[str, ...] = ()
    recipes: tuple[str, ...] = ("default",)
    tasks: tuple[TaskName, ...] = ("auto",)
    precisions: tuple[Choice, ...] = ("auto",)
    image_sizes: tuple[Size, ...] = ()
    calibration: str | None = None
    validation: str | None = None
    budget: Budget = field(default_factory=Budget)
    seed: int | None = None
    skip_bad_images: bool = False
    accept_chance: bool = False
    override: tuple[Override, ...] = ()
    include: tuple[Include, ...] = ()
    exclude: tuple[Match, ...] = ()
    question: Question = field(default_factory=Question)

    def __post_init__(self) -> None:
        count = len(self.sources) * len(self.targets) * len(self.recipes) * len(self.tasks) * len(self.precisions)
        count = count * max(1, len(self.image_sizes)) + len(self.include)
        axes = ("sources", "targets", "recipes", "tasks", "precisions", "image_sizes")
        twice = [name for name in axes if len(set(getattr(self, name))) < len(getattr(self, name))]
        schema.refuse(
            (bool(self.sources) != bool(self.targets), "sources and targets: both are given, or neither"),
            (count == 0, "sources, targets and include: there is nothing to build"),
            (count > MOST_CELLS, f"sources × targets and so on are {count:,} cells, more than {MOST_CELLS:,}"),
            *((True, f"{name}: one is given twice") for name in twice),
        )


_EVERYTHING = object.__new__(Match)  # not by its constructor, which refuses it
for _field in dataclasses.fields(Match):
    object.__setattr__(_EVERYTHING, _field.name, None)


def load_plan(path: str | os.PathLike[str]) -> Plan:
    """Read a plan; its paths stay as they are written.

    Raises:
        RecipeError: It cannot be read, or has keys or values that are not valid; all of them are listed.
    """
    data = load_toml(path, RecipeError)
    try:
        return schema.from_data(Plan, data, os.fspath(path), RecipeError)
    except RecipeError as exc:
        begin, *offenders = exc.whole.splitlines()
        more = list(_look_further(data, os.path.dirname(os.path.abspath(path))))
        if not more:
            raise
        offenders += format_offenders(more).splitlines()
        begin = f"{os.fspath(path)} has {len(offenders)} problems, and nothing was built:"
        raise RecipeError("\n".join((begin, *offenders)), exc.hint) from exc


def _look_further(data: Mapping[str, Any], folder: str) -> Sequence[str]:
    """What is wrong besides with the cells of a plan that is not valid: of those keys that are."""
    axes: dict[str, Any] = {"sources": ["any"], "targets": ["any"]}
    kept: dict[str, Any] = {}
    for key, value in data.items():
        one_each = list({repr(item): item for item in value}.values()) if isinstance(value, list) else value
        with contextlib.suppress(RecipeError):
            schema.from_data(Plan, {**axes, key: one_each}, "", RecipeError)
            kept[key] = one_each
    kept.pop("question", None)
    if "calibration" in data.keys() - kept.keys():  # what is given is no path, and yet something is
        kept["calibration"] = RANDOM
    try:
        list_cells(schema.from_data(Plan, kept, "", RecipeError), folder)
    except RecipeError as exc:
        found = [line.strip() for line in exc.whole.splitlines()[1:]]
        return found if {"sources", "targets"} <= kept.keys() or "include" in kept else ()
    return ()


def list_cells(plan: Plan, folder: str | os.PathLike[str] = ".") -> dict[str, Cell]:
    """All cells of a plan by their names, in the order of its lists; paths are relative to ``folder``.

    Raises:
        RecipeError: Listing everything that is wrong with any cell, so far as that shows before anything is read; and
            overrides and excludes that fit no cell.
    """
    root = Path(folder).resolve()
    complaints: list[str] = []
    rows = [_Row(source, target, recipe, task, precision, size) for source, target, recipe, task, precision, size
            in itertools.product(plan.sources, plan.targets, plan.recipes, plan.tasks, plan.precisions,
                                 plan.image_sizes or (None,))]  # fmt: skip
    for number, match in enumerate(plan.exclude):
        left = [row for row in rows if not row.fits(match)]
        if len(left) == len(rows):
            complaints.append(f"exclude[{number}] fits no cell")
        rows = left
    used = [False] * len(plan.override)
    cells: list[Cell] = []
    for row in rows:
        changes = [Changes(row.recipe, row.task, row.precision, row.size)]
        for number, override in enumerate(plan.override):
            if row.fits(override.match):
                used[number] = True
                changes.append(override.set)
        cells.append(_make_cell(plan, row.source, row.target, changes, root, complaints))
    complaints += [f"override[{number}] fits no cell" for number, fits in enumerate(used) if not fits]
    for include in plan.include:
        cells.append(_make_cell(plan, include.source, include.target, [include.set], root, complaints))
    named = name_cells(tuple(dict.fromkeys(cells)))
    complaints += [*check_cells(named), *check_sources(named.values()), *check_question(plan.question, named)]
    if not named and not complaints:
        complaints.append("every cell is excluded")
    if complaints:
        complaints = list(dict.fromkeys(complaints))
        count = f"{len(complaints)} problem{'s' if len(complaints) > 1 else ''}"
        raise RecipeError(
            f"the plan has {count}, and nothing was built:\n{format_offenders(complaints)}",
            "correct the plan and run again; --dry-run shows its cells",
        )
    return named


@dataclass(frozen=True)
class _Row:
    """A place in the product of the axes, as the plan writes it."""

    source: str | Source
    target: str
    recipe: str
    task: TaskName
    precision: Choice
    size: Size | None

    def fits(self, match: Match) -> bool:
        path = self.source if isinstance(self.source, str) else self.source.path
        return (
            (match.source is None or _is_like(path, match.source) or _is_like(Path(path).name, match.source))
            and (match.target is None or _is_like(self.target, match.target))
            and (match.recipe is None or _is_like(self.recipe, match.recipe))
            and (match.task is None or _is_like(self.task, match.task))
            and (match.precision is None or _is_like(self.precision, match.precision))
            and (match.image_size is None or (self.size is not None and _same_size(self.size, match.image_size)))
        )


def _is_like(text: str, pattern: str) -> bool:
    return fnmatch.fnmatchcase(text, pattern)


def _same_size(one: Size, other: Size) -> bool:
    try:
        return _read_size(one) == _read_size(other)
    except ValueError:
        return False


def _read_size(size: Size) -> tuple[int, int]:
    """``224`` or ``"256x192"``, height first.

    Raises:
        ValueError: It is neither.
    """
    sides = [size, size] if isinstance(size, int) else str(size).replace("×", "x").split("x")
    if len(sides) == 1:
        sides = sides * 2
    if len(sides) != 2 or not all(str(side).strip().isdecimal() and 0 < int(side) < 100_000 for side in sides):
        raise ValueError(f"image size {size!r} is not one such as 224 or '256x192'")
    return int(sides[0]), int(sides[1])


def _make_cell(
    plan: Plan,
    source: str | Source,
    target: str,
    changes: Sequence[Changes],
    root: Path,
    complaints: list[str],
) -> Cell:
    given: dict[str, Any] = {
        name: getattr(plan, name)
        for name in ("calibration", "validation", "budget", "seed", "skip_bad_images", "accept_chance")
    }
    for change in changes:
        for one in dataclasses.fields(change):
            if (value := getattr(change, one.name)) is not None:
                given[one.name] = value
    if "image_size" in given:
        try:
            given["image_size"] = _read_size(given["image_size"])
        except ValueError as exc:
            complaints.append(str(exc))
            del given["image_size"]
    full = source if isinstance(source, Source) else Source(source)
    given |= {"arch": full.arch, "weights": full.weights, "labels": full.labels, "templates": full.templates}
    for name in _PATHS:
        if given.get(name) is not None and not (name == "calibration" and given[name] == RANDOM):
            given[name] = _place(given[name], root)
    path = full.path if is_hub_id(full.path) and not (root / full.path).exists() else _place(full.path, root)
    given["recipe"] = _place_named(given.get("recipe", "default"), root)
    if given.get("precision") == "auto":
        given["precision"] = None  # the recipe's
    return Cell(source=path, target=_place_named(target, root), **given)


def _place(path: str, root: Path) -> str:
    return str((root / Path(path).expanduser()).resolve())


def _place_named(text: str, root: Path) -> str:
    """A name stays; a TOML file gets its place."""
    return _place(text, root) if text.endswith(".toml") or "/" in text else text
