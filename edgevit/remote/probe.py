"""What a device is, whether a target is for it, and what it needs there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgevit.core import schema
from edgevit.core.errors import DeviceError
from edgevit.core.libraries import LIBRARIES
from edgevit.runtime.versions import parse_version

if TYPE_CHECKING:
    from edgevit.core.target import Target
    from edgevit.remote.ssh import Connection

_PACKAGES = {"numpy": "numpy", "PIL": "pillow"}
_FINISH_PACKAGES = {"onnx_ir": "onnx-ir", "tomli_w": "tomli-w"}
"""Modules and the packages that have them; an engine library's are called as its backend."""


@dataclass(frozen=True)
class Probe:
    """What a device says of itself before anything is sent.

    Attributes:
        root: The folder that everything goes into.
        free_bytes: On its disk.
        board: Model of a development board.
        l4t: First line of ``/etc/nv_tegra_release`` on a Jetson.
        tensorrt: Version of TensorRT's Python package, outside virtual environments.
        modules: Those of what edgevit needs that the interpreter can import.
        environments: Names of those that were made before.
    """

    python: str
    architecture: str
    system: str
    root: str
    free_bytes: int
    board: str | None = None
    l4t: str | None = None
    tensorrt: str | None = None
    modules: tuple[str, ...] = ()
    environments: tuple[str, ...] = ()

    def describe(self) -> str:
        """One line."""
        free = f"{self.free_bytes / 1e9:.1f} GB free"
        return f"{self.board or self.system} ({self.architecture}, Python {self.python}, {free})"


def probe_device(connection: Connection, target: Target, *, finishes: bool = False) -> Probe:
    """Ask a device what it is, and refuse one that the target is not for.

    One that ``finishes`` a bundle needs more packages than one that runs it.

    Raises:
        DeviceError: It is out of reach, has no usable Python, or another architecture; or the interpreter that it is
            told to use lacks packages.
    """
    needed = {**_PACKAGES, target.backend: target.backend, **(_FINISH_PACKAGES if finishes else {})}
    found = schema.from_data(Probe, connection.ask("probe", modules=list(needed)), connection.host, DeviceError)
    names = {"amd64": "x86_64", "arm64": "aarch64"}
    here = names.get(found.architecture.lower(), found.architecture.lower())
    if found.system != "Linux":
        raise DeviceError(f"{connection.host} runs {found.system}", "edgevit builds on devices with Linux")
    if target.architecture not in (None, here):
        raise DeviceError(
            f"target {target.name} is for {target.architecture}, and {connection.host} has {here}",
            "give the host that the target is for, or a target for that host: edgevit targets lists them",
        )
    jetson = target.backend == "tensorrt" and found.l4t is not None
    if jetson and found.tensorrt is None:
        raise DeviceError(
            f"{connection.host} is a Jetson without TensorRT for {connection.python}",
            "sudo apt-get install python3-libnvinfer on the device; pip has none that fits JetPack",
        )
    if jetson and parse_version(found.tensorrt or "") < parse_version(target.runtime_version or "0"):
        raise DeviceError(
            f"target {target.name} is for TensorRT {target.runtime_version} or later, and {connection.host} has "
            f"{found.tensorrt}",
            "give the target for its JetPack (edgevit targets lists them), or set the board up with a later JetPack",
        )
    absent = [package for module, package in needed.items() if module not in found.modules]
    if connection.own_python is not None and absent:
        raise DeviceError(
            f"{connection.own_python} on {connection.host} lacks {', '.join(absent)}",
            "install them there, or leave EDGEVIT_DEVICE_PYTHON out: edgevit then makes an environment there",
        )
    return found


def estimate_environment(connection: Connection, found: Probe, target: Target, extras: Sequence[str]) -> int:
    """Bytes that the environment for some extras of the wheel still takes there; 0 where it was made before."""
    version = ".".join(found.python.split(".")[:2])
    there = connection.own_python is not None or f"env-{version}-{'-'.join(extras)}" in found.environments
    return 0 if there else LIBRARIES[target.backend].environment_bytes
