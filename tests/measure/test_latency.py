"""Latency by a clock that the sessions themselves move, so that every figure is known beforehand."""

from __future__ import annotations

import gc
import itertools
import threading

import numpy as np
import pytest

from edgevit.core.errors import DeviceError
from edgevit.measure.latency import LatencyComparison, measure_latency, measure_session_throughput
from edgevit.runtime.session import Session
from tests.support.fake_session import Clock, FakeSession

BATCH = np.zeros((2, 4, 4, 3), np.uint8)


def compare(**milliseconds: tuple[float, ...]) -> tuple[LatencyComparison, Clock]:
    clock = Clock()
    sessions = {name: FakeSession(clock, name, *times) for name, times in milliseconds.items()}
    return measure_latency(sessions, BATCH, runs=40, seconds=0, rounds=10, warmup_seconds=0, clock=clock), clock


def test_latency_summarizes_every_timed_run() -> None:
    found, _ = compare(only=tuple(range(1, 41)))
    latency = found.latencies["only"]
    # Ten calls of warm-up, then the cycle from 11 on: every value from 1 to 40 once.
    assert (latency.runs, latency.warmup_runs, latency.batch) == (40, 10, 2)
    assert (latency.min_ms, latency.mean_ms, latency.p50_ms) == pytest.approx((1, 20.5, 20.5))
    assert (latency.p90_ms, latency.p99_ms) == pytest.approx(tuple(np.percentile(range(1, 41), [90, 99])))
    assert latency.std_ms == pytest.approx(np.std(range(1, 41)))
    assert latency.seconds == pytest.approx(0.820)
    assert latency.settings == {"threads": 2}
    assert latency.low_ms is not None
    assert latency.high_ms is not None
    assert 1 <= latency.low_ms <= latency.p50_ms <= latency.high_ms <= 40
    assert "10 rounds" in latency.method
    assert "perf_counter_ns" in latency.method
    assert found.ratios == {}


def test_latency_takes_turns_in_both_orders() -> None:
    _, clock = compare(a=(1,), b=(2,))
    turns = ["".join(group) for _, group in itertools.groupby(clock.calls)]
    # Warm-up of each, then rounds of an untimed and four timed calls: A B, B A, A B …
    rounds = ["a" * 5, "b" * 10, *["a" * 10, "b" * 10] * 4, "a" * 5]
    assert turns == ["a" * 10, "b" * 10, *rounds]


def test_latency_ratio_is_exact_when_the_machine_drifts() -> None:
    clock = Clock()

    class Drifting(FakeSession):
        def run_outputs(self, batch: np.ndarray) -> tuple[np.ndarray, ...]:
            start = self.clock.now
            answer = super().run_outputs(batch)
            self.clock.now += round((self.clock.now - start) * start / 5e9)
            return answer

    sessions = {"base": Drifting(clock, "base", 10.0), "half": Drifting(clock, "half", 5.0)}
    found = measure_latency(sessions, BATCH, runs=100, seconds=0, rounds=20, clock=clock)
    ratio = found.ratios["half"]
    assert ratio.low <= 0.5 <= ratio.high
    assert ratio.value == pytest.approx(0.5, rel=0.02)
    assert (ratio.rounds, ratio.confidence) == (20, 0.95)
    assert found.ratio("base", "half").value == pytest.approx(1 / ratio.value)
    assert found.ratio("base", "base").value == 1


def test_latency_goes_on_until_there_are_runs_and_seconds_enough() -> None:
    clock = Clock()
    sessions = {"quick": FakeSession(clock, "quick", 1.0), "slow": FakeSession(clock, "slow", 100.0)}
    found = measure_latency(sessions, BATCH, runs=100, seconds=2.0, rounds=10, clock=clock)
    quick, slow = found.latencies["quick"], found.latencies["slow"]
    assert (quick.runs, quick.seconds) == (2000, pytest.approx(2.0))
    assert (slow.runs, slow.seconds) == (100, pytest.approx(10.0))
    assert (quick.warmup_runs, slow.warmup_runs) == (500, 10)


