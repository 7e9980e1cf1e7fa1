"""What the verdict says of the time from an image file to the answer."""

from __future__ import annotations

import dataclasses

import pytest

from edgevit.build.verdict.choose import choose_variant
from edgevit.build.verdict.sentences import describe_end_to_end
from edgevit.build.verdict.write import Grounds, write_verdict
from edgevit.core.report.report import EndToEnd, Latency, Variant
from edgevit.core.report.timings import SYNTHETIC, Spread
from edgevit.core.target import Budget


def make_times(*parts: float, image: str = "dog.jpg") -> EndToEnd:
    decode, resize, engine, answer, whole = (Spread(ms, ms, ms) for ms in (*parts, sum(parts)))
    return EndToEnd(image, "JPEG", 500, 375, 50, decode, resize, engine, answer, whole)


def judge(times: EndToEnd | None, **changes: float) -> tuple[str, ...]:
    latency = Latency(1, 100, 10, 5.0, 6, 7, 8, 6, 0.1, 5, "by a stop-watch")
    variant = Variant("int8", "int8", 100, latency, end_to_end=times)
    return write_verdict(choose_variant([variant], dataclasses.replace(Budget(), **changes)), Grounds()).warnings


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ((1.1, 1.4, 5.9, 0.1), "8.5 ms = decode 1.1 + resize 1.4 + int8 engine 5.9 + answer 0.1"),
        ((0.08, 0.05, 0.45, 0.04), "0.62 ms = decode 0.08 + resize 0.05 + int8 engine 0.45 + answer 0.04"),
        ((142.9, 126.4, 5.9, 0.1), "275 ms = decode 143 + resize 126 + int8 engine 6 + answer 0"),
    ],
)
def test_parts_of_the_time_are_a_sum(parts: tuple[float, ...], said: str) -> None:
    assert describe_end_to_end(make_times(*parts), "int8") == f"end to end: {said}"


@pytest.mark.parametrize("name", ["int8", "int8-bf16", "fp32-onnxruntime"])
@pytest.mark.parametrize("parts", [(33.3, 33.3, 22.2, 11.1), (0.25, 0.25, 0.25, 0.24), (1e4, 1e4, 1e4, 100.0)])
def test_line_fits_into_80_columns_whatever_the_name(name: str, parts: tuple[float, ...]) -> None:
    assert len(describe_end_to_end(make_times(*parts), name)) <= 80


def test_engine_that_is_less_than_half_of_the_time_is_a_warning() -> None:
    (warning,) = judge(make_times(3.0, 2.0, 4.5, 0.5))
    assert warning == (
        "the engine is less than half of what an app waits for "
        "(500 × 375 JPEG: engine 45 %, decode 30 %, resize 20 %, answer 5 %): a faster engine gains little"
    )
    assert judge(make_times(3.0, 1.5, 5.0, 0.5)) == ()
    assert judge(None) == ()


def test_warning_stands_where_no_variant_keeps_the_latency_budget() -> None:
    assert any("less than half" in warning for warning in judge(make_times(9.0, 9.0, 4.0, 0.1), max_latency_ms=1.0))


def test_drawn_photo_is_called_one() -> None:
    assert make_times(1, 1, 1, 1, image=SYNTHETIC).photo == "synthetic 500 × 375 JPEG"
