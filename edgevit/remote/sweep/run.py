"""run_jobs: every cell of a sweep once, as Ray's tasks with the resources that they need.

A cell whose engines are measured on the machine goes in two steps: ``prepare`` takes a share of a node, and ``build``
takes a node whole, as latencies are measured there. Other cells are built in one step, beside others. Ray places the
tasks, restarts those whose worker or node died, and knows what a node has left. It would give a share of a node that
becomes free to the next small task, so that a task for a whole node might wait for ever: builds are therefore asked for
in waves, while nothing small is.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from edgevit.core.errors import DeviceError
from edgevit.remote.sweep.cluster import NODE, Cluster
from edgevit.remote.sweep.result import CellResult
from edgevit.remote.sweep.work import Job, MachineFaultError, build_cell, prepare_cell

Step: TypeAlias = Literal["prepare", "build", "portable"]
WAVE = 16
"""Cells for each share of a node that are prepared before their latencies are measured."""
RETRIES = 3
"""Of a task whose worker, node or disk failed."""
_TASKS_PER_WORKER = 25
"""Then a new process takes over: libraries keep some memory of every build."""
_BASE_BYTES, _SOURCE_FACTOR = 1 << 30, 6
"""Of memory that a build takes: libraries, and weights as read, exported, compiled and packed for several engines."""


@dataclass(frozen=True)
class Steps:
    """What is done for a cell, by the name of the step; a bench gives others."""

    prepare: Callable[[Job], CellResult | None] = prepare_cell
    build: Callable[[Job], CellResult] = build_cell


@dataclass(frozen=True)
class Task:
    """A job, and what its steps need.

    Attributes:
        job: The cell in its sweep.
        measured: Whether latencies are measured on the node: then it is prepared first, and built with a node to
            itself.
        memory_bytes: What each step is expected to take.
    """

    job: Job
    measured: bool = True
    memory_bytes: int = 0


@dataclass
class State:
    """How far a sweep is; given to whoever listens.

    Attributes:
        total: Cells of the sweep.
        done: Those that have a result, with those of earlier runs.
        failed: Of these, the ones that an error stopped.
        running: By step, the tasks that Ray was given.
        left_seconds: What the rest will take, as far as the steps so far tell; ``None`` before any has ended.
    """

    total: int
    done: int = 0
    failed: int = 0
    running: Counter[Step] = field(default_factory=Counter)
    left_seconds: float | None = None


Listen: TypeAlias = Callable[[State, CellResult | None], None]
"""Told of every step that begins or ends, with the cell's result where it has one now."""


def run_jobs(
    tasks: Sequence[Task], cluster: Cluster, listen: Listen, *, steps: Steps | None = None, done: int = 0
) -> list[CellResult]:
    """Do all of them; gives their results in the order in which they came.

    Args:
        tasks: What is to be done.
        cluster: Where, see :func:`edgevit.remote.sweep.cluster.connect`.
        listen: Told how far it is.
        steps: What a worker does.
        done: Cells that have a result already, which ``listen`` counts.

    Raises:
        DeviceError: The cluster is gone. What has ended is kept, and another run goes on with the rest.
    """
    return _Run(cluster, listen, steps or Steps(), State(len(tasks) + done, done)).go(tasks)


