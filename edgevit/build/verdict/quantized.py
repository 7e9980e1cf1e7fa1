"""What the verdict says of INT8 and FP8: what its calibration is worth, and what was tried to keep its accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from edgevit.build.verdict.sentences import describe_set_back
from edgevit.core.quantization import RANDOM_MARK, QuantizationRecord
from edgevit.core.report.report import Variant, Verdict

FEW_IMAGES = 32


def judge_calibration(
    verdict: Verdict, record: QuantizationRecord | None, *, chosen: bool, untried: str, name: str = "int8"
) -> Verdict:
    """Add what weakens the evidence for a quantised precision; calibrated on random pixels, it does not pass.

    Args:
        verdict: By latency and accuracy.
        record: How the quantised variant was made; ``None`` where none was.
        chosen: Whether the verdict chose it.
        untried: Why it was not tried; empty where it was, or nobody asked.
        name: Of the precision.
    """
    warnings = [untried] if untried else []
    if record is not None and record.random:
        warnings.append(f"{name} was {RANDOM_MARK}")
        if chosen:
            verdict = replace(
                verdict,
                passed=False,
                sentence=f"{verdict.sentence}; {RANDOM_MARK}",
                next_step=f"give --calibration DATA for an {name} engine to use",
            )
    elif record is not None and record.images < FEW_IMAGES:
        images = "1 image" if record.images == 1 else f"{record.images} images"
        warnings.append(f"{name} was calibrated on {images}, fewer than {FEW_IMAGES}: give more with --calibration")
    return replace(verdict, warnings=(*verdict.warnings, *warnings))


def explain_set_back(
    variants: Sequence[Variant], record: QuantizationRecord | None, precision: str = "int8"
) -> tuple[Variant, ...]:
    """The variants, with how far sites were set back to float in vain in the reason of one that lost accuracy.

    Args:
        variants: Judged.
        record: How the variant of ``precision`` was made; ``None`` where none was.
        precision: The one that is explained.
    """
    result = record.set_back if record is not None else None
    if result is None or result.sites:
        return tuple(variants)
    words = describe_set_back(result, precision)
    return tuple(
        replace(v, reason=f"{v.reason}; {words}") if v.precision == precision and v.status == "ACCURACY DROP" else v
        for v in variants
    )
