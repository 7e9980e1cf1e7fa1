"""What is recorded of a board that may make it answer otherwise, or more slowly, than its twin."""

from __future__ import annotations

from edgevit.core.report.place import MACHINE_PARTS
from edgevit.remote.fleet.trial import Trial


def compare_facts(one: Trial, other: Trial, *, answers: bool = False) -> dict[str, tuple[str, str]]:
    """Facts that differ between two boards, by words for people, the likeliest cause first.

    Args:
        one: The first board's trial, whose values come first.
        other: The second's.
        answers: It is answers that differ: what an engine answers by comes before what only makes it slower.
    """
    ours, theirs = list_facts(one), list_facts(other)
    names = list(dict.fromkeys((*ours, *theirs)))
    if answers:
        first = [*MACHINE_PARTS, *one.place.settings, *other.place.settings]
        names = [*(name for name in names if name in first), *(name for name in names if name not in first)]
    pairs = {name: (ours.get(name, "unknown"), theirs.get(name, "unknown")) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def list_facts(trial: Trial) -> dict[str, str]:
    """Facts by words for people, what explains most comes first; what the system does not tell is left out."""
    machine, platform = trial.machine, trial.machine.platform
    throttling = trial.conditions.throttling if trial.conditions is not None else ()
    mode = platform.power_mode if platform is not None else None
    fixed = platform.gpu_clock_fixed if platform is not None else None
    load = machine.load_average[0] if machine.load_average is not None else None
    facts: dict[str, str | int | float | None] = {
        "power mode": mode.name if mode is not None else None,
        "throttling": "; ".join(throttling) or "none seen",
        "driver": trial.place.driver or (platform.driver if platform is not None else None),
        "GPU clock": None if fixed is None else "fixed" if fixed else "free",
        "frequency governor": machine.governor,
        "device": trial.place.device,
        "processor": machine.cpu,
        "board": machine.board,
        "GPU": ", ".join(gpu.name for gpu in machine.gpus) or None,
        **{name: value for name, value in trial.place.parts.items() if name not in ("device", "driver")},
        # of a load below this nothing is noticed, and no two boards have the same
        "load before": f"{load:.1f}" if load is not None and load > max(1.0, machine.usable_cores / 2) else "low",
        "cores": machine.usable_cores,
        "limit of cores": machine.cpu_limit,
        "memory": f"{machine.memory_bytes / 2**30:.1f} GiB" if machine.memory_bytes is not None else None,
        "virtual machine": None if machine.virtual is None else "yes" if machine.virtual else "no",
        "JetPack": platform.jetpack if platform is not None else None,
        "Jetson Linux": platform.l4t if platform is not None else None,
        "system's TensorRT": platform.tensorrt if platform is not None else None,
        "CUDA": platform.cuda if platform is not None else None,
        "driver's CUDA": machine.cuda_driver,
        "system": machine.os,
        "kernel": machine.kernel,
        "Python": machine.python,
        **{name: version for name, version in machine.packages.items() if name != trial.place.backend},
    }
    return {name: str(value) for name, value in facts.items() if value is not None}