def test_latency_warms_up_no_longer_than_it_measures() -> None:
    clock = Clock()
    found = measure_latency({"a": FakeSession(clock, "a", 1.0)}, BATCH, runs=1, seconds=0.05, clock=clock)
    assert found.latencies["a"].warmup_runs == 50
    assert "0.05 s" in found.latencies["a"].method


def test_latency_makes_the_number_of_rounds_even() -> None:
    clock = Clock()
    found = measure_latency({"a": FakeSession(clock, "a", 1.0)}, BATCH, runs=11, seconds=0, rounds=11, clock=clock)
    assert len(found.round_medians_ms["a"]) == 12


@pytest.mark.parametrize("enabled", [True, False])
def test_latency_collects_no_garbage_meanwhile_and_restores_the_setting(enabled: bool) -> None:
    clock = Clock()
    session = FakeSession(clock, "a", 1.0)
    try:
        if not enabled:
            gc.disable()
        measure_latency({"a": session}, BATCH, runs=10, seconds=0, clock=clock)
        assert gc.isenabled() is enabled
        assert session.collecting == {False}
    finally:
        gc.enable()


def test_latency_reports_progress_between_turns() -> None:
    clock, calls = Clock(), []
    sessions = {name: FakeSession(clock, name, 1.0) for name in "ab"}
    measure_latency(
        sessions, BATCH, runs=10, seconds=0, rounds=10, clock=clock, progress=lambda *call: calls.append(call)
    )
    assert calls == [("latency", i, 22) for i in range(1, 23)]


@pytest.mark.parametrize("wrong", [{"rounds": 0}, {"runs": 0}, {"seconds": float("inf")}, {"seconds": -1.0}])
def test_latency_refuses_what_never_starts_or_ends(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError):
        measure_latency({"a": FakeSession(Clock(), "a", 1.0)}, BATCH, **wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError):
        measure_latency({}, BATCH)


class CountingSession(Session):
    """Notes the threads that call it, and fails at the call asked for."""

    settings = {"hint": "throughput"}  # noqa: RUF012
    streams = 3

    def __init__(self, fail_at: int | None = None) -> None:
        self.lock, self.calls, self.fail_at = threading.Lock(), 0, fail_at
        self.callers: set[threading.Thread] = set()
        self.meeting = threading.Barrier(self.streams)

    def run_outputs(self, batch: np.ndarray) -> tuple[np.ndarray, ...]:
        with self.lock:
            self.calls += 1
            first = threading.current_thread() not in self.callers
            self.callers.add(threading.current_thread())
            if self.calls == self.fail_at:
                raise RuntimeError("out of memory")
        if first and self.fail_at is None:
            self.meeting.wait(timeout=30)  # passes only when all callers are inside at the same time
        return (np.zeros((len(batch), 2), np.float32),)


def test_throughput_calls_from_as_many_threads_as_the_engine_has_streams() -> None:
    session = CountingSession()
    found = measure_session_throughput(session, BATCH, 0.02, warmup_seconds=0)
    assert len(session.callers) == 6  # three callers to warm up, three to measure
    assert (found.streams, found.batch, found.settings) == (3, 2, {"hint": "throughput"})
    assert found.runs == session.calls - 3
    # Callers run at the same time, so their rates add up to at least what one clock sees.
    assert found.images_per_second >= 0.999 * found.runs * 2 / found.seconds


def test_throughput_stops_all_callers_and_says_why_when_one_fails() -> None:
    with pytest.raises(DeviceError, match="3 callers at once: out of memory"):
        measure_session_throughput(CountingSession(fail_at=40), BATCH, 60)
    assert not [t for t in threading.enumerate() if t.name.startswith("edgevit-caller")]
