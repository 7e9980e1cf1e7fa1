"""run_jobs: every cell of a sweep once, as Ray's tasks with the resources that they need.

A cell whose engines are measured on the machine goes in two steps: ``prepare`` takes a share of a node, and ``build``
takes a node whole, as latencies are measured there. Other cells are built in one step, beside others. Ray places the
tasks, restarts those whose worker or node died, and knows what a node has left. It would give a share of a node that
becomes free to the next small task, so that a task for a whole node might wait for ever: builds are therefore asked for
in waves, while nothing small is. Nodes that join are used, and those that leave are no longer counted on.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from edgevit.core.errors import DeviceError
from edgevit.remote.sweep.admission import open_admission, refuse_nodes
from edgevit.remote.sweep.cluster import NODE, Cluster, look_again
from edgevit.remote.sweep.nodes import Look, Nodes
from edgevit.remote.sweep.result import CellResult
from edgevit.remote.sweep.work import Job, MachineFaultError, build_cell, prepare_cell

Step: TypeAlias = Literal["prepare", "build", "portable"]
WAVE = 16
"""Cells for each share of a node that are prepared before their latencies are measured."""
RETRIES = 3
"""Of a task whose worker, node or disk failed."""
_TASKS_PER_WORKER = 200
"""Then a new process takes over: libraries keep some memory of every build. Not earlier, as a process takes some
seconds to import them, which is several steps of a small model."""
_BASE_BYTES, _SOURCE_FACTOR = 1 << 30, 6
"""Of memory that a build takes: libraries, and weights as read, exported, compiled and packed for several engines."""
_LEAST = 0.4
"""Share of the estimate without which there is no use in trying: builds of large models took 2.4 to 4.7 times their
checkpoint (benchmarks/results/memory.md)."""
_GIVEN = 0.95
"""Share of a node's memory that a task asks for which is expected to take more than any node has."""


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
        left_seconds: What the rest will take, as far as the steps so far tell; ``None`` before each kind has
            ended once.
    """

    total: int
    done: int = 0
    failed: int = 0
    running: Counter[Step] = field(default_factory=Counter)
    left_seconds: float | None = None


Listen: TypeAlias = Callable[[State, CellResult | None], None]
"""Told of every step that begins or ends, with the cell's result where it has one now."""


def run_jobs(
    tasks: Sequence[Task],
    cluster: Cluster,
    listen: Listen,
    *,
    steps: Steps | None = None,
    done: int = 0,
    note: Callable[[str], None] = lambda text: None,
    look: Look = look_again,
) -> list[CellResult]:
    """Do all of them; gives their results in the order in which they came.

    Args:
        tasks: What is to be done; all in one sweep's folder.
        cluster: Where, see :func:`edgevit.remote.sweep.cluster.connect`.
        listen: Told how far it is.
        steps: What a worker does.
        done: Cells that have a result already, which ``listen`` counts.
        note: Told, a sentence each, of nodes that come and go, and what they cannot use of a shared cache.
        look: How the cluster is seen.

    Raises:
        DeviceError: Some nodes cannot take part, or the cluster is gone. What has ended is kept, and another run goes
            on with the rest.
        OutputError: The sweep's folder cannot be written.
    """
    if not tasks:
        return []
    files = (path for task in tasks for name, path in task.job.cell.list_files().items())
    with open_admission(tasks[0].job.folder.parent, files) as admission:
        if not cluster.local:
            refuse_nodes(cluster, admission)
        nodes = Nodes(cluster, admission, note, look)
        return _Run(tasks, nodes, listen, steps or Steps(), State(len(tasks) + done, done)).go()


@dataclass(frozen=True)
class _Submitted:
    """A task that Ray was given: its step, its share of a node, its memory, and when that was."""

    task: Task
    step: Step
    share: float
    memory_bytes: int
    begun: float = field(default_factory=time.monotonic)


