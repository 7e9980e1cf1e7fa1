"""answer_graphs: what the quantised graphs themselves answer, in ONNX Runtime, for the engines to be held against."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from edgevit.build.precisions import QUANTIZED_PRECISIONS
from edgevit.build.trial import GraphFile, compile_graph
from edgevit.core.errors import CompileError
from edgevit.core.target import Precision, load_target
from edgevit.runtime.session import Outputs, Session, open_engine

if TYPE_CHECKING:
    from edgevit.build.bench import Bench
    from edgevit.build.order import Order

JUDGE_SETTINGS = {"session.disable_quant_qdq": "1"}
"""Q/DQ pairs as they stand, in float arithmetic: what the graph says, and faster than the integer forms of Linears."""


def stand_in(order: Order, precision: Precision | None = None) -> Order:
    """ONNX Runtime on this machine's CPU, for graphs of a target that is elsewhere, or of one of its precisions."""
    target = dataclasses.replace(
        load_target("cpu"),
        precisions=order.target.precisions if precision is None else (precision,),
        dynamic_batch=order.target.dynamic_batch,
    )
    return dataclasses.replace(order, target=target, recipe=dataclasses.replace(order.recipe, settings=JUDGE_SETTINGS))


def answer_graphs(graphs: Mapping[str, GraphFile], order: Order, bench: Bench) -> dict[str, Outputs]:
    """By quantised precision, the answers to the evidence's images with Q/DQ pairs in float arithmetic.

    A library that multiplies these integers in another way is right where it comes to the same, and an engine that does
    not computes something else than its graph: which accuracy by itself does not tell from the price of quantising.

    Raises:
        CompileError: ONNX Runtime does not take a graph.
    """
    judge, evidence, progress = stand_in(order, "int8"), bench.evidence, bench.progress
    found: dict[str, Outputs] = {}
    for precision, graph in graphs.items():
        if precision not in QUANTIZED_PRECISIONS:
            continue
        progress("graph answers", 0, 1)
        trial = compile_graph(dataclasses.replace(graph, trial=None), "int8", judge, bench.quiet())
        if trial.engine is None:
            raise CompileError(f"the {precision} graph: {trial.variant.reason}", "report the model")
        with open_engine(trial.engine) as session:
            found[precision] = answer_pixels(session, evidence.pixels, order.recipe.batch[0])
        progress("graph answers", 1, 1)
    return found


def answer_pixels(session: Session, pixels: npt.NDArray[np.uint8], size: int) -> Outputs:
    """Answers to ``(N, H, W, 3) uint8``, ``size`` images a call; the last call begins again with the first images."""
    rows = [np.arange(start, start + size) % len(pixels) for start in range(0, len(pixels), size)]
    parts = [session.run_outputs(pixels[r]) for r in rows]
    return tuple(np.concatenate(values)[: len(pixels)] for values in zip(*parts, strict=True))
