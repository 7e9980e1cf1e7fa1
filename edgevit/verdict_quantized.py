"""judge_calibration: what an INT8 variant's calibration is worth, in the verdict."""

from __future__ import annotations

from dataclasses import replace

from edgevit.quantization import QuantizationRecord
from edgevit.report import Verdict

FEW_IMAGES = 32
RANDOM_MARK = "calibrated on random pixels: for latency trials, not for use"


def judge_calibration(verdict: Verdict, record: QuantizationRecord | None, *, chosen: bool, untried: str) -> Verdict:
    """Add what weakens the evidence for INT8; a variant that was calibrated on random pixels does not pass.

    Args:
        verdict: By latency and accuracy.
        record: How the INT8 variant was made; ``None`` where none was.
        chosen: Whether the verdict chose it.
        untried: Why INT8 was not tried; empty where it was, or nobody asked.
    """
    warnings = [untried] if untried else []
    if record is not None and record.random:
        warnings.append(f"int8 was {RANDOM_MARK}")
        if chosen:
            verdict = replace(
                verdict,
                passed=False,
                sentence=f"{verdict.sentence}; {RANDOM_MARK}",
                next_step="give --calibration DATA for an int8 engine to use",
            )
    elif record is not None and record.images < FEW_IMAGES:
        images = "1 image" if record.images == 1 else f"{record.images} images"
        warnings.append(f"int8 was calibrated on {images}, fewer than {FEW_IMAGES}: give more with --calibration")
    return replace(verdict, warnings=(*verdict.warnings, *warnings))
