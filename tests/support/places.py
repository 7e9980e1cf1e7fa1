"""The place that an engine library tells of an engine of this machine."""

from __future__ import annotations

from edgevit.core.engine import Engine, Setting, TensorSpec
from edgevit.core.report.place import Place
from edgevit.runtime.session import get_runtime

SPECS = (TensorSpec("image", (1, 4, 4, 3), "uint8"),), (TensorSpec("logits", (1, 2), "float32"),)
SETTINGS: dict[str, Setting] = {
    "hint": "latency",
    "threads": 2,
    "streams": 1,
    "wait": "spin",
    "cuda_graph": True,
    "transfers": "included",
    "inference_precision": "f32",
}


def describe(backend: str, device: str = "CPU") -> Place:
    """What the library says of where it would answer."""
    engine = Engine(backend=backend, device=device, precision="fp32", files=("x",), inputs=SPECS[0], outputs=SPECS[1])
    return get_runtime(backend).describe_place(engine, SETTINGS)
