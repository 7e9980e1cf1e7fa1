"""open_graph: a model that gives its own graph, for any number of images a call.

Such a graph is made, rewritten, calibrated and quantised for a few images, with shapes that are all known, and opened
when that is done; a canonical module is exported with an open batch at once.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgevit.build.prepare import OPTIMIZED_FILE, PreparedGraph, check_graph
from edgevit.core.errors import CompileError, count_things

if TYPE_CHECKING:
    from edgevit.core.cache import StageCache
    from edgevit.core.progress import Progress
    from edgevit.core.recipe import Recipe
    from edgevit.graph.graph import Graph
    from edgevit.models.model import Model

EXAMPLE = 2
"""Images a call of a graph that will be opened: the fewest that tell the batch from an axis of one."""


def fix_batch(model: Model, recipe: Recipe) -> Recipe:
    """The recipe by which the model's graph is made: with one number of images where that is opened afterwards.

    Raises:
        CompileError: A range of batches for a graph that is fixed to a number of images.
    """
    from edgevit.models.model import OwnGraph

    if recipe.batch[0] == recipe.batch[2] or not isinstance(model.module, OwnGraph):
        return recipe
    config: Any = model.config
    fixed: int | None = config.batch
    if fixed is not None:
        raise CompileError(
            f"{model.source.path} was exported for {count_things(fixed, 'image')} a call, and a range was asked for",
            f"give --batch {fixed}, or export it again with an open batch",
        )
    return dataclasses.replace(recipe, batch=(EXAMPLE, EXAMPLE, EXAMPLE))


def open_graph(
    prepared: PreparedGraph, model: Model, recipe: Recipe, cache: StageCache, progress: Progress
) -> PreparedGraph:
    """A graph that was prepared by :func:`fix_batch`'s recipe, for the recipe's own batches; the same one if it is.

    Raises:
        CompileError: It mixes images, or has an operator whose images cannot be followed.
    """
    if fix_batch(model, recipe) is recipe:
        return prepared
    inputs = {**prepared.inputs, "open": list(recipe.batch)}

    def restate(folder: Path) -> None:
        from edgevit.graph.graph import Graph

        graph = Graph.load(prepared.path)
        restate_open(graph, recipe.batch[1])
        graph.save(folder / OPTIMIZED_FILE, beside=True)
        check_graph(folder / OPTIMIZED_FILE)
        (folder / "op_counts.json").write_text(json.dumps(dict(graph.op_counts())), encoding="utf-8")

    progress("open batch", 0, 1)
    folder, _ = cache.run("open", inputs, restate)
    progress("open batch", 1, 1)
    op_counts = json.loads((folder / "op_counts.json").read_text(encoding="utf-8"))
    return PreparedGraph(folder / OPTIMIZED_FILE, prepared.passes, op_counts, inputs)


def restate_open(graph: Graph, usual: int) -> None:
    """Open a graph of :data:`EXAMPLE` images a call in place; ``usual`` is what is advised where that cannot be done.

    Raises:
        CompileError: As :func:`open_graph`.
    """
    from edgevit.graph.patterns.pieces import MismatchError
    from edgevit.graph.set_batch import open_batch

    try:
        open_batch(graph, EXAMPLE)
    except MismatchError as exc:
        raise CompileError(
            f"the graph takes one number of images a call, not a range: {exc.site}: {exc.reason}",
            f"give one number, --batch {usual}; if an image's answer depends on the others, export it so that it does "
            "not, in evaluation mode",
        ) from exc
