"""The benchmark of preprocessing: turns, bar and table; nothing is timed."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.bench_pixels import list_missed, render_table, time_rounds

pytestmark = pytest.mark.bench


def _row(value: float, *, chosen: bool = True) -> dict[str, Any]:
    ratio = {"value": value, "low": value - 0.01, "high": value + 0.01}
    return {
        "images": "photos",
        "filter": "bicubic",
        "kernels": "avx2",
        "chosen": chosen,
        "ms": {"avx2": 0.2, "pillow": 1.5, "python": 2.0},
        "ratio": {"pillow": ratio, "python": ratio},
    }


def test_rounds_take_every_image_by_every_way_in_turns():
    seen: list[tuple[str, int]] = []
    ways = {name: lambda i, name=name: seen.append((name, i)) for name in ("a", "b")}
    spent = time_rounds(ways, 2, 3)
    assert {name: len(rounds) for name, rounds in spent.items()} == {"a": 3, "b": 3}
    assert seen == 4 * [("a", 0), ("b", 0), ("b", 1), ("a", 1)]  # the first round is not timed


def test_bar_is_judged_of_the_chosen_kernels_only():
    assert list_missed([_row(0.7), _row(0.9, chosen=False)]) == []
    assert list_missed([_row(0.71)]) == ["photos, bicubic: 0.710 of Pillow's time"]


def test_table_has_a_line_for_every_row_and_says_what_was_missed():
    text = render_table([_row(0.123), _row(0.8)], {"cpu": "Some CPU", "packages": {"pillow": "13"}})
    assert "| photos | bicubic | avx2 (chosen) | 0.200 | 1.500 | 2.000 | 0.123 (0.113–0.133) |" in text
    assert "photos, bicubic: 0.800 of Pillow's time" in text
    assert "Some CPU, Pillow 13" in text
