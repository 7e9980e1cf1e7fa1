"""How long engines take: one call, interleaved comparisons, and images a second with several callers."""

from __future__ import annotations

import gc
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgevit.core.errors import DeviceError
from edgevit.core.progress import Progress, ignore_progress
from edgevit.core.report.report import Latency, Ratio, Throughput
from edgevit.measure.intervals import median_interval, ratio_of_medians

if TYPE_CHECKING:
    from edgevit.core.engine import Engine
    from edgevit.runtime.session import Session

ROUNDS = 20
WARMUP_RUNS = 10
WARMUP_SECONDS = 0.5


@dataclass(frozen=True)
class LatencyComparison:
    """Latencies from one interleaved run, in the order in which the sessions were given.

    Attributes:
        latencies: By name.
        round_medians_ms: By name, one median a round.
        seed: Of the bootstrap.
    """

    latencies: Mapping[str, Latency]
    round_medians_ms: Mapping[str, tuple[float, ...]]
    seed: int = 0

    def ratio(self, name: str, baseline: str) -> Ratio:
        """Ratio of the medians over rounds of ``name`` to those of ``baseline``, with its 95 % bootstrap interval."""
        rounds = self.round_medians_ms
        value, low, high = ratio_of_medians(rounds[name], rounds[baseline], seed=self.seed)
        return Ratio(value, low, high, rounds=len(rounds[name]))

    @property
    def ratios(self) -> dict[str, Ratio]:
        """Of every other session to the first, by name."""
        first, *others = self.latencies
        return {name: self.ratio(name, first) for name in others}


def measure_latency(
    sessions: Mapping[str, Session],
    batch: npt.NDArray[np.uint8],
    *,
    runs: int = 100,
    seconds: float = 5.0,
    rounds: int = ROUNDS,
    warmup_runs: int = WARMUP_RUNS,
    warmup_seconds: float = WARMUP_SECONDS,
    seed: int = 0,
    progress: Progress = ignore_progress,
    clock: Callable[[], int] = time.perf_counter_ns,
) -> LatencyComparison:
    """Time calls of one or several sessions, in turns: A B, B A, A B and so on.

    Every session is warmed up, then timed in every round until it has its share of ``runs`` and of ``seconds``; so each
    is called at least ``runs`` times and for at least ``seconds``. Where there are several, a session's first call in a
    round is not timed: caches and waiting threads are another's then. Garbage is collected before, not during.

    Args:
        sessions: Open sessions by name; the first is the baseline of ``ratios``.
        batch: ``(B, H, W, 3) uint8``, for all of them.
        runs: Least number of timed calls a session.
        seconds: Least time in them.
        rounds: Turns; rounded up to an even number, so that each order occurs equally often.
        warmup_runs: Least number of calls before.
        warmup_seconds: Least time in them; no more than ``seconds``.
        seed: Of the bootstrap.
        progress: Called between the turns.
        clock: Nanoseconds.

    Raises:
        ValueError: No sessions, or a number that makes no sense.
    """
    if not sessions or rounds < 1 or runs < 1 or not 0 <= seconds < math.inf:
        raise ValueError("measuring takes a session, a round, a run and a finite time")
    rounds += rounds % 2
    warmup_seconds = min(warmup_seconds, seconds)
    turns = (math.ceil(runs / rounds), seconds * 1e9 / rounds)
    settle = 1 if len(sessions) > 1 else 0
    recordings = {name: _Recording() for name in sessions}
    order, done, total = list(sessions), 0, (rounds + 1) * len(sessions)
    with without_garbage_collection():
        for name in order:
            warmup = _time_runs(sessions[name], batch, clock, warmup_runs, warmup_seconds * 1e9)
            recordings[name].warmup_runs = sum(1 for _ in warmup)
            done += 1
            progress("latency", done, total)
        for turn in range(rounds):
            for name in order if turn % 2 == 0 else reversed(order):
                for _ in range(settle):
                    sessions[name].run_outputs(batch)
                times = list(_time_runs(sessions[name], batch, clock, *turns))
                recordings[name].add(times)
                done += 1
                progress("latency", done, total)
    method = _describe_method(len(sessions), rounds, warmup_runs, warmup_seconds)
    return LatencyComparison(
        {name: r.summarize(len(batch), method, sessions[name].settings, seed) for name, r in recordings.items()},
        {name: tuple(r.medians_ms) for name, r in recordings.items()},
        seed,
    )


