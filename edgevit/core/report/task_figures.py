"""What the figures of depth, segment, detect and pose are called, and in which unit they are.

A figure's key is made of one of three beginnings and what is measured. ``kept_``: the engine's answers, with the float
model's as the truth, so that no labels are needed. Without a beginning: the engine's answers against labels.
``reference_``: the float model's own against the same labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgevit.core.task import TaskName

KEPT, REFERENCE = "kept_", "reference_"


@dataclass(frozen=True)
class TaskFigure:
    """How a figure is shown.

    Attributes:
        title: In words.
        column: As the head of a column.
        unit: ``%``, ``m``, ``px``, or empty.
        digits: After the point.
    """

    title: str
    column: str
    unit: str = "%"
    digits: int = 2

    def format(self, value: float) -> str:
        """``98.33 %``; of per cents 100 only where it is all of them."""
        if self.unit != "%":
            return f"{value:.{self.digits}f}{' ' if self.unit else ''}{self.unit}"
        return f"{'100' if value == 100 else f'{min(value, 99.99):.{self.digits}f}'} %"


FIGURES: Mapping[str, TaskFigure] = {
    "kept_delta1_percent": TaskFigure("δ1 to the float model's depth", "kept"),
    "kept_abs_rel": TaskFigure("AbsRel to the float model's depth", "AbsRel", "", 4),
    "kept_pixels_percent": TaskFigure("pixels of the float model's class", "kept"),
    "kept_miou_percent": TaskFigure("mIoU with the float model's classes", "mIoU"),
    "kept_ap_percent": TaskFigure("AP with the float model's boxes as truth", "kept"),
    "kept_ap50_percent": TaskFigure("AP50 with the float model's boxes as truth", "AP50"),
    "kept_pck_percent": TaskFigure("PCK to the float model's keypoints", "kept"),
    "kept_distance_px": TaskFigure("distance to the float model's keypoints", "px", "px"),
    "delta1_percent": TaskFigure("δ1", "δ1"),
    "abs_rel": TaskFigure("AbsRel", "AbsRel", "", 4),
    "rmse_m": TaskFigure("RMSE", "RMSE", "m", 3),
    "aligned_delta1_percent": TaskFigure("δ1, aligned", "δ1"),
    "aligned_abs_rel": TaskFigure("AbsRel, aligned", "AbsRel", "", 4),
    "aligned_rmse_m": TaskFigure("RMSE, aligned", "RMSE", "m", 3),
    "miou_percent": TaskFigure("mIoU", "mIoU"),
    "pixel_accuracy_percent": TaskFigure("pixel accuracy", "pixels"),
    "ap_percent": TaskFigure("AP", "AP"),
    "ap50_percent": TaskFigure("AP50", "AP50"),
    "oks_ap_percent": TaskFigure("OKS-AP", "AP"),
    "oks_ap50_percent": TaskFigure("OKS-AP50", "AP50"),
    "pck_percent": TaskFigure("PCK", "PCK"),
}
"""By key, without ``reference_``; the most telling of each task first."""

KEPT_FIGURES: Mapping[TaskName, str] = {
    "depth": "kept_delta1_percent",
    "segment": "kept_pixels_percent",
    "detect": "kept_ap_percent",
    "pose": "kept_pck_percent",
}
"""The one of each task that the budget's ``min_kept`` is about."""


def find_figure(key: str) -> TaskFigure:
    """The figure of a key; one that this version does not know is called by its key."""
    return FIGURES.get(key.removeprefix(REFERENCE), TaskFigure(key.replace("_", " "), key, "", 4))


def list_right(figures: Mapping[str, float]) -> tuple[str, ...]:
    """The keys of the figures against labels, the most telling first."""
    return tuple(key for key in FIGURES if key in figures and not key.startswith(KEPT))


def describe_figures(figures: Mapping[str, float]) -> dict[str, str]:
    """All figures in words, in the table's order: ``{"mIoU": "41.20 %, the float model's 41.52 %"}``."""
    pairs = {}
    known = [key for key in FIGURES if key in figures]
    others = [key for key in figures if key not in FIGURES and key.removeprefix(REFERENCE) not in known]
    for key in (*known, *others):
        figure, theirs = find_figure(key), figures.get(REFERENCE + key)
        beside = "" if theirs is None else f", the float model's {figure.format(theirs)}"
        pairs[figure.title] = figure.format(figures[key]) + beside
    return pairs
