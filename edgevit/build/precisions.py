"""choose_precisions: what a build tries, and why a quantised precision is not among it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from edgevit.core.errors import CalibrationError, CompileError
from edgevit.core.isa import TIERS, TierName
from edgevit.core.libraries import LIBRARIES

if TYPE_CHECKING:
    from edgevit.core.recipe import Recipe
    from edgevit.core.target import Target

FLOAT_PRECISIONS = ("fp32", "fp16", "bf16")  # made only from the float graph
QuantizedPrecision: TypeAlias = Literal["int8", "fp8"]
# Each has a graph of its own, with ranges from calibration images.
QUANTIZED_PRECISIONS: tuple[QuantizedPrecision, ...] = ("int8", "fp8")


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


@dataclass(frozen=True)
class Arithmetic:
    """What an engine computes in.

    Attributes:
        precision: ``fp32``, ``fp16``, ``bf16``, ``int8`` or ``fp8``.
        floats: ``f32``, ``f16`` or ``bf16``: type of what is not quantised, where the build chooses it.
    """

    precision: str
    floats: str | None = None


# A CPU widens the weights of fp16 and computes in f32, unless it has products of float16 itself.
_CPU_FLOATS = {"fp32": ("f32",), "fp16": ("f32", "f16"), "bf16": ("bf16",), "int8": ("f32", "bf16")}


def list_arithmetics(
    precisions: Sequence[str], target: Target, recipe: Recipe, tier: TierName | None
) -> dict[str, Arithmetic]:
    """The variants of some precisions by name, in the order of the table: ``int8``, ``int8-bf16``.

    Args:
        precisions: That are tried.
        target: OpenVINO's CPU device is asked for each type that the processor multiplies in.
        recipe: Where it, or the target, settles ``inference_precision``, there is one variant a precision.
        tier: The processor's; ``None`` where it is not known.
    """
    settled = {**target.settings, **recipe.settings}.get("inference_precision")
    if not _chooses_floats(target) or settled is not None:
        return {precision: Arithmetic(precision) for precision in precisions}
    able = {"f32"} | ({"bf16"} if _has(tier, "bf16") else set()) | ({"f16"} if _has(tier, "f16") else set())
    found = {}
    for precision in precisions:
        for place, floats in enumerate(_CPU_FLOATS.get(precision, ())):
            if floats in able:
                found[precision if place == 0 else f"{precision}-{floats}"] = Arithmetic(precision, floats)
    return found


def _chooses_floats(target: Target) -> bool:
    return LIBRARIES[target.backend].onednn and target.device == "CPU"


def _has(tier: TierName | None, floats: str) -> bool:
    return tier is not None and bool(getattr(TIERS[tier], floats))


def choose_precisions(target: Target, recipe: Recipe, *, calibrated: bool, tier: TierName | None = None) -> Precisions:
    """The recipe's precision, or all that can be made.

    Args:
        target: Lists what its device supports.
        recipe: Its ``precision``.
        calibrated: Whether there is something to calibrate on.
        tier: Of the processor that runs the engines; ``None`` where none does here. Without instructions for bfloat16,
            ``bf16`` is left out.

    Raises:
        CompileError: The target or the processor does not support the recipe's precision.
        CalibrationError: Only quantised precisions are left, and there is nothing to calibrate them on.
    """
    if recipe.precision != "auto" and recipe.precision not in target.precisions:
        raise CompileError(
            f"target {target.name} does not support {recipe.precision}", f"it supports {', '.join(target.precisions)}"
        )
    if recipe.precision == "bf16" and not _has(tier, "bf16"):
        what = "no processor runs the engines here"
        if tier is not None:
            named = ", the first instruction set of the target," if target.isa else ""
            what = f"{TIERS[tier].title}{named} has no products of it"
        raise CompileError(f"bf16 cannot be built: {what}", "give --precision auto, fp32 or int8")
    wanted = target.precisions if recipe.precision == "auto" else (recipe.precision,)
    settled = {**target.settings, **recipe.settings}.get("inference_precision", "bf16")
    asked = {**target.settings, **recipe.settings}.get("inference_precision", "f32")
    if _chooses_floats(target) and tier is not None and asked != "f32" and not _has(tier, str(asked)):
        raise CompileError(
            f"inference_precision = {asked} is settled, and {TIERS[tier].title} has no products of it",
            "leave it out of the recipe's or target's settings",
        )
    if not _has(tier, "bf16") or settled != "bf16":
        wanted = tuple(p for p in wanted if p != "bf16")
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
