"""FusionRecord: what became of a graph's sites in a compiled engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Assignment:
    """Which nodes an execution provider took.

    Attributes:
        taken: How many.
        left: Op type and name of every node that the CPU computes instead.
    """

    taken: int
    left: tuple[str, ...] = ()

    @property
    def nodes(self) -> int:
        """All of the graph."""
        return self.taken + len(self.left)


@dataclass(frozen=True)
class FusionRecord:
    """What became of a graph's sites; part of a report.

    Attributes:
        compiler: Library and version.
        device: Compute capability that it was compiled for, for example ``SM86``.
        layers: Kernels of the engine.
        attention: Module path of every attention to the type of the one kernel that computes it.
        unfused_attention: Module paths of those that take more than one kernel.
        products: Linears and convolutions by the type that they multiply.
        widened: Those that multiply in a wider type than their Q/DQ pairs say.
        unfused_quantizers: Sites' Q or DQ nodes that have a kernel of their own.
        moves: Kernels that only move numbers, by the first node behind them, or the compiler's own name.
        casts: The same of kernels that only change types.
        notes: What else the compilation met, a sentence each.
        assignment: Of an execution provider of ONNX Runtime, which is then the ``device``, and of which nothing else is
            known but ``layers``, the pieces that the graph was cut into.
    """

    compiler: str
    device: str
    layers: int
    attention: Mapping[str, str] = field(default_factory=dict)
    unfused_attention: tuple[str, ...] = ()
    products: Mapping[str, int] = field(default_factory=dict)
    widened: tuple[str, ...] = ()
    unfused_quantizers: tuple[str, ...] = ()
    moves: tuple[str, ...] = ()
    casts: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    assignment: Assignment | None = None

    def leftovers(self) -> Mapping[str, tuple[str, ...]]:
        """What has a kernel of its own and computes nothing, by what it is; only what there is."""
        found = {
            "attention in several kernels": self.unfused_attention,
            "products in a wider type than their Q/DQ": self.widened,
            "Q/DQ that no kernel took in": self.unfused_quantizers,
            "kernels that only move numbers": self.moves,
            "kernels that only change types": self.casts,
            "nodes that fell back to the CPU": self.assignment.left if self.assignment is not None else (),
        }
        return {text: sites for text, sites in found.items() if sites}

    def describe(self) -> str:
        """One line: ``101 layers; attention fused in 12 of 12 blocks (fp16); products: 48 int8, 2 fp16``."""
        if self.assignment is not None:
            return f"{self.assignment.taken} of {self.assignment.nodes} nodes; pieces of the graph: {self.layers}"
        blocks = len(self.attention) + len(self.unfused_attention)
        types = ", ".join(sorted(set(self.attention.values())))
        fused = f"attention fused in {len(self.attention)} of {blocks} blocks" + (f" ({types})" if types else "")
        products = ", ".join(f"{count} {kind}" for kind, count in self.products.items())
        return "; ".join([f"{self.layers} layers", *([fused] if blocks else []), f"products: {products}"])
