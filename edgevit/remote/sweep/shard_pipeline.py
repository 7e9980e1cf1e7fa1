"""run_shards: shards of images through Ray Data's actors on the nodes of a cluster."""

from __future__ import annotations

import contextlib
import logging
import pickle
from collections.abc import Generator, Iterable, Iterator
from typing import Any

from edgevit.core.errors import DeviceError
from edgevit.remote.sweep.cluster import NODE, Cluster
from edgevit.remote.sweep.shard_work import Shard, ShardWorker, Work

_SHARE = 0.01
"""Of a node's resource: a latency that is measured there takes all of it, so the two never meet."""


def run_shards(
    shards: Iterable[tuple[int, Shard]], work: Work, cluster: Cluster, *, threads: int, gpu: bool = False
) -> Generator[int, None, None]:
    """Have shards checked or answered; gives the index of each when its file is written, in no order.

    An actor has as many CPUs as the machine that asks, or as the smallest node has where that is less: it works as that
    machine would by itself. Ray restarts actors whose process or node died, and has their shards done again.

    Args:
        shards: Each with a number to know it by.
        work: What they have in common.
        cluster: Where; see :func:`edgevit.remote.sweep.cluster.connect`.
        threads: CPUs of an actor, where the nodes have as many.
        gpu: Whether an actor needs a GPU.

    Raises:
        EdgevitError: The first that a shard ended with.
        DeviceError: The cluster is gone or has no GPU, or a shard ends its worker again and again.
    """
    import ray
    import ray.data

    rows = [{"index": index, "shard": pickle.dumps(shard)} for index, shard in shards]
    if not rows:
        return
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    if gpu and resources.get("GPU", 0) < 1:  # Ray would wait for one
        raise DeviceError("no node of the cluster has a GPU, which the engine needs", "add one to the cluster")
    cpus = max(1, min(threads, *cluster.cpus.values()))
    actors = max(1, min(len(rows), sum(count // cpus for count in cluster.cpus.values())))
    with _keep_quiet():
        answered = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
            ShardWorker,  # type: ignore[arg-type]
            fn_constructor_args=(work,),
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=actors, max_tasks_in_flight_per_actor=1),
            num_cpus=cpus,
            num_gpus=1 if gpu else None,
            resources={NODE: _SHARE},
        )
        del rows
        try:
            for row in answered.iter_rows():
                if row["error"]:
                    raise pickle.loads(row["error"])
                yield int(row["index"])
        except (ray.exceptions.RayError, ray.data.exceptions.SystemException) as exc:
            raise DeviceError(
                f"the cluster could not finish the evaluation: {' '.join(str(exc).split())[-400:]}",
                "run the command again: shards that are finished are kept",
            ) from exc


@contextlib.contextmanager
def _keep_quiet() -> Iterator[None]:
    """Ray Data draws bars of its own and says what it executes."""
    import ray.data

    context: Any = ray.data.DataContext.get_current()
    quiet = {
        "enable_progress_bars": False,
        "enable_operator_progress_bars": False,
        "print_on_execution_start": False,
    }
    before = {name: getattr(context, name) for name in quiet if hasattr(context, name)}
    logger = logging.getLogger("ray.data")
    level = logger.level
    try:
        for name in before:
            setattr(context, name, quiet[name])
        logger.setLevel(logging.CRITICAL)
        yield
    finally:
        logger.setLevel(level)
        for name, value in before.items():
            setattr(context, name, value)
