"""What this machine can build, run and measure, and what is missing."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from edgevit.core.errors import DeviceError, MissingPackageError
from edgevit.core.libraries import LIBRARIES
from edgevit.core.packages import install_line

if TYPE_CHECKING:
    from edgevit.core.isa import TierName
    from edgevit.core.report.machine import Gpu
    from edgevit.core.report.report import Machine
    from edgevit.engines.availability import Status


@dataclass(frozen=True)
class PackageStatus:
    """A distribution, the extra that brings it, what it is for, and its version where it is installed here."""

    name: str
    extra: str
    purpose: str
    version: str | None = None


REQUIREMENTS = (
    PackageStatus("torch", "build", "read checkpoints and export them"),
    PackageStatus("onnx", "build", "write and check ONNX files"),
    PackageStatus("onnxscript", "build", "export from torch to ONNX"),
    PackageStatus("safetensors", "build", "read weights"),
    PackageStatus("h5py", "build", "read Keras' weights"),
    PackageStatus("huggingface-hub", "build", "fetch checkpoints by hub id"),
    PackageStatus("tomli-w", "build", "write a bundle's recipe.toml"),
    *(PackageStatus(library.distribution, library.extra, library.purpose) for library in LIBRARIES.values()),
    PackageStatus("cuda-bindings", "tensorrt", "run on NVIDIA GPUs"),
)
_WITH_GPU = tuple(library.extra for library in LIBRARIES.values() if library.nvidia and not library.ahead)
"""Extras that are of no use without an NVIDIA driver."""


@dataclass(frozen=True)
class TargetStatus:
    """A target's name and what this machine can do for it."""

    name: str
    status: Status


@dataclass(frozen=True)
class NvidiaStatus:
    """NVIDIA's driver here.

    Attributes:
        driver: The newest CUDA that it serves, such as ``12.6``; ``None`` without a driver that starts.
        cuda_runtime: CUDA's version of cuda-bindings, where that is installed.
        gpus: That the driver lists.
        problem: Why GPUs cannot be used, and what to do about it; empty where they can.
    """

    driver: str | None
    cuda_runtime: str | None
    gpus: tuple[Gpu, ...]
    problem: str = ""


@dataclass(frozen=True)
class Diagnosis:
    """The state of this machine.

    Attributes:
        can_build: Whether checkpoints can be read and exported, so that every target gets at least a portable bundle.
        devices: What each engine library that is installed finds here.
        nvidia: Driver, CUDA and GPUs.
        tiers: Instruction sets that engines can be judged under here, the oldest first.
        installs: The lines that would bring what is missing.
    """

    edgevit: str
    machine: Machine
    can_build: bool
    packages: tuple[PackageStatus, ...]
    devices: Mapping[str, tuple[str, ...]]
    nvidia: NvidiaStatus
    targets: tuple[TargetStatus, ...]
    installs: tuple[str, ...]
    tiers: tuple[TierName, ...] = ()


def diagnose_machine() -> Diagnosis:
    """Look at packages, processor, devices and targets. Nothing is built or measured."""
    from edgevit import __version__
    from edgevit.core.isa import list_tiers
    from edgevit.core.target import list_targets
    from edgevit.engines.availability import target_status
    from edgevit.measure.machine.local import describe_machine
    from edgevit.runtime.session import get_runtime

    packages = tuple(replace(package, version=find_version(package.name)) for package in REQUIREMENTS)
    devices = {}
    for name in LIBRARIES:
        runtime = get_runtime(name)
        try:
            devices[name] = runtime.list_devices() if runtime.read_versions() else ()
        except MissingPackageError:
            continue  # it stands among the packages
    nvidia = diagnose_nvidia()
    unwanted = () if nvidia.driver is not None else _WITH_GPU
    missing = dict.fromkeys(p.extra for p in packages if p.version is None and p.extra not in unwanted)
    return Diagnosis(
        edgevit=__version__,
        machine=describe_machine(),
        can_build=all(p.version is not None for p in packages if p.extra == "build"),
        packages=packages,
        devices=devices,
        nvidia=nvidia,
        targets=tuple(TargetStatus(t.name, target_status(t)) for t in list_targets()),
        installs=tuple(install_line(extra) for extra in missing),
        tiers=list_tiers(),
    )


def diagnose_nvidia() -> NvidiaStatus:
    """Ask the driver, and compare it with CUDA's runtime. No library of NVIDIA's is loaded but the driver's own."""
    from edgevit.runtime.cuda import find_cuda_fault
    from edgevit.runtime.nvidia import read_driver_version, read_gpus

    bindings = find_version("cuda-bindings")
    runtime = ".".join(bindings.split(".")[:2]) if bindings is not None else None
    try:
        gpus, driver = read_gpus(), read_driver_version()
    except DeviceError as exc:
        return NvidiaStatus(None, runtime, (), f"{exc.message}; {exc.hint}")
    problem = find_cuda_fault(driver) or "" if runtime is not None else ""
    return NvidiaStatus(driver, runtime, gpus, problem)


def find_version(package: str) -> str | None:
    """Version of an installed distribution, or ``None``; nothing is imported."""
    twins = next((library.twins for library in LIBRARIES.values() if library.distribution == package), ())
    for name in (package, *twins):
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None
