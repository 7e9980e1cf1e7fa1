"""choose_precisions: what a build tries, and why a quantised precision is not among it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgevit.errors import CalibrationError, CompileError

if TYPE_CHECKING:
    from edgevit.recipe import Recipe
    from edgevit.target import Target

FLOAT_PRECISIONS = ("fp32", "fp16")  # made from the float graph alone
QUANTIZED_PRECISIONS = ("int8", "fp8")  # each has a graph of its own, with ranges from calibration images


@dataclass(frozen=True)
class Precisions:
    """What a build tries.

    Attributes:
        tried: In the order of the table.
        untried: One sentence on what is not tried although the target supports it; else empty.
    """

    tried: tuple[str, ...]
    untried: str = ""

    @property
    def quantized(self) -> tuple[str, ...]:
        """Those that need calibration."""
        return tuple(p for p in self.tried if p in QUANTIZED_PRECISIONS)


def choose_precisions(target: Target, recipe: Recipe, *, calibrated: bool) -> Precisions:
    """The recipe's precision, or all that can be made.

    Args:
        target: Lists what its device supports.
        recipe: Its ``precision``.
        calibrated: Whether there is something to calibrate on.

    Raises:
        CompileError: The target does not support the recipe's precision.
        CalibrationError: Quantised precisions alone are left, and there is nothing to calibrate them on.
    """
    if recipe.precision != "auto" and recipe.precision not in target.precisions:
        raise CompileError(
            f"target {target.name} does not support {recipe.precision}", f"it supports {', '.join(target.precisions)}"
        )
    wanted = target.precisions if recipe.precision == "auto" else (recipe.precision,)
    floats = tuple(p for p in FLOAT_PRECISIONS if p in wanted)
    quantized = tuple(p for p in QUANTIZED_PRECISIONS if p in wanted)
    if calibrated or not quantized:
        return Precisions((*floats, *quantized))
    names = " and ".join(quantized)
    if not floats:
        raise CalibrationError(
            f"{names} needs calibration images, and there are none",
            "give --calibration DATA, or --calibration random for a latency trial",
        )
    was, need = ("were", "they need") if len(quantized) > 1 else ("was", "it needs")
    return Precisions(floats, f"{names} {was} not tried: {need} calibration images, --calibration DATA")


def limit_precisions(precisions: Precisions, reason: str) -> Precisions:
    """Without quantised precisions where a model cannot be quantised.

    Args:
        precisions: What the target and the recipe ask for.
        reason: Why the model cannot be; empty where it can.

    Raises:
        CompileError: Nothing else was asked for.
    """
    floats = tuple(p for p in precisions.tried if p in FLOAT_PRECISIONS)
    names = " and ".join(p for p in precisions.tried if p in QUANTIZED_PRECISIONS)
    if not reason or not names:
        return precisions
    if not floats:
        raise CompileError(f"{names} cannot be built: {reason}", f"give --precision {' or '.join(FLOAT_PRECISIONS)}")
    return Precisions(floats, f"{names} {'were' if ' and ' in names else 'was'} not tried: {reason}")
