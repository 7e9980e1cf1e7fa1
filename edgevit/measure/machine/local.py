"""This machine: what a figure needs beside it to mean something.

Everything is read from files and from package metadata, and GPUs from their driver; no large package is imported.
"""

from __future__ import annotations

import os
import platform
from pathlib import Path

from edgevit.core.errors import DeviceError
from edgevit.core.libraries import LIBRARIES
from edgevit.core.packages import list_versions
from edgevit.core.report.conditions import list_platform_risks
from edgevit.core.report.machine import Gpu
from edgevit.core.report.report import Machine
from edgevit.measure.machine.board import read_platform
from edgevit.measure.machine.processor import (
    count_physical_cores,
    is_virtual,
    list_instruction_sets,
    name_cpu,
    read_cpu_limit,
    read_governor,
    read_processors,
    read_text,
)
from edgevit.runtime.nvidia import read_driver_version, read_gpus

PACKAGES = (
    "edgevit",
    "numpy",
    "pillow",
    *(library.distribution for library in LIBRARIES.values()),
    "cuda-bindings",
    "torch",
    "onnx",
    "onnxscript",
    "onnx-ir",
)
"""Those whose versions change figures."""


def describe_machine(root: Path = Path("/")) -> Machine:
    """Processor, memory, limits, load and versions of this machine; what the system does not tell is ``None``.

    Args:
        root: Where ``proc`` and ``sys`` lie.
    """
    processors = read_processors(root)
    board = read_text(root / "proc/device-tree/model")
    topology = root / "sys/devices/system/cpu"
    gpus, cuda_driver = _read_gpus()
    return Machine(
        cpu=name_cpu(processors) or board or platform.processor() or platform.machine(),
        isa=list_instruction_sets(processors),
        physical_cores=count_physical_cores(topology) or os.cpu_count() or 1,
        logical_cores=os.cpu_count() or 1,
        usable_cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        os=_name_os(root),
        kernel=platform.release(),
        python=platform.python_version(),
        architecture=platform.machine(),
        packages=dict(list_versions(PACKAGES)),
        memory_bytes=_read_memory(root),
        cpu_limit=read_cpu_limit(root),
        governor=read_governor(topology),
        virtual=is_virtual(root, processors),
        board=board,
        load_average=os.getloadavg() if hasattr(os, "getloadavg") else None,
        platform=read_platform(root),
        gpus=gpus,
        cuda_driver=cuda_driver,
    )


def _read_gpus() -> tuple[tuple[Gpu, ...], str | None]:
    """NVIDIA's GPUs and the newest CUDA that their driver serves; nothing without a driver."""
    try:
        return read_gpus(), read_driver_version()
    except DeviceError:
        return (), None


def list_measuring_risks(machine: Machine) -> tuple[str, ...]:
    """What may disturb a timing on this machine, one sentence each."""
    risks = []
    if machine.governor not in (None, "performance"):
        risks.append(f"the frequency governor is {machine.governor}, not performance: latencies may vary")
    # A load of one core is this process or its shell; what goes beyond half of the cores competes.
    if machine.load_average is not None and machine.load_average[0] > max(1.0, machine.usable_cores / 2):
        risks.append(
            f"the load average was {machine.load_average[0]:.1f} on {machine.usable_cores} cores before measuring: "
            "trust ratios, not milliseconds"
        )
    if machine.cpu_limit is not None and machine.cpu_limit < machine.usable_cores:
        risks.append(
            f"a control group limits this process to {machine.cpu_limit:g} of {machine.usable_cores} cores: "
            "it is paused when it uses more"
        )
    if machine.virtual:
        risks.append("this is a virtual machine: trust ratios, not milliseconds")
    if machine.platform is not None:
        risks.extend(list_platform_risks(machine.platform))
    return tuple(risks)


def _name_os(root: Path) -> str:
    for line in (read_text(root / "etc/os-release") or "").splitlines():
        if line.startswith("PRETTY_NAME="):
            return line.partition("=")[2].strip('"')
    return f"{platform.system()} {platform.version()}".strip()


def _read_memory(root: Path) -> int | None:
    for line in (read_text(root / "proc/meminfo") or "").splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    return None
