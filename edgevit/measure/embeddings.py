"""How well an engine's embeddings keep to the float model's, where they retrieve and where they classify.

The gallery is the float model's embeddings of the same images; each image is a query against all the others, once by
the float model's embedding and once by the engine's. So an index that the float model filled is what is searched.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgevit.core.errors import CheckpointError, CompileError
from edgevit.core.report.report import Accuracy
from edgevit.measure.accuracy import (
    NoiseSum,
    check_answers,
    check_count,
    rate_agreement,
    rate_drop,
    require_images,
)

_RECALLED = 10
# Of the weighted vote of Wu et al. (2018, arXiv:1805.01978), with the numbers of DINO (Caron et al., 2021,
# arXiv:2104.14294).
_VOTERS, _TEMPERATURE = 20, 0.07

Values = npt.NDArray[np.float32]


class EmbeddingMeter:
    """Cosines, neighbours kept and votes of neighbours, one batch at a time; how images are batched changes nothing.

    Args:
        reference: The float model's embeddings, ``(N, C)``.
        labels: ``N`` class indices, where there are any.
    """

    def __init__(self, reference: npt.NDArray[Any], labels: Sequence[int] | None) -> None:
        values = check_answers(reference, tuple(reference.shape[1:]), "the float model", CheckpointError, None, 0)
        self._reference = values.astype(np.float32)
        self._gallery = _to_unit(self._reference)
        self._labels = None if labels is None else np.asarray(labels, np.int64)
        self.images = 0
        self._first = self._right = self._reference_right = self._gained = self._lost = 0
        self._shared = self._cosine = 0.0
        self._noise = NoiseSum()
        self._least = 1.0

    def update(self, embeddings: npt.NDArray[Any], files: Sequence[str] | None = None) -> None:
        """Count a batch: the next images of the reference, in its order.

        Args:
            embeddings: ``(B, C)`` the engine's.
            files: Names for error messages.

        Raises:
            CompileError: The engine gave embeddings of a wrong shape or that are not finite.
        """
        shape = self._reference.shape[1:]
        ours = check_answers(embeddings, shape, "the engine", CompileError, files, self.images).astype(np.float32)
        at = np.arange(self.images, self.images + len(ours))
        if len(ours) and at[-1] >= len(self._reference):
            check_count(int(at[-1]) + 1, len(self._reference))
        unit = _to_unit(ours)
        # A vector of float32 is only nearly of length 1: of equal ones the cosine would be above it.
        cosines = np.einsum("bc,bc->b", unit, self._gallery[at], dtype=np.float64).clip(max=1.0)
        for cosine in cosines:
            self._cosine += float(cosine)
        self._noise.add(self._reference[at], ours)
        self._least = min(self._least, float(cosines.min(initial=1.0)))
        if len(self._reference) > 1:
            self._compare_neighbours(self._rank(unit, at), self._rank(self._gallery[at], at), at)
        self.images += len(ours)

    def _rank(self, queries: Values, at: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], Values]:
        """Nearest neighbours in the gallery, the query's own image left out, and their cosines."""
        cosines = queries @ self._gallery.T
        cosines[np.arange(len(at)), at] = -np.inf
        count = min(max(_VOTERS, _RECALLED), len(self._gallery) - 1)
        order = np.argsort(-cosines, axis=1, kind="stable")[:, :count]
        return order, np.take_along_axis(cosines, order, axis=1)

    def _compare_neighbours(
        self,
        ours: tuple[npt.NDArray[np.int64], Values],
        theirs: tuple[npt.NDArray[np.int64], Values],
        at: npt.NDArray[np.int64],
    ) -> None:
        recalled = min(_RECALLED, ours[0].shape[1])
        for found, wanted in zip(ours[0], theirs[0], strict=True):
            self._first += int(found[0] == wanted[0])
            self._shared += len(set(found[:recalled].tolist()) & set(wanted[:recalled].tolist())) / recalled
        if self._labels is None:
            return
        right, reference_right = (self._vote(*found) == self._labels[at] for found in (ours, theirs))
        self._right += int(right.sum())
        self._reference_right += int(reference_right.sum())
        self._gained += int((right & ~reference_right).sum())
        self._lost += int((~right & reference_right).sum())

    def _vote(self, neighbours: npt.NDArray[np.int64], cosines: Values) -> npt.NDArray[np.int64]:
        """The label that the nearest neighbours elect, each by exp(cosine / temperature)."""
        assert self._labels is not None
        answers = np.empty(len(neighbours), np.int64)
        for row, (some, near) in enumerate(zip(neighbours[:, :_VOTERS], cosines[:, :_VOTERS], strict=True)):
            labels, place = np.unique(self._labels[some], return_inverse=True)
            votes = np.bincount(place, np.exp((near.astype(np.float64) - near[0]) / _TEMPERATURE))
            answers[row] = labels[votes.argmax()]
        return answers

    def result(self, skipped_images: int = 0) -> Accuracy:
        """The figures so far.

        Raises:
            DataError: No image was counted.
        """
        require_images(self.images)
        figures: dict[str, Any] = {"labelled": False, "agreement": None, "agreement_low": None, "agreement_high": None}
        if len(self._reference) > 1:
            figures |= {"recall10": self._shared / self.images, **rate_agreement(self._first, self.images)}
            if self._labels is not None:
                figures |= {"labelled": True, "top1": self._right, "reference_top1": self._reference_right}
                figures |= rate_drop(self._lost, self._gained, self.images)
        return Accuracy(
            **figures,
            images=self.images,
            task="embed",
            sqnr_db=self._noise.decibels,
            cosine_mean=self._cosine / self.images,
            cosine_min=self._least,
            skipped_images=skipped_images,
        )


def _to_unit(values: Values) -> Values:
    unit: Values = values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)
    return unit
