"""Attentions that are known to be computed wrongly are found, their near misses are not; nothing is computed here."""

from __future__ import annotations

import dataclasses

import onnx_ir as ir
import pytest

from edgevit.engines.openvino_faults import list_faults
from edgevit.graph.graph import Graph
from scripts.lone_attention import LoneAttention, make_attention
from tests.support.small_graphs import make_graph
from tests.support.small_models import VIT, make_model

PLAIN = LoneAttention(7, 9, 4, 8)
CROWD = LoneAttention(4, 9, 4, 8)  # as many queries as heads


def make_lone(case: LoneAttention) -> Graph:
    return Graph(ir.serde.deserialize_model(make_attention(case)[0]))


def name_faults(case: LoneAttention, executed="f32", tier=None) -> list[str]:
    return [fault.name for fault in list_faults(make_lone(case), executed, tier)]


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"bias": (9,)}, True),
        ({"bias": (1, 1, 1, 9)}, True),
        ({"bias": (1, 1, 1, 9), "scale": True}, True),
        ({"bias": (1, 1, 1, 9), "queries": 1, "heads": 1}, True),
        ({"bias": (1, 1, 7, 9)}, False),
        ({"bias": (1, 4, 1, 9)}, False),
        ({"bias": (1, 4, 7, 9)}, False),
        ({"bias": (1, 4, 7, 1)}, False),
        ({"bias": (1, 1, 1, 1)}, False),
        ({"bias": (2, 1, 1, 9), "batch": 2}, False),
        ({"bias": (1, 1, 9, 1), "queries": 9}, False),
        ({"bias": (1, 1, 1, 1), "keys": 1}, False),
        ({}, False),
    ],
)
def test_a_bias_of_as_many_numbers_as_keys_is_found_in_bf16_and_a_fuller_one_is_not(change, found):
    case = dataclasses.replace(PLAIN, **change)
    assert name_faults(case, "bf16") == (["vector_bias"] if found else [])
    assert name_faults(case, "f32") == []


@pytest.mark.parametrize(
    ("codes", "tier", "found"),
    [
        (None, "avx512_bf16", True),
        (None, "amx", True),
        (None, "avx512_vnni", False),
        ("u8", "amx", True),
        ("u8", None, True),
        ("u8", "avx512_bf16", False),
        ("u8", "avx2", False),
    ],
)
def test_a_bias_counts_where_the_processor_has_the_kernel_that_takes_it_in(codes, tier, found):
    case = dataclasses.replace(PLAIN, bias=(9,), codes=codes)
    assert name_faults(case, "bf16", tier) == (["vector_bias"] if found else [])


@pytest.mark.parametrize(
    ("change", "f32", "bf16"),
    [
        ({}, False, True),
        ({"moved": False}, True, True),
        ({"projection": "normed"}, True, False),
        ({"projection": "normed", "moved": False}, False, False),
        ({"projection": "packed", "keys": 4}, False, False),
        ({"projection": "packed", "keys": 4, "moved": False}, False, False),
        ({"queries": 5}, False, False),
        ({"queries": 5, "moved": False}, False, False),
        ({"queries": 1, "heads": 1, "moved": False}, False, False),
        ({"keys": 4, "queries": 9}, False, False),
        ({"codes": "u8"}, False, False),
        ({"codes": "i8"}, True, True),
        ({"codes": "i8", "queries": 5}, False, False),
    ],
)
def test_as_many_queries_as_heads_are_found_where_the_result_would_overwrite_them(change, f32, bf16):
    case = dataclasses.replace(CROWD, **change)
    assert name_faults(case, "f32") == (["in_place"] if f32 else [])
    assert name_faults(case, "bf16") == (["in_place"] if bf16 else [])


def test_a_fault_names_its_site_and_says_what_is_the_matter():
    (bias,) = list_faults(make_lone(dataclasses.replace(PLAIN, bias=(9,))), "bf16")
    assert bias.site == "context"
    assert bias.reason == "OpenVINO adds a bias of 9 numbers to 1 × 4 × 7 × 9 scores wrongly in bf16"
    (place,) = list_faults(make_lone(CROWD), "bf16")
    assert place.reason == "OpenVINO overwrites 4 queries of 4 heads while it reads them, in bf16"


def test_all_of_a_models_attentions_are_looked_at():
    from edgevit.core.target import ExportForm
    from edgevit.graph.passes.optimize import optimize_graph
    from edgevit.models.export import export_model

    config = dataclasses.replace(VIT, image_size=(16, 16), depth=2, heads=4, class_token=False, pool="mean")  # 4 tokens
    graph = optimize_graph(export_model(make_model(config), ExportForm())[0])[0]
    sites = [fault.site for fault in list_faults(graph, "bf16")]
    assert sites == ["blocks.0.attn/context", "blocks.1.attn/context"]
    assert list_faults(graph, "f32") == ()


@pytest.mark.parametrize("family", ["vit", "swin"])
@pytest.mark.parametrize("executed", ["f32", "bf16"])
def test_nothing_is_known_against_what_edgevit_exports(family, executed):
    assert list_faults(make_graph(family), executed) == ()
