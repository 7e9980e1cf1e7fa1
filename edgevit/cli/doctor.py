"""``edgevit doctor``: what this machine can build, run and measure."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from edgevit.cli.output import Output, output_options

if TYPE_CHECKING:
    from edgevit.build.doctor import Diagnosis, TargetStatus


@click.command("doctor", short_help="Show what this machine can do, and what is missing.")
@output_options
def command(output: Output) -> None:
    """Show what this machine can build, run and measure, and what is missing, with the line that installs it.

    \b
    Examples:
      edgevit doctor
      edgevit doctor --json > machine.json
    """
    from edgevit.build.doctor import diagnose_machine
    from edgevit.core.schema import to_data

    diagnosis = diagnose_machine()
    output.document(to_data(diagnosis))
    _show(output, diagnosis)


def _name_tiers(diagnosis: Diagnosis) -> str:
    """``AVX512-BF16, and limited to AVX2, …``; empty where the system does not tell."""
    from edgevit.core.isa import LIMIT_VARIABLE, TIERS

    titles = [TIERS[tier].title for tier in reversed(diagnosis.tiers)]
    if not titles:
        return ""
    limit = os.environ.get(LIMIT_VARIABLE)
    newest = f"{titles[0]}{f' ({LIMIT_VARIABLE}={limit})' if limit else ''}"
    return f"{newest}, or limited to {', '.join(titles[1:])}" if titles[1:] else newest


def _show(output: Output, diagnosis: Diagnosis) -> None:
    from edgevit.cli.tables import format_bytes, make_pairs, make_table
    from edgevit.cli.targets import summarize_status

    machine = diagnosis.machine
    memory = format_bytes(machine.memory_bytes) if machine.memory_bytes else ""
    pairs = {
        "edgevit": f"{diagnosis.edgevit}, Python {machine.python}, {machine.os}",
        "board": machine.board or "",
        "processor": machine.cpu,
        "instructions": ", ".join(machine.isa) or "none that matter here",
        "judged under": _name_tiers(diagnosis),
        "cores": f"{machine.physical_cores} physical, {machine.logical_cores} logical, {machine.usable_cores} usable",
        "memory": memory,
        "governor": machine.governor or "not told by the system",
    }
    nvidia = diagnosis.nvidia
    if nvidia.driver is not None:
        pairs["NVIDIA driver"] = f"serves CUDA {nvidia.driver}"
        pairs["CUDA runtime"] = f"{nvidia.cuda_runtime}, of cuda-bindings" if nvidia.cuda_runtime else "none"
        pairs["NVIDIA GPUs"] = "\n".join(
            f"{gpu.name}: compute capability {gpu.compute_capability}, {format_bytes(gpu.memory_bytes)}"
            for gpu in nvidia.gpus
        )
    if nvidia.problem:
        pairs["NVIDIA" if nvidia.driver is None else "to do"] = nvidia.problem
    output.show(make_pairs(pairs), "")

    packages = make_table(["package", "version", "for"])
    for package in diagnosis.packages:
        packages.add_row(package.name, package.version or "missing", package.purpose)
    output.show(packages, "")

    devices = [f"{device} ({library})" for library, found in diagnosis.devices.items() for device in found]
    output.show(f"devices here: {', '.join(devices) or 'none that an installed engine library finds'}", "")

    targets = make_table(["targets", "here", "missing"])
    alike: dict[tuple[str, ...], list[TargetStatus]] = {}
    for target in diagnosis.targets:
        alike.setdefault(target.status.missing, []).append(target)
    for missing, group in alike.items():
        targets.add_row("\n".join(t.name for t in group), summarize_status(group[0].status), "\n".join(missing))
    output.show(targets)
    if not diagnosis.can_build:
        output.line()
        output.line("Nothing can be built here before the packages above are there; bundles can be run.")
    for line in diagnosis.installs:
        output.line(line)
