"""plan_order: what a build is asked for, and where its engines can be compiled and opened."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from edgevit.build.precisions import Precisions, choose_precisions, limit_precisions
from edgevit.build.tiers import TierPlan, plan_tiers
from edgevit.core.errors import CompileError
from edgevit.core.recipe import Recipe
from edgevit.core.target import Budget, Target
from edgevit.engines.availability import target_status
from edgevit.quantize.placement import check_weight_bits
from edgevit.runtime.bundle_settings import check_build_settings

if TYPE_CHECKING:
    from edgevit.checkpoints.files.contents import WhichWeights
    from edgevit.checkpoints.preprocess_options import PreprocessOptions
    from edgevit.checkpoints.texts.label_texts import LabelTexts
    from edgevit.models.model import Model

RANDOM = "random"
"""In place of calibration images: random pixels."""

Where: TypeAlias = Literal["here", "compiled here", "elsewhere"]


@dataclass(frozen=True)
class Inputs:
    """What a build reads: the checkpoint and the images.

    Attributes:
        source: What :func:`edgevit.checkpoints.read_checkpoint` takes.
        arch: Architecture of a bare weight file.
        weights: Of a training checkpoint with two sets.
        preprocess: What the checkpoint does not say of the preprocessing, or says wrongly.
        calibration: A folder or a CSV; :data:`RANDOM` stands for random pixels.
        validation: Held-out images to judge by.
        skip_bad_images: Whether images that cannot be used are left out.
        accept_chance: Whether a float model that does no better than chance on labelled images is built.
        texts: Labels that a text tower makes a head of.
    """

    source: str | Path
    arch: str | None = None
    weights: WhichWeights | None = None
    preprocess: PreprocessOptions | None = None
    calibration: str | Path | None = None
    validation: str | Path | None = None
    skip_bad_images: bool = False
    accept_chance: bool = False
    texts: LabelTexts | None = None

    @property
    def choice(self) -> str | Path | None:
        """The calibration images; ``None`` where there are none, also where random pixels stand for them."""
        return None if self.calibration == RANDOM else self.calibration


@dataclass(frozen=True)
class Place:
    """Where the engines of a target are made and measured.

    Attributes:
        where: ``here``: on this machine. ``compiled here``: made here, and opened on the device. ``elsewhere``: both on
            the device, which gets a portable bundle.
        missing: What keeps it from being ``here``.
    """

    where: Where = "here"
    missing: tuple[str, ...] = ()

    @property
    def measures(self) -> bool:
        """Whether engines are opened and timed on this machine."""
        return self.where == "here"

    @property
    def compiles(self) -> bool:
        """Whether engines are compiled on this machine."""
        return self.where != "elsewhere"


@dataclass(frozen=True)
class Order:
    """What a build is asked for.

    Attributes:
        target: What is built for.
        recipe: The decisions: batch, engine settings, how long to measure and the like.
        budget: What a faster variant may cost.
        place: Where the engines are made and measured.
        precisions: What is tried.
    """

    target: Target
    recipe: Recipe = field(default_factory=Recipe)
    budget: Budget = field(default_factory=Budget)
    place: Place = field(default_factory=Place)
    precisions: Precisions = field(default_factory=lambda: Precisions(()))

    @property
    def tiers(self) -> TierPlan:
        """The instruction sets that the engines are judged under."""
        return plan_tiers(self.target)


def plan_order(target: Target, recipe: Recipe, budget: Budget, *, calibrated: bool, portable: bool) -> Order:
    """Decide where engines are made and what is tried; refuse what cannot be built before anything is read.

    Args:
        target: What to build for.
        recipe: As it was given.
        budget: What a faster variant may cost.
        calibrated: Whether there is something to calibrate on.
        portable: Leave the engine to the device, also where it could be compiled here.

    Raises:
        CompileError: The target takes neither the batch nor the precision, or the library not the weights' bits.
        CalibrationError: Quantised precisions are all that is left, and there is nothing to calibrate them on.
        RecipeError: A setting that no bundle may have.
    """
    recipe = replace(recipe, export=recipe.export or target.export)
    place = find_place(target, portable=portable)
    if recipe.batch[0] != recipe.batch[2] and not target.dynamic_batch:
        raise CompileError(
            f"target {target.name} takes one fixed batch, not a range", f"give --batch {recipe.batch[1]}"
        )
    check_build_settings(target, recipe.settings)
    tier = plan_tiers(target).floats if place.measures else None
    precisions = choose_precisions(target, recipe, calibrated=calibrated, tier=tier)
    if "int8" in precisions.tried:
        check_weight_bits(recipe.quantization.weight_bits, target.backend)
    return Order(target, recipe, budget, place, precisions)


def find_place(target: Target, *, portable: bool = False) -> Place:
    """Where the target's engines are made; with ``portable``, on the device in any case."""
    status = target_status(target)
    if portable:
        return Place("elsewhere", ("it is left to the device",))
    if not status.buildable:
        return Place("elsewhere", status.missing)
    return Place("here" if status.runnable else "compiled here", status.missing)


def fit_order(order: Order, model: Model) -> Order:
    """The order for a model that was read: with its task, and without precisions that it cannot be quantised to.

    Raises:
        CompileError: Nothing else was asked for.
    """
    recipe = replace(order.recipe, task=model.task)
    return replace(order, recipe=recipe, precisions=limit_precisions(order.precisions, model.float_only))
