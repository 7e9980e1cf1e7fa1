"""try_at_desk: what a build can say of engines that cannot be opened on this machine.

Every graph is judged in ONNX Runtime in the very form that the engine library compiles, so its accuracy is known and
labelled as the graph's. Where the library compiles ahead of time (TensorRT-RTX), the engines are made here; elsewhere
TensorRT-RTX compiles the graphs for a GPU of the same family as a rehearsal, which proves what is fused. Latency is not
known, and the choice among the precisions is the target's own order.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast

from edgevit.build.graph_answers import answer_pixels, stand_in
from edgevit.build.judge import judge_trial
from edgevit.build.outcome import Outcome
from edgevit.build.precisions import QUANTIZED_PRECISIONS
from edgevit.build.rehearsal import Rehearsal, list_fusion_warnings, read_fusion, rehearse_fusion
from edgevit.build.trial import GraphFile, Trial, compile_graph, refuse_trial
from edgevit.build.try_engines import SearchResult
from edgevit.build.verdict.choose import choose_variant
from edgevit.core.errors import CompileError
from edgevit.core.libraries import LIBRARIES
from edgevit.core.report.report import Variant
from edgevit.core.target import Precision
from edgevit.runtime.session import Outputs, open_engine

if TYPE_CHECKING:
    from edgevit.build.bench import Bench
    from edgevit.build.order import Order

TYPED_FILE = "typed.onnx"
_WHERE = "accuracy is that of the graph in ONNX Runtime here"


def try_at_desk(graphs: Mapping[str, GraphFile], order: Order, bench: Bench) -> Outcome:
    """Judge every graph in ONNX Runtime, and compile it for the target or for a GPU of its family.

    The graphs are by precision, in the order of the table; ``trial`` may hold figures from the calibration images.
    """
    target, compiles = order.target, order.place.compiles
    trials: list[Trial] = []
    outputs: dict[str, Outputs] = {}
    typed = LIBRARIES[target.backend].nvidia
    for precision, graph in graphs.items():
        try:
            file = _type_file(graph, precision, order, bench) if typed else graph
        except CompileError as exc:
            trials.append(refuse_trial(precision, exc))
            continue
        trial, answers = _judge_graph(dataclasses.replace(file, trial=graph.trial), precision, order, bench)
        if precision in QUANTIZED_PRECISIONS and answers is not None:
            outputs[precision] = answers
        size = sum(p.stat().st_size for p in graph.path.parent.glob(f"{graph.path.stem}.*"))
        trials.append(dataclasses.replace(trial, engine=None).update(size_bytes=size))
    if compiles:
        for place, (precision, graph) in enumerate(graphs.items()):
            if trials[place].variant.status == "NOT SUPPORTED":
                continue
            made = compile_graph(graph, precision, order, bench)
            if made.engine is not None:
                made = Trial(trials[place].variant, made.engine).update(size_bytes=made.engine.size_bytes)
            trials[place] = made
        rehearsal = read_fusion(SearchResult(tuple(trials)))
    elif typed:
        sound = {p: g for (p, g), t in zip(graphs.items(), trials, strict=True) if t.variant.status != "NOT SUPPORTED"}
        rehearsal = rehearse_fusion(sound, target, order.recipe.batch, bench.cache, bench.progress)
    else:
        rehearsal = Rehearsal()
    ruling = choose_variant(
        [t.variant for t in trials], order.budget, preference=target.preference or target.precisions
    )
    return Outcome(
        SearchResult(tuple(trials)),
        tuple(_label(v, compiles=compiles) for v in ruling.variants),
        ruling,
        rehearsal,
        risks=list_fusion_warnings(rehearsal),
        graph_outputs=outputs,
    )


def _type_file(graph: GraphFile, precision: str, order: Order, bench: Bench) -> GraphFile:
    """The graph as the compiler gets it, checked against its rules.

    Raises:
        CompileError: It breaks them, or has no float16 form; every site is named.
    """
    target = order.target

    def write(folder: Path) -> None:
        from edgevit.engines.tensorrt.backend import type_for_compiler
        from edgevit.graph.graph import Graph

        type_for_compiler(Graph.load(graph.path), target, precision, graph.path).save(folder / TYPED_FILE)

    inputs = {**graph.inputs, "typed": "fp32" if precision == "fp32" else "fp16", "for": target.compute_capability}
    folder, _ = bench.cache.run("typed", inputs, write)
    return GraphFile(folder / TYPED_FILE, inputs)


def _judge_graph(graph: GraphFile, precision: str, order: Order, bench: Bench) -> tuple[Trial, Outputs | None]:
    """Parity and accuracy in ONNX Runtime, and the answers to the evidence's images."""
    # What a typed graph's arithmetic is lies in the graph; ONNX Runtime's own fp16 is another thing.
    stored = cast("Precision", "int8" if LIBRARIES[order.target.backend].nvidia else precision)
    judge, evidence = stand_in(order, stored), bench.evidence
    trial = compile_graph(graph, stored, judge, bench.quiet())
    known = graph.trial.variant.choice_accuracy if graph.trial is not None else None
    trial = trial.update(name=precision, precision=precision, choice_accuracy=known)
    if trial.engine is None:
        return trial, None
    with open_engine(trial.engine) as session:
        # A float graph that passes parity is the model: there is nothing to choose by.
        quantized = precision in QUANTIZED_PRECISIONS
        variant = judge_trial(trial, session, judge, bench, choice=quantized)
        answers = answer_pixels(session, evidence.pixels, order.recipe.batch[0])
    return dataclasses.replace(trial, variant=variant), answers


def _label(variant: Variant, *, compiles: bool) -> Variant:
    """Say that it was not measured on the device."""
    if variant.status != "NOT MEASURED" and (compiles or variant.status != "CHOSEN"):
        return variant
    what = "compiled here, not measured" if compiles else "the engine is compiled on the device"
    return dataclasses.replace(variant, status="NOT MEASURED", reason=f"{what}; {_WHERE}")
