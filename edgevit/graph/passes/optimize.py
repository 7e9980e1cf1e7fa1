"""Graph → Graph: every rewrite in ``passes.ORDER``, and a record of each."""

from __future__ import annotations

from collections.abc import Collection

from edgevit.core.errors import EdgevitError, PassError
from edgevit.core.pass_record import PassRecord
from edgevit.graph.graph import Graph
from edgevit.graph.passes import ORDER


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
    records: list[PassRecord] = []
    for name, rewrite in ORDER:
        if name in disable:
            records.append(PassRecord(name, "graph", enabled=False))
            continue
        try:
            records.append(rewrite(result))
        except EdgevitError:
            raise
        except Exception as exc:
            before = ", ".join(r.name for r in records if r.enabled) or "none"
            raise PassError(
                f"the pass {name} failed: {exc}", f"disable it in the recipe to go on; passes that ran before: {before}"
            ) from exc
    return result, tuple(records)
