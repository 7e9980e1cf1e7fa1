"""LIBRARIES: what each engine library is, one record a library, read wherever they differ.

Only plain data, as the device runtime reads it: the code lies in the modules that ``compiler`` and ``runtime`` name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from edgevit.core.engine import Setting
from edgevit.core.isa import TierName
from edgevit.core.providers import PROVIDERS, ExecutionProvider, list_choices

BackendName: TypeAlias = Literal["openvino", "onnxruntime", "tensorrt", "tensorrt_rtx"]
"""The keys of the table, which are the names of the libraries' Python packages."""


@dataclass(frozen=True, kw_only=True)
class EngineLibrary:
    """What differs between engine libraries.

    Attributes:
        compiler: The module in ``engines/``, or an object in one (after a colon) that serves two libraries.
        runtime: The same in ``runtime/``, which opens engines.
        distribution: What pip calls it.
        twins: Further distributions with the same package.
        extra: The extra of edgevit that brings it.
        purpose: What it is installed for, in a few words.
        environment_bytes: What a fresh environment takes with pip's own needs, measured on x86-64 and rounded up.
        placement: Where it takes Q/DQ: a name in ``edgevit/quantize/placement.py``.
        bundle_properties: Its own properties that a bundle may set, with their values: none writes, reads or loads a
            file.
        tuned: Ways to open an engine on a CPU that are worth timing, besides numbers of threads.
        devices: What each device of a target is to it, where it says so itself; otherwise the machine tells.
        cpu: Whether its device ``CPU`` is this processor.
        onednn: Whether oneDNN computes there: in a float type of choice, and under the instruction sets of a limit.
        lacks_isa: Instruction sets that it does not run under, with the reason.
        faults: The module in ``engines/`` that knows what it computes wrongly on a CPU.
        model_info: Whether its files hold what OpenVINO's model_api reads.
        nvidia: Whether it takes strongly typed graphs and opens engines on an NVIDIA GPU, which needs the driver.
        ahead: Whether it compiles for a GPU that is not here.
    """

    compiler: str
    runtime: str
    distribution: str
    twins: tuple[str, ...] = ()
    extra: str
    purpose: str
    environment_bytes: int
    placement: str
    bundle_properties: Mapping[str, tuple[Setting, ...]] = field(default_factory=dict)
    tuned: tuple[Mapping[str, Setting], ...] = ()
    devices: Mapping[str, ExecutionProvider] = field(default_factory=dict)
    cpu: bool = False
    onednn: bool = False
    lacks_isa: Mapping[TierName, str] = field(default_factory=dict)
    faults: str = ""
    model_info: bool = False
    nvidia: bool = False
    ahead: bool = False


_SWITCH: tuple[Setting, ...] = (True, False)
_TEXT_SWITCH: tuple[Setting, ...] = (True, False, "0", "1")

LIBRARIES: Mapping[str, EngineLibrary] = {
    "openvino": EngineLibrary(
        compiler="edgevit.engines.openvino",
        runtime="edgevit.runtime.openvino",
        distribution="openvino",
        extra="openvino",
        purpose="compile and run for Intel devices",
        environment_bytes=500 << 20,
        placement="openvino",
        bundle_properties={
            "ENABLE_CPU_PINNING": _SWITCH,
            "ENABLE_HYPER_THREADING": _SWITCH,
            "SCHEDULING_CORE_TYPE": ("ANY_CORE", "PCORE_ONLY", "ECORE_ONLY"),
        },
        tuned=({"ENABLE_CPU_PINNING": False},),
        cpu=True,
        onednn=True,
        lacks_isa={"sse4.1": "OpenVINO has no kernels of a LayerNorm"},
        faults="edgevit.engines.openvino_faults",
        model_info=True,
    ),
    "onnxruntime": EngineLibrary(
        compiler="edgevit.engines.onnxruntime",
        runtime="edgevit.runtime.onnxruntime",
        distribution="onnxruntime",
        twins=tuple(dict.fromkeys(p.distribution for p in PROVIDERS.values() if p.distribution != "onnxruntime")),
        extra="onnxruntime",
        purpose="compile and run for any CPU, and with execution providers",
        environment_bytes=400 << 20,
        placement="onnxruntime",
        bundle_properties={
            "mlas.enable_gemm_fastmath_arm64_bfloat16": _TEXT_SWITCH,
            "session.intra_op.allow_spinning": _TEXT_SWITCH,
            "session.set_denormal_as_zero": _TEXT_SWITCH,
            "session.x64quantprecision": _TEXT_SWITCH,
            **list_choices(),
        },
        devices=PROVIDERS,
        cpu=True,
    ),
    "tensorrt": EngineLibrary(
        compiler="edgevit.engines.tensorrt.backend:TENSORRT",
        runtime="edgevit.runtime.tensorrt.open_plan:TENSORRT",
        distribution="tensorrt",
        twins=("tensorrt_cu12", "tensorrt_cu13"),  # one for every major version of CUDA
        extra="tensorrt",
        purpose="compile and run on Jetson and other NVIDIA GPUs",
        environment_bytes=400 << 20,
        placement="tensorrt",
        nvidia=True,
    ),
    "tensorrt_rtx": EngineLibrary(
        compiler="edgevit.engines.tensorrt.backend:TENSORRT_RTX",
        runtime="edgevit.runtime.tensorrt.open_plan:TENSORRT_RTX",
        distribution="tensorrt-rtx",
        twins=("tensorrt_rtx_cu12", "tensorrt_rtx_cu13"),
        extra="rtx",
        purpose="compile for GeForce RTX, and run there",
        environment_bytes=1 << 30,
        placement="tensorrt",
        nvidia=True,
        ahead=True,
    ),
}
