"""Whether an engine computes what the module computes, on real images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from edgevit.core.errors import CheckpointError, DataError
from edgevit.core.report.report import Parity
from edgevit.runtime.session import Outputs

Run: TypeAlias = Callable[[npt.NDArray[np.uint8]], Outputs]
"""Pixels ``(B, H, W, 3) uint8`` to outputs ``(B, …) float32``; a :meth:`Session.run_outputs` is one."""


@dataclass(frozen=True)
class ParityTolerance:
    """What an engine may differ by and still be the same model.

    Attributes:
        relative_error: Largest absolute difference over the reference's largest absolute logit.
        tie_margin: Distance of the reference's first two logits, over the same scale, below which their order may
            change.
        least_rows: Share of the rows within ``relative_error``, where a model sorts its rows by score. RF-DETR nano of
            random weights, whose 300 scores lie 0.005 of their spread apart, keeps 16 to 24 % of its rows in their
            places with noise as of bf16, and 97 % or more with noise of 1e-4. Another computation has none: a row is
            91 logits and 4 coordinates, and all of them have to be within the tolerance.
    """

    relative_error: float
    tie_margin: float
    least_rows: float = 0.05


PARITY_TOLERANCES = {
    # Another order of float32 sums gives 1e-6 to 1e-5 through twelve to twenty-four blocks; a wrong GELU, epsilon or
    # bias gives 1e-3 and more. Two logits closer than twice the error may change places.
    "fp32": ParityTolerance(relative_error=1e-4, tie_margin=2e-4, least_rows=0.9),
    # Weights keep 11 bits (5e-4 each) and devices may compute in fp16 too: 1e-3 to 1e-2 at the logits. An overflow or a
    # wrongly decomposed LayerNorm gives 0.1 and more. A clear first place must stay first all the same.
    "fp16": ParityTolerance(relative_error=2e-2, tie_margin=1e-2),
    # Products of 8 bits of mantissa, summed in float32: 1e-2 to 5e-2 at the logits. OpenVINO's faults with a bias, or
    # with as many queries as heads (edgevit.engines.openvino_faults), give 0.1 and more.
    "bf16": ParityTolerance(relative_error=8e-2, tie_margin=5e-2),
}
"""By precision. Quantised precisions are not here: their error is a price, which the accuracy budget judges."""

# Values near the middle between two codes go the other way where float parts round differently, through all blocks:
# 1e-2 to 5e-2 at the logits. A wrong scale, a lost bias or a kernel that is wrong at one batch gives 0.3 and more.
GRAPH_TOLERANCE = ParityTolerance(relative_error=0.1, tie_margin=0.1)
"""Of a quantised engine against its own graph in ONNX Runtime: not a price, but whether it is the same computation."""


def check_parity(
    run: Run,
    reference_run: Run,
    batches: Iterable[npt.NDArray[np.uint8]],
    tolerance: ParityTolerance,
    names: Sequence[str],
    *,
    ranked: bool,
    chooses: bool = False,
) -> Parity:
    """Compare an engine's answers with the module's.

    It passes when the largest difference of every output, over that output's largest absolute value, is within the
    tolerance; and, of logits, when every image whose first place is clear keeps it. A model that takes its queries in
    the order of computed scores gives rows of other queries where two scores are nearer than rounding: then
    ``least_rows`` of them must be within it, as none would be of another computation.

    Args:
        run: The engine's.
        reference_run: The module's.
        batches: Real images; of one image at least.
        tolerance: Of :data:`PARITY_TOLERANCES`.
        names: Of the outputs.
        ranked: Whether the one output is logits, whose order counts.
        chooses: Whether outputs ``(B, Q, …)`` are of queries in the order of their scores.

    Raises:
        CheckpointError: The module's answers are not finite.
        DataError: There are no images.
    """
    images = 0
    agreement = 0 if ranked else None
    differences, scales = np.zeros(len(names)), np.zeros(len(names))
    flips: list[npt.NDArray[np.float64]] = []
    rows: list[list[npt.NDArray[np.float64]]] = [[] for _ in names]  # the largest difference of each query
    for pixels in batches:
        answers = zip(names, run(pixels), reference_run(pixels), strict=True)
        before, images = images, images + len(pixels)
        for place, (name, found, wanted) in enumerate(answers):
            actual, expected = np.asarray(found, np.float64), np.asarray(wanted, np.float64)
            if not np.isfinite(expected).all():
                raise CheckpointError(
                    f"the module's {name}: not finite on real images", "check the checkpoint's weights for overflow"
                )
            if actual.shape != expected.shape:
                what = f"{name} of shape {actual.shape}, the module {expected.shape}"
                return _fail(images, agreement, tolerance, what)
            finite = np.isfinite(actual).all(axis=tuple(range(1, actual.ndim)))
            if not finite.all():
                bad = before + int(np.flatnonzero(~finite)[0])
                return _fail(
                    images, agreement, tolerance, f"values of {name} that are not finite, first for image {bad}"
                )
            differences[place] = max(differences[place], float(np.abs(actual - expected).max()))
            scales[place] = max(scales[place], float(np.abs(expected).max()))
            if chooses and expected.ndim > 2:
                apart = np.abs(actual - expected).reshape(*expected.shape[:2], -1)
                rows[place].append(apart.max(axis=2).reshape(-1))
            if agreement is not None:
                same = actual.argmax(axis=1) == expected.argmax(axis=1)
                agreement += int(same.sum())
                flips.append(_margins(expected[~same]))
    if not images:
        raise DataError("parity was checked on no images", "give at least one image")
    errors = differences / np.where(scales > 0, scales, 1.0)
    worst = int(errors.argmax())
    error = float(errors[worst])
    where = f" at {names[worst]}" if len(names) > 1 else ""
    reason = f"relative error {error:.2g}{where} of at most {tolerance.relative_error:g}"
    passed = error <= tolerance.relative_error
    if chooses and not passed:
        return _compare_rows(rows, scales, tolerance, images, reason)
    if agreement is None:
        return Parity(images, error, None, tolerance.relative_error, passed, f"{reason} on {images} images")
    margins = np.concatenate(flips)
    unclear = int((margins <= tolerance.tie_margin * scales[0]).sum())
    reason += f"; {agreement} of {images} images keep their top-1"
    if unclear:
        ties = "were ties" if unclear > 1 else "was a tie"
        reason += f", {unclear} that changed {ties} within {tolerance.tie_margin:g}"
    passed = passed and unclear == len(margins)
    return Parity(images, error, agreement, tolerance.relative_error, passed, reason)


def _compare_rows(
    rows: Sequence[Sequence[npt.NDArray[np.float64]]],
    scales: npt.NDArray[np.float64],
    tolerance: ParityTolerance,
    images: int,
    reason: str,
) -> Parity:
    """By the rows of the queries that stand where the reference has them."""
    found = [np.concatenate(parts) / (scale or 1.0) for parts, scale in zip(rows, scales, strict=True) if parts]
    if len(found) < len(rows) or len({len(errors) for errors in found}) > 1:
        return Parity(images, None, None, tolerance.relative_error, False, f"{reason} on {images} images")
    errors = np.maximum.reduce(found)
    near = errors <= tolerance.relative_error
    reason = (
        f"{int(near.sum())} of {len(errors)} rows are within {tolerance.relative_error:g} on {images} images; "
        f"queries are sorted by score, and where two are near a row is another's ({reason})"
    )
    passed = bool(near.mean() >= tolerance.least_rows)
    error = float(errors[near].max()) if passed else float(errors.max())
    return Parity(images, error, None, tolerance.relative_error, passed, reason)


def _margins(logits: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Distance of the first two logits, ``(B, K)`` to ``(B,)``; infinite where there is but one."""
    if logits.shape[1] < 2:
        return np.full(len(logits), np.inf)
    ordered = np.partition(logits, -2, axis=1)
    margins: npt.NDArray[Any] = ordered[:, -1] - ordered[:, -2]
    return margins


def _fail(images: int, agreement: int | None, tolerance: ParityTolerance, what: str) -> Parity:
    return Parity(images, None, agreement, tolerance.relative_error, False, f"the engine gave {what}")
