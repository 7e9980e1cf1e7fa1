"""What this machine can build, run and measure, and what is missing."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from edgevit.errors import MissingPackageError

if TYPE_CHECKING:
    from edgevit.report import Machine
    from edgevit.target import Status


class Requirement(NamedTuple):
    """A distribution, the extra that brings it, and what it is for."""

    package: str
    extra: str
    purpose: str


REQUIREMENTS = (
    Requirement("torch", "build", "read checkpoints and export them"),
    Requirement("onnx", "build", "write and check ONNX files"),
    Requirement("onnxscript", "build", "export from torch to ONNX"),
    Requirement("safetensors", "build", "read weights"),
    Requirement("huggingface-hub", "build", "fetch checkpoints by hub id"),
    Requirement("tomli-w", "build", "write a bundle's recipe.toml"),
    Requirement("openvino", "openvino", "compile and run for Intel devices"),
    Requirement("onnxruntime", "onnxruntime", "compile and run for any CPU"),
)


@dataclass(frozen=True)
class PackageStatus:
    """An optional package here; ``version`` is ``None`` where it is not installed."""

    name: str
    extra: str
    purpose: str
    version: str | None


@dataclass(frozen=True)
class TargetStatus:
    """A target's name and what this machine can do for it."""

    name: str
    status: Status


@dataclass(frozen=True)
class Diagnosis:
    """The state of this machine.

    Attributes:
        can_build: Whether checkpoints can be read and exported, so that every target gets at least a portable bundle.
        devices: What each engine library that is installed finds here.
        installs: The lines that would bring what is missing.
    """

    edgevit: str
    machine: Machine
    can_build: bool
    packages: tuple[PackageStatus, ...]
    devices: Mapping[str, tuple[str, ...]]
    targets: tuple[TargetStatus, ...]
    installs: tuple[str, ...]


def diagnose_machine() -> Diagnosis:
    """Look at packages, processor, devices and targets. Nothing is built or measured."""
    from edgevit import __version__
    from edgevit.backends import BACKENDS, get_backend
    from edgevit.devices.local import describe_machine
    from edgevit.target import list_targets, target_status

    packages = tuple(PackageStatus(*r, version=find_version(r.package)) for r in REQUIREMENTS)
    devices = {}
    for name in BACKENDS:
        try:
            devices[name] = tuple(get_backend(name).available())
        except MissingPackageError:
            continue  # it stands among the packages
    missing = dict.fromkeys(p.extra for p in packages if p.version is None)
    return Diagnosis(
        edgevit=__version__,
        machine=describe_machine(),
        can_build=all(p.version is not None for p in packages if p.extra == "build"),
        packages=packages,
        devices=devices,
        targets=tuple(TargetStatus(t.name, target_status(t)) for t in list_targets()),
        installs=tuple(f'pip install "edgevit[{extra}]"' for extra in missing),
    )


def find_version(package: str) -> str | None:
    """Version of an installed distribution, or ``None``; nothing is imported."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
