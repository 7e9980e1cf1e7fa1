"""judge_at_desk: what a build can say of engines that cannot be opened on this machine.

Every graph is judged in ONNX Runtime in the very form that the engine library compiles, so its accuracy is known and
labelled as the graph's. Where the library compiles ahead of time (TensorRT-RTX), the engines are made here; elsewhere
TensorRT-RTX compiles the graphs for a GPU of the same family as a rehearsal, which proves what is fused. Latency is not
known, and the choice among the precisions is the target's own order.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from edgevit.build.graph_answers import JUDGE_SETTINGS, answer_pixels, stand_in_target
from edgevit.build.judge import judge_trial
from edgevit.build.precisions import QUANTIZED_PRECISIONS
from edgevit.build.rehearsal import REHEARSED_BACKENDS, Rehearsal, list_fusion_warnings, read_fusion, rehearse_fusion
from edgevit.build.trial import GraphFile, Trial, compile_graph, refuse_trial
from edgevit.build.try_engines import SearchResult
from edgevit.build.verdict.choose import choose_variant
from edgevit.core.errors import CompileError
from edgevit.core.progress import Progress, ignore_progress
from edgevit.core.report.report import Variant, Verdict
from edgevit.core.target import Budget, Target
from edgevit.runtime.session import Outputs, open_engine

if TYPE_CHECKING:
    from edgevit.build.evidence import Evidence
    from edgevit.core.cache import StageCache
    from edgevit.core.recipe import Recipe

TYPED_FILE = "typed.onnx"
_WHERE = "accuracy is that of the graph in ONNX Runtime here"


@dataclass(frozen=True)
class DeskResult:
    """What is known without the device.

    Attributes:
        found: A trial for every precision; with its engine where that is compiled here.
        variants: Judged.
        verdict: By accuracy, and the target's order of precisions.
        rehearsal: What the compiler fused, by precision.
        graph_outputs: Of every quantised graph for the evidence's images, in ONNX Runtime.
    """

    found: SearchResult
    variants: tuple[Variant, ...]
    verdict: Verdict
    rehearsal: Rehearsal = field(default_factory=Rehearsal)
    graph_outputs: Mapping[str, Outputs] = field(default_factory=dict)


def judge_at_desk(
    graphs: Mapping[str, GraphFile],
    target: Target,
    recipe: Recipe,
    budget: Budget,
    evidence: Evidence,
    cache: StageCache,
    *,
    compiles: bool,
    progress: Progress = ignore_progress,
) -> DeskResult:
    """Judge every graph in ONNX Runtime, and compile it for the target or for a GPU of its family.

    Args:
        graphs: By precision, in the order of the table; ``trial`` may hold figures from the calibration images.
        target: Whose engines cannot be opened here.
        recipe: Batch and the like.
        budget: What a faster variant may cost.
        evidence: Images and the float model's answers.
        cache: Finished stages.
        compiles: Whether the target's library compiles here for the device.
        progress: Told about every image and compilation.
    """
    trials: list[Trial] = []
    outputs: dict[str, Outputs] = {}
    typed = target.backend in REHEARSED_BACKENDS
    for precision, graph in graphs.items():
        try:
            file = _type_file(graph, target, precision, cache) if typed else graph
        except CompileError as exc:
            trials.append(refuse_trial(precision, exc))
            continue
        trial, answers = _judge_graph(file, graph, target, precision, recipe, evidence, cache, progress)
        if precision in QUANTIZED_PRECISIONS and answers is not None:
            outputs[precision] = answers
        size = sum(p.stat().st_size for p in graph.path.parent.glob(f"{graph.path.stem}.*"))
        trials.append(Trial(dataclasses.replace(trial.variant, size_bytes=size)))
    if compiles:
        for place, (precision, graph) in enumerate(graphs.items()):
            if trials[place].variant.status == "NOT SUPPORTED":
                continue
            made = compile_graph(graph, target, precision, recipe, cache, progress=progress)
            trials[place] = _add_engine(trials[place], made)
        rehearsal = read_fusion(SearchResult(tuple(trials)))
    elif typed:
        sound = {p: g for (p, g), t in zip(graphs.items(), trials, strict=True) if t.variant.status != "NOT SUPPORTED"}
        rehearsal = rehearse_fusion(sound, target, recipe.batch, cache, progress)
    else:
        rehearsal = Rehearsal()
    variants, verdict = choose_variant(
        [t.variant for t in trials], budget, preference=target.preference or target.precisions
    )
    variants, verdict = _label(variants, verdict, target, rehearsal, compiles=compiles)
    return DeskResult(SearchResult(tuple(trials)), variants, verdict, rehearsal, outputs)


def _type_file(graph: GraphFile, target: Target, precision: str, cache: StageCache) -> GraphFile:
    """The graph as the compiler gets it, checked against its rules.

    Raises:
        CompileError: It breaks them, or has no float16 form; every site is named.
    """

    def write(folder: Path) -> None:
        from edgevit.engines.tensorrt.backend import type_for_compiler
        from edgevit.graph.graph import Graph

        type_for_compiler(Graph.load(graph.path), target, precision, graph.path).save(folder / TYPED_FILE)

    inputs = {**graph.inputs, "typed": "fp32" if precision == "fp32" else "fp16", "for": target.compute_capability}
    folder, _ = cache.run("typed", inputs, write)
    return GraphFile(folder / TYPED_FILE, inputs)


def _judge_graph(
    file: GraphFile,
    graph: GraphFile,
    target: Target,
    precision: str,
    recipe: Recipe,
    evidence: Evidence,
    cache: StageCache,
    progress: Progress,
) -> tuple[Trial, Outputs | None]:
    """Parity and accuracy in ONNX Runtime, and the answers to the evidence's images."""
    # What a typed graph's arithmetic is lies in the graph; ONNX Runtime's own fp16 is another thing.
    stored = "int8" if target.backend in REHEARSED_BACKENDS else precision
    judge = dataclasses.replace(stand_in_target(target), precisions=(stored,))  # type: ignore[arg-type]
    plain = dataclasses.replace(recipe, settings=JUDGE_SETTINGS)
    trial = compile_graph(file, judge, stored, plain, cache)
    known = graph.trial.variant.choice_accuracy if graph.trial is not None else None
    trial = dataclasses.replace(
        trial, variant=dataclasses.replace(trial.variant, name=precision, precision=precision, choice_accuracy=known)
    )
    if trial.engine is None:
        return trial, None
    with open_engine(trial.engine) as session:
        # A float graph that passes parity is the model: there is nothing to choose by.
        quantized = precision in QUANTIZED_PRECISIONS
        variant = judge_trial(trial, session, plain, evidence, progress, choice=quantized)
        answers = answer_pixels(session, evidence.pixels, recipe.batch[0])
    return dataclasses.replace(trial, variant=variant), answers


