"""The figures as SVG that lies in HTML; what they show is in ``test_render.py``."""

from __future__ import annotations

import re

import pytest

pytest.importorskip("matplotlib")

from edgevit.cli.page.figures import Limits, Point, Timing, draw_latency, draw_tradeoff

ROWS = [Timing("fp32", 8.0, 9.0, 12.0, 7.0), Timing("int8", 4.0, 4.5, 6.0, 3.5, chosen=True)]
POINTS = [Point("fp32", 8.0, 90.0, 88.0, 92.0, front=True), Point("int8", 4.0, 89.5, chosen=True, front=True)]


def list_texts(svg: str) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


@pytest.mark.parametrize("name", ["latency", "tradeoff"])
def test_figure_is_an_element_of_html_in_the_page_s_colours(name: str) -> None:
    svg = draw_latency(ROWS) if name == "latency" else draw_tradeoff({"a": POINTS}, "top-1, %", Limits(89.5, 10.0))
    assert svg.startswith('<svg aria-hidden="true"')
    assert svg.rstrip().endswith("</svg>")
    assert not re.search(r"xmlns|<metadata|<\?xml|<!DOCTYPE|https?:", svg)
    assert {"currentColor", "var(--line)"} <= set(re.findall(r"currentColor|var\(--\w+\)", svg))
    assert not re.search(r"#0[1-9a-f]0[0-9a-f]0", svg), "a stand-in for a colour is left"
    assert {"fp32", "int8"} <= set(list_texts(svg))


def test_two_figures_share_no_id() -> None:
    first, second = (set(re.findall(r' id="([^"]*)"', draw_tradeoff({"a": POINTS}, "top-1", Limits()))) for _ in "ab")
    assert first
    assert not first & second


def test_series_differ_by_shape_and_are_named() -> None:
    alone = draw_tradeoff({"a": POINTS}, "top-1, %", Limits())
    both = draw_tradeoff({"a": POINTS, "b": [Point("fp16", 6.0, 90.5)]}, "top-1, %", Limits())
    assert "a" not in list_texts(alone)
    assert {"a", "b"} <= set(list_texts(both))
    assert "var(--series1)" in both
    assert "var(--series1)" not in alone


def test_limits_are_drawn_only_where_there_are_any() -> None:
    texts = list_texts(draw_tradeoff({"a": POINTS}, "top-1, %", Limits(89.0, 10.0)))
    assert {"least of the budget", "most of the budget"} <= set(texts)
    assert not [text for text in list_texts(draw_tradeoff({"a": POINTS}, "top-1, %", Limits())) if "budget" in text]


def test_labels_are_text_as_it_is_and_long_ones_are_shortened() -> None:
    rows = [Timing("$x^2$ <b>", 1.0, 1.0, 1.0, 1.0), Timing("a" * 40 + "the end", 1.0, 1.0, 1.0, 1.0)]
    texts = list_texts(draw_latency(rows))
    assert "$x^2$ &lt;b&gt;" in texts
    (long,) = [text for text in texts if text.endswith("the end")]
    assert len(long) <= 26


def test_latencies_far_apart_are_logarithmic_and_near_ones_begin_at_zero() -> None:
    near = list_texts(draw_latency(ROWS))
    assert "ms a call" in near
    assert "0" in near
    far = list_texts(draw_latency([*ROWS, Timing("slow", 400.0, 410.0, 500.0, 390.0)]))
    assert "ms a call (logarithmic)" in far


@pytest.mark.parametrize("quality", [0.0, 100.0])
def test_one_point_and_equal_points_are_drawn(quality: float) -> None:
    same = [Point(f"v{i}", 1.0, quality, front=True) for i in range(12)]
    for points in (same[:1], same):
        assert draw_tradeoff({"a": points}, "top-1, %", Limits()).count("<svg") == 1
