"""A thousand cells that are really built: the demo's models in two sizes, for ten targets, in two precisions.

Their recipe is as short as a real build may be. The first 80 cells fill the stage cache; those after them differ from
one of these only in the accuracy that they may lose, and so find their graphs, answers and engines there. Where the
target's engines are measured on this machine, each is measured all the same, and every bundle is written.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.sweep_sleep import note_step, read_resident, read_steps
from edgevit.cli.demo_models import MODELS, write_digits
from edgevit.remote.sweep.result import CellResult
from edgevit.remote.sweep.work import ATTEMPTS_FILE, Job, build_cell, prepare_cell
from tests.support.sweep_plans import CHEAP

MEASURED = ("intel-cpu", "cpu")
"""In two steps."""
TARGETS = (
    *MEASURED,
    "jetson-orin-nano", "jetson-agx-orin", "jetson-thor", "raspberry-pi-5", "jetson-orin-nx",  # left to the device
    "rtx-30", "rtx-40", "rtx-50",  # compiled here
)  # fmt: skip
SIZES, PRECISIONS = (32, 64), ("fp32", "int8")
DRIVER_FILE, STEPS_FOLDER = "driver.log", "steps"
ONE_TYPE = """
[settings]
inference_precision = "f32"
"""
"""For processors, as a build tries each type that they multiply in."""


def write_plan(folder: Path, cells: int) -> Path:
    """So many cells; the same for the same numbers, so that a sweep of them goes on."""
    plan, recipe, whole = folder / "plan.toml", folder / "recipe.toml", folder / "processors.toml"
    digits = folder / "digits"
    if not digits.is_dir():  # a sweep that goes on finds files of the same times
        write_digits(digits)
        recipe.write_text(CHEAP, encoding="utf-8")
        whole.write_text(CHEAP + ONE_TYPE, encoding="utf-8")
    cases = list(itertools.product(SIZES, PRECISIONS, TARGETS, MODELS.values()))
    lines = [f'calibration = "{digits / "calibration"}"']
    for number in range(cells):
        size, precision, target, model = cases[number % len(cases)]
        changes = (
            f'recipe = "{whole if target in MEASURED else recipe}", precision = "{precision}", image_size = {size}'
        )
        changes += f", budget = {{max_drop_points = {50 + number // len(cases)}}}"
        lines += ["[[include]]", f'source = "{model}"', f'target = "{target}"', f"set = {{{changes}}}"]
    plan.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return plan


@contextlib.contextmanager
def time_steps(folder: Path) -> Iterator[None]:
    """Within it, sweeps note how long each step takes in its worker."""
    from edgevit.remote.sweep import run as module

    folder.mkdir(parents=True, exist_ok=True)

    def time_step(name: str, do: Callable[[Job], Any]) -> Callable[[Job], Any]:
        def timed(job: Job) -> Any:
            begun = time.monotonic()
            done = do(job)
            note_step(folder, name, job.name, time.monotonic() - begun)
            return done

        return timed

    steps = module.Steps(time_step("prepare", prepare_cell), time_step("build", build_cell))
    given = module.Steps
    module.Steps = lambda: steps  # type: ignore[assignment,misc]
    try:
        yield
    finally:
        module.Steps = given  # type: ignore[misc]


def build_all(folder: Path, cells: int, seconds: float) -> dict[str, Any]:
    """Sweep them on this machine, by a Ray of its own; with a folder of an earlier run, the rest of them.

    Args:
        folder: For everything; kept.
        cells: How many.
        seconds: Then it is broken off as by Ctrl-C, and what is done by then is told.
    """
    from edgevit.remote.sweep.sweep import sweep

    plan, root = write_plan(folder, cells), folder / "sweep"
    os.environ |= {"OMP_NUM_THREADS": "1", "EDGEVIT_CACHE": str(folder / "cache")}
    begun = time.monotonic()

    def listen(state: Any, result: CellResult | None) -> None:
        line = {"driver": os.getpid(), "at": time.monotonic(), "cpu": sum(os.times()[:2]), "done": state.done,
                "resident": read_resident()}  # fmt: skip
        with (folder / DRIVER_FILE).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")
        if time.monotonic() - begun > seconds:
            raise KeyboardInterrupt

    with time_steps(folder / STEPS_FOLDER), contextlib.suppress(KeyboardInterrupt):
        sweep(plan, out=root, listen=listen)
    return summarise(folder, cells)


def summarise(folder: Path, cells: int) -> dict[str, Any]:
    """What all runs in this folder came to together."""
    root = folder / "sweep"
    ends: Counter[str] = Counter()
    for path in (root / "cells").glob(f"*/{ATTEMPTS_FILE}"):
        ends[path.parent.name] = path.read_text(encoding="utf-8").count(" ended ")
    found = [json.loads(path.read_text(encoding="utf-8")) for path in (root / "cells").glob("*/result.json")]
    steps = read_steps(folder / STEPS_FOLDER)
    drivers: dict[int, list[dict[str, Any]]] = {}
    for text in (folder / DRIVER_FILE).read_text(encoding="utf-8").splitlines():
        line = json.loads(text)
        drivers.setdefault(line["driver"], []).append(line)
    wall = sum(lines[-1]["at"] - lines[0]["at"] for lines in drivers.values())
    work = sum(step["seconds"] for step in steps)
    longest = max(drivers.values(), key=len)
    resident = [line["resident"] for line in longest]
    kinds: dict[str, list[float]] = {}
    for step in steps:
        kinds.setdefault(step["step"], []).append(step["seconds"])
    return {
        "asked": cells,
        "finished": sum(not cell["error"] for cell in found),
        "failed": sum(bool(cell["error"]) for cell in found),
        "twice": sum(number > 1 for number in ends.values()),
        "measured": sum("latency_p50_ms" in cell["figures"] for cell in found),
        "runs": len(drivers),
        "wall_seconds": wall,
        "work_seconds": work,
        "overhead": 1 - work / wall,
        "driver_cpu_seconds": sum(lines[-1]["cpu"] - lines[0]["cpu"] for lines in drivers.values()),
        "steps": {
            name: {"number": len(taken), "mean_seconds": sum(taken) / len(taken)} for name, taken in kinds.items()
        },
        "resident_bytes": [*resident[:: max(1, len(resident) // 10)], resident[-1]],
    }
