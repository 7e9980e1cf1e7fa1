"""choose_precisions: what a build tries, and why INT8 is not among it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgevit.errors import CalibrationError, CompileError

if TYPE_CHECKING:
    from edgevit.recipe import Recipe
    from edgevit.target import Target

FLOAT_PRECISIONS = ("fp32", "fp16")  # made from the float graph alone
QUANTIZED_BACKENDS = ("openvino", "onnxruntime")  # whose INT8 engines this version makes


@dataclass(frozen=True)
class Precisions:
    """What a build tries.

    Attributes:
        tried: In the order of the table.
        untried: One sentence on why INT8 is not tried although the target supports it; else empty.
    """

    tried: tuple[str, ...]
    untried: str = ""


def choose_precisions(target: Target, recipe: Recipe, *, calibrated: bool, portable: bool) -> Precisions:
    """The recipe's precision, or all that can be made.

    Args:
        target: Lists what its device supports.
        recipe: Its ``precision``.
        calibrated: Whether there is something to calibrate INT8 on.
        portable: Whether the build ends in a portable bundle, which holds the float graph.

    Raises:
        CompileError: The target does not support the recipe's precision, or this version does not make it.
        CalibrationError: INT8 alone is left, and there is nothing to calibrate it on.
    """
    if recipe.precision != "auto" and recipe.precision not in target.precisions:
        raise CompileError(
            f"target {target.name} does not support {recipe.precision}", f"it supports {', '.join(target.precisions)}"
        )
    if recipe.precision in FLOAT_PRECISIONS:
        return Precisions((recipe.precision,))
    floats = tuple(p for p in FLOAT_PRECISIONS if p in target.precisions) if recipe.precision == "auto" else ()
    if "int8" not in target.precisions:
        return Precisions(floats)
    missing = _find_missing(target, portable)
    if missing:
        if not floats:
            raise CompileError(f"int8 cannot be built for {target.name} here: {missing}", _suggest_floats(target))
        return Precisions(floats, f"int8 was not tried: {missing}")
    if calibrated:
        return Precisions((*floats, "int8"))
    if not floats:
        raise CalibrationError(
            "int8 needs calibration images, and there are none",
            "give --calibration DATA, or --calibration random for a latency trial",
        )
    return Precisions(floats, "int8 was not tried: it needs calibration images, --calibration DATA")


def _find_missing(target: Target, portable: bool) -> str:
    """Why this version makes no INT8, or nothing."""
    if target.backend not in QUANTIZED_BACKENDS:
        return f"this version quantises for {' and '.join(QUANTIZED_BACKENDS)} alone, not for {target.backend}"
    return "in this version a portable bundle holds the float graph alone" if portable else ""


def _suggest_floats(target: Target) -> str:
    others = [p for p in FLOAT_PRECISIONS if p in target.precisions]
    ways = ["build on the device itself"] if target.backend in QUANTIZED_BACKENDS else []
    ways += [f"give --precision {' or '.join(others)}"] if others else []
    return ", or ".join(ways) or "choose another target: edgevit targets lists them"
