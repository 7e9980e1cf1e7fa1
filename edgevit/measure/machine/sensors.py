"""One reading of a Linux machine's clocks, temperatures, power and signs of throttling, from ``/sys`` and NVML.

What is not there, or may not be read, is left out: on most systems only root reads RAPL.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from edgevit.measure.machine.board import GPU_NAMES
from edgevit.measure.machine.nvml import GpuReading, read_gpu_sensors
from edgevit.measure.machine.processor import read_text

# Cooling devices that slow something down, as drivers call them; fans are others.
_SLOWING = re.compile(r"throttle-alert|hot-surface-alert|^(thermal-)?(cpufreq|devfreq)|^Processor$")
_EVENTS = {
    # NVIDIA, Jetson Linux Developer Guide, "Orin: over-current throttling": the events that oc1, oc2 and oc3 count.
    "oc1": "under-voltage",
    "oc2": "average over-current",
    "oc3": "instantaneous over-current",
}


@dataclass(frozen=True)
class Reading:
    """Readings of one moment.

    Attributes:
        clocks_mhz: By unit.
        temperatures_c: By thermal zone.
        power_w: By rail.
        energy_j: By RAPL domain, with the value at which its counter begins again.
        events: Counters of what slows a device down, by a name for people.
        active: What is slowing it down at this moment.
    """

    clocks_mhz: dict[str, float] = field(default_factory=dict)
    temperatures_c: dict[str, float] = field(default_factory=dict)
    power_w: dict[str, float] = field(default_factory=dict)
    energy_j: dict[str, tuple[float, float]] = field(default_factory=dict)
    events: dict[str, int] = field(default_factory=dict)
    active: tuple[str, ...] = ()


def read_sensors(root: Path = Path("/")) -> Reading:
    """Read everything that there is; a few milliseconds.

    Args:
        root: Where ``sys`` lies; NVIDIA's driver is asked where it is this machine's own.
    """
    system = root / "sys"
    monitors = sorted((system / "class/hwmon").glob("hwmon*"))
    gpu = read_gpu_sensors() if root == Path("/") else GpuReading()
    return Reading(
        clocks_mhz={**gpu.clocks_mhz, **_read_clocks(system)},
        temperatures_c={**gpu.temperatures_c, **_read_temperatures(system / "class/thermal")},
        power_w={**gpu.power_w, **dict(pair for folder in monitors for pair in _read_rails(folder))},
        energy_j=_read_energy(system / "class/powercap"),
        events=_read_events(system / "devices/system/cpu", monitors),
        active=(*gpu.active, *_list_active(system / "class/thermal", monitors)),
    )


def _read_clocks(system: Path) -> dict[str, float]:
    cores = [_read_number(p) for p in (system / "devices/system/cpu/cpufreq").glob("policy*/scaling_cur_freq")]
    folders = [f for f in (system / "class/devfreq").glob("*") if GPU_NAMES.search(f.name)]
    gpus = [_read_number(folder / "cur_freq") for folder in folders]
    clocks = {"CPU": (cores, 1e3), "GPU": (gpus, 1e6)}  # kHz and Hz
    return {
        name: max(v for v in values if v is not None) / unit
        for name, (values, unit) in clocks.items()
        if any(v is not None for v in values)
    }


def _read_temperatures(thermal: Path) -> dict[str, float]:
    found: dict[str, float] = {}
    for zone in sorted(thermal.glob("thermal_zone*")):
        name, value = read_text(zone / "type"), _read_number(zone / "temp")
        if name is not None and value is not None and value > 0:  # a unit without power reads -256 °C
            found[name] = max(value / 1e3, found.get(name, 0.0))
    return found


def _read_rails(monitor: Path) -> Iterator[tuple[str, float]]:
    """Rails of an INA sensor, by the labels that the board's device tree gives them."""
    if not (read_text(monitor / "name") or "").startswith("ina"):
        return
    for label in sorted(monitor.glob("in*_label")):
        number = label.name.removeprefix("in").removesuffix("_label")
        millivolts = _read_number(monitor / f"in{number}_input")
        milliamperes = _read_number(monitor / f"curr{number}_input")
        name = read_text(label)
        if name and name != "NC" and millivolts is not None and milliamperes is not None:
            yield name, millivolts * milliamperes / 1e6
    for path in sorted(monitor.glob("power*_input")):
        microwatts = _read_number(path)
        if microwatts is not None:
            number = path.name.removesuffix("_input")
            yield read_text(monitor / f"{number}_label") or f"{read_text(monitor / 'name')} {number}", microwatts / 1e6


def _read_energy(powercap: Path) -> dict[str, tuple[float, float]]:
    found = {}
    for domain in sorted(powercap.glob("intel-rapl:[0-9]*")):
        name, value = read_text(domain / "name"), _read_number(domain / "energy_uj")
        limit = _read_number(domain / "max_energy_range_uj")
        if domain.name.count(":") == 1 and name and value is not None and limit is not None:  # parts of it have two
            found[name] = (value / 1e6, limit / 1e6)
    return found


def _read_events(processors: Path, monitors: list[Path]) -> dict[str, int]:
    found: dict[str, int] = {}
    for kind in ("core", "package"):
        counts = [_read_number(p) for p in processors.glob(f"cpu[0-9]*/thermal_throttle/{kind}_throttle_count")]
        known = [int(count) for count in counts if count is not None]
        if known:  # a package's counter is shown at each of its cores
            found[f"CPU {kind} too hot"] = sum(known) if kind == "core" else max(known)
    for monitor in monitors:
        if read_text(monitor / "name") == "soctherm_oc":
            for event, name in _EVENTS.items():
                count = _read_number(monitor / f"{event}_event_cnt")
                if count is not None:
                    found[name] = int(count)
    return found


def _list_active(thermal: Path, monitors: list[Path]) -> Iterator[str]:
    for device in sorted(thermal.glob("cooling_device*")):
        name, state = read_text(device / "type") or "", _read_number(device / "cur_state")
        if _SLOWING.search(name) and state is not None and state > 0:
            yield name
    for monitor in monitors:
        if read_text(monitor / "name") == "rpi_volt" and _read_number(monitor / "in0_lcrit_alarm"):
            yield "under-voltage"


def _read_number(path: Path) -> float | None:
    text = read_text(path)
    try:
        return None if text is None else float(text)
    except ValueError:
        return None
