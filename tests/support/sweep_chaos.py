"""A sweep whose driver, workers, raylets and head are killed at random while it runs, on a simulated cluster.

Its nodes are raylets of this machine. What is killed and when is drawn from a seed; when that is in the life of a cell
depends on the machine.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.small_cluster import insist
from tests.support.sweep_driver import STEPS_FILE

KINDS = ("driver", "worker", "raylet", "head")
_SPARED = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")
_LONGEST_SECONDS = 5400.0
_FEW: dict[str, Any] = {"num_cpus": 1, "include_dashboard": False, "include_log_monitor": False}
"""Of the processes that a node starts, those that it cannot do without: it is started often."""


@dataclass
class Torment:
    """What was done to a sweep.

    Attributes:
        kills: By what was killed.
        runs: Drivers that were started.
        spoken: What drivers said that did not end well.
    """

    kills: Counter[str] = field(default_factory=Counter)
    runs: int = 0
    spoken: list[str] = field(default_factory=list)


class Simulated:
    """A head that takes no part, and nodes that do."""

    def __init__(self, nodes: int) -> None:
        from ray.cluster_utils import Cluster

        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        os.environ.setdefault("RAY_worker_niceness", "0")  # as docs/sweep.md says of a cluster's nodes
        self.cluster: Any = insist(lambda: Cluster(initialize_head=True, head_node_args={**_FEW, "no_monitor": True}))
        for _ in range(nodes):
            self.add()

    def add(self) -> None:
        insist(lambda: self.cluster.add_node(**_FEW, resources={"edgevit": 1}))

    def list_workers(self) -> list[int]:
        """Processes that run steps, or wait for some."""
        raylets = {node.all_processes["raylet"][0].process.pid for node in self.cluster.worker_nodes}
        found = []
        for folder in Path("/proc").iterdir():
            if not folder.name.isdecimal():
                continue
            try:
                title = (folder / "cmdline").read_bytes().split(b"\0")[0].decode()
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, ValueError, IndexError):
                continue
            if parent in raylets and title.startswith("ray::") and title not in _SPARED:
                found.append(int(folder.name))
        return sorted(found)

    def kill_raylet(self, chance: random.Random) -> None:
        """A node ends without a word, and another takes its place."""
        node = chance.choice(sorted(self.cluster.worker_nodes, key=lambda node: str(node.unique_id)))
        self.cluster.remove_node(node, allow_graceful=False)
        self.add()

    def kill_all(self) -> None:
        """The head, and with it the cluster."""
        for node in [*self.cluster.worker_nodes, self.cluster.head_node]:
            node.kill_all_processes(check_alive=False, allow_graceful=False, wait=True)


def torment_sweep(
    root: Path,
    command: Sequence[str],
    *,
    kills: int,
    seed: int,
    nodes: int = 2,
    pause: tuple[float, float] = (1, 4),
    steps: int = 0,
) -> Torment:
    """Run a driver until its sweep is done, and kill so many processes meanwhile.

    Args:
        root: The sweep's folder.
        command: What :mod:`tests.support.sweep_driver` is told besides folder and address.
        kills: How many; the kinds take turns in an order that is drawn.
        seed: For what is drawn.
        nodes: Of the cluster.
        pause: Seconds between two of them, at least and at most.
        steps: Of the whole sweep, where the driver notes those that end: kills then also wait for some, so that they
            are spread over all of it, however busy the machine is.
    """
    chance = random.Random(seed)
    kinds = [KINDS[i % len(KINDS)] for i in range(kills)]
    chance.shuffle(kinds)
    done, simulated, driver = Torment(), Simulated(nodes), None
    until = time.monotonic() + _LONGEST_SECONDS
    try:
        while time.monotonic() < until:
            if driver is None:
                address = simulated.cluster.address
                words = [sys.executable, "-m", "tests.support.sweep_driver", str(root), address, *command]
                driver = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
                done.runs += 1
            if kinds:  # not before a step runs: until then there is nothing to lose
                least = (kills - len(kinds)) * steps // (kills + 1)
                while driver.poll() is None and time.monotonic() < until:
                    if simulated.list_workers() and _count_steps(root) >= least:
                        break
                    time.sleep(0.2)
            ended = _wait(driver, chance.uniform(*pause) if kinds else until - time.monotonic())
            if ended is not None:
                said = driver.stderr.read() if driver.stderr is not None else ""
                if ended:
                    done.spoken.append(said[-2000:])
                print(f"{time.strftime('%H:%M:%S')} driver ended: {ended} {said[-300:]}", flush=True)
                driver = None
                assert "Traceback" not in said, said
                if ended == 0:
                    return done
                continue
            if not kinds:
                break
            kind = kinds.pop()
            workers = simulated.list_workers()
            if kind == "worker" and not workers:
                kinds.append(kind)  # it has ended meanwhile
                continue
            done.kills[kind] += 1
            print(f"{time.strftime('%H:%M:%S')} kill {kind}", flush=True)
            if kind == "worker":
                _kill(chance.choice(workers))
            elif kind == "raylet":
                simulated.kill_raylet(chance)
            elif kind == "driver":
                _kill(driver.pid)
            else:
                simulated.kill_all()
                _wait(driver, 120)  # it notices by itself
                simulated = Simulated(nodes)
        raise AssertionError(f"the sweep does not end: {done}")
    finally:
        if driver is not None:
            _kill(driver.pid)
            driver.wait()
        simulated.kill_all()


def _count_steps(root: Path) -> int:
    try:
        return (root / STEPS_FILE).read_text(encoding="utf-8").count("\n")
    except OSError:
        return 0


def _wait(process: subprocess.Popen[str], seconds: float) -> int | None:
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
