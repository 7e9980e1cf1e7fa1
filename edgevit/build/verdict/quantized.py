"""What the verdict says of INT8 and FP8: what its calibration is worth, and what was tried to keep its accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from edgevit.build.verdict.sentences import describe_set_back
from edgevit.core.quantization import RANDOM_MARK, QuantizationRecord
from edgevit.core.report.report import Variant

FEW_IMAGES = 32


def list_calibration_risks(record: QuantizationRecord, precision: str = "int8") -> tuple[str, ...]:
    """What weakens the evidence for a quantised precision: random pixels, or few images."""
    if record.random:
        return (f"{precision} was {RANDOM_MARK}",)
    if record.images >= FEW_IMAGES:
        return ()
    images = "1 image" if record.images == 1 else f"{record.images} images"
    return (f"{precision} was calibrated on {images}, fewer than {FEW_IMAGES}: give more with --calibration",)


def explain_set_back(
    variants: Sequence[Variant], record: QuantizationRecord | None, precision: str = "int8"
) -> tuple[Variant, ...]:
    """The variants, with how far sites were set back to float in vain in the reason of one that lost accuracy."""
    result = record.set_back if record is not None else None
    if result is None or result.sites:
        return tuple(variants)
    words = describe_set_back(result, precision)
    return tuple(
        replace(v, reason=f"{v.reason}; {words}") if v.precision == precision and v.status == "ACCURACY DROP" else v
        for v in variants
    )
