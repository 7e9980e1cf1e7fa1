"""compare_figures: whether what an evaluation found is what the bundle says of itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgevit.core.report.figures import Figures
from edgevit.measure.intervals import difference_interval

CONFIDENCE = 0.99
"""One evaluation in a hundred is called different though only the images are others."""


@dataclass(frozen=True)
class FigureChange(Figures):
    """A figure that an evaluation and the bundle both have.

    Attributes:
        name: ``top-1`` or ``agreement``.
        percent: Found now.
        images: Of how many.
        built_percent: What the bundle says.
        built_images: Of how many validation images.
        low_points: Lower end of the 99 % interval of the difference, now less than at the build, in points.
        high_points: Its upper end.
        beyond_chance: Whether 0 lies outside of it.
    """

    name: str
    percent: float
    images: int
    built_percent: float
    built_images: int
    low_points: float
    high_points: float
    beyond_chance: bool

    def describe(self) -> str:
        """One sentence; the images need not be those of the build, so it blames nothing."""
        return (
            f"{self.name} is {self.percent:.2f} % of these {self.images:,} images, and the bundle carries "
            f"{self.built_percent:.2f} % of {self.built_images:,}: more than chance makes of images of the same kind"
        )


def compare_figures(
    counts: Mapping[str, int | None], images: int, figures: Mapping[str, Any]
) -> tuple[FigureChange, ...]:
    """Hold counts of images against the bundle's percentages, as two independent samples.

    Args:
        counts: Images that were right by the figure's key in ``figures``: ``top1_percent``, ``agreement_percent``.
        images: That were judged.
        figures: The manifest's. What is missing there, or is no percentage, is not compared.
    """
    built_images = figures.get("images")
    if not isinstance(built_images, int) or isinstance(built_images, bool) or built_images < 1 or images < 1:
        return ()
    found = []
    for key, name in (("top1_percent", "top-1"), ("agreement_percent", "agreement")):
        count, built = counts.get(key), figures.get(key)
        if count is None or isinstance(built, bool) or not isinstance(built, int | float) or not 0 <= built <= 100:
            continue
        low, high = difference_interval(
            count, images, round(built * built_images / 100), built_images, confidence=CONFIDENCE
        )
        found.append(
            FigureChange(
                name=name,
                percent=100 * count / images,
                images=images,
                built_percent=float(built),
                built_images=built_images,
                low_points=100 * low,
                high_points=100 * high,
                beyond_chance=not low <= 0 <= high,
            )
        )
    return tuple(found)
