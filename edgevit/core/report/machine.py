"""Machine: where something was measured; :mod:`edgevit.measure.machine.local` reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgevit.core.report.conditions import Platform
from edgevit.core.report.figures import Figures


@dataclass(frozen=True)
class Gpu:
    """One GPU, as its driver describes it."""

    name: str
    compute_capability: str
    memory_bytes: int
    multiprocessors: int
    index: int = 0


@dataclass(frozen=True)
class Machine(Figures):
    """Where something was measured.

    Attributes:
        cpu: The processor's name.
        isa: The instruction sets that matter for this work.
        physical_cores: Of the whole machine.
        logical_cores: Of the whole machine.
        usable_cores: Logical cores that this process may run on.
        os: The system's name.
        kernel: Its version.
        python: Version of the interpreter.
        architecture: ``x86_64``, ``aarch64``.
        memory_bytes: Of the whole machine, ``None`` where the system does not tell.
        cpu_limit: Cores' worth of time that the control group allows, ``None`` where there is no limit.
        governor: Frequency governor, ``None`` where the system does not tell.
        virtual: Whether it is a virtual machine, ``None`` where the system does not tell.
        board: Model of a development board.
        load_average: Over 1, 5 and 15 minutes, before measuring.
        packages: Versions of those that matter and are installed.
        platform: What a Jetson, or NVIDIA's driver, says of its versions and settings.
        gpus: NVIDIA's, as their driver lists them.
        cuda_driver: The newest CUDA that this driver serves.
    """

    cpu: str
    isa: tuple[str, ...]
    physical_cores: int
    logical_cores: int
    usable_cores: int
    os: str
    kernel: str
    python: str
    architecture: str
    packages: Mapping[str, str]
    memory_bytes: int | None = None
    cpu_limit: float | None = None
    governor: str | None = None
    virtual: bool | None = None
    board: str | None = None
    load_average: tuple[float, float, float] | None = None
    platform: Platform | None = None
    gpus: tuple[Gpu, ...] = ()
    cuda_driver: str | None = None
