"""Recipe: every decision that makes an engine reproducible.

Recipes that ship with the package lie in ``calibration/``; a bundle keeps its own as ``recipe.toml``, with everything
that was left open filled in, so that ``edgevit build … --recipe BUNDLE/recipe.toml`` builds the same again.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from edgevit.core import schema
from edgevit.core.engine import LARGEST_BATCH, Setting
from edgevit.core.errors import RecipeError
from edgevit.core.packages import find_shipped, require_package
from edgevit.core.quantization import Quantization
from edgevit.core.target import ExportForm
from edgevit.core.task import Task
from edgevit.core.toml import load_toml

Choice: TypeAlias = Literal["auto", "fp32", "fp16", "bf16", "int8", "fp8"]


@dataclass(frozen=True)
class Recipe:
    """What to build and how to choose.

    Attributes:
        task: What is computed: logits, embeddings or features.
        precision: One precision, or ``auto``: every one that the target supports, and the best of them.
        batch: Least, usual and largest number of images a call; three equal numbers make it static.
        image_size: Height and width instead of the checkpoint's own.
        seed: For everything that is drawn.
        export: Folds and form of the canonical export; the target's where absent.
        disable_passes: Graph rewrites to leave out.
        choice_images: Calibration images that a choice between variants looks at.
        parity_images: Images on which the engine is compared with the module.
        latency_runs: Timed calls at least.
        latency_seconds: Seconds of timed calls at least.
        settings: Of the engine, over the target's. Without ``inference_precision`` among them, a build for a CPU tries
            each type that it multiplies in.
        tune_settings: Time ways to open the engine that ``settings`` leaves open, such as fewer threads. Not above
            512 MiB: the ways are open side by side, with the weights twice each.
        quantization: How the INT8 variant is made.
    """

    task: Task = field(default_factory=Task)
    precision: Choice = "auto"
    batch: tuple[int, int, int] = (1, 1, 1)
    image_size: tuple[int, int] | None = None
    seed: int = 0
    export: ExportForm | None = None
    disable_passes: tuple[str, ...] = ()
    choice_images: int = 512
    parity_images: int = 16
    latency_runs: int = 100
    latency_seconds: float = 5.0
    settings: Mapping[str, Setting] = field(default_factory=dict)
    tune_settings: bool = True
    quantization: Quantization = field(default_factory=Quantization)

    def __post_init__(self) -> None:
        least, usual, largest = self.batch
        seconds = self.latency_seconds
        size, counts = list(self.image_size or (1, 1)), ("choice_images", "parity_images", "latency_runs")
        rises = 1 <= least <= usual <= largest <= LARGEST_BATCH
        schema.refuse(
            (not rises, f"batch = {list(self.batch)} is not of the form 1 ≤ least ≤ usual ≤ largest ≤ {LARGEST_BATCH}"),
            (min(size) < 1, f"image_size = {size} is not above 0"),
            *((getattr(self, name) < 1, f"{name} = {getattr(self, name)} is not above 0") for name in counts),
            (not 0 <= seconds <= 3600, f"latency_seconds = {seconds:g} is not between 0 and 3600"),
            (not 0 <= self.seed < 2**32, f"seed = {self.seed} is not between 0 and 2³² − 1"),
        )

    def dumps(self) -> str:
        """As TOML.

        Raises:
            MissingPackageError: tomli-w is not installed.
        """
        text: str = require_package("tomli_w", "writing a recipe").dumps(schema.to_data(self))
        return text


def load_recipe(name_or_path: str | os.PathLike[str]) -> Recipe:
    """Read a recipe by name, or from a TOML file.

    Raises:
        RecipeError: There is no such recipe, or it has keys or values that are not valid; all of them are listed.
    """
    text = os.fspath(name_or_path)
    path = Path(text)
    if path.suffix != ".toml" and not path.is_file():
        directory = find_shipped("calibration")
        names = sorted(p.stem for p in directory.glob("*.toml"))
        if text not in names:
            close = difflib.get_close_matches(text, names, n=1)
            guess = f"did you mean {close[0]}? " if close else ""
            raise RecipeError(
                f"there is no recipe {text!r}",
                f"{guess}the recipes are {', '.join(names)}; a file of your own ends in .toml",
            )
        path = directory / f"{text}.toml"
    data: dict[str, Any] = load_toml(path, RecipeError)
    return schema.from_data(Recipe, data, str(path), RecipeError)
