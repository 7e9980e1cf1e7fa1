"""Whether a machine is too hot to be measured: its thermal zones, and where the kernel begins to slow it down."""

from __future__ import annotations

from pathlib import Path

from edgevit.measure.machine.processor import read_text

HOT_C = 80.0
"""Of a zone that names no such temperature. Raspberry Pi documentation, "Frequency management and thermal control":
the cores of a Raspberry Pi are slowed down from 80 °C on, by its firmware."""


def list_heat(root: Path = Path("/")) -> tuple[str, ...]:
    """Zones that are as hot as that, a phrase each: ``cpu-thermal at 101 °C, slowed down from 99 °C on``.

    Args:
        root: Where ``sys`` lies.
    """
    found = []
    for zone in sorted((root / "sys/class/thermal").glob("thermal_zone*")):
        degrees = _read_degrees(zone / "temp")
        limit = _find_limit(zone)
        if degrees is not None and degrees >= limit:
            name = read_text(zone / "type") or zone.name
            found.append(f"{name} at {degrees:.0f} °C, slowed down from {limit:.0f} °C on")
    return tuple(found)


def _find_limit(zone: Path) -> float:
    """The lowest trip point at which the kernel cools by slowing down (``passive``), or warns of heat (``hot``)."""
    trips: dict[str, list[float]] = {}
    for kind in zone.glob("trip_point_*_type"):
        degrees = _read_degrees(kind.with_name(kind.name.replace("_type", "_temp")))
        if degrees is not None:
            trips.setdefault(read_text(kind) or "", []).append(degrees)
    return min(trips.get("passive") or trips.get("hot") or [HOT_C])


def _read_degrees(path: Path) -> float | None:
    """Above 0, as trip points that nobody set are at 0 or far below, and so is a unit without power."""
    text = read_text(path)
    try:
        degrees = float(text or "") / 1e3
    except ValueError:
        return None
    return degrees if degrees > 0 else None
