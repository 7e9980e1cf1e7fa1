"""connect: a Ray of this machine's own, or one that runs already; nothing of it reaches the screen."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import socket
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from edgevit.core.errors import DeviceError
from edgevit.core.packages import require_package
from edgevit.remote.sweep.session_folder import make_session_folder

NODE = "edgevit"
"""Ray's resource of which a node that takes part has one: whoever measures takes it whole, others take a share."""
LOCAL = "local"
_LARGEST_SLOTS = 4
_ANSWER_SECONDS = 5.0
_STARTS = 4
_MUTE_SECONDS = 30.0


@dataclass(frozen=True)
class Cluster:
    """The nodes that take part.

    Attributes:
        cpus: CPUs of each, by Ray's name of the node.
        memory_bytes: What Ray may give to tasks on each.
        hosts: Addresses, by the same names.
        head: Where the cluster's head answers, as ``host:port``; empty where that cannot be asked.
        local: Whether it is this machine's own, which ends with the sweep.
    """

    cpus: Mapping[str, int]
    memory_bytes: Mapping[str, int] = field(default_factory=dict)
    hosts: Mapping[str, str] = field(default_factory=dict)
    head: str = ""
    local: bool = False

    @property
    def nodes(self) -> int:
        """How many there are."""
        return len(self.cpus)

    @property
    def slots(self) -> int:
        """Cells that a node prepares side by side: one for two CPUs of the smallest node, as libraries use several."""
        return max(1, min(_LARGEST_SLOTS, min(self.cpus.values(), default=1) // 2))


@contextlib.contextmanager
def connect(address: str | None = None, *, cpus: int | None = None) -> Iterator[Cluster]:
    """Start a Ray on this machine, or join one.

    Args:
        address: Of a Ray cluster, as ``ray.init`` takes it; ``None`` or ``local`` starts one here, which ends with the
            block, whatever other Ray runs on the machine.
        cpus: Of the one that is started; by default those that this process may use.

    Raises:
        MissingPackageError: Ray is not installed.
        DeviceError: Nothing answers at the address, or no node there takes part.
    """
    require_package("ray", "sweeps", extra="sweep")
    count = cpus or _count_cpus()
    with contextlib.ExitStack() as stack:
        stack.enter_context(_set_environment(None if address not in (None, LOCAL) else count))
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": True}
        folder = stack.enter_context(make_session_folder()) if address in (None, LOCAL) else ""
        with _mute_core():
            if folder:
                _start(count, folder, quiet)
            else:
                _join(str(address), quiet)
        stack.callback(_shut_down)
        stack.enter_context(_keep_quiet())
        yield dataclasses.replace(read_cluster(), head=_find_head(address), local=address in (None, LOCAL))


def read_cluster() -> Cluster:
    """The nodes of the Ray that this process is connected to.

    Raises:
        DeviceError: None of them takes part, or one says that it is several.
    """
    import ray

    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    alive = [node for node in nodes if node["Alive"]]
    part = {node["NodeID"]: node for node in alive if node["Resources"].get(NODE, 0) >= 1}
    several = [node["NodeManagerAddress"] for node in part.values() if node["Resources"][NODE] > 1]
    if several:  # two would be measured there at the same time
        raise DeviceError(
            f"{', '.join(several)}: more than one of the resource {NODE!r}",
            "start each node with one, see docs/sweep.md",
        )
    if not part:
        raise DeviceError(
            f"none of the {len(alive)} nodes of this Ray cluster has the resource {NODE!r}",
            f"start those that may be measured on with ray start --resources '{{\"{NODE}\": 1}}'",
        )
    return Cluster(
        {name: max(1, int(node["Resources"].get("CPU", 1))) for name, node in part.items()},
        {name: int(node["Resources"].get("memory", 0)) for name, node in part.items()},
        {name: node["NodeManagerAddress"] for name, node in part.items()},
    )


def look_again(cluster: Cluster) -> Cluster | None:
    """The cluster as it is now, which may be without nodes; ``None`` where its head does not answer.

    Ray itself would ask the head for a minute, answer nothing meanwhile, and then end this process.
    """
    if cluster.head and not answers(cluster.head):
        return None
    try:
        return dataclasses.replace(read_cluster(), head=cluster.head, local=cluster.local)
    except DeviceError:
        return dataclasses.replace(cluster, cpus={}, memory_bytes={}, hosts={})


def answers(address: str) -> bool:
    """Whether something listens at ``host:port``."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER_SECONDS):
            return True
    except (OSError, ValueError):
        return False


def describe_cluster(cluster: Cluster) -> str:
    """``3 nodes with 4, 8 and 8 CPUs``."""
    counts = Counter(cluster.cpus.values())
    parts = [f"{number} with {cpus} CPU{'s' if cpus > 1 else ''}" for cpus, number in sorted(counts.items())]
    return f"{cluster.nodes} node{'s' if cluster.nodes > 1 else ''}: {', '.join(parts)}"


def _start(cpus: int, folder: str, quiet: Mapping[str, Any]) -> None:
    import ray

    for left in reversed(range(_STARTS)):
        try:  # "local": without it Ray would join another one that runs on this machine
            ray.init(
                address=LOCAL, num_cpus=cpus, resources={NODE: 1}, include_dashboard=False, _temp_dir=folder, **quiet
            )
            return
        except Exception as exc:  # bare ones too: it gives up after half a minute, which a busy machine may need
            ray.shutdown()
            if not left:
                text = " ".join(str(exc).split())[:300]
                raise DeviceError(
                    f"Ray does not start on this machine: {text}", "run again when less runs here"
                ) from exc


def _join(address: str, quiet: Mapping[str, Any]) -> None:
    import ray

    start = f"start one: ray start --head --resources '{{\"{NODE}\": 1}}', and give its address"
    plain = address.removeprefix("ray://")
    if ":" in plain and not answers(plain):  # Ray would try for minutes, and say so on the screen
        raise DeviceError(f"no Ray cluster answers at {address}", start)
    try:
        ray.init(address=address, **quiet)
    except Exception as exc:  # of another version, for one, as a bare RuntimeError
        text = " ".join(str(exc).split())[:300]
        raise DeviceError(f"no Ray cluster can be joined at {address}: {text}", start) from exc


def _shut_down() -> None:
    import ray

    ray.shutdown()


def _find_head(address: str | None) -> str:
    """Empty for Ray's client, which need not see the head itself."""
    import ray

    if address is not None and "://" in address:
        return ""
    return str(ray.get_runtime_context().gcs_address)


@contextlib.contextmanager
def _mute_core(seconds: float = _MUTE_SECONDS) -> Iterator[None]:
    """What Ray's core itself writes to this process's standard error is not shown; errors are raised.

    Not for longer than ``seconds``: a core whose head has died meanwhile waits for it for a minute, says so, and ends
    this process.
    """
    try:
        kept = os.dup(2)
    except OSError:  # of a process without one
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    timer = threading.Timer(seconds, os.dup2, (kept, 2))
    timer.daemon = True
    try:
        os.dup2(nowhere, 2)
        timer.start()
        yield
    finally:
        timer.cancel()
        timer.join()  # not while it restores what is closed here
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


@contextlib.contextmanager
def _keep_quiet() -> Iterator[None]:
    """Ray prints the last lines of a dead raylet's log also where it was told to print none."""
    from ray._private import worker

    name = "print_to_stdstream"
    before = getattr(worker, name, None)
    if before is not None:  # its own business, so that another version may have it elsewhere
        setattr(worker, name, lambda *args, **kwargs: None)
    try:
        yield
    finally:
        if before is not None:
            setattr(worker, name, before)


@contextlib.contextmanager
def _set_environment(cpus: int | None) -> Iterator[None]:
    """What Ray reads from the environment, for the time of the block; what the user has set stays."""
    wanted = {
        # Ray asks for leave to count its users by sending; nobody who builds a model has been asked
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        # a build that takes more memory than there is would be begun anew for ever
        "RAY_task_oom_retries": "3",
        # workers would give way to everything else: what is measured there is to be what one build measures
        "RAY_worker_niceness": "0",
    }
    if cpus is None:  # of a cluster that ends, its core would complain on the screen that it cannot tell its head
        wanted["RAY_BACKEND_LOG_LEVEL"] = "fatal"
    else:  # unset, Ray would give one thread to every task, and a build here has one for each CPU
        wanted["OMP_NUM_THREADS"] = str(cpus)
    new = {name: value for name, value in wanted.items() if name not in os.environ}
    os.environ.update(new)
    try:
        yield
    finally:
        for name in new:
            os.environ.pop(name, None)


def _count_cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
