from __future__ import annotations

import json
from dataclasses import replace

import pytest

from edgevit.cli.page.document import SCHEMA_VERSION, make_document
from edgevit.cli.page.sources import Source
from edgevit.core.report.report import Accuracy, DataUse
from tests.support.page_bundles import MACHINE, TIMES, AnsweredVariant, make_accuracy, make_empty_report, make_report
from tests.support.tiny_bundle import make_manifest


def make_source(name="a", **changes) -> Source:
    return Source(name, f"bundles/{name}", make_report(**changes), make_manifest())


def test_document_is_plain_json_and_holds_the_report_s_own_values() -> None:
    source = make_source()
    document = make_document([source])
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert document["schema_version"] == SCHEMA_VERSION
    assert document["comparison"] is None
    (bundle,) = document["bundles"]
    written = json.loads(source.report.dumps())
    for name in ("passes", "op_counts", "machine", "data", "notes", "preprocess", "target", "settings_tried"):
        assert bundle[name] == written[name]
    assert {**bundle["budget"], **written["budget"]} == bundle["budget"]
    assert {**bundle["verdict"], **written["verdict"]} == bundle["verdict"]
    for ours, theirs in zip(bundle["variants"], written["variants"], strict=True):
        for name in ("name", "precision", "status", "reason", "size_bytes", "latency", "ratio"):
            assert ours[name] == theirs[name]
        assert {**ours["accuracy"], **theirs["accuracy"]} == ours["accuracy"]


def test_document_draws_top1_and_marks_the_chosen_and_the_front() -> None:
    (bundle,) = make_document([make_source()])["bundles"]
    assert bundle["measure"] == {"name": "top-1", "unit": "%", "least": 89.5, "images": "validation"}
    rows = {v["name"]: v for v in bundle["variants"]}
    assert {name: v["on_front"] for name, v in rows.items()} == {"fp32": True, "fp16": False, "int8": True}
    assert [name for name, v in rows.items() if v["chosen"]] == ["int8"]
    assert rows["int8"]["quality"] == {"value": 89.5, "low": 88.25, "high": 91.25}


def test_document_leaves_what_computes_something_else_out_of_the_front() -> None:
    report = make_report()
    broken = replace(report.variants[2], status="PARITY FAILED")
    (bundle,) = make_document([make_source(variants=(*report.variants[:2], broken))])["bundles"]
    assert [v["on_front"] for v in bundle["variants"]] == [True, False, False]


def test_document_gives_noise_in_percent_and_counts_what_is_quantised() -> None:
    (bundle,) = make_document([make_source()])["bundles"]
    (record,) = bundle["quantization"]
    assert (record["precision"], record["quantized"], len(record["sites"])) == ("int8", 15, 16)
    noise = {site["name"]: site["noise_percent"] for site in record["sites"]}
    assert noise["blocks.0.mlp.fc2"] == pytest.approx(10)
    assert noise["blocks.0.attn.q"] == pytest.approx(1)


def test_document_names_the_classes_that_changed() -> None:
    (bundle,) = make_document([make_source()])["bundles"]
    assert bundle["changed_classes"] == [
        {"label": 3, "images": 20, "reference_correct": 18, "correct": 16, "name": "class 3"}
    ]


def test_document_of_a_report_without_figures_has_none() -> None:
    (bundle,) = make_document([Source("a", "a", make_empty_report(), make_manifest())])["bundles"]
    assert bundle["measure"] is None
    assert bundle["methods"] == []
    (variant,) = bundle["variants"]
    assert variant["latency"] is variant["quality"] is variant["accuracy"] is None


def test_comparison_draws_one_front_over_all_bundles() -> None:
    report = make_report()
    slower = tuple(replace(v, latency=replace(v.latency, p50_ms=9 + v.latency.p50_ms)) for v in report.variants)
    found = make_document([make_source("a"), make_source("b", variants=slower)])["comparison"]
    assert found["one_measure"] is True
    assert found["front"] == [["a", "fp32"], ["a", "int8"]]
    assert len(found["cautions"]) == 1


def test_comparison_says_what_is_not_alike() -> None:
    unlabelled = tuple(replace(v, accuracy=Accuracy(200, False, 190, 0.9, 1.0)) for v in make_report().variants)
    other = make_source(
        "b",
        variants=unlabelled,
        machine=replace(MACHINE, cpu="Another"),
        data={"validation": DataUse("other", 10, True, "c" * 64)},
    )
    found = make_document([make_source("a"), other])["comparison"]
    assert found["one_measure"] is False
    assert found["front"] == []
    text = "\n".join(found["cautions"])
    for word in ("machines", "different images", "different measures"):
        assert word in text
    assert "numbers of images" not in text


def test_document_judges_by_calibration_images_where_there_are_no_others() -> None:
    variants = tuple(replace(v, accuracy=None, choice_accuracy=make_accuracy(178)) for v in make_report().variants)
    (bundle,) = make_document([make_source(variants=variants)])["bundles"]
    assert bundle["measure"]["images"] == "calibration"
    assert [v["quality"]["value"] for v in bundle["variants"]] == [89.0] * 3


def test_document_shares_out_what_an_app_waits_for() -> None:
    variants = list(make_report().variants)
    variants[2] = AnsweredVariant(**{**vars(variants[2]), "end_to_end": TIMES})
    (bundle,) = make_document([make_source(variants=tuple(variants))])["bundles"]
    assert bundle["variants"][0]["end_to_end"] is None
    found = bundle["variants"][2]["end_to_end"]
    assert found["total_ms"] == 16.0
    assert found["image"] == "a.jpg"
    assert [(p["name"], p["p50_ms"], p["percent"]) for p in found["parts"]] == [
        ("decode", 2.0, 12.5),
        ("resize", 8.0, 50.0),
        ("engine", 4.0, 25.0),
        ("answer", 2.0, 12.5),
    ]
