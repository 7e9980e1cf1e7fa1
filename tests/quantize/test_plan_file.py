"""Plans on disk come back exactly, whatever fields they hold."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgevit.core.errors import CalibrationError
from edgevit.core.quantization import Quantization
from edgevit.quantize.grid import FloatGrid, Grid
from edgevit.quantize.plan import Affine, QuantizationPlan, SitePlan, apply_plan
from edgevit.quantize.plan_file import load_plan, save_plan
from tests.support.quantized import fit_sites
from tests.support.small_graphs import make_graph, make_pixels


def assert_same(found: Any, expected: Any) -> None:
    """Equal in type, and in every bit of every array."""
    assert type(found) is type(expected)
    if isinstance(expected, (np.ndarray, np.generic)):
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
        assert found.tobytes() == expected.tobytes()
    elif dataclasses.is_dataclass(expected):
        for f in dataclasses.fields(expected):
            assert_same(getattr(found, f.name), getattr(expected, f.name))
    elif isinstance(expected, dict):
        assert list(found) == list(expected)
        for key in expected:
            assert_same(found[key], expected[key])
    elif isinstance(expected, (tuple, list)):
        assert len(found) == len(expected)
        for ours, theirs in zip(found, expected, strict=True):
            assert_same(ours, theirs)
    else:
        assert found == expected


GRIDS = st.builds(
    Grid,
    st.floats(1e-30, 1e30),
    st.integers(0, 127),
    st.sampled_from([-128, -127, 0]),
    st.just(127),
)
FLOATS = hnp.arrays(np.float32, hnp.array_shapes(min_dims=0, max_dims=2, max_side=4), elements=st.floats(width=32))
CODES = hnp.arrays(np.int8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=4))
FP8_CODES = CODES.map(lambda codes: codes.view(ml_dtypes.float8_e4m3fn))
SITES = st.builds(
    SitePlan,
    inputs=st.lists(st.text(), max_size=2).map(tuple),
    grids=st.lists(GRIDS | st.builds(FloatGrid, st.floats(1e-30, 1e30)), max_size=2).map(tuple),
    weight=st.none() | CODES | CODES.map(np.asfortranarray) | FP8_CODES,
    scale=st.none() | FLOATS,
    bias=st.none() | FLOATS,
    affine=st.none() | st.builds(Affine, FLOATS, FLOATS),
)
PLANS = st.builds(
    QuantizationPlan, sites=st.dictionaries(st.text(), SITES, max_size=4), at=st.sampled_from(["producer", "consumer"])
)


@given(plan=PLANS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_plan_comes_back_to_the_bit(plan, tmp_path):
    save_plan(plan, tmp_path / "plan.json")
    assert_same(load_plan(tmp_path / "plan.json"), plan)


@pytest.mark.parametrize(
    "value",
    [
        np.float32(0.1),
        np.bool_(True),
        np.asarray(3, np.int64),
        float("inf"),
        [1, (2.5, None), {"a": [Grid(1.0, 0, 0, 255)]}],
        {3: Affine(np.zeros(2, np.float32), np.ones((), np.float32))},
    ],
    ids=["number", "flag", "array_of_no_dimension", "infinity", "nested", "whole_numbers_as_keys"],
)
def test_fields_that_a_plan_may_grow_come_back(value, tmp_path):
    site = dataclasses.replace(SitePlan(("x",), ()), bias=value)
    save_plan(QuantizationPlan({"a": site}), tmp_path / "plan.json")
    assert_same(load_plan(tmp_path / "plan.json").sites["a"].bias, value)


@pytest.mark.parametrize("value", [object(), {1, 2}, np.asarray([None])], ids=["object", "set", "array_of_objects"])
def test_value_that_cannot_be_kept_is_refused_before_anything_is_written(value, tmp_path):
    with pytest.raises(TypeError, match="has no place in a plan"):
        save_plan(QuantizationPlan({"a": SitePlan(("x",), (), value)}), tmp_path / "plan.json")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"format":1', '"format":2'),
        ('"edgevit.quantize.grid","Grid"', '"os","system"'),
        ('"edgevit.quantize.grid","Grid"', '"edgevit.quantize.grid","json"'),
        ('"zero_point"', '"another"'),
        ('["array",0]', '["array",9]'),
        ("{", "<"),
    ],
    ids=["format", "foreign", "no_noun", "field", "array", "json"],
)
def test_damaged_file_is_refused_with_its_name(old, new, tmp_path):
    path = tmp_path / "plan.json"
    site = SitePlan(("x",), (Grid(1.0, 0, 0, 255),), np.zeros((2, 2), np.int8))
    save_plan(QuantizationPlan({"a": site}), path)
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(CalibrationError, match=r"plan\.json"):
        load_plan(path)


@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_missing_or_cut_arrays_are_refused(damage, tmp_path):
    path = tmp_path / "plan.json"
    save_plan(QuantizationPlan({"a": SitePlan(("x",), (), np.zeros((64, 64), np.int8))}), path)
    arrays = path.with_suffix(".npz")
    if damage == "missing":
        arrays.unlink()
    else:
        arrays.write_bytes(arrays.read_bytes()[:200])
    with pytest.raises(CalibrationError):
        load_plan(path)


def test_file_of_another_noun_is_refused(tmp_path):
    path = tmp_path / "plan.json"
    save_plan(QuantizationPlan(), path)
    document = json.loads(path.read_text(encoding="utf-8"))
    document["plan"] = [
        "noun",
        "edgevit.quantize.grid",
        "Grid",
        {"scale": 1.0, "zero_point": 0, "low_code": 0, "high_code": 9},
    ]
    path.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(CalibrationError, match="holds no plan"):
        load_plan(path)


@pytest.mark.parametrize(
    ("backend", "precision"), [("openvino", "int8"), ("onnxruntime", "int8"), ("tensorrt_rtx", "fp8")]
)
def test_plan_from_disk_makes_the_same_graph(backend, precision, tmp_path):
    """Of the float graph from disk, too: with all sites, and with some set back."""
    from edgevit.graph.graph import Graph

    pixels, quantization = make_pixels("vit", 4), Quantization()
    base, plan, _ = fit_sites(make_graph("vit"), pixels, quantization, backend, precision=precision)
    save_plan(plan, tmp_path / "plan.json")
    base.save(tmp_path / "base.onnx")
    assert_same(load_plan(tmp_path / "plan.json"), plan)
    for sites in (list(plan.sites), list(plan.sites)[::2]):
        apply_plan(base, plan, sites).save(tmp_path / "a.onnx")
        loaded = load_plan(tmp_path / "plan.json")
        assert isinstance(loaded, QuantizationPlan)
        apply_plan(Graph.load(tmp_path / "base.onnx"), loaded, sites).save(tmp_path / "b.onnx")
        assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