def _add_engine(judged: Trial, made: Trial) -> Trial:
    if made.engine is None:
        return made
    variant = dataclasses.replace(judged.variant, size_bytes=made.engine.size_bytes)
    return Trial(variant, made.engine)


def _label(
    variants: tuple[Variant, ...], verdict: Verdict, target: Target, rehearsal: Rehearsal, *, compiles: bool
) -> tuple[tuple[Variant, ...], Verdict]:
    """Say of everything that it was not measured on the device."""
    what = "compiled here, not measured" if compiles else "the engine is compiled on the device"
    open_status = ("NOT MEASURED",) if compiles else ("NOT MEASURED", "CHOSEN")
    variants = tuple(
        dataclasses.replace(v, status="NOT MEASURED", reason=f"{what}; {_WHERE}") if v.status in open_status else v
        for v in variants
    )
    warnings = (*verdict.warnings, *list_fusion_warnings(rehearsal))
    if verdict.chosen is None:
        return variants, dataclasses.replace(verdict, warnings=warnings)
    where = f"judged in ONNX Runtime on this machine, not on {target.title}"
    if compiles:
        sentence = f"{verdict.sentence}; the graph was {where}, and the engine was not run"
        step = f"measure on {target.title}: edgevit bench BUNDLE"
    else:
        sentence = f"portable: the graphs were {where}; {verdict.sentence}"
        step = None
    return variants, dataclasses.replace(verdict, sentence=sentence, warnings=warnings, next_step=step)
