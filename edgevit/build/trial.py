"""compile_graph: one precision's graph to a trial, an engine with what is known of it so far."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgevit.core.engine import Engine, load_engine
from edgevit.core.errors import CompileError, EdgevitError
from edgevit.core.isa import read_tier
from edgevit.core.libraries import LIBRARIES
from edgevit.core.report.report import GraphSummary, Variant
from edgevit.core.schema import to_data
from edgevit.core.target import Target, use_library
from edgevit.engines.compile import compile_engine
from edgevit.runtime.nvidia import find_gpu
from edgevit.runtime.session import get_runtime

if TYPE_CHECKING:
    from edgevit.build.bench import Bench
    from edgevit.build.evidence import Evidence
    from edgevit.build.order import Order
    from edgevit.core.quantization import QuantizationRecord
    from edgevit.core.recipe import Recipe

_LONGEST_REASON = 400  # characters of a table's footnote: compilers say more than anybody reads there


@dataclass(frozen=True)
class Trial:
    """One precision's try.

    Attributes:
        variant: What is known of it so far; of one that did not compile, why.
        engine: Where it compiled.
    """

    variant: Variant
    engine: Engine | None = None

    def update(self, **changes: Any) -> Trial:
        """With other fields of its variant."""
        return dataclasses.replace(self, variant=dataclasses.replace(self.variant, **changes))


@dataclass(frozen=True)
class GraphFile:
    """What a precision is compiled from.

    Attributes:
        path: The optimised graph; of INT8 with its Q/DQ pairs.
        inputs: Plain data that identifies its content.
        trial: Its engine, judged on calibration images, where :func:`edgevit.build.judge.try_graph` has done so
            already.
        precision: What it is compiled to, where that is not the variant's name.
        floats: What is not quantised is computed in this type; ``None``: in that of the precision.
        library: The engine library, where that is not the target's ``backend``.
        made: Its folds, rewrites and nodes, for the report.
        record: How this build quantised it. A float graph has none, and one that came in a portable bundle neither: its
            record is in the bundle's report, and its pins are in the bundle's recipe.
    """

    path: Path
    inputs: Mapping[str, Any]
    trial: Trial | None = None
    precision: str | None = None
    floats: str | None = None
    library: str | None = None
    made: GraphSummary = field(default_factory=GraphSummary)
    record: QuantizationRecord | None = None


def compile_graph(graph: GraphFile, precision: str, order: Order, bench: Bench, *, name: str | None = None) -> Trial:
    """Compile one graph, or take its engine from the cache; nothing is judged or measured.

    Arguments and a graph that does not compile are as in :func:`edgevit.build.try_engines.try_engines`; ``name`` is the
    variant's, by default that of the precision. Variants of one precision share an engine's files, and are opened with
    other settings.
    """
    name = name or precision
    target, recipe, progress = order.target, order.recipe, bench.progress
    model_info = _find_model_info(target, bench.evidence)
    if graph.library is not None:
        target = use_library(target, graph.library)
    stage = f"compile {name}"
    progress(stage, 0, 1)
    key = {
        **graph.inputs,
        "precision": precision,
        "backend": target.backend,
        "device": [target.device, target.compute_capability],
        **_identify_library(target),
        "settings": {**target.settings, **recipe.settings},
        "batch": recipe.batch,
        "model_info": dict(model_info or {}),
        "tier": read_tier() if target.device == "CPU" else None,  # compiling proves that the device takes it
    }

    def produce(folder: Path) -> None:
        compile_engine(
            graph.path,
            target,
            precision,
            folder,
            model_info=model_info,
            settings=recipe.settings,
            batch=recipe.batch,
        )

    try:
        _refuse_faults(graph, target, precision, recipe)
        folder, _ = bench.cache.run("engine", key, produce)
    except CompileError as exc:
        progress(stage, 1, 1)
        return refuse_trial(precision, exc, name)
    engine = load_engine(folder)
    if graph.floats is not None:
        engine = dataclasses.replace(engine, settings={**engine.settings, "inference_precision": graph.floats})
    progress(stage, 1, 1)
    return Trial(Variant(name, precision, engine.size_bytes), engine)


def _refuse_faults(graph: GraphFile, target: Target, precision: str, recipe: Recipe) -> None:
    """Raise CompileError for what the library is known to compute wrongly on a processor that the target names."""
    faults = LIBRARIES[target.backend].faults
    if not faults or target.device != "CPU":
        return
    from edgevit.graph.graph import Graph

    list_faults = importlib.import_module(faults).list_faults
    settled = {**target.settings, **recipe.settings}.get("inference_precision")
    floats = graph.floats or settled or ("bf16" if precision == "bf16" else "f32")
    loaded = Graph.load(graph.path)
    here = read_tier()
    tiers = target.isa or ((here,) if here is not None else ())
    reasons = [f.reason for tier in tiers for f in list_faults(loaded, floats, tier)]
    if reasons:
        raise CompileError("; ".join(dict.fromkeys(reasons)), "build another precision")


def _find_model_info(target: Target, evidence: Evidence) -> dict[str, str] | None:
    """What OpenVINO's model_api reads from a classifier's file; ``None`` for others."""
    from edgevit.engines.model_info import describe_model_info

    task = evidence.task
    known = any(LIBRARIES[name].model_info for name in (target.backend, *target.also))
    if not known or task.name != "classify" or task.scores == "identity":
        return None
    return describe_model_info(evidence.preprocess, evidence.labels, multilabel=task.scores == "sigmoid")


def _identify_library(target: Target) -> dict[str, Any]:
    """What an engine for a GPU or an execution provider fits: one version of its library and, of TensorRT, one GPU."""
    library = LIBRARIES[target.backend]
    if not library.nvidia and (not library.devices or target.device == "CPU"):
        return {}
    gpu = find_gpu(target.compute_capability) if library.nvidia and not library.ahead else None
    return {"versions": get_runtime(target.backend).read_versions(), "gpu": to_data(gpu)}


def refuse_trial(precision: str, exc: EdgevitError, name: str | None = None) -> Trial:
    """A variant that does not compile or run, with the reason on one line."""
    return Trial(Variant(name or precision, precision, 0, status="NOT SUPPORTED", reason=shorten_message(exc)))


def shorten_message(exc: EdgevitError) -> str:
    """An error's message on one line of a footnote's length."""
    text = " ".join(exc.message.split())
    return text if len(text) <= _LONGEST_REASON else f"{text[: _LONGEST_REASON - 2]} …"
