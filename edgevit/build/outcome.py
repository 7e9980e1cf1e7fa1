"""Outcome: what came of trying the graphs, wherever their engines are made and measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edgevit.build.rehearsal import Rehearsal
from edgevit.build.try_engines import SearchResult

if TYPE_CHECKING:
    from edgevit.build.verdict.choose import Ruling
    from edgevit.core.engine import Engine
    from edgevit.core.report.report import Variant
    from edgevit.runtime.session import Outputs


@dataclass(frozen=True)
class Outcome:
    """What came of trying the graphs.

    Attributes:
        found: A trial for every variant, with its engine where that is compiled here; latencies and conditions where
            they were measured.
        variants: Judged, in the order of the table.
        ruling: The choice, by measured latency; where nothing was measured, by accuracy and the target's order of
            precisions.
        rehearsal: What TensorRT's compiler fused, by precision.
        risks: What weakens the evidence, a warning each.
        tiers: By instruction set, the variants as they were judged under it, where that is not only this process's own.
        graph_outputs: By quantised precision, what its graph answers to the evidence's images in ONNX Runtime.
    """

    found: SearchResult
    variants: tuple[Variant, ...]
    ruling: Ruling
    rehearsal: Rehearsal = field(default_factory=Rehearsal)
    risks: tuple[str, ...] = ()
    tiers: Mapping[str, tuple[Variant, ...]] = field(default_factory=dict)
    graph_outputs: Mapping[str, Outputs] = field(default_factory=dict)

    @property
    def chosen(self) -> Variant | None:
        """The variant that was chosen."""
        return next((v for v in self.variants if v.name == self.ruling.chosen), None)

    @property
    def engine(self) -> Engine | None:
        """Its engine; ``None`` where that is compiled on the device."""
        return next((t.engine for t in self.found.trials if t.variant.name == self.ruling.chosen), None)
