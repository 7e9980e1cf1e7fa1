"""Opening ONNX Runtime engines, on the CPU or with an execution provider; needs only numpy and onnxruntime."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from edgevit.core.cores import choose_threads
from edgevit.core.engine import Engine, Setting
from edgevit.core.errors import BundleError, DeviceError, format_offenders
from edgevit.core.isa import list_tiers
from edgevit.core.providers import PROVIDERS
from edgevit.core.report.place import Place, select_settings
from edgevit.runtime.library import import_library
from edgevit.runtime.nvidia import describe_driver, read_gpus
from edgevit.runtime.onnx_references import list_references
from edgevit.runtime.ports import check_ports
from edgevit.runtime.processor_name import read_name
from edgevit.runtime.providers import find_absence, list_providers, read_assignment, split_options
from edgevit.runtime.session import Outputs
from edgevit.runtime.settings import OpenSettings, read_settings
from edgevit.runtime.versions import OtherVersion, parse_version

MINIMUM_VERSION = "1.17"
"""The first with opset 20."""

_ERRORS_ONLY = 3
# On x86 without VNNI the library's products of u8 and i8 add pairs in 16 bits, which two large ones overflow: 13 dB for
# DeiT-T instead of 28. With this it multiplies u8 by u8 there, exactly. It changes nothing on other processors.
_DEFAULTS: Mapping[str, str] = {"session.x64quantprecision": "1"}


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
    """``CPU``, and the devices whose execution providers this build of ONNX Runtime has."""
    return list_providers(import_onnxruntime())


def read_versions() -> dict[str, str]:
    """``{"onnxruntime": …}``."""
    return {"onnxruntime": str(import_onnxruntime().__version__)}


def find_mismatch(engine: Engine) -> str | None:
    """The device is not here, or this ONNX Runtime is too old for the opset."""
    if absence := find_absence(import_onnxruntime(), engine.device):
        return f"the engine is for ONNX Runtime's device {engine.device}: {absence}"
    if engine.device not in list_devices():
        return f"the engine is for ONNX Runtime's device {engine.device}; here: {', '.join(list_devices()) or 'none'}"
    here = read_versions()["onnxruntime"]
    if parse_version(here) < parse_version(MINIMUM_VERSION):
        return OtherVersion(f"the engine needs ONNX Runtime {MINIMUM_VERSION} or later; here is {here}")
    return None


def find_differences(engine: Engine) -> tuple[str, ...]:
    """Another ONNX Runtime than the one that the engine was measured with."""
    built, here = engine.versions.get("onnxruntime", ""), read_versions()["onnxruntime"]
    return () if built == here else (f"measured with ONNX Runtime {built or 'of unknown version'}; here is {here}",)


def describe_place(engine: Engine, settings: Mapping[str, Setting]) -> Place:
    """See :class:`edgevit.runtime.session.Runtime`."""
    # its kernels on the CPU are its own, which oneDNN's limit does not reach; OpenVINO's are oneDNN's
    tiers = list_tiers() if engine.device == "openvino" else list_tiers(limit="")
    gpus = _list_gpus() if engine.device == "cuda" else ()
    return Place(
        backend="onnxruntime",
        version=read_versions()["onnxruntime"],
        device=gpus[0] if gpus else read_name(),
        instruction_set=tiers[-1] if tiers else None,
        driver=describe_driver() if gpus else None,
        settings=select_settings(settings),
    )


def _list_gpus() -> tuple[str, ...]:
    try:
        return tuple(gpu.name for gpu in read_gpus())
    except DeviceError:
        return ()


def is_property(key: str) -> bool:
    """ONNX Runtime's session configuration has keys with a dot, and a provider's options are ``device.option`` here."""
    return "." in key


def open_session(
    model: str | bytes,
    settings: OpenSettings,
    device: str = "CPU",
    *,
    external: Mapping[str, memoryview] = MappingProxyType({}),
) -> tuple[Any, int, int]:
    """``(InferenceSession, threads, streams)``; each batch has its share of the threads.

    Args:
        model: The file, or its content.
        settings: How to open it.
        device: Where.
        external: Of a model that is given as its content: what lies in the files that it refers to.

    Raises:
        DeviceError: The device's provider did not start or computes nothing, or the settings are another's.
    """
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
    chosen, entries = split_options(device, settings, max(1, threads // streams))
    for key, value in {**_DEFAULTS, **entries}.items():
        options.add_session_config_entry(key, value)
    providers: list[Any] = [(PROVIDERS[device].name, chosen)] if device != "CPU" else []
    providers.append("CPUExecutionProvider")
    if external:
        sizes = [len(content) for content in external.values()]
        options.add_external_initializers_from_files_in_memory(list(external), list(external.values()), sizes)
    session = onnxruntime.InferenceSession(model, options, providers=providers, enable_fallback=0)
    if device != "CPU":
        read_assignment(session, device)  # refuses one that fell back as a whole
    return session, threads, streams


def _list_own_files(engine: Engine) -> tuple[str, ...]:
    """The files that the engine's refers to, as it calls them; all are the bundle's own.

    ONNX Runtime takes files of its own format too, and follows an ONNX file's references wherever they lead.
    """
    try:
        named = list_references(engine.path if engine.contents is None else engine.contents.map(engine.files[0]))
    except OSError as exc:
        message = f"{engine.path} cannot be read: {exc.strerror or exc}"
        raise DeviceError(message, "copy the bundle again", code="damaged") from exc
    except ValueError as exc:
        message = f"{engine.path} is not an ONNX file: {exc}"
        raise BundleError(message, "build the bundle again", code="unsafe") from exc
    others = [name for name in named if name.removeprefix("./") not in engine.files]
    if others:
        raise BundleError(
            f"{engine.path} reads files that the bundle does not list:\n{format_offenders(others)}",
            "build the bundle again",
            code="unsafe",
        )
    return named


class OnnxRuntimeExecutor:
    """An inference session, which several threads may run at the same time."""

    def __init__(self, engine: Engine, settings: OpenSettings) -> None:
        if settings.inference_precision not in (None, "f32"):
            raise DeviceError(
                f"ONNX Runtime computes in f32 on the CPU, not in {settings.inference_precision}",
                "leave inference_precision out; execution providers have options of their own",
            )
        named, packed = _list_own_files(engine), engine.contents
        self._session: Any
        try:
            external = {name: packed.map(name.removeprefix("./")) for name in named} if packed is not None else {}
            model = str(engine.path) if packed is None else engine.read(engine.files[0])
            self._session, threads, self.streams = open_session(model, settings, engine.device, external=external)
        except DeviceError:
            raise
        except Exception as exc:  # onnxruntime's exceptions have no common class of their own
            raise DeviceError(
                f"ONNX Runtime cannot open {engine.path.name}: {exc}", "build the bundle again on this machine"
            ) from exc
        ports = (self._session.get_inputs(), self._session.get_outputs())
        check_ports(engine, *([port.shape for port in found] for found in ports))
        self._input, self._outputs = engine.inputs[0].name, [spec.name for spec in engine.outputs]
        self.settings: Mapping[str, Setting] = {
            "hint": settings.hint,
            "threads": threads,
            "streams": self.streams,
            **({"inference_precision": "f32"} if engine.device == "CPU" else {}),
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


def open_executor(
    engine: Engine, settings: Mapping[str, Setting], digests: Mapping[str, str] | None = None
) -> OnnxRuntimeExecutor:
    """Load an engine; see :func:`edgevit.runtime.session.open_engine`. Nothing that it compiles is kept."""
    return OnnxRuntimeExecutor(engine, read_settings(settings, is_property))
