"""An execution provider that is not here: ONNX Runtime's own session, which says that a provider took nodes."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import onnxruntime
import pytest

from edgevit.core.providers import PROVIDERS
from edgevit.core.target import Target
from edgevit.runtime.providers import RECORD_KEY


@dataclass(frozen=True)
class Node:
    """As ONNX Runtime's ``OrtEpAssignedNode``."""

    op_type: str
    name: str


@dataclass(frozen=True)
class Part:
    """As ONNX Runtime's ``OrtEpAssignedSubgraph``."""

    ep_name: str
    nodes: tuple[Node, ...]

    def get_nodes(self) -> tuple[Node, ...]:
        return self.nodes


@dataclass
class Pretended:
    """What the provider was opened with, the last session at the end."""

    options: list[dict[str, str]] = field(default_factory=list)


def pretend_provider(
    monkeypatch: pytest.MonkeyPatch, device: str, takes: Collection[str], *, starts: bool = True
) -> Pretended:
    """ONNX Runtime as if it had a device's provider; what it computes is computed on the CPU.

    Args:
        monkeypatch: Of the test.
        device: A key of ``PROVIDERS``.
        takes: Op types that the provider takes; the CPU has the others.
        starts: Whether a session has the provider that it asked for.
    """
    name, said, real = PROVIDERS[device].name, Pretended(), onnxruntime.InferenceSession
    available = onnxruntime.get_available_providers()

    class Session(real):  # type: ignore[misc, valid-type]
        def __init__(self, path: str, options: Any, providers: list[Any], enable_fallback: int) -> None:
            assert enable_fallback == 0, "it would go on in silence"
            self.asked = [p[0] if isinstance(p, tuple) else p for p in providers]
            said.options += [p[1] for p in providers if isinstance(p, tuple)]
            super().__init__(path, options, providers=["CPUExecutionProvider"], enable_fallback=0)
            if name in self.asked:
                assert options.get_session_config_entry(RECORD_KEY) == "1"

        def get_providers(self) -> list[str]:
            return self.asked if starts else ["CPUExecutionProvider"]

        def get_provider_graph_assignment_info(self) -> list[Part]:
            nodes = [
                Node(node.op_type, node.name)
                for part in super().get_provider_graph_assignment_info()
                for node in part.get_nodes()
            ]
            taken = tuple(node for node in nodes if node.op_type in takes)
            return [Part(name, taken), *(Part("CPUExecutionProvider", (n,)) for n in nodes if n not in taken)]

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [name, *available])
    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    return said


def make_target(device: str, **changes: Any) -> Target:
    """A target for an execution provider."""
    fields: dict[str, Any] = {"precisions": ("fp32",), **changes}
    return Target(
        name=f"ort-{device}", title="a provider", backend="onnxruntime", device=device, build_on="host", **fields
    )