class _Run:
    def __init__(self, tasks: Sequence[Task], nodes: Nodes, listen: Listen, steps: Steps, state: State) -> None:
        import ray

        self.ray, self.nodes, self.listen, self.state = ray, nodes, listen, state
        self.small: deque[tuple[Task, Step]] = deque((t, "prepare" if t.measured else "portable") for t in tasks)
        self.whole: deque[Task] = deque()
        self.draining = False
        self.running: dict[Any, _Submitted] = {}
        self.results: list[CellResult] = []
        self.heard: set[str] = set()
        self.taken: dict[Step, tuple[float, int]] = {}
        self.unprepared = sum(task.measured for task in tasks)
        wrap: Callable[[Any], Any] = ray.remote(  # type: ignore[call-overload]
            max_retries=RETRIES, max_calls=_TASKS_PER_WORKER, retry_exceptions=[MachineFaultError]
        )
        prepare, build = wrap(steps.prepare), wrap(steps.build)
        self.remote: dict[Step, Any] = {"prepare": prepare, "build": build, "portable": build}

    def go(self) -> list[CellResult]:
        self.listen(self.state, None)
        try:
            while self.small or self.whole or self.running:
                if self.nodes.follow():
                    self._take_back()
                self._submit_all()
                self._wait()
        except BaseException as exc:
            if not isinstance(exc, DeviceError):  # of the cluster, which would not hear it
                self._cancel(list(self.running))
            raise
        return self.results

    def _submit_all(self) -> None:
        """Give Ray what the nodes have room for: small steps, or, while a wave is measured, builds."""
        nodes, running = self.nodes, self.state.running
        small_run = running["prepare"] + running["portable"]
        if not self.small or len(self.whole) >= WAVE * max(1, nodes.count * nodes.slots):
            self.draining = True
        if not self.whole and not small_run:
            self.draining = False  # each node that is left measures, or is free
        if not self.draining:
            share = 1 / nodes.slots
            free = nodes.count - sum(s.share for s in self.running.values()) + 1e-6
            while self.small and free >= share:
                if self._submit(*self.small.popleft(), share):
                    free -= share
            return
        for _ in range(len(self.whole)):
            if running["build"] >= nodes.count:
                return
            task = self.whole.popleft()
            needs = [s.memory_bytes for s in self.running.values() if s.step == "build"]
            if nodes.have_room([*needs, self._need(task)]):
                self._submit(task, "build", 1.0)
            else:
                self.whole.append(task)

    def _need(self, task: Task) -> int:
        """Bytes to ask for: more than the largest node has would never be given."""
        return min(task.memory_bytes, int(_GIVEN * self.nodes.largest))

    def _submit(self, task: Task, step: Step, share: float) -> bool:
        """Give Ray a step; ``False`` where no node has the memory for it, which is the cell's result."""
        self.unprepared -= step == "prepare"
        largest = self.nodes.largest
        if largest and _LEAST * task.memory_bytes > largest:
            least, most = (f"{size / 1e9:.1f} GB" for size in (_LEAST * task.memory_bytes, largest))
            why = f"it takes at least {least} of memory, and no node gives its tasks more than {most}"
            self._end(task.job.fail(DeviceError(why, "run it again with a larger node")))
            return False
        memory = self._need(task)
        options: dict[str, Any] = {
            "num_cpus": 0,  # the share of the node stands for them
            "resources": {NODE: math.floor(share * 1e4) / 1e4},
            "memory": memory or None,
            "name": f"{step} {task.job.name}",
        }
        if self.nodes.refused:
            options["label_selector"] = {"ray.io/node-id": f"!in({','.join(sorted(self.nodes.refused))})"}
        reference = self.remote[step].options(**options).remote(task.job)
        self.running[reference] = _Submitted(task, step, share, memory)
        self.state.running[step] += 1
        return True

    def _wait(self) -> None:
        """Wait for steps to end, and take what they came to."""
        if not self.running:
            time.sleep(0.0 if self.nodes.count else 1.0)
            return
        ended, others = self.ray.wait(list(self.running), num_returns=1, timeout=1.0)
        if ended and others:  # all that have ended by now, not one at each turn
            ended += self.ray.wait(others, num_returns=len(others), timeout=0)[0]
        for reference in ended:
            submitted = self.running.pop(reference)
            self.state.running[submitted.step] -= 1
            if not self.state.running[submitted.step]:
                del self.state.running[submitted.step]
            self._take(reference, submitted)
            self._hear(submitted.task.job)
        if not ended:
            self._estimate()
            self.listen(self.state, None)

    def _take(self, reference: Any, submitted: _Submitted) -> None:
        task, errors = submitted.task, self.ray.exceptions
        try:
            result: CellResult | None = self.ray.get(reference)
        except errors.TaskCancelledError:  # by us, as no node has its memory now
            if submitted.step == "build":
                self.whole.append(task)
            else:
                self.small.append((task, submitted.step))
                self.unprepared += submitted.step == "prepare"
        except errors.RayTaskError as exc:
            cause = exc.cause if isinstance(exc.cause, Exception) else exc
            kind = "the machine" if isinstance(cause, MachineFaultError) else f"unexpected {type(cause).__name__}"
            self._end(_give_up(task, f"{kind}: {' '.join(str(cause).split())[-500:]}"))
        except (
            errors.WorkerCrashedError,
            errors.OutOfMemoryError,
            errors.ObjectLostError,
            errors.NodeDiedError,
        ) as exc:
            text = f"its worker or node died {RETRIES + 1} times: {' '.join(str(exc).split())[:300]}"
            self._end(_give_up(task, text))
        except errors.RayError as exc:
            raise DeviceError(
                f"the Ray cluster is gone: {' '.join(str(exc).split())[:300]}",
                "run the same command again: what has ended is kept",
            ) from exc
        else:
            if result is None or not result.failed:  # what an error stopped does not say how long the others take
                seconds, number = self.taken.get(submitted.step, (0.0, 0))
                self.taken[submitted.step] = seconds + time.monotonic() - submitted.begun, number + 1
            if result is not None:
                self._end(result)
            else:
                self.whole.append(task)
                self._estimate()
                self.listen(self.state, None)

    def _hear(self, job: Job) -> None:
        """Tell what its step has said, each sentence once however many say it."""
        for text in job.read_notes():
            if text not in self.heard:
                self.heard.add(text)
                self.nodes.note(text)

    def _end(self, result: CellResult) -> None:
        self.results.append(result)
        self.state.done += 1
        self.state.failed += result.failed
        self._estimate()
        self.listen(self.state, result)

    def _take_back(self) -> None:
        """What waits for a node with its memory that is gone is taken back from Ray, and looked at again."""
        largest = self.nodes.largest
        if largest:
            self._cancel([r for r, s in self.running.items() if s.memory_bytes > largest], force=False)

    def _cancel(self, references: Iterable[Any], *, force: bool = True) -> None:
        for reference in references:
            with contextlib.suppress(self.ray.exceptions.RayError, ValueError):
                self.ray.cancel(reference, force=force)

    def _estimate(self) -> None:
        """How long the rest takes if steps go on taking what they took."""
        means = {step: seconds / number for step, (seconds, number) in self.taken.items()}
        nodes, running = self.nodes.count, self.state.running
        if not means or not nodes:
            return
        first = means.get("prepare", means.get("portable", 0.0)) / (nodes * self.nodes.slots)
        last = means.get("build", 0.0) / nodes
        small = len(self.small) + running["prepare"] + running["portable"]
        whole = self.unprepared + len(self.whole) + running["prepare"] + running["build"]
        unknown = (small and not first) or (whole and not last)
        self.state.left_seconds = None if unknown else small * first + whole * last


def _give_up(task: Task, why: str) -> CellResult:
    """The result of a cell that the machine stopped. It is not kept in the cell's folder, as another run may do it."""
    return task.job.fail(DeviceError(why, "run the sweep again: this cell is tried again"))


def estimate_memory(source_bytes: int) -> int:
    """Bytes that a step is expected to take, by the checkpoint's size."""
    return _BASE_BYTES + _SOURCE_FACTOR * source_bytes
