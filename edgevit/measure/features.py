"""How well an engine's feature maps keep to the float model's: the signal to quantisation noise of every level."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from edgevit.core.errors import CheckpointError, CompileError, DataError
from edgevit.core.report.report import Accuracy
from edgevit.measure.accuracy import check_answers, decibels

if TYPE_CHECKING:
    from edgevit.runtime.session import Outputs


class FeatureMeter:
    """Signal and noise by level, one batch at a time.

    Args:
        names: Of the levels.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.images = 0
        self._names = tuple(names)
        self._signal = np.zeros(len(names))
        self._noise = np.zeros(len(names))

    def update(self, features: Outputs, reference: Outputs, files: Sequence[str] | None = None) -> None:
        """Count a batch.

        Args:
            features: The engine's, ``(B, …)`` for each level.
            reference: The float model's, for the same images.
            files: Names for error messages.

        Raises:
            CompileError: The engine gave features of a wrong shape or that are not finite.
            CheckpointError: The float model's are not finite.
        """
        if len(features) != len(self._names):
            raise CompileError(
                f"the engine gave {len(features)} levels, not {len(self._names)}", "check the model's outputs"
            )
        for level, (ours, theirs) in enumerate(zip(features, reference, strict=True)):
            shape, name = tuple(theirs.shape[1:]), self._names[level]
            expected = check_answers(theirs, shape, f"the float model's {name}", CheckpointError, files, self.images)
            found = check_answers(ours, shape, f"the engine's {name}", CompileError, files, self.images)
            if len(found) != len(expected):
                raise CompileError(
                    f"the engine answered {len(found)} images of {len(expected)}", "check the engine's batch size"
                )
            axes = tuple(range(1, expected.ndim))
            # Added image by image, so that not even rounding depends on the batches.
            for signal, noise in zip(
                (expected**2).sum(axis=axes), ((expected - found) ** 2).sum(axis=axes), strict=True
            ):
                self._signal[level] += signal
                self._noise[level] += noise
        self.images += len(reference[0])

    def result(self, skipped_images: int = 0) -> Accuracy:
        """The figures so far.

        Raises:
            DataError: No image was counted.
        """
        if not self.images:
            raise DataError("accuracy was measured on no images", "give at least one image")
        pairs = zip(self._names, self._signal.tolist(), self._noise.tolist(), strict=True)
        levels = {name: decibels(signal, noise) for name, signal, noise in pairs}
        shares = self._noise / np.maximum(self._signal, 1e-300)
        return Accuracy(
            images=self.images,
            labelled=False,
            agreement=None,
            agreement_low=None,
            agreement_high=None,
            task="features",
            sqnr_db=decibels(1.0, float(shares.mean())),
            level_sqnr_db=levels,
            skipped_images=skipped_images,
        )
