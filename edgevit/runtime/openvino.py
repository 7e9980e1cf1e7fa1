"""Opening OpenVINO engines; needs only numpy and openvino."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import queue
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from edgevit.core.cores import choose_threads, count_logical_cores, count_physical_cores
from edgevit.core.engine import Engine, Setting
from edgevit.core.errors import BundleError, DeviceError, format_offenders
from edgevit.core.isa import TIERS, TierName, read_tier
from edgevit.core.report.place import Place, select_settings
from edgevit.runtime.compiled_file import can_keep, read_compiled, write_compiled, write_key
from edgevit.runtime.folder import FolderContents
from edgevit.runtime.library import import_library
from edgevit.runtime.ports import check_ports
from edgevit.runtime.session import Outputs
from edgevit.runtime.settings import KEYS, OpenSettings, read_settings, refuse_setting
from edgevit.runtime.versions import OtherVersion, parse_version


@functools.cache
def get_core() -> Any:
    """The process's one ``openvino.Core``, which is safe to share between threads."""
    return import_library("openvino").Core()


@functools.cache
def list_devices() -> tuple[str, ...]:
    """OpenVINO's devices on this machine, such as ``CPU`` and ``GPU.0``."""
    return tuple(get_core().available_devices)


def read_versions() -> dict[str, str]:
    """``{"openvino": …}``."""
    return {"openvino": str(import_library("openvino").get_version())}


def has_device(name: str) -> bool:
    """Whether the device, or one of its kind (``GPU`` for ``GPU.0``), is here."""
    if name == "CPU" and _read_text("CPU", "FULL_DEVICE_NAME") is not None:
        return True  # a list of all devices would load the plugins of all kinds
    return any(device == name or device.startswith(f"{name}.") for device in list_devices())


def find_mismatch(engine: Engine) -> str | None:
    """The device or its instructions are not here, or this OpenVINO is older than the one that wrote the engine."""
    if not has_device(engine.device):
        return f"the engine is for OpenVINO's device {engine.device}; here: {', '.join(list_devices()) or 'none'}"
    floats, tier = engine.settings.get("inference_precision"), read_tier()
    if engine.device == "CPU" and floats in ("bf16", "f16") and tier is not None and not _computes(tier, str(floats)):
        return f"the engine computes in {floats}, of which this processor ({TIERS[tier].title}) has no products"
    built, here = engine.versions.get("openvino", "0"), read_versions()["openvino"]
    # OpenVINO reads what its earlier releases wrote, and does not promise the reverse
    if parse_version(here) < parse_version(built):
        return OtherVersion(f"the engine was written by OpenVINO {built}; here is the older {here}")
    return None


def _computes(tier: TierName, floats: str) -> bool:
    """Every AVX-512 is enough for bfloat16: OpenVINO widens it where it has to, and is right, if not fast."""
    return bool(getattr(TIERS[tier], floats)) or (floats == "bf16" and tier.startswith("avx512"))


def find_differences(engine: Engine) -> tuple[str, ...]:
    """Another OpenVINO than the one that the engine was measured with."""
    built, here = engine.versions.get("openvino", ""), read_versions()["openvino"]
    return () if built == here else (f"measured with OpenVINO {built or 'of unknown version'}; here is {here}",)


def describe_place(engine: Engine, settings: Mapping[str, Setting]) -> Place:
    """See :class:`edgevit.runtime.session.Runtime`."""
    return Place(
        backend="openvino",
        version=read_versions()["openvino"],
        device=_read_text(engine.device, "FULL_DEVICE_NAME"),
        instruction_set=read_tier() if engine.device == "CPU" else None,
        driver=_read_text(engine.device, "GPU_DRIVER_VERSION"),
        settings=select_settings(settings),
    )


def _read_text(device: str, name: str) -> str | None:
    """A device's property, where it has it and tells it."""
    try:
        if name not in get_core().get_property(device, "SUPPORTED_PROPERTIES"):
            return None
        return str(get_core().get_property(device, name)).strip() or None
    except RuntimeError:
        return None


def is_property(key: str) -> bool:
    """OpenVINO's own properties are in capitals."""
    return key.isupper()


