"""rehearse_fusion: what can be known of a TensorRT engine at a desk without the GPU that it is for.

TensorRT-RTX compiles for a compute capability without such a GPU. What it proves is that the graph parses, that its
types and Q/DQ pairs follow the rules, and what is fused; it says nothing of latency or accuracy on the device.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgevit.core.errors import CompileError, MissingPackageError
from edgevit.core.progress import Progress, ignore_progress
from edgevit.core.report.fusion_record import FusionRecord
from edgevit.engines.fusion_file import FUSION_FILE, load_fusion
from edgevit.runtime.session import get_runtime

if TYPE_CHECKING:
    from edgevit.build.trial import GraphFile
    from edgevit.build.try_engines import SearchResult
    from edgevit.core.cache import StageCache
    from edgevit.core.target import Target

# Orin is of the Ampere family as 8.6 is, Thor of the Blackwell family as 12.0 is.
_STAND_INS = {"8.7": "8.6", "9.0": "8.9", "10.0": "12.0", "10.3": "12.0", "11.0": "12.0", "12.1": "12.1"}
_DEFAULT = "8.6"
_HALF_SCALES_OPSET = 19


@dataclasses.dataclass(frozen=True)
class Rehearsal:
    """What the compiler said.

    Attributes:
        fusion: By precision.
        notes: What could not be rehearsed and why, a sentence each.
    """

    fusion: Mapping[str, FusionRecord] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()


def rehearse_fusion(
    graphs: Mapping[str, GraphFile],
    target: Target,
    batch: tuple[int, int, int],
    cache: StageCache,
    progress: Progress = ignore_progress,
) -> Rehearsal:
    """Compile graphs with TensorRT-RTX for the target's compute capability, or for one of the same family.

    The graphs, by precision, are float32 arithmetic as it was exported, with Q/DQ pairs where it is quantised.
    """
    from edgevit.engines.tensorrt.backend import TENSORRT_RTX

    try:
        compiler = get_runtime("tensorrt_rtx").read_versions()
    except MissingPackageError as exc:
        return Rehearsal(notes=(f"what TensorRT would fuse was not looked at: {exc.message}: {exc.hint}",))
    stand_in = find_stand_in(target)
    found, notes = {}, []
    for index, (precision, graph) in enumerate(graphs.items()):
        progress("rehearse", index, len(graphs))

        def rehearse(folder: Path, graph: GraphFile = graph, precision: str = precision) -> None:
            with tempfile.TemporaryDirectory(prefix="edgevit-") as scratch:
                path = graph.path if target.strongly_typed else _raise_opset(graph.path, Path(scratch))
                engine = TENSORRT_RTX.compile(path, stand_in, precision, Path(scratch), {}, batch=batch)
                text = (engine.directory / FUSION_FILE).read_text(encoding="utf-8")
            (folder / FUSION_FILE).write_text(text, encoding="utf-8")

        key = {**graph.inputs, "precision": precision, "capability": stand_in.compute_capability, "batch": list(batch)}
        try:
            folder, _ = cache.run("rehearsal", {**key, **compiler}, rehearse)
        except CompileError as exc:
            notes.append(f"TensorRT-RTX refused {precision}: {exc.message}")
            continue
        record = load_fusion(folder)
        assert record is not None
        found[precision] = record
    progress("rehearse", len(graphs), len(graphs))
    return Rehearsal(found, tuple(notes))


def find_stand_in(target: Target) -> Target:
    """The target with a compute capability that TensorRT-RTX compiles for: its own, or one of the same family."""
    from edgevit.engines.tensorrt.backend import TENSORRT_RTX

    own = target.compute_capability or _DEFAULT
    known = TENSORRT_RTX.capabilities()
    capability = own if f"SM{own.replace('.', '')}" in known else _STAND_INS.get(own, _DEFAULT)
    return dataclasses.replace(
        target, backend="tensorrt_rtx", compute_capability=capability, strongly_typed=True, runtime_version=None
    )


def _raise_opset(path: Path, folder: Path) -> Path:
    """A graph for builder flags in the opset that has float16 scales: TensorRT-RTX takes only strongly typed ones."""
    from edgevit.graph.graph import Graph
    from edgevit.graph.opset import restate_opset

    graph = Graph.load(path)
    restate_opset(graph, _HALF_SCALES_OPSET)
    graph.save(folder / "raised.onnx")
    return folder / "raised.onnx"


def read_fusion(found: SearchResult) -> Rehearsal:
    """What the library made of each graph, of engines that were compiled here; nothing where it does not tell."""
    engines = {t.variant.precision: t.engine for t in found.trials if t.engine is not None}
    records = {precision: load_fusion(engine.directory) for precision, engine in engines.items()}
    return Rehearsal({precision: record for precision, record in records.items() if record is not None})


def describe_rehearsal(rehearsal: Rehearsal, target: Target, *, compiled: bool = False) -> tuple[str, ...]:
    """A sentence for every precision: of the engine itself where it was ``compiled``, else of a rehearsal for it."""
    told = []
    for precision, record in rehearsal.fusion.items():
        by = f"by {record.compiler} for {record.device}"
        what = f"{precision} compiled {by}" if compiled else f"rehearsal of {precision} {by}, not on {target.title}"
        told.append(f"{what}: {record.describe()}")
    return tuple(told)


def _name_some(sites: Sequence[str]) -> str:
    return ", ".join(sites[:3]) + (", …" if len(sites) > 3 else "")


def _count_types(nodes: Sequence[str]) -> str:
    """``12 Softmax, 1 Gather``, of nodes that are given by op type and name."""
    return ", ".join(f"{count} {kind}" for kind, count in Counter(n.partition(" ")[0] for n in nodes).most_common())


def list_fusion_warnings(rehearsal: Rehearsal) -> tuple[str, ...]:
    """What the compiler left unfused that it is expected to fuse, and what it refused."""
    warnings = list(rehearsal.notes)
    for precision, record in rehearsal.fusion.items():
        if (nodes := record.assignment) is not None:
            if nodes.left:
                warnings.append(
                    f"{precision}: {len(nodes.left)} of {nodes.nodes} nodes fell back from {record.device} to the CPU: "
                    f"{_count_types(nodes.left)}"
                )
            continue
        if not record.layers:
            warnings.append(f"{precision}: {record.compiler} listed no layers, so what it fused is not known")
            continue
        attention, blocks = record.unfused_attention, len(record.attention) + len(record.unfused_attention)
        found = {
            f"attention is not fused in {len(attention)} of {blocks} blocks": attention if precision != "fp32" else (),
            f"{len(record.widened)} products have Q/DQ pairs and do not multiply in {precision}": record.widened,
            f"{len(record.unfused_quantizers)} Q/DQ nodes have a kernel of their own": record.unfused_quantizers,
        }
        warnings += [f"{precision}: {text}: {_name_some(sites)}" for text, sites in found.items() if sites]
    return tuple(warnings)
