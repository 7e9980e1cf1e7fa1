"""What an execution provider of ONNX Runtime is opened with, and which nodes it took.

ONNX Runtime computes on the CPU what a provider does not take, and everything where a provider does not start: neither
is an error to it. Both are told here by its own record of the assignment, so that no provider is replaced in silence.
"""

from __future__ import annotations

from typing import Any

from edgevit.core.errors import DeviceError
from edgevit.core.providers import PROVIDERS
from edgevit.core.report.fusion_record import Assignment
from edgevit.runtime.settings import OpenSettings

RECORD_KEY = "session.record_ep_graph_assignment_info"
PRODUCTS = frozenset(
    {"MatMul", "Gemm", "Conv", "FusedMatMul", "QLinearMatMul", "MatMulInteger", "QLinearConv", "QGemm"}
)
"""Nodes that compute: a provider that takes none of them computes nothing of a model."""


def list_providers(onnxruntime: Any) -> tuple[str, ...]:
    """The devices of :data:`edgevit.core.providers.PROVIDERS` that this build of ONNX Runtime has."""
    here = onnxruntime.get_available_providers()
    return tuple(device for device, provider in PROVIDERS.items() if provider.name in here)


def find_absence(onnxruntime: Any, device: str) -> str | None:
    """Why a device cannot be used, and what brings it; ``None`` where its provider is here and tells what it takes."""
    if device == "CPU" or device not in PROVIDERS:
        return None
    provider = PROVIDERS[device]
    version, here = onnxruntime.__version__, onnxruntime.get_available_providers()
    if provider.name not in here:
        return f"ONNX Runtime {version} here has no {provider.name}, only {', '.join(here)}: {provider.install_line}"
    if not hasattr(onnxruntime.InferenceSession, "get_provider_graph_assignment_info"):
        return f"ONNX Runtime {version} does not tell which nodes {provider.name} takes: install 1.24 or later"
    return None


def split_options(device: str, settings: OpenSettings, threads: int) -> tuple[dict[str, str], dict[str, str]]:
    """The provider's options, and the entries of the session's configuration.

    Raises:
        DeviceError: Settings name an option of another provider.
    """
    provider = PROVIDERS[device]
    options, entries = dict(provider.options), {}
    if provider.threads is not None:
        options[provider.threads] = str(threads)
        entries["session.intra_op.allow_spinning"] = "0"  # two pools of threads would take the cores from each other
    if provider.streams is not None:
        options[provider.streams] = str(settings.streams or 1)
    for key, value in settings.properties.items():
        text = str(int(value)) if isinstance(value, bool) else str(value)
        owner, _, option = key.partition(".")
        if owner not in PROVIDERS:
            entries[key] = text
        elif owner == device:
            options[option] = text
        else:
            raise DeviceError(f"{key} is an option of another provider than {device}", "leave it out of the settings")
    if device != "CPU":
        entries[RECORD_KEY] = "1"
    return options, entries


def read_assignment(session: Any, device: str) -> tuple[int, Assignment]:
    """The pieces that the graph was cut into, and which nodes a session's provider took.

    Args:
        session: Opened with :data:`RECORD_KEY`.
        device: Of the engine; not ``CPU``.

    Raises:
        DeviceError: The provider did not start, or the CPU computes every product.
    """
    name = PROVIDERS[device].name
    if name not in session.get_providers():
        raise DeviceError(
            f"{name} did not start, and ONNX Runtime fell back to {', '.join(session.get_providers())}",
            "check the device's driver and the libraries that the provider needs",
        )
    parts = session.get_provider_graph_assignment_info()
    nodes = [(part.ep_name, node.op_type, node.name) for part in parts for node in part.get_nodes()]
    products = [owner for owner, op_type, _ in nodes if op_type in PRODUCTS]
    if name not in products:
        raise DeviceError(
            f"{name} computes none of the {len(products)} products of the graph: all fell back to the CPU",
            'give the target device = "CPU", or another precision',
        )
    left = tuple(f"{op_type} {node}" for owner, op_type, node in nodes if owner != name)
    return len(parts), Assignment(len(nodes) - len(left), left)