def build_config(settings: OpenSettings, device: str) -> dict[str, Any]:
    """OpenVINO's properties for ``compile_model``."""
    config: dict[str, Any] = {"PERFORMANCE_HINT": settings.hint.upper()}
    if settings.inference_precision is not None:
        config["INFERENCE_PRECISION_HINT"] = settings.inference_precision
    if settings.streams is not None:
        config["NUM_STREAMS"] = settings.streams
    threads = settings.threads
    if device == "CPU":
        few = count_physical_cores() <= 2
        if threads is None and settings.hint == "latency" and few:
            threads = choose_threads()  # OpenVINO would leave the second thread of each core idle
        if threads is not None:
            config["INFERENCE_NUM_THREADS"] = threads
            if threads > count_physical_cores() and threads <= count_logical_cores():
                config["ENABLE_HYPER_THREADING"] = True
    return {**config, **settings.properties}


class OpenVINOExecutor:
    """A compiled model with one inference request a stream."""

    def __init__(self, engine: Engine, settings: OpenSettings, digests: Mapping[str, str]) -> None:
        _refuse_other_files(engine)
        try:
            compiled, self._mapped = _compile(engine, build_config(settings, engine.device), digests)
            self.streams = _read_count(compiled, "OPTIMAL_NUMBER_OF_INFER_REQUESTS") or 1
            requests = [compiled.create_infer_request() for _ in range(self.streams)]
        except RuntimeError as exc:
            _refuse_unknown(settings, engine.device, exc)
            hint = "build the bundle again on this machine"
            if settings.properties:
                hint = f"open it without {' and '.join(settings.properties)}, or {hint}"
            if engine.device == "CPU" and read_tier() == "sse4.1":
                hint = (
                    "OpenVINO has no kernels of a LayerNorm for no more than SSE4.1: take a processor with AVX or newer"
                )
            raise DeviceError(f"OpenVINO cannot open {engine.path.name} on {engine.device}: {exc}", hint) from exc
        check_ports(engine, *(list(map(_read_shape, ports)) for ports in (compiled.inputs, compiled.outputs)))
        self.settings: Mapping[str, Setting] = _describe_settings(compiled, settings)
        self._requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for request in requests:
            self._requests.put(request)

    def execute(self, batch: npt.NDArray[np.uint8]) -> Outputs:
        """See :class:`edgevit.runtime.session.Executor`."""
        request = self._requests.get()
        if request is None:
            self._requests.put(None)  # the next waiting caller is told as well
            raise DeviceError("the session was closed while a call waited", "open the engine again")
        try:
            # the input is read in place; outputs are copies, as the next call overwrites the request's own
            results = request.infer({0: batch}, share_inputs=True)
        except MemoryError as exc:
            raise DeviceError("there is too little memory for OpenVINO", "free some, and call again") from exc
        except RuntimeError as exc:
            raise DeviceError(f"OpenVINO failed: {exc}", "build the bundle again on this machine") from exc
        finally:
            self._requests.put(request)
        return tuple(results.values())  # in the order of the outputs; by number each takes microseconds

    def close(self) -> None:
        """See :class:`edgevit.runtime.session.Executor`."""
        for _ in range(self.streams):
            self._requests.get()
        self._requests.put(None)
        self._mapped = None


def open_executor(
    engine: Engine, settings: Mapping[str, Setting], digests: Mapping[str, str] | None = None
) -> OpenVINOExecutor:
    """Load an engine; see :func:`edgevit.runtime.session.open_engine`."""
    return OpenVINOExecutor(engine, read_settings(settings, is_property), digests or {})


def _compile(engine: Engine, config: dict[str, Any], digests: Mapping[str, str]) -> tuple[Any, Any]:
    """The compiled model, and what must live as long as it: of one that was kept, the memory that its weights lie in.

    Raises:
        RuntimeError: OpenVINO refuses it.
    """
    key = _write_key(engine, config, digests)
    mapped = read_compiled(key) if key is not None else None
    if mapped is not None:
        try:
            tensor = import_library("openvino").Tensor(mapped, shared_memory=True)
            return get_core().import_model(tensor, engine.device, config), tensor
        except RuntimeError:  # of another processor, as OpenVINO sees it
            pass
    model, weights = _read_model(engine)
    compiled = get_core().compile_model(model, engine.device, config)
    if key is not None and can_keep(key, engine.size_bytes) and _is_as_checked(engine, digests):
        with contextlib.suppress(RuntimeError):  # not every graph can be written
            write_compiled(key, _export(compiled))
    return compiled, weights