@dataclass
class _Recording:
    warmup_runs: int = 0
    times_ns: list[int] = field(default_factory=list)
    medians_ms: list[float] = field(default_factory=list)

    def add(self, times_ns: list[int]) -> None:
        self.times_ns.extend(times_ns)
        self.medians_ms.append(float(np.median(times_ns)) / 1e6)

    def summarize(self, batch: int, method: str, settings: Mapping[str, Any], seed: int) -> Latency:
        ms = np.asarray(self.times_ns, np.float64) / 1e6
        p50, p90, p99 = (float(p) for p in np.percentile(ms, [50, 90, 99]))
        low, high = median_interval(self.medians_ms, seed=seed)
        return Latency(
            batch=batch,
            runs=len(ms),
            warmup_runs=self.warmup_runs,
            seconds=float(ms.sum()) / 1e3,
            p50_ms=p50,
            p90_ms=p90,
            p99_ms=p99,
            mean_ms=float(ms.mean()),
            std_ms=float(ms.std()),
            min_ms=float(ms.min()),
            method=method,
            settings=dict(settings),
            low_ms=min(low, p50),  # of all calls, whose median may be none of the rounds'
            high_ms=max(high, p50),
        )


def _time_runs(
    session: Session, batch: npt.NDArray[np.uint8], clock: Callable[[], int], runs: int, nanoseconds: float
) -> Iterator[int]:
    """Nanoseconds of each call, until there are ``runs`` of them and they sum up to ``nanoseconds``."""
    count = spent = 0
    while count < runs or spent < nanoseconds:
        start = clock()
        session.run_outputs(batch)
        elapsed = clock() - start
        count, spent = count + 1, spent + elapsed
        yield elapsed


def _describe_method(sessions: int, rounds: int, warmup_runs: int, warmup_seconds: float) -> str:
    turns = f"{sessions} engines in turns (A B, B A)" if sessions > 1 else "one engine"
    settle = ", the first call of each turn not timed" if sessions > 1 else ""
    return (
        f"{turns}, {rounds} rounds{settle}, after a warm-up of at least {warmup_runs} calls and {warmup_seconds:g} s; "
        "each call from uint8 pixels to float32 logits in memory, by time.perf_counter_ns, without garbage collection"
    )


@contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Collect garbage before what is timed, and none meanwhile."""
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def measure_throughput(
    engine: Engine, batch: npt.NDArray[np.uint8], seconds: float = 5.0, *, warmup_seconds: float = WARMUP_SECONDS
) -> Throughput:
    """Images a second with the engine opened for throughput and as many callers as it has streams.

    Raises:
        DeviceError: The engine cannot be opened.
    """
    from edgevit.runtime.session import open_engine

    with open_engine(engine, {"hint": "throughput"}) as session:
        return measure_session_throughput(session, batch, seconds, warmup_seconds=warmup_seconds)


def measure_session_throughput(
    session: Session, batch: npt.NDArray[np.uint8], seconds: float, *, warmup_seconds: float = WARMUP_SECONDS
) -> Throughput:
    """The same for an open session.

    Each caller's own rate is added up, so the wait for the slowest at the end does not count.
    """
    callers = max(1, session.streams)
    _call_in_threads(session, batch, callers, min(warmup_seconds, seconds))
    with without_garbage_collection():
        counts = _call_in_threads(session, batch, callers, seconds)
    return Throughput(
        images_per_second=sum(runs / elapsed for runs, elapsed in counts) * len(batch),
        streams=callers,
        seconds=max(elapsed for _, elapsed in counts),
        runs=sum(runs for runs, _ in counts),
        batch=len(batch),
        settings=dict(session.settings),
    )


def _call_in_threads(
    session: Session, batch: npt.NDArray[np.uint8], callers: int, seconds: float
) -> list[tuple[int, float]]:
    """(calls, seconds) of each caller; they start together and stop after their first call past the time."""
    counts: list[tuple[int, float]] = []
    errors: list[Exception] = []
    barrier, stop = threading.Barrier(callers), threading.Event()

    def call() -> None:
        try:
            barrier.wait()
            start, runs, elapsed = time.perf_counter(), 0, 0.0
            while (elapsed < seconds or not runs) and not stop.is_set():
                session.run_outputs(batch)
                runs, elapsed = runs + 1, time.perf_counter() - start
            counts.append((runs, elapsed))
        except Exception as exc:
            errors.append(exc)
            stop.set()

    threads = [threading.Thread(target=call, name=f"edgevit-caller-{i}", daemon=True) for i in range(callers)]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            thread.join()
    finally:  # an interrupt: nobody may still be calling when the session is closed
        stop.set()
        for thread in threads:
            thread.join()
    if errors:
        raise DeviceError(
            f"the engine failed with {callers} callers at once: {errors[0]}", "measure without throughput"
        ) from errors[0]
    return counts
