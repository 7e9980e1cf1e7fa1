"""connect: a Ray of this machine's own, or one that runs already; nothing of it reaches the screen."""

from __future__ import annotations

import contextlib
import logging
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from edgevit.core.errors import DeviceError
from edgevit.core.packages import require_package

NODE = "edgevit"
"""Ray's resource of which a node that takes part has one: whoever measures takes it whole, others take a share."""
LOCAL = "local"
_LARGEST_SLOTS = 4


@dataclass(frozen=True)
class Cluster:
    """The nodes that take part.

    Attributes:
        cpus: CPUs of each, by Ray's name of the node.
        memory_bytes: What Ray may give to tasks on each.
        hosts: Addresses, by the same names.
    """

    cpus: Mapping[str, int]
    memory_bytes: Mapping[str, int] = field(default_factory=dict)
    hosts: Mapping[str, str] = field(default_factory=dict)

    @property
    def nodes(self) -> int:
        """How many there are."""
        return len(self.cpus)

    @property
    def slots(self) -> int:
        """Cells that a node prepares side by side: one for two CPUs of the smallest node, as libraries use several."""
        return max(1, min(_LARGEST_SLOTS, min(self.cpus.values()) // 2))


@contextlib.contextmanager
def connect(address: str | None = None, *, cpus: int | None = None) -> Iterator[Cluster]:
    """Start a Ray on this machine, or join one.

    Args:
        address: Of a Ray cluster, as ``ray.init`` takes it; ``None`` or ``local`` starts one here, which ends with the
            block.
        cpus: Of the one that is started; by default those that this process may use.

    Raises:
        MissingPackageError: Ray is not installed.
        DeviceError: Nothing answers at the address, or no node there takes part.
    """
    require_package("ray", "sweeps", extra="sweep")
    # Ray asks for leave to count its users by sending; nobody who builds a model has been asked.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    local = address in (None, LOCAL)
    count = cpus or _count_cpus()
    if local:  # unset, Ray would give one thread to every task, and a build here has one for each CPU
        os.environ.setdefault("OMP_NUM_THREADS", str(count))
    import ray

    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": True}
    try:
        if local:
            ray.init(address="local", num_cpus=count, resources={NODE: 1}, include_dashboard=False, **quiet)
        else:
            ray.init(address=address, **quiet)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as exc:
        if local:
            raise DeviceError(f"Ray does not start on this machine: {exc}", "see /tmp/ray/session_latest/logs") from exc
        raise DeviceError(
            f"no Ray cluster answers at {address}: {' '.join(str(exc).split())[:300]}",
            f"start one: ray start --head --resources '{{\"{NODE}\": 1}}', and give its address",
        ) from exc
    try:
        yield read_cluster()
    finally:
        ray.shutdown()


def read_cluster() -> Cluster:
    """The nodes of the Ray that this process is connected to.

    Raises:
        DeviceError: None of them takes part.
    """
    import ray

    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    alive = [node for node in nodes if node["Alive"]]
    part = {node["NodeID"]: node for node in alive if node["Resources"].get(NODE, 0) >= 1}
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


def describe_cluster(cluster: Cluster) -> str:
    """``3 nodes with 4, 8 and 8 CPUs``."""
    counts = Counter(cluster.cpus.values())
    parts = [f"{number} with {cpus} CPU{'s' if cpus > 1 else ''}" for cpus, number in sorted(counts.items())]
    return f"{cluster.nodes} node{'s' if cluster.nodes > 1 else ''}: {', '.join(parts)}"


def _count_cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
