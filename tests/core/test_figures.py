"""Figures that JSON cannot hold are refused, in memory and from a file."""

from __future__ import annotations

import math

import pytest

from edgevit.core import schema
from edgevit.core.errors import BundleError
from edgevit.core.report.timings import ColdStart, Latency, Ratio


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_figures_are_refused_when_not_finite(value: float) -> None:
    with pytest.raises(ValueError, match="p50_ms"):
        Latency(1, 1, 1, 1.0, value, 1.0, 1.0, 1.0, 1.0, 1.0, "how")
    with pytest.raises(ValueError, match="high"):
        Ratio(1.0, 1.0, value, 10)
    with pytest.raises(BundleError, match="load_ms"):
        schema.from_data(
            ColdStart, {"import_ms": 1, "load_ms": value, "first_inference_ms": 1}, "report.json", BundleError
        )
