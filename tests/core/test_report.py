"""Reports survive JSON, and damaged ones are refused."""

from __future__ import annotations

import dataclasses
import json
import os
import typing
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgevit.core import schema
from edgevit.core.errors import BundleError, OutputError
from edgevit.core.quantization import QuantizationRecord, SiteRecord
from edgevit.core.report.report import SCHEMA_VERSION, Machine, Report, Verdict
from edgevit.core.target import Budget

JSON = st.recursive(
    st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text() | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


def build(kind: Any) -> st.SearchStrategy[Any]:
    """Anything that a field of this type may hold."""
    origin, args = get_origin(kind), get_args(kind)
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        return st.builds(typing.cast(Any, kind), **{f.name: build(hints[f.name]) for f in dataclasses.fields(kind)})
    if origin is Literal:
        return st.sampled_from(args)
    if origin is tuple and args[-1] is Ellipsis:
        return st.lists(build(args[0]), max_size=2).map(tuple)
    if origin is tuple:
        return st.tuples(*map(build, args))
    if origin is not None and hasattr(origin, "keys"):
        return st.dictionaries(st.text(), build(args[1]), max_size=2)
    if args:
        return st.one_of([build(a) for a in args])
    simple = {
        Any: JSON,
        type(None): st.none(),
        bool: st.booleans(),
        int: st.integers(),
        str: st.text(),
        float: st.floats(allow_nan=False, allow_infinity=False),
    }
    return simple[kind]


@settings(deadline=None, max_examples=30, suppress_health_check=list(HealthCheck))
@given(report=build(Report))
def test_report_is_the_same_after_saving_and_loading(report: Report, tmp_path_factory: pytest.TempPathFactory) -> None:
    report = dataclasses.replace(report, schema_version=SCHEMA_VERSION)
    path = tmp_path_factory.mktemp("report") / "report.json"
    report.save(path)
    json.loads(path.read_text(encoding="utf-8"), parse_constant=pytest.fail)  # strict: no NaN, no Infinity
    assert Report.load(path) == report
    assert [p.name for p in path.parent.iterdir()] == ["report.json"]


def make_report() -> Report:
    machine = Machine("a cpu", ("avx2",), 2, 2, 2, "os", "6.1", "3.11.7", "x86_64", {"numpy": "2.4"})
    return Report(
        source={"path": "here"},
        target="cpu",
        budget=Budget(),
        machine=machine,
        variants=(),
        verdict=Verdict(None, False, "nothing was tried"),
        preprocess="squash 8 × 8",
    )


def test_report_holds_file_names_that_are_no_unicode(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9 \xc3\xa9.jpg")
    report = dataclasses.replace(make_report(), notes=(name,))
    report.save(tmp_path / "report.json")
    assert Report.load(tmp_path / "report.json").notes == (name,)
    assert "é.jpg" in report.dumps()


def test_report_of_a_version_before_platforms_and_conditions_loads(tmp_path: Path) -> None:
    before = json.loads(make_report().dumps())
    assert "conditions" not in before
    assert "platform" not in before["machine"]
    (tmp_path / "report.json").write_text(json.dumps(before))
    assert Report.load(tmp_path / "report.json").conditions is None


@pytest.mark.parametrize(
    "fields", [{"quantization": "int8"}, {"fp8": "fp8"}, {"quantization": "int8", "fp8": "fp8"}, {}]
)
def test_report_of_schema_1_gives_the_records_of_its_two_fields_by_precision(
    fields: dict[str, str], tmp_path: Path
) -> None:
    path = tmp_path / "report.json"
    records = {
        precision: QuantizationRecord(40, sites=(SiteRecord("blocks.0.mlp.fc2", precision, "", 31.5),))
        for precision in ("int8", "fp8")
    }
    before = {field: schema.to_data(records[precision]) for field, precision in fields.items()}
    others = {key: value for key, value in schema.to_data(make_report()).items() if key != "quantization"}
    path.write_text(json.dumps({**others, **before, "schema_version": 1}))
    report = Report.load(path)
    assert report.quantization == {precision: records[precision] for precision in fields.values()}
    report.save(path)
    assert Report.load(path) == report


def test_report_is_refused_when_a_newer_version_wrote_it(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    dataclasses.replace(make_report(), schema_version=SCHEMA_VERSION + 1).save(path)
    with pytest.raises(BundleError, match="schema 3; this edgevit reads up to 2"):
        Report.load(path)


@pytest.mark.parametrize("damage", ["", "{", "[" * 100000, "[]", '"x"', '{"target": "cpu"}', "\ud800"])
def test_report_is_refused_when_the_file_is_damaged(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "report.json"
    path.write_bytes(damage.encode("utf-8", "surrogatepass"))
    with pytest.raises(BundleError):
        Report.load(path)


def test_report_is_refused_when_missing_or_with_unknown_keys(tmp_path: Path) -> None:
    with pytest.raises(BundleError):
        Report.load(tmp_path / "report.json")
    data = {**schema.to_data(make_report()), "verdikt": 1}
    (tmp_path / "report.json").write_text(json.dumps(data))
    with pytest.raises(BundleError, match="did you mean verdict"):
        Report.load(tmp_path / "report.json")


def test_report_that_cannot_be_written_is_an_output_error_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "report.json").mkdir()
    with pytest.raises(OutputError):
        make_report().save(tmp_path / "report.json")
    assert [p.name for p in tmp_path.iterdir()] == ["report.json"]
    with pytest.raises(OutputError):
        make_report().save(tmp_path / "nowhere" / "report.json")
