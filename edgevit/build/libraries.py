"""add_libraries: a target's graphs for its further engine libraries too, so that a measurement chooses the library."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING

from edgevit.build.precisions import list_arithmetics
from edgevit.build.trial import GraphFile
from edgevit.core.isa import TierName
from edgevit.core.target import Target, use_library
from edgevit.engines.availability import target_status

if TYPE_CHECKING:
    from edgevit.core.recipe import Recipe


def add_libraries(
    graphs: Mapping[str, GraphFile], target: Target, recipe: Recipe, tier: TierName | None
) -> tuple[dict[str, GraphFile], tuple[str, ...]]:
    """What the libraries of ``target.also`` are to compile, of graphs by precision, for a processor of some ``tier``.

    Returns:
        Graphs by the variants' names, such as ``int8 openvino``; and a sentence for every library that is not tried, as
        this machine lacks it.
    """
    added: dict[str, GraphFile] = {}
    absent = []
    for library in target.also:
        other = use_library(target, library)
        status = target_status(other)
        if not status.runnable:
            absent.append(f"{library} was not tried beside {target.backend}: {'; '.join(status.missing)}")
            continue
        for name, arithmetic in list_arithmetics(tuple(graphs), other, recipe, tier).items():
            added[f"{name} {library}"] = dataclasses.replace(
                graphs[arithmetic.precision],
                precision=arithmetic.precision,
                floats=arithmetic.floats,
                library=library,
                trial=None,
            )
    return added, tuple(absent)
