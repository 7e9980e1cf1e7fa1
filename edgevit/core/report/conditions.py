"""What a device's own software says of it, and what its sensors said while something was measured.

Only the standard library; a report holds these. A field is ``None``, or a table empty, where the system does not tell.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class PowerMode:
    """A Jetson's power mode, as ``nvpmodel`` sets it.

    Attributes:
        name: As ``MAXN`` or ``15W``.
        number: What ``nvpmodel -m`` takes.
        highest: Name of the mode with the highest clocks, where that is another.
        highest_number: Its number.
    """

    name: str
    number: int
    highest: str | None = None
    highest_number: int | None = None


@dataclass(frozen=True)
class Platform:
    """Versions of what a board came with, and how it is set.

    Attributes:
        l4t: Jetson Linux, as ``36.4.3``.
        jetpack: As ``6.2+b77``; of the package ``nvidia-jetpack``, which not every board has.
        tensorrt: Of the system's packages.
        cuda: Of the toolkit below ``/usr/local/cuda``.
        driver: Of NVIDIA's kernel driver.
        power_mode: A Jetson's.
        gpu_clock_fixed: Whether the GPU's lowest clock is its highest, as ``jetson_clocks`` makes it.
    """

    l4t: str | None = None
    jetpack: str | None = None
    tensorrt: str | None = None
    cuda: str | None = None
    driver: str | None = None
    power_mode: PowerMode | None = None
    gpu_clock_fixed: bool | None = None


@dataclass(frozen=True)
class Span:
    """Least, mean and greatest of some readings."""

    low: float
    mean: float
    high: float


@dataclass(frozen=True)
class Conditions:
    """Readings between the turns of a measurement of latency, never inside a timed call.

    Attributes:
        seconds: From the first reading to the last.
        samples: How many there were.
        clocks_mhz: ``CPU`` (its fastest core) and ``GPU``.
        temperatures_c: By thermal zone.
        power_w: By rail, as the board's sensors name it; ``package-0`` and the like are Intel's RAPL, and only means.
        throttling: What slowed the device down meanwhile, a phrase each; empty where nothing was seen.
    """

    seconds: float
    samples: int
    clocks_mhz: Mapping[str, Span] = field(default_factory=dict)
    temperatures_c: Mapping[str, Span] = field(default_factory=dict)
    power_w: Mapping[str, Span] = field(default_factory=dict)
    throttling: tuple[str, ...] = ()


def list_platform_risks(platform: Platform) -> tuple[str, ...]:
    """How the board's settings weaken a latency, a sentence each with the remedy."""
    risks = []
    mode = platform.power_mode
    if mode is not None and mode.highest is not None:
        risks.append(
            f"measured in the power mode {mode.name}; {mode.highest} has higher clocks "
            f"(sudo nvpmodel -m {mode.highest_number})"
        )
    if platform.gpu_clock_fixed is False:
        risks.append("the GPU's clock was free to change: latencies may vary (sudo jetson_clocks fixes it)")
    return tuple(risks)


def list_condition_risks(conditions: Conditions) -> tuple[str, ...]:
    """How what happened meanwhile weakens a latency."""
    if not conditions.throttling:
        return ()
    return (f"the device throttled while it was measured, so it can be faster: {'; '.join(conditions.throttling)}",)


def describe_conditions(conditions: Conditions) -> str:
    """One line of the readings that people ask for first; empty where there are none."""
    parts = []
    for name, span in conditions.clocks_mhz.items():
        low, high = f"{span.low:.0f}", f"{span.high:.0f}"
        parts.append(f"{name} {low if low == high else f'{low}–{high}'} MHz")
    if conditions.temperatures_c:
        hottest = max(conditions.temperatures_c, key=lambda name: conditions.temperatures_c[name].high)
        parts.append(f"{hottest} at most {conditions.temperatures_c[hottest].high:.0f} °C")
    parts.extend(f"{name} {span.mean:.1f} W" for name, span in conditions.power_w.items())
    return f"while measuring: {', '.join(parts)}" if parts else ""
