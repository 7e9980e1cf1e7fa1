"""Watching sensors between the turns of a measurement."""

from __future__ import annotations

import functools
import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevit.build.build import build_model
from edgevit.cli.demo_models import MODELS
from edgevit.core import schema
from edgevit.core.errors import BundleError
from edgevit.core.recipe import Recipe
from edgevit.core.report.conditions import Conditions, Span, describe_conditions, list_condition_risks
from edgevit.core.report.report import Report
from edgevit.core.target import load_target
from edgevit.measure.machine.sensors import Reading
from edgevit.measure.machine.watch import Watch, summarize_readings


def make_reading(
    clock: float = 1000.0, *, energy: float = 0.0, events: int = 0, active: tuple[str, ...] = ()
) -> Reading:
    return Reading(
        clocks_mhz={"GPU": clock},
        temperatures_c={"tj-thermal": 50.0},
        power_w={"VDD_IN": 10.0},
        energy_j={"package-0": (energy, 1000.0)},
        events={"instantaneous over-current": events},
        active=active,
    )


def test_watch_reads_in_the_stage_of_latencies_alone_and_passes_everything_on() -> None:
    told: list[tuple[str, int, int]] = []
    times = itertools.count()
    watch = Watch(lambda *step: told.append(step), read=make_reading, clock=lambda: float(next(times)))
    steps = [("compile", 0, 1), ("latency", 1, 3), ("latency", 2, 3), ("latency", 3, 3), ("cold start", 1, 1)]
    for step in steps:
        watch(*step)
    assert told == steps
    assert watch.conditions is not None
    assert (watch.conditions.samples, watch.conditions.seconds) == (3, 2.0)


def test_watch_reads_no_more_often_than_ten_times_a_second_but_at_the_end() -> None:
    times = iter([0.0, 0.05, 0.12, 0.13])
    watch = Watch(lambda *step: None, read=make_reading, clock=lambda: next(times))
    for done in range(1, 5):
        watch("latency", done, 4)
    assert watch.conditions is not None
    assert watch.conditions.samples == 3


def test_nothing_measured_and_nothing_told_are_no_conditions() -> None:
    assert Watch(lambda *step: None).conditions is None
    assert summarize_readings([(0.0, Reading()), (1.0, Reading())]) is None


def test_spans_and_mean_power_are_those_of_the_readings() -> None:
    conditions = summarize_readings(
        [(0.0, make_reading(600.0, energy=990.0)), (1.0, make_reading(900.0)), (4.0, make_reading(1200.0, energy=30.0))]
    )
    assert conditions is not None
    assert conditions.clocks_mhz == {"GPU": Span(600.0, 900.0, 1200.0)}
    assert conditions.power_w == {
        "VDD_IN": Span(10.0, 10.0, 10.0),
        "package-0": Span(10.0, 10.0, 10.0),
    }  # it began again
    assert conditions.throttling == ()
    assert list_condition_risks(conditions) == ()
    assert schema.from_data(Conditions, schema.to_data(conditions), "here", BundleError) == conditions


def test_conditions_are_told_in_one_line() -> None:
    conditions = summarize_readings([(0.0, make_reading(600.0)), (1.0, make_reading(612.0, energy=15.5))])
    assert conditions is not None
    assert describe_conditions(conditions) == (
        "while measuring: GPU 600–612 MHz, tj-thermal at most 50 °C, VDD_IN 10.0 W, package-0 15.5 W"
    )
    assert describe_conditions(Conditions(1.0, 2)) == ""


def test_build_records_the_conditions_and_its_verdict_warns_of_throttling(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = itertools.count()
    read = lambda: make_reading(events=next(counts))  # noqa: E731
    monkeypatch.setattr("edgevit.build.try_engines.Watch", functools.partial(Watch, read=read))
    recipe = Recipe(precision="fp32", latency_runs=2, latency_seconds=0.05, tune_settings=False)
    report = build_model(MODELS["vit"], load_target("cpu"), out=tmp_path / "bundle", recipe=recipe).report
    assert report.conditions is not None
    assert report.conditions.power_w["VDD_IN"] == Span(10.0, 10.0, 10.0)
    assert any("throttled while it was measured" in warning for warning in report.verdict.warnings)
    assert Report.load(tmp_path / "bundle" / "report.json") == report


def test_events_and_alerts_meanwhile_are_throttling_and_a_risk() -> None:
    readings = [
        make_reading(events=37),
        make_reading(events=40, active=("gpu-throttle-alert",)),
        make_reading(events=41),
    ]
    conditions = summarize_readings([(float(i), reading) for i, reading in enumerate(readings)])
    assert conditions is not None
    assert conditions.throttling == ("instantaneous over-current (4 events)", "gpu-throttle-alert active")
    (risk,) = list_condition_risks(conditions)
    assert risk.startswith("the device throttled while it was measured")
    assert "gpu-throttle-alert active" in risk


@given(st.lists(st.floats(1, 5000), min_size=1, max_size=20))
def test_span_holds_its_mean(clocks: list[float]) -> None:
    conditions = summarize_readings([(float(i), make_reading(clock)) for i, clock in enumerate(clocks)])
    assert conditions is not None
    span = conditions.clocks_mhz["GPU"]
    assert span.low == pytest.approx(min(clocks), abs=1e-3)
    assert span.high == pytest.approx(max(clocks), abs=1e-3)
    assert span.low - 1e-3 <= span.mean <= span.high + 1e-3
