"""How many CPU cores this process may use."""

from __future__ import annotations

import os
from pathlib import Path


def count_logical_cores() -> int:
    """Logical cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def count_physical_cores(topology: Path = Path("/sys/devices/system/cpu")) -> int:
    """Physical cores behind them; where the system does not tell, the logical ones."""
    if not hasattr(os, "sched_getaffinity"):
        return count_logical_cores()
    siblings = set()
    for cpu in os.sched_getaffinity(0):
        try:
            siblings.add((topology / f"cpu{cpu}" / "topology" / "thread_siblings_list").read_text().strip())
        except OSError:
            return count_logical_cores()
    return len(siblings)


def choose_threads() -> int:
    """Threads for one batch at a time.

    A second thread on a core competes for the same arithmetic units, so it is one a core. But a virtual machine often
    calls two cores one, and on so few the second thread is worth more than it costs.
    """
    physical = count_physical_cores()
    return count_logical_cores() if physical <= 2 else physical


def limit_threads() -> int:
    """Threads for an ONNX Runtime session of a build: 0, its own choice, unless this process may use some cores alone.

    Its own choice does not look at that, and puts a thread on every core: two that share one wait for each other.
    """
    return choose_threads() if count_logical_cores() < (os.cpu_count() or 1) else 0
