"""What a target lacks on this machine: its engine library, its device, the GPU and its driver.

Apart from :mod:`edgevit.core.target`, which the engine libraries import and a bundle's manifest reads on a device.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgevit.core.errors import DeviceError, MissingPackageError
from edgevit.core.libraries import LIBRARIES
from edgevit.core.target import Target, read_architecture
from edgevit.runtime.session import get_runtime
from edgevit.runtime.versions import parse_version


@dataclass(frozen=True)
class Status:
    """What a target lacks on this machine.

    Attributes:
        buildable: An engine can be compiled here; otherwise a build stops at the portable bundle.
        runnable: An engine can be opened here.
        missing: Everything that is not here, each with what to do about it where there is something.
    """

    buildable: bool
    runnable: bool
    missing: tuple[str, ...]


def target_status(target: Target) -> Status:
    """What is missing on this machine to build and run the target's engines; raises nothing and starts no engine."""
    here = read_architecture()
    if target.architecture not in (None, here):  # nothing that is installed here would help
        return Status(False, False, (f"a machine with {target.architecture} (this one has {here})",))
    library = LIBRARIES[target.backend]
    if not library.nvidia:
        missing = tuple(_find_missing_library(target))
        return Status(not missing, not missing, missing)
    absent = _find_missing_compiler(target)
    device = (*_find_missing_gpu(target), *_find_missing_runtime(target))
    return Status(not absent and (library.ahead or not device), not absent and not device, (*absent, *device))


def _find_missing_library(target: Target) -> list[str]:
    library, runtime = LIBRARIES[target.backend], get_runtime(target.backend)
    try:
        devices, version = runtime.list_devices(), runtime.read_versions()[target.backend]
    except MissingPackageError as exc:
        return [f"{exc.message}: {exc.hint}"]
    missing = []
    if not any(device == target.device or device.startswith(f"{target.device}.") for device in devices):
        brings = library.devices[target.device].install_line if library.devices else ""
        missing.append(
            f"{target.backend}'s device {target.device} (here: {', '.join(devices) or 'none'})"
            + (f": {brings}" if brings else "")
        )
    return missing + _find_old_version(target, version)


def _find_old_version(target: Target, version: str) -> list[str]:
    if target.runtime_version is None or parse_version(version) >= parse_version(target.runtime_version):
        return []
    return [f"{target.backend} {target.runtime_version} or later (here: {version})"]


def _find_missing_compiler(target: Target) -> list[str]:
    """What TensorRT's compiler lacks; the GPU apart."""
    from edgevit.engines.tensorrt.backend import TENSORRT_RTX

    ahead = LIBRARIES[target.backend].ahead
    try:
        version = get_runtime(target.backend).read_versions()[target.backend]
        known = TENSORRT_RTX.capabilities() if ahead else ()
    except MissingPackageError as exc:
        return [f"{exc.message}: {exc.hint}"]
    if old := _find_old_version(target, version):
        return old
    wanted = f"SM{(target.compute_capability or '').replace('.', '')}"
    if ahead and wanted not in known:
        return [f"a compute capability that {target.backend} {version} compiles for ({', '.join(known)})"]
    return []


def _find_missing_runtime(target: Target) -> list[str]:
    """What of CUDA's runtime is missing beside a driver."""
    from edgevit.runtime.cuda import find_cuda_fault
    from edgevit.runtime.nvidia import read_driver_version

    try:
        fault = find_cuda_fault(read_driver_version(), LIBRARIES[target.backend].extra)
    except DeviceError:
        return []  # the missing driver is named already
    return [fault] if fault is not None else []


def _find_missing_gpu(target: Target) -> list[str]:
    from edgevit.runtime.nvidia import read_gpus

    try:
        gpus = read_gpus()
    except DeviceError as exc:
        return [f"an NVIDIA GPU ({exc.message})"]
    wanted = target.compute_capability
    if not gpus or (wanted is not None and wanted not in [gpu.compute_capability for gpu in gpus]):
        found = ", ".join(f"{gpu.name}, {gpu.compute_capability}" for gpu in gpus) or "none"
        return [f"a GPU of compute capability {wanted} (here: {found})" if wanted else "an NVIDIA GPU"]
    return []
