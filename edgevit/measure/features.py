"""How well an engine's feature maps keep to the float model's: the signal to quantisation noise of every level."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from edgevit.core.errors import CheckpointError, CompileError
from edgevit.core.report.report import Accuracy
from edgevit.core.report.scores import NoisyImage
from edgevit.core.task import TaskName
from edgevit.measure.accuracy import NoiseSum, check_answers, check_count, decibels, require_images

if TYPE_CHECKING:
    from edgevit.runtime.session import Outputs


class FeatureMeter:
    """Signal and noise by output, one batch at a time.

    Args:
        names: Of the outputs: the levels of features, or what a whole model gives.
        task: Whose answers they are.
    """

    def __init__(self, names: Sequence[str], task: TaskName = "features") -> None:
        self.images = 0
        self._task = task
        self._levels = {name: NoiseSum() for name in names}
        self._noisy_files: dict[str, str] = {}  # by level

    def update(self, features: Outputs, reference: Outputs, files: Sequence[str] | None = None) -> None:
        """Count a batch.

        Args:
            features: The engine's, ``(B, …)`` for each level.
            reference: The float model's, for the same images.
            files: Names for error messages and of the noisiest image.

        Raises:
            CompileError: The engine gave features of a wrong shape or that are not finite.
            CheckpointError: The float model's are not finite.
        """
        if len(features) != len(self._levels):
            raise CompileError(
                f"the engine gave {len(features)} levels, not {len(self._levels)}", "check the model's outputs"
            )
        for (name, noise), ours, theirs in zip(self._levels.items(), features, reference, strict=True):
            shape = tuple(theirs.shape[1:])
            expected = check_answers(theirs, shape, f"the float model's {name}", CheckpointError, files, self.images)
            found = check_answers(ours, shape, f"the engine's {name}", CompileError, files, self.images)
            check_count(len(found), len(expected))
            before = noise.noisiest
            noise.add(expected, found)
            if noise.noisiest is not None and noise.noisiest != before:
                place = noise.noisiest[0]
                self._noisy_files[name] = str(place) if files is None else files[place - self.images]
        self.images += len(reference[0])

    def result(self, skipped_images: int = 0) -> Accuracy:
        """The figures so far.

        Raises:
            DataError: No image was counted.
        """
        require_images(self.images)
        shares = [level.noise / max(level.signal, 1e-300) for level in self._levels.values()]
        return Accuracy(
            images=self.images,
            labelled=False,
            agreement=None,
            agreement_low=None,
            agreement_high=None,
            task=self._task,
            sqnr_db=decibels(1.0, float(np.mean(shares))),
            level_sqnr_db={name: level.decibels for name, level in self._levels.items()},
            skipped_images=skipped_images,
            noisiest=self._find_noisiest(),
        )

    def _find_noisiest(self) -> NoisyImage | None:
        noisy = {name: level for name, level in self._levels.items() if level.noisiest is not None}
        worst = max(noisy, key=lambda name: noisy[name].noise / max(noisy[name].signal, 1e-300), default=None)
        if worst is None or (found := noisy[worst].noisiest) is None:
            return None
        _, signal, noise = found
        return NoisyImage(self._noisy_files[worst], noise / noisy[worst].noise, decibels(signal, noise))