class _Run:
    def __init__(self, cluster: Cluster, listen: Listen, steps: Steps, state: State) -> None:
        import ray

        self.ray, self.cluster, self.listen, self.state = ray, cluster, listen, state
        self.shares, self.nodes = cluster.nodes * cluster.slots, cluster.nodes
        self.running: dict[Any, tuple[Task, Step, float]] = {}
        self.results: list[CellResult] = []
        self.taken: dict[Step, list[float]] = {"prepare": [], "build": [], "portable": []}
        wrap: Callable[[Any], Any] = ray.remote(  # type: ignore[call-overload]
            max_retries=RETRIES, max_calls=_TASKS_PER_WORKER, retry_exceptions=[MachineFaultError]
        )
        self.remote: dict[Step, Any] = {
            "prepare": wrap(steps.prepare),
            "build": wrap(steps.build),
            "portable": wrap(steps.build),
        }

    def go(self, tasks: Sequence[Task]) -> list[CellResult]:
        small: deque[tuple[Task, Step]] = deque((t, "prepare" if t.measured else "portable") for t in tasks)
        whole: deque[Task] = deque()
        wave, draining = WAVE * self.shares, False
        self.listen(self.state, None)
        while small or whole or self.running:
            steps = Counter(step for _, step, _ in self.running.values())
            if not small or len(whole) >= wave:
                draining = True
            if not whole and not steps["prepare"] + steps["portable"]:
                draining = False  # each node that is left measures, or is free
            used = steps["prepare"] + steps["portable"] + self.cluster.slots * steps["build"]
            while small and not draining and used < self.shares:
                self._submit(*small.popleft())
                used += 1
            while whole and draining and steps["build"] < self.nodes:
                self._submit(whole.popleft(), "build")
                steps["build"] += 1
            whole.extend(self._wait(len(small), len(whole)))
        return self.results

    def _submit(self, task: Task, step: Step) -> None:
        share = 1.0 if step == "build" else 1 / self.cluster.slots
        most = min(self.cluster.memory_bytes.values(), default=0)
        options = {
            "num_cpus": 0,  # the share of the node stands for them
            "resources": {NODE: round(share, 4)},
            "memory": min(task.memory_bytes, int(0.9 * most)) or None,
            "name": f"{step} {task.job.name}",
        }
        reference = self.remote[step].options(**options).remote(task.job)
        self.running[reference] = (task, step, time.monotonic())

    def _wait(self, small: int, whole: int) -> list[Task]:
        """Wait for a step to end; gives the tasks that are prepared now."""
        ended, _ = self.ray.wait(list(self.running), num_returns=1, timeout=1.0)
        prepared = []
        for reference in ended:
            task, step, begun = self.running.pop(reference)
            self.taken[step].append(time.monotonic() - begun)
            result = self._take(reference, task)
            self._count(small, whole)
            if result is None:
                prepared.append(task)
                self.listen(self.state, None)
                continue
            self.results.append(result)
            self.state.done += 1
            self.state.failed += result.failed
            self.listen(self.state, result)
        if not ended:
            self._count(small, whole)
            self.listen(self.state, None)
        return prepared

    def _take(self, reference: Any, task: Task) -> CellResult | None:
        errors = self.ray.exceptions
        try:
            found: CellResult | None = self.ray.get(reference)
        except errors.RayTaskError as exc:
            cause = exc.cause if isinstance(exc.cause, Exception) else exc
            kind = "the machine" if isinstance(cause, MachineFaultError) else f"unexpected {type(cause).__name__}"
            text = " ".join(str(cause).split())[-500:]
            return task.job.fail(DeviceError(f"{kind}: {text}", "run the sweep again: this cell is tried again"))
        except (errors.WorkerCrashedError, errors.OutOfMemoryError, errors.ObjectLostError) as exc:
            text = " ".join(str(exc).split())[:300]
            again = "run the sweep again, with fewer builds a node or more memory"
            return task.job.fail(DeviceError(f"its worker died {RETRIES + 1} times: {text}", again))
        except errors.RayError as exc:
            raise DeviceError(
                f"the Ray cluster is gone: {' '.join(str(exc).split())[:300]}",
                "run the same command again: what has ended is kept",
            ) from exc
        return found

    def _count(self, small: int, whole: int) -> None:
        """How many run, and how long the rest takes if steps go on taking what they took."""
        self.state.running = Counter(step for _, step, _ in self.running.values())
        means = {step: sum(taken) / len(taken) for step, taken in self.taken.items() if taken}
        if not means:
            return
        first = means.get("prepare", means.get("portable", 0.0)) / self.shares
        last = means.get("build", 0.0) / self.nodes
        running = self.state.running
        left = (small + running["prepare"] + running["portable"]) * first
        self.state.left_seconds = left + (small + whole + running["prepare"] + running["build"]) * last


def estimate_memory(source_bytes: int) -> int:
    """Bytes that a step is expected to take, by the checkpoint's size."""
    return _BASE_BYTES + _SOURCE_FACTOR * source_bytes
