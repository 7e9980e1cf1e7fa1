"""Nodes of Ray on this machine, each a raylet of its own."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from edgevit.remote.sweep.cluster import NODE

_NODE: dict[str, Any] = {
    "num_cpus": 1,
    "resources": {NODE: 1},
    "object_store_memory": 80 << 20,
    "include_dashboard": False,
}


def start_nodes(count: int = 1, **options: Any) -> Any:
    """A ``ray.cluster_utils.Cluster`` of so many nodes that take part; whoever starts it calls ``shutdown``."""
    from ray.cluster_utils import Cluster

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_worker_niceness", "0")  # as docs/sweep.md says of a cluster's nodes
    cluster = insist(lambda: Cluster(initialize_head=True, head_node_args={**_NODE, **options}))
    for _ in range(count - 1):
        add_node(cluster, **options)
    return cluster


def add_node(cluster: Any, **options: Any) -> Any:
    """One more."""
    given = {name: value for name, value in {**_NODE, **options}.items() if name in _NODE}
    return insist(lambda: cluster.add_node(**given))


def insist(start: Callable[[], Any]) -> Any:
    """What ``start`` gives, tried some times: Ray gives a node half a minute, and a busy machine may need it."""
    for left in reversed(range(5)):
        try:
            return start()
        except Exception:  # Ray raises bare ones
            if not left:
                raise
    raise AssertionError
