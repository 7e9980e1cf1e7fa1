"""What the figures of tasks are called, and how they are written."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from edgevit.core.report.report import Report
from edgevit.core.report.scores import Accuracy
from edgevit.core.report.task_figures import FIGURES, KEPT_FIGURES, describe_figures, find_figure, list_right
from edgevit.core.schema import FieldError
from edgevit.core.task import ANSWERED_TASKS
from tests.support.page_bundles import make_report


def test_every_figure_of_per_cents_or_a_unit_has_it_in_its_key() -> None:
    ends = {"%": "_percent", "m": "_m", "px": "_px", "": "_rel"}
    assert all(key.endswith(ends[figure.unit]) for key, figure in FIGURES.items())
    assert set(KEPT_FIGURES) == set(ANSWERED_TASKS)
    assert all(FIGURES[key].unit == "%" for key in KEPT_FIGURES.values())


def test_figures_are_written_in_order_with_the_float_models_beside_them() -> None:
    found = describe_figures(
        {
            "reference_miou_percent": 41.526,
            "miou_percent": 41.2,
            "kept_pixels_percent": 99.999,
            "kept_miou_percent": 100,
        }
    )
    assert found == {
        "pixels of the float model's class": "99.99 %",  # 100 only where it is all
        "mIoU with the float model's classes": "100 %",
        "mIoU": "41.20 %, the float model's 41.53 %",
    }
    assert find_figure("rmse_m").format(0.5) == "0.500 m"
    assert find_figure("reference_abs_rel").format(0.0512) == "0.0512"
    assert list_right({"kept_ap_percent": 1, "reference_ap_percent": 2, "ap50_percent": 3, "ap_percent": 4}) == (
        "ap_percent",
        "ap50_percent",
    )


def test_a_figure_of_a_later_version_is_shown_by_its_key() -> None:
    assert describe_figures({"panoptic_quality": 0.5}) == {"panoptic quality": "0.5000"}


@pytest.mark.parametrize("task", ANSWERED_TASKS)
def test_what_is_kept_is_the_tasks_own_figure(task) -> None:
    key = KEPT_FIGURES[task]
    assert Accuracy(4, False, None, None, None, task=task, task_figures={key: 97.5}).kept == (key, 97.5)
    assert Accuracy(4, False, None, None, None, task=task).kept is None
    assert Accuracy(4, False, None, None, None, task="map", task_figures={key: 97.5}).kept is None


def test_figures_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(FieldError, match=r"task_figures.abs_rel = nan is not finite"):
        Accuracy(4, False, None, None, None, task="depth", task_figures={"abs_rel": math.nan})


def test_a_report_of_before_such_figures_opens(tmp_path: Path) -> None:
    report = make_report()
    report.save(tmp_path / "report.json")
    data = json.loads((tmp_path / "report.json").read_text())
    del data["budget"]["min_kept"]
    for variant in data["variants"]:
        for name in ("accuracy", "choice_accuracy"):
            variant.get(name, {}).pop("task_figures", None)
    (tmp_path / "report.json").write_text(json.dumps(data))
    assert Report.load(tmp_path / "report.json") == report
