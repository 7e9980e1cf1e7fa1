"""fill_cache: everything of a build that may be computed while others compute: all of it but the latencies.

A build of the same arguments then finds its graphs, the float model's answers, its engines and their accuracy in the
cache, and has only to measure how fast the engines are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from edgevit.build.begin import begin_build
from edgevit.build.bench import ignore_note
from edgevit.build.graph_answers import answer_graphs
from edgevit.build.here import judge_here
from edgevit.core.progress import Progress, ignore_progress

if TYPE_CHECKING:
    from edgevit.build.order import Inputs, Order
    from edgevit.core.cache import StageCache


def fill_cache(
    inputs: Inputs,
    order: Order,
    cache: StageCache,
    progress: Progress = ignore_progress,
    note: Callable[[str], None] = ignore_note,
) -> None:
    """Compute what a build of these inputs takes from the cache; nothing is timed and no bundle is written.

    Where the target's engines are not measured on this machine there is nothing to keep apart: the build itself may run
    while others compute.

    Args:
        inputs: The checkpoint and the images.
        order: As :func:`edgevit.build.order.plan_order` gives it.
        cache: Filled.
        progress: Told about every stage.
        note: Told what was recognised and assumed.

    Raises:
        EdgevitError: As :func:`edgevit.build.build.build_model`, for the same reasons.
    """
    if not order.place.measures:
        return
    begun = begin_build(inputs, order, cache, progress, note)
    bench = begun.bench.add_answers(answer_graphs(begun.graphs, begun.order, begun.bench))
    judge_here(begun.graphs, begun.order, bench, measure=False)
