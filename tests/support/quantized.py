"""Graphs quantised as a build does it: planned, and written by what writes those that are shipped."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from edgevit.core.quantization import Quantization, QuantizationRecord
from edgevit.graph.graph import Graph
from edgevit.quantize.placement import PLACEMENTS
from edgevit.quantize.plan import QuantizationPlan
from edgevit.quantize.quantize import plan_quantization
from edgevit.quantize.write_quantized import write_quantized

Pixels = Iterable[npt.NDArray[np.uint8]]


def fit_sites(
    graph: Graph, pixels: Pixels, quantization: Quantization, backend: str, **options: Any
) -> tuple[Graph, QuantizationPlan, QuantizationRecord]:
    """As :func:`plan_quantization`, but that nothing is done about its noise, which half of its time is spent on.

    The plan holds every site that was fitted, in both; the record here has no site's noise.
    """
    with without_ranking():
        return plan_quantization(graph, pixels, quantization, backend, **options)


@contextlib.contextmanager
def without_ranking() -> Iterator[None]:
    """Within it, nothing finds out what a site costs, so that every site that is fitted is quantised."""
    with pytest.MonkeyPatch.context() as patch:
        for name, nothing in (("rank_sites", {}), ("rank_groups", {}), ("choose_float", ())):
            patch.setattr(f"edgevit.quantize.quantize.{name}", lambda *args, nothing=nothing, **kwargs: nothing)
        yield


def quantize_all(graph: Graph, pixels: Pixels, quantization: Quantization, backend: str, **options: Any) -> Graph:
    """The graph with every site quantised that :func:`fit_sites` fits."""
    base, plan, record = fit_sites(graph, pixels, quantization, backend, **options)
    return write_quantized(base, plan, record, PLACEMENTS[backend])


def quantize_graph(
    graph: Graph, pixels: Pixels, quantization: Quantization, backend: str
) -> tuple[Graph, QuantizationPlan, QuantizationRecord]:
    """An INT8 graph, its plan and its record."""
    base, plan, record = plan_quantization(graph, pixels, quantization, backend)
    return write_quantized(base, plan, record, PLACEMENTS[backend]), plan, record


def quantize_fp8(
    graph: Graph, pixels: Pixels, backend: str, pins: Mapping[str, str], **options: Any
) -> tuple[Graph, QuantizationRecord]:
    """An FP8 graph and its record; ``options`` are fields of the recipe's quantization."""
    _, plan, record = plan_fp8(graph, pixels, backend, pins, **options)
    return write_quantized(graph, plan, record, PLACEMENTS[backend]), record


def plan_fp8(
    graph: Graph, pixels: Pixels, backend: str, pins: Mapping[str, str], **options: Any
) -> tuple[Graph, QuantizationPlan, QuantizationRecord]:
    """Of FP8, with no site in float for its noise unless ``options`` say so."""
    quantization = Quantization(**{"float_share": 0.0, "sites": pins, **options})
    return plan_quantization(graph, pixels, quantization, backend, precision="fp8")
