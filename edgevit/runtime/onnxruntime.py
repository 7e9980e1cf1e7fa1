"""Opening ONNX Runtime engines on the CPU; needs only numpy and onnxruntime."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from edgevit.core.engine import Engine, Setting
from edgevit.core.errors import DeviceError
from edgevit.core.isa import list_tiers
from edgevit.core.report.place import Place, select_settings
from edgevit.runtime.cores import choose_threads
from edgevit.runtime.library import import_library
from edgevit.runtime.processor_name import read_name
from edgevit.runtime.session import Outputs
from edgevit.runtime.settings import OpenSettings, read_settings
from edgevit.runtime.versions import parse_version

MINIMUM_VERSION = "1.17"
"""The first with opset 20."""

_PROVIDERS = {"CPU": "CPUExecutionProvider"}
_ERRORS_ONLY = 3
# On x86 without VNNI the library's products of u8 and i8 add pairs in 16 bits, which two large ones overflow: 13 dB for
# DeiT-T instead of 28. With this it multiplies u8 by u8 there, exactly. It changes nothing on other processors.
_DEFAULTS: Mapping[str, Setting] = {"session.x64quantprecision": "1"}


@functools.cache
def import_onnxruntime() -> Any:
    """The onnxruntime package, silenced below errors.

    Raises:
        MissingPackageError: It is not installed, or does not load.
    """
    onnxruntime = import_library("onnxruntime")
    onnxruntime.set_default_logger_severity(_ERRORS_ONLY)
    return onnxruntime


def list_devices() -> tuple[str, ...]:
    """``("CPU",)``: the one device that this package uses ONNX Runtime for."""
    providers = import_onnxruntime().get_available_providers()
    return tuple(device for device, provider in _PROVIDERS.items() if provider in providers)


def read_versions() -> dict[str, str]:
    """``{"onnxruntime": …}``."""
    return {"onnxruntime": str(import_onnxruntime().__version__)}


def find_mismatch(engine: Engine) -> str | None:
    """The device is not here, or this ONNX Runtime is too old for the opset."""
    if engine.device not in list_devices():
        return f"the engine is for ONNX Runtime's device {engine.device}; here: {', '.join(list_devices()) or 'none'}"
    here = read_versions()["onnxruntime"]
    if parse_version(here) < parse_version(MINIMUM_VERSION):
        return f"the engine needs ONNX Runtime {MINIMUM_VERSION} or later; here is {here}"
    return None


def find_differences(engine: Engine) -> tuple[str, ...]:
    """Another ONNX Runtime than the one that the engine was measured with."""
    built, here = engine.versions.get("onnxruntime", ""), read_versions()["onnxruntime"]
    return () if built == here else (f"measured with ONNX Runtime {built or 'of unknown version'}; here is {here}",)


def describe_place(engine: Engine, settings: Mapping[str, Setting]) -> Place:
    """See :class:`edgevit.runtime.session.Runtime`."""
    tiers = list_tiers(limit="")  # its kernels on the CPU are its own, which oneDNN's limit does not reach
    return Place(
        backend="onnxruntime",
        version=read_versions()["onnxruntime"],
        device=read_name(),
        instruction_set=tiers[-1] if tiers else None,
        settings=select_settings(settings),
    )


def is_property(key: str) -> bool:
    """ONNX Runtime's session configuration has keys with a dot."""
    return "." in key


def open_session(path: str, settings: OpenSettings) -> tuple[Any, int, int]:
    """``(InferenceSession, threads, streams)``; each batch has its share of the threads."""
    onnxruntime = import_onnxruntime()
    threads = settings.threads or choose_threads()
    streams = settings.streams or (threads if settings.hint == "throughput" else 1)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    # given, even where it is the default: otherwise threads are pinned to cores, which a container may refuse
    options.intra_op_num_threads = max(1, threads // streams)
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = _ERRORS_ONLY
    for key, value in {**_DEFAULTS, **settings.properties}.items():
        options.add_session_config_entry(key, str(int(value)) if isinstance(value, bool) else str(value))
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"]), threads, streams


class OnnxRuntimeExecutor:
    """An inference session, which several threads may run at the same time."""

    def __init__(self, engine: Engine, settings: OpenSettings) -> None:
        if settings.inference_precision not in (None, "f32"):
            raise DeviceError(
                f"ONNX Runtime computes in f32 on the CPU, not in {settings.inference_precision}",
                "leave inference_precision out",
            )
        self._session: Any
        try:
            self._session, threads, self.streams = open_session(str(engine.path), settings)
        except Exception as exc:  # onnxruntime's exceptions have no common class of their own
            raise DeviceError(
                f"ONNX Runtime cannot open {engine.path.name}: {exc}", "build the bundle again on this machine"
            ) from exc
        self._input, self._outputs = engine.inputs[0].name, [spec.name for spec in engine.outputs]
        self.settings: Mapping[str, Setting] = {
            "hint": settings.hint,
            "threads": threads,
            "streams": self.streams,
            "inference_precision": "f32",
            **settings.properties,
        }

    def execute(self, batch: npt.NDArray[np.uint8]) -> Outputs:
        """See :class:`edgevit.runtime.session.Executor`."""
        session = self._session
        if session is None:
            raise DeviceError("the session was closed while a call was on its way", "open the engine again")
        try:
            return tuple(session.run(self._outputs, {self._input: batch}))
        except Exception as exc:
            raise DeviceError(f"ONNX Runtime failed: {exc}", "build the bundle again on this machine") from exc

    def close(self) -> None:
        """See :class:`edgevit.runtime.session.Executor`; a call under way keeps the session until it ends."""
        self._session = None


def open_executor(engine: Engine, settings: Mapping[str, Setting]) -> OnnxRuntimeExecutor:
    """Load an engine; see :func:`edgevit.runtime.session.open_engine`."""
    return OnnxRuntimeExecutor(engine, read_settings(settings, is_property))
