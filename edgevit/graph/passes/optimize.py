"""Graph → Graph: every rewrite in ``passes.ORDER``, and a record of each."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from edgevit.core.errors import EdgevitError, PassError
from edgevit.core.pass_record import PassRecord
from edgevit.graph.graph import Graph
from edgevit.graph.passes import ORDER, Pass


def optimize_graph(graph: Graph, *, disable: Collection[str] = ()) -> tuple[Graph, tuple[PassRecord, ...]]:
    """Rewrite a copy of ``graph``.

    Args:
        graph: What :func:`edgevit.models.export.export_model` gave; it is not changed.
        disable: Names of passes to leave out.

    Raises:
        PassError: A pass failed; the message names it and those that ran before, or ``disable`` names an unknown one.
    """
    names = [name for name, _ in ORDER]
    unknown = sorted(set(disable) - set(names))
    if unknown:
        raise PassError(f"unknown pass {', '.join(unknown)}", f"the passes are: {', '.join(names)}")
    result = graph.copy()
    return result, apply_passes(result, ORDER, disable, advice="disable it in the recipe to go on")


def apply_passes(
    graph: Graph, order: Sequence[tuple[str, Pass]], disable: Collection[str] = (), *, advice: str = "report this"
) -> tuple[PassRecord, ...]:
    """Rewrite in place.

    Args:
        graph: Changed.
        order: Passes by name.
        disable: Names of those that are left out.
        advice: Begins the hint where one fails.

    Raises:
        PassError: A pass failed; the message names it and those that ran before.
    """
    records: list[PassRecord] = []
    for name, rewrite in order:
        try:
            records.append(rewrite(graph) if name not in disable else PassRecord(name, "graph", enabled=False))
        except EdgevitError:
            raise
        except Exception as exc:
            before = ", ".join(r.name for r in records if r.enabled) or "none"
            raise PassError(f"the pass {name} failed: {exc}", f"{advice}; passes that ran before: {before}") from exc
    return tuple(records)
