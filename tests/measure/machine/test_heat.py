"""Zones that are too hot, below a planted ``/sys``."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgevit.measure.machine.heat import list_heat
from tests.support.planted_files import plant

ZONE = "sys/class/thermal/thermal_zone0"


def heat(root: Path, degrees: float, *trips: tuple[str, float]) -> tuple[str, ...]:
    files = {f"{ZONE}/type": "cpu-thermal\n", f"{ZONE}/temp": f"{degrees * 1000:.0f}\n"}
    for index, (kind, limit) in enumerate(trips):
        files[f"{ZONE}/trip_point_{index}_type"] = f"{kind}\n"
        files[f"{ZONE}/trip_point_{index}_temp"] = f"{limit * 1000:.0f}\n"
    return list_heat(plant(root, files))


@pytest.mark.parametrize(
    ("trips", "limit"),
    [
        ((), 80),
        ((("critical", 110), ("active", 50)), 80),  # a fan begins at 50 °C, and nothing is slowed down
        ((("passive", 99), ("critical", 105)), 99),
        ((("passive", 85), ("passive", 75)), 75),
        ((("passive", 95), ("hot", 90)), 95),
        ((("hot", 70),), 70),
        ((("passive", 0), ("passive", -274)), 80),  # that nobody has set
    ],
)
def test_zone_is_hot_from_where_the_kernel_slows_it_down(tmp_path, trips, limit):
    assert heat(tmp_path, limit - 0.2, *trips) == ()
    assert heat(tmp_path, limit, *trips) == (f"cpu-thermal at {limit} °C, slowed down from {limit} °C on",)


def test_unit_without_power_and_machine_without_zones_are_not_hot(tmp_path):
    assert heat(tmp_path / "a", -256) == ()
    assert list_heat(tmp_path / "b") == ()
