"""The table of placements against the targets and against what the libraries take."""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path

import pytest

from edgevit.core.errors import TargetError
from edgevit.core.toml import load_toml
from edgevit.quantize.grid import Grid
from edgevit.quantize.placement import PLACEMENTS

TARGETS = Path(__file__).resolve().parents[2] / "targets"


def test_placements_cover_the_engine_library_of_every_target() -> None:
    backends = {load_toml(path, TargetError)["backend"] for path in TARGETS.glob("*.toml")}
    assert backends <= set(PLACEMENTS)


@pytest.mark.parametrize("name", [name for name in PLACEMENTS if name.startswith("tensorrt")])
def test_placement_of_tensorrt_has_neither_zero_points_nor_unsigned_codes(name: str) -> None:
    placement = PLACEMENTS[name]
    assert placement.image is None
    for kind in (placement.linear, placement.product, placement.probability):
        grid = Grid.from_range(kind, -0.3, 2.0)
        assert grid.zero_point == 0
        assert grid.signed


@pytest.mark.parametrize("name", sorted(PLACEMENTS))
def test_placement_of_a_product_needs_no_zero_points(name: str) -> None:
    placement = PLACEMENTS[name]
    assert Grid.from_range(placement.product, -0.3, 2.0).zero_point == 0
    assert Grid.from_range(placement.probability, 0.0, 1.0).zero_point == 0


@pytest.mark.parametrize("name", sorted(PLACEMENTS))
def test_placement_keeps_what_restores_rotated_features_in_float(name: str) -> None:
    assert any(fnmatch("outlets.11.restore", pattern) for pattern in PLACEMENTS[name].float_sites)
    assert not any(fnmatch("blocks.3.mlp.fc2", pattern) for pattern in PLACEMENTS[name].float_sites)
