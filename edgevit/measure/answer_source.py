"""AnswerSource: where the answers of an evaluation come from: an opened bundle, or the nodes of a cluster."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy.typing as npt

from edgevit.core.progress import Progress
from edgevit.measure.answers import Answered, Run, run_all, run_batches

if TYPE_CHECKING:
    from edgevit.pixels.images import ImageSet
    from edgevit.runtime.bundle import Bundle
    from edgevit.runtime.canary import CanaryCheck, Check


@dataclass(frozen=True)
class Question:
    """Who is asked.

    Attributes:
        bundle: The bundle, of which only the manifest was read.
        reference: The checkpoint that it was built from, where its float model is asked too.
        arch: Architecture of the reference, where it is a file of bare weights.
        check: Whether the bundle's canary is answered first.
        public_key: Of whoever has to have signed the bundle.
    """

    bundle: Bundle
    reference: str | Path | None
    arch: str | None
    check: Check
    public_key: str | os.PathLike[str] | None


class AnswerSource(Protocol):
    """Answers of a bundle's engine and of its float model."""

    @property
    def canary(self) -> CanaryCheck:
        """What was done about the bundle's canary; known when everything is answered."""
        ...

    @property
    def doubts(self) -> tuple[str, ...]:
        """What speaks against the answers, a warning each; known when everything is answered."""
        ...

    def check(self, images: ImageSet, *, skip_bad: bool) -> ImageSet:
        """Decode every image once, as :meth:`edgevit.pixels.images.ImageSet.check` does."""
        ...

    def hash(self, images: ImageSet) -> str:
        """The fingerprint of a set that was checked."""
        ...

    def gallery(self, images: ImageSet, batch_size: int) -> npt.NDArray[Any]:
        """The float model's embeddings of all images, ``(N, C)``."""
        ...

    def answer(self, images: ImageSet, batch_size: int, *, compare: bool) -> Iterator[Answered]:
        """Answers to a set that was checked, in its order; with the float model's where they are compared."""
        ...


class OpenedBundle:
    """A bundle that lies open, here or on a device; an :class:`AnswerSource`.

    Args:
        predictor: What ``open_bundle`` or ``open_on`` gave.
        reference: The checkpoint, whose float model runs here.
        arch: Its architecture.
        progress: Told how far it is.
    """

    def __init__(self, predictor: Any, reference: str | Path | None, arch: str | None, progress: Progress) -> None:
        self._predictor, self._progress = predictor, progress
        self._reference, self._arch = reference, arch
        self._run: Run | None = None
        self.doubts: tuple[str, ...] = ()

    @property
    def canary(self) -> CanaryCheck:
        """What was done about the bundle's canary."""
        canary: CanaryCheck = self._predictor.canary
        return canary

    def check(self, images: ImageSet, *, skip_bad: bool) -> ImageSet:
        """Decode every image once, then read the reference: what is wrong with either is said before it is slow."""
        images = images.check(
            skip_bad=skip_bad,
            preprocess=self._predictor.preprocess,
            progress=lambda done, total: self._progress("check images", done, total),
        )
        if self._reference is not None:
            from edgevit.measure.open_reference import read_reference
            from edgevit.measure.reference import run_outputs

            self._run = run_outputs(read_reference(self._reference, self._arch, self._predictor.manifest))
        return images

    def hash(self, images: ImageSet) -> str:
        """The set's fingerprint."""
        return images.sha256()

    def gallery(self, images: ImageSet, batch_size: int) -> npt.NDArray[Any]:
        """The float model's embeddings of all images, ``(N, C)``."""
        assert self._run is not None
        return run_all(self._run, images, self._predictor.preprocess, batch_size, self._progress)[0]

    def answer(self, images: ImageSet, batch_size: int, *, compare: bool) -> Iterator[Answered]:
        """Answers in the set's order."""
        reference = self._run if compare else None
        return run_batches(self._predictor.run_outputs, reference, images, self._predictor.preprocess, batch_size)
