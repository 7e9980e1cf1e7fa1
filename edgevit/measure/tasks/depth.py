"""How well a depth map keeps to measured distances, and to the float model's map.

Every figure is that of an image, averaged over the images, as the evaluations of NYU and KITTI have it since Eigen et
al. (2014, arXiv:1406.2283): AbsRel = mean(|d − d*| / d*), RMSE = √mean((d − d*)²), δ1 = the share of pixels in which
max(d/d*, d*/d) < 1.25. Only pixels with a measured distance count, and of these those that the model was shown.

Maps without a scale are aligned first, by the scale and the shift of least squares in disparity (one over distance), as
MiDaS does (Ranftl et al. 2020, arXiv:1907.01341, section 6) and after it Depth Anything (arXiv:2401.10891); what is
then farther than the cap counts as the cap.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from edgevit.runtime.tasks.answers import Depth

_WITHIN = 1.25
_NEAREST = 1e-3  # metres; a prediction at or below 0 has no ratio
_FAINTEST = 0.01  # of a map's largest value: what is darker is as good as infinitely far, and has no ratio

_Values = npt.NDArray[np.float64]


class DepthMeter:
    """Figures against measured distances, one image at a time.

    A metric map is judged as it is, and aligned beside that; a relative one only aligned.

    Args:
        farthest: Distances above it, in metres, do not count, and predictions are cut there; by default the largest
            that was measured in the image.
    """

    def __init__(self, farthest: float | None = None) -> None:
        self.images = 0
        self._farthest = farthest
        self._sums: defaultdict[str, float] = defaultdict(float)
        self._counts: defaultdict[str, int] = defaultdict(int)

    def update(self, found: Depth, wanted: npt.NDArray[Any]) -> None:
        """Count an image.

        Args:
            found: The answer, with NaN where the model did not see the image.
            wanted: ``(H, W)`` distances in metres; 0, negative or not finite where none was measured.

        Raises:
            ValueError: The map has another size than the distances.
        """
        _check_sizes(found.depth, wanted)
        valid = np.isfinite(wanted) & (wanted > 0) & np.isfinite(found.depth)
        if self._farthest is not None:
            valid &= wanted <= self._farthest
        self.images += 1
        if not valid.any():
            return
        truth, values = wanted[valid].astype(np.float64), found.depth[valid].astype(np.float64)
        cap = self._farthest if self._farthest is not None else float(truth.max())
        if found.metric:
            self._add("", values.clip(_NEAREST, cap), truth)
            values = 1 / values.clip(_NEAREST)
        disparity = align(values, 1 / truth)
        self._add("aligned_", 1 / np.maximum(disparity, 1 / cap), truth)

    def _add(self, beginning: str, values: _Values, truth: _Values) -> None:
        found = {
            "delta1_percent": 100 * _count_within(values, truth),
            "abs_rel": float(np.mean(np.abs(values - truth) / truth)),
            "rmse_m": float(np.sqrt(np.mean((values - truth) ** 2))),
        }
        for name, value in found.items():
            self._sums[beginning + name] += value
            self._counts[beginning + name] += 1

    def result(self) -> dict[str, float]:
        """The figures so far, by their keys of :mod:`edgevit.core.report.task_figures`; none without valid pixels."""
        return {name: self._sums[name] / count for name, count in self._counts.items()}


class DepthAgreement:
    """Figures against the float model's map, one image at a time, at the map's own scale: nothing is aligned.

    Of a relative map, values below a hundredth of the float map's largest do not count: that far away a ratio says
    nothing.
    """

    def __init__(self) -> None:
        self.images = self._judged = 0
        self._within = self._relative = 0.0

    def update(self, found: Depth, wanted: Depth) -> None:
        """Count an image: the engine's answer and the float model's, of the same size."""
        _check_sizes(found.depth, wanted.depth)
        valid = np.isfinite(wanted.depth)
        least = 0.0 if wanted.metric else _FAINTEST * float(wanted.depth.max(initial=0, where=valid))
        valid &= wanted.depth > least
        self.images += 1
        if not valid.any():
            return
        ours, theirs = found.depth[valid].astype(np.float64), wanted.depth[valid].astype(np.float64)
        self._within += _count_within(ours, theirs)
        self._relative += float(np.mean(np.abs(ours - theirs) / theirs))
        self._judged += 1

    def result(self) -> dict[str, float]:
        """The figures so far; none where the float model's maps are empty."""
        if not self._judged:
            return {}
        return {
            "kept_delta1_percent": 100 * self._within / self._judged,
            "kept_abs_rel": self._relative / self._judged,
        }


def align(values: _Values, wanted: _Values) -> _Values:
    """``values`` times the scale plus the shift that bring them nearest to ``wanted``, by least squares; ``(N,)`` each.

    Where all values are equal there is no scale, and all become the mean of ``wanted``.
    """
    mean, target = values.mean(), wanted.mean()
    centred = values - mean
    spread = float(centred @ centred)
    scale = float(centred @ (wanted - target)) / spread if spread > 0 else 0.0
    aligned: _Values = scale * centred + target
    return aligned


def _count_within(values: _Values, truth: _Values) -> float:
    positive = values > 0
    ratio = np.divide(values, truth, out=np.full_like(truth, np.inf), where=positive)
    return float(np.mean(np.maximum(ratio, 1 / ratio) < _WITHIN))


def _check_sizes(found: npt.NDArray[Any], wanted: npt.NDArray[Any]) -> None:
    if found.shape != wanted.shape:
        raise ValueError(f"a map of shape {found.shape} for one of {wanted.shape}")
