"""Opening TensorRT and TensorRT-RTX plans; needs numpy, the library and cuda-bindings.

Both libraries have the same Python interface. The driver is asked before either is touched: their runtime may end the
process where there is none.

A plan fits one release of its library: TensorRT's major, minor and patch number have to be the same, as no plan is
built version-compatible here, and "TensorRT-RTX engines are not compatible between different releases" (NVIDIA,
TensorRT-RTX documentation, Engine Compatibility). It fits one compute capability, and is best on the very GPU model.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from typing import Any

from edgevit.core.engine import Engine, Setting
from edgevit.core.errors import DeviceError
from edgevit.core.libraries import LIBRARIES
from edgevit.core.report.place import Place, select_settings
from edgevit.runtime.cuda import import_cudart
from edgevit.runtime.library import import_library
from edgevit.runtime.nvidia import HINT, choose_gpu, describe_driver, read_gpus
from edgevit.runtime.settings import GPU_KEYS, read_settings
from edgevit.runtime.tensorrt.executor import TensorRTExecutor
from edgevit.runtime.versions import OtherVersion, parse_version

_RELEASE = 3
"""Parts of a version that name a release; a fourth is the build's."""


def import_tensorrt(name: str) -> Any:
    """The package ``tensorrt`` or ``tensorrt_rtx``.

    Raises:
        MissingPackageError: It is not installed, or does not load.
    """
    jetson = name == "tensorrt" and platform.machine() == "aarch64"
    advice = "on a Jetson make the virtual environment with --system-site-packages; otherwise " if jetson else ""
    return import_library(name, advice)


class TensorRTRuntime:
    """What :class:`edgevit.runtime.session.Runtime` asks for, of one of the two libraries.

    Args:
        name: ``tensorrt`` or ``tensorrt_rtx``.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def open_executor(
        self, engine: Engine, settings: Mapping[str, Setting], digests: Mapping[str, str] | None = None
    ) -> TensorRTExecutor:
        """Load an engine; see :func:`edgevit.runtime.session.open_engine`. A plan is compiled already."""
        opened = read_settings(settings, None, keys=GPU_KEYS)
        gpu = choose_gpu(read_gpus(), engine.gpu)
        if gpu is None:
            raise DeviceError("the GPU that the engine is for is not here", "make it visible: see CUDA_VISIBLE_DEVICES")
        cudart = import_cudart(LIBRARIES[self.name].extra)
        return TensorRTExecutor(import_tensorrt(self.name), cudart, engine, opened, gpu)

    def list_devices(self) -> tuple[str, ...]:
        """Names of the GPUs here."""
        try:
            return tuple(gpu.name for gpu in read_gpus())
        except DeviceError:
            return ()

    def read_versions(self) -> dict[str, str]:
        """``{"tensorrt": …}`` or ``{"tensorrt_rtx": …}``."""
        return {self.name: str(import_tensorrt(self.name).__version__)}

    def find_mismatch(self, engine: Engine) -> str | None:
        """No driver, another release of the library, or no GPU of the compute capability."""
        try:
            gpus = read_gpus()
        except DeviceError as exc:
            more = f" ({exc.hint})" if exc.hint != HINT else ""
            return f"the engine is for {_describe_gpu(engine)}, and here is none: {exc.message}{more}"
        built, here = engine.versions.get(self.name), self.read_versions()[self.name]
        if built is not None and parse_version(built, _RELEASE) != parse_version(here, _RELEASE):
            return OtherVersion(
                f"the plan was written by {self.name} {built}, which {self.name} {here} here does not read"
            )
        if choose_gpu(gpus, engine.gpu) is None:
            found = ", ".join(f"{gpu.name}, {gpu.compute_capability}" for gpu in gpus) or "none"
            return f"the engine is for {_describe_gpu(engine)}; here: {found}"
        return None

    def find_differences(self, engine: Engine) -> tuple[str, ...]:
        """Another build of the library, or a GPU of the same compute capability that is another model or size."""
        found = []
        built, here = engine.versions.get(self.name, ""), self.read_versions()[self.name]
        if built != here:
            found.append(f"measured with {self.name} {built or 'of unknown version'}; here is {here}")
        record, gpu = engine.gpu, choose_gpu(read_gpus(), engine.gpu)
        if record is None or record.name is None or gpu is None:
            return tuple(found)
        if record.name != gpu.name:
            found.append(f"compiled and measured on {record.name}; here is {gpu.name}")
        elif record.multiprocessors not in (None, gpu.multiprocessors):
            found.append(
                f"compiled and measured on {record.name} with {record.multiprocessors} multiprocessors; "
                f"here it has {gpu.multiprocessors}"
            )
        return tuple(found)

    def describe_place(self, engine: Engine, settings: Mapping[str, Setting]) -> Place:
        """See :class:`edgevit.runtime.session.Runtime`. One name may cover several sizes, so the size is told."""
        gpu = choose_gpu(read_gpus(), engine.gpu)
        named = f"{gpu.name}, {gpu.compute_capability}, {gpu.multiprocessors} multiprocessors" if gpu else None
        return Place(
            backend=self.name,
            version=self.read_versions()[self.name],
            device=named,
            driver=describe_driver(),
            settings=select_settings(settings),
        )


TENSORRT, TENSORRT_RTX = TensorRTRuntime("tensorrt"), TensorRTRuntime("tensorrt_rtx")


def _describe_gpu(engine: Engine) -> str:
    if engine.gpu is None:
        return "an NVIDIA GPU"
    capability = f"compute capability {engine.gpu.compute_capability}"
    return f"{engine.gpu.name} ({capability})" if engine.gpu.name is not None else f"a GPU of {capability}"