def _write_key(engine: Engine, config: Mapping[str, Any], digests: Mapping[str, str]) -> str | None:
    """``None`` where nothing is kept: on other devices nobody tried whether what was kept answers the same."""
    if engine.device != "CPU" or not all(name in digests for name in engine.files) or "CACHE_DIR" in config:
        return None
    return write_key(
        backend="openvino",
        version=read_versions()["openvino"],
        device=engine.device,
        processor=_read_text(engine.device, "FULL_DEVICE_NAME"),
        instruction_set=read_tier(),
        files=[(name, digests[name]) for name in engine.files],
        properties=config,
    )


def _is_as_checked(engine: Engine, digests: Mapping[str, str]) -> bool:
    """Whether the files are still what they were: what is kept outlives whoever replaces them in this moment."""
    contents = engine.contents or FolderContents(engine.directory)
    try:
        return all(contents.hash(name)[0] == digests[name] for name in engine.files)
    except OSError:
        return False


def _export(compiled: Any) -> bytes:
    stream = io.BytesIO()
    compiled.export_model(stream)
    return stream.getvalue()


def _read_model(engine: Engine) -> tuple[Any, Any]:
    """What is compiled, and the weights that have to outlive it: mapped, where they lie in a packed bundle."""
    if engine.contents is None:
        return str(engine.path), None
    name = os.path.splitext(engine.files[0])[0] + ".bin"
    mapped = engine.contents.map(name) if name in engine.files else memoryview(b"")
    weights = np.frombuffer(mapped, np.uint8) if len(mapped) else np.zeros(1, np.uint8)
    tensor = import_library("openvino").Tensor(weights, shared_memory=True)
    return get_core().read_model(engine.read(engine.files[0]), tensor), (tensor, weights)


def _read_shape(port: Any) -> list[object]:
    return [side.get_length() if side.is_static else None for side in port.partial_shape]


def _refuse_other_files(engine: Engine) -> None:
    """OpenVINO offers a file to its readers of every format, and takes weights of its name that lie beside it."""
    try:
        if engine.contents is None:
            with engine.path.open("rb") as stream:
                begin = stream.read(64)
        else:
            begin = bytes(engine.contents.map(engine.files[0])[:64])
    except OSError as exc:
        message = f"{engine.path} cannot be read: {exc.strerror or exc}"
        raise DeviceError(message, "copy the bundle again", code="damaged") from exc
    if not begin.lstrip().startswith((b"<?xml", b"<net")):
        message = f"{engine.path} is not a model of OpenVINO's own format"
        raise BundleError(message, "build the bundle again", code="unsafe")
    weights = engine.path.with_suffix(".bin")
    if engine.contents is None and os.path.lexists(weights) and weights.name not in engine.files:
        message = f"{weights} holds weights, and the bundle does not list it"
        raise BundleError(message, "build the bundle again", code="unsafe")


def _refuse_unknown(settings: OpenSettings, device: str, exc: RuntimeError) -> None:
    """Whether it was for a property that the device does not have: OpenVINO says so in lines of its own sources."""
    try:
        known = get_core().get_property(device, "SUPPORTED_PROPERTIES")
    except RuntimeError:
        return
    if unknown := [key for key in settings.properties if key not in known]:
        lines = format_offenders([f"OpenVINO's device {device} has no property {key}" for key in unknown])
        message = f"the engine's settings are not valid:\n{lines}"
        raise refuse_setting(message, f"leave them out; the settings are {', '.join(KEYS)}") from exc


def _read_count(compiled: Any, name: str) -> int | None:
    """A property's number, where the device has the property."""
    if name not in compiled.get_property("SUPPORTED_PROPERTIES"):
        return None
    return int(compiled.get_property(name))


def _describe_settings(compiled: Any, settings: OpenSettings) -> dict[str, Setting]:
    used: dict[str, Setting] = {"hint": settings.hint, **settings.properties}
    for key, name in (("threads", "INFERENCE_NUM_THREADS"), ("streams", "NUM_STREAMS")):
        count = _read_count(compiled, name)
        if count is not None:
            used[key] = count
    if "INFERENCE_PRECISION_HINT" in compiled.get_property("SUPPORTED_PROPERTIES"):
        kind = compiled.get_property("INFERENCE_PRECISION_HINT")
        used["inference_precision"] = kind.get_type_name() if hasattr(kind, "get_type_name") else str(kind)
    return used
