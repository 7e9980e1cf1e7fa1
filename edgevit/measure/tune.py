"""tune_settings: how many threads, and which options, open an engine fastest on this machine.

Libraries choose by the number of cores. What is best depends on the model too: a small one at batch 1 may be faster
with fewer threads than cores, and a virtual machine's cores may be halves of cores.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from edgevit.core.cores import count_logical_cores, count_physical_cores
from edgevit.core.engine import Engine, Setting
from edgevit.core.libraries import LIBRARIES
from edgevit.core.progress import Progress, ignore_progress
from edgevit.core.report.report import SettingsTrial
from edgevit.measure.latency import measure_latency
from edgevit.runtime.session import open_engine

Settings = Mapping[str, Setting]

_CLEARLY = 0.97  # the interval of what replaces the library's choice ends below this ratio
_MOST_COUNTS = 4
_DEFAULT = "default"


def list_candidates(engine: Engine, opened: Settings) -> tuple[Settings, ...]:
    """What is worth a try, besides how the library opens the engine by itself.

    Args:
        engine: Settings that it has are left alone, and an engine for another device than the CPU has no candidates.
        opened: Of a session that was opened without any others.
    """
    if engine.device != "CPU" or "streams" in engine.settings or opened.get("hint") != "latency":
        return ()
    found: list[Settings] = []
    if "threads" not in engine.settings:
        found += [{"threads": count} for count in _list_counts() if count != opened.get("threads")]
    return (*found, *(p for p in LIBRARIES[engine.backend].tuned if not set(p) & set(engine.settings)))


def _list_counts() -> tuple[int, ...]:
    """All cores, a thread each and two each, then half as many, and half again."""
    logical, physical = count_logical_cores(), count_physical_cores()
    counts = (logical, *(max(1, physical >> halvings) for halvings in range(_MOST_COUNTS - 1)))
    return tuple(dict.fromkeys(counts))


def tune_settings(
    engine: Engine,
    batch: npt.NDArray[np.uint8],
    *,
    runs: int,
    seconds: float,
    seed: int = 0,
    progress: Progress = ignore_progress,
) -> tuple[SettingsTrial, ...]:
    """Time the candidates in turns with the library's own choice.

    Args:
        engine: The one that will probably be used: others of the same model are opened alike.
        batch: ``(B, H, W, 3) uint8``.
        runs: Timed calls of each at least.
        seconds: Seconds of timed calls of each at least.
        seed: Of the interval.
        progress: Called between the turns.

    Returns:
        A trial for every candidate, its latency over the library's own choice. At most one is chosen: the fastest of
        those that are faster beyond doubt.
    """
    with contextlib.ExitStack() as stack:
        sessions = {_DEFAULT: stack.enter_context(open_engine(engine))}
        candidates = list_candidates(engine, sessions[_DEFAULT].settings)
        if not candidates:
            return ()
        names = {str(index): settings for index, settings in enumerate(candidates)}
        for name, settings in names.items():
            sessions[name] = stack.enter_context(open_engine(engine, settings))
        found = measure_latency(
            sessions,
            batch,
            runs=runs,
            seconds=seconds,
            warmup_runs=3,
            warmup_seconds=min(0.2, seconds),
            seed=seed,
            progress=lambda _, done, total: progress("settings", done, total),
        )
    ratios = {name: found.ratio(name, _DEFAULT) for name in names}
    faster = [name for name in names if ratios[name].high < _CLEARLY]
    best = min(faster, key=lambda name: ratios[name].value, default=None)
    return tuple(SettingsTrial(names[name], ratios[name], name == best, engine.backend) for name in names)
