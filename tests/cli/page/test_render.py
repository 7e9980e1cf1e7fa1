from __future__ import annotations

import re
from dataclasses import replace

import pytest

from edgevit.cli.page.document import make_document
from edgevit.cli.page.sources import Source
from edgevit.core.report.report import Accuracy, Variant, Verdict
from tests.support.page_bundles import TIMES, AnsweredVariant, make_empty_report, make_latency, make_report
from tests.support.page_tags import HOSTILE, Tags
from tests.support.tiny_bundle import LABELS, make_manifest

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")

from edgevit.cli.page.render import render_page

SECTIONS = ("verdict", "latency", "accuracy", "noise", "graph", "machine")


def render(*sources: Source) -> str:
    return render_page(make_document(sources))


def make_source(name: str = "tiny", report=None, **changes) -> Source:
    return Source(name, f"bundles/{name}", report or make_report(), make_manifest(**changes))


def test_page_has_every_section_and_the_report_s_values() -> None:
    page = render(make_source())
    tags = Tags(page)
    assert tags.open == []
    assert [a["id"] for tag, a in tags.found if tag == "section"] == list(SECTIONS)
    assert page.count("<svg") == 2
    for text in (
        "int8 is chosen: it is fast", "it was noisy", "build again", "fastest of three",
        "4.38", "8.12", "9.25", "5.25", "6.56", "0.50–0.60", "89.50", "31.5", "in turns, from uint8 to float32",
        "155 ms to the first answer", "400.0 images a second", "class 3", "it makes most noise",
        "blocks.*.mlp.fc1", "split_qkv", "the model has no layer scale", "switched off", "12 × MatMul",
        "101 layers", "kernels that only change types: 1", "A processor", "numpy 2.4", "a default was assumed",
        "3 more could not be read", "4 more", "1.50 before, 0.25 after",
    ):  # fmt: skip
        assert text in page, text


def test_page_of_several_bundles_begins_with_a_comparison() -> None:
    sources = [make_source(name) for name in "abc"]
    tags = Tags(page := render(*sources))
    assert [a["id"] for tag, a in tags.found if tag == "section"] == ["comparison", *SECTIONS]
    assert page.count("<svg") == 2 + 2 * 3
    assert "take turns" in page


def test_page_needs_no_network_and_runs_nothing() -> None:
    page = render(make_source("a"), make_source("b"))
    assert not re.search(r"https?:|//\w", page)
    for tag, attributes in Tags(page).found:
        assert tag not in ("script", "iframe", "object", "img")
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("href", "src", "xlink:href"):
            assert (attributes.get(name) or "#").startswith(("#", "data:"))
    assert len(page) < 400_000


def test_page_escapes_whatever_comes_from_a_bundle() -> None:
    report = make_report()
    variants = tuple(replace(v, name=f"{v.name}{HOSTILE}", reason=HOSTILE) for v in report.variants)
    record = report.quantization["int8"]
    sites = tuple(replace(site, name=HOSTILE + site.name, reason=HOSTILE) for site in record.sites)
    hostile = replace(
        report,
        variants=variants,
        verdict=Verdict(variants[2].name, True, HOSTILE, (HOSTILE,), HOSTILE),
        quantization={"int8": replace(record, sites=sites, notes=(HOSTILE,))},
        notes=(HOSTILE,),
        preprocess=HOSTILE,
        op_counts={HOSTILE: 1},
        source={"path": HOSTILE, "architecture": HOSTILE},
    )
    labels = tuple(HOSTILE + label for label in LABELS)
    sources = [make_source(f"{HOSTILE}{i}", hostile, labels=labels) for i in range(2)]
    page = render(*sources)
    page.encode("utf-8")
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    tags = Tags(page)
    assert tags.open == []
    assert {tag for tag, _ in tags.found} <= {tag for tag, _ in Tags(render(make_source("a"), make_source("b"))).found}


def test_page_of_a_report_without_figures_says_so() -> None:
    page = render(make_source(report=make_empty_report()))
    assert "<svg" not in page
    for text in ("No latency was measured", "No images judged the accuracy", "No variant was quantised", "parity only"):
        assert text in page
    assert "within the budget" not in page


def test_page_of_a_missed_budget_and_of_random_pixels_says_so() -> None:
    from edgevit.core.quantization import RANDOM_MARK

    missed = replace(make_report(), verdict=Verdict("int8", False, "it is over the budget"))
    assert "✗ budget missed" in render(make_source(report=missed))
    assert "for latency trials only" in render(make_source(figures={"calibration": RANDOM_MARK}))


def test_page_names_the_variants_of_latencies_far_apart() -> None:
    report = make_report(
        variants=(
            Variant("slow", "fp32", 1, make_latency(400.0)),
            Variant("quick", "int8", 1, make_latency(1.0), status="CHOSEN"),
        )
    )
    page = render(make_source(report=report))
    assert "logarithmic" in page
    for name in ("slow", "quick"):
        assert re.search(rf"<text[^>]*>{name}</text>", page)


def test_page_shows_what_an_app_waits_for() -> None:
    variants = list(make_report().variants)
    variants[2] = AnsweredVariant(**{**vars(variants[2]), "end_to_end": TIMES})
    page = render(make_source(report=make_report(variants=tuple(variants))))
    assert "From an image file to the answer" in page
    text = re.sub(r"<[^>]*>", "", page).replace("&nbsp;", " ")
    assert "decode 12 %,  resize 50 %,  engine 25 %,  answer 12 %, of 16.0 ms" in text
    assert "a.jpg, 640 × 480 JPEG" in page
    assert "From an image file" not in render(make_source())


def test_page_leaves_out_columns_without_figures() -> None:
    levels = Accuracy(20, False, None, None, None, task="features", level_sqnr_db={"level0": 25.0}, sqnr_db=25.0)
    report = make_report(variants=tuple(replace(v, accuracy=levels) for v in make_report().variants))
    page = render(make_source(report=report))
    assert "SQNR of the worst level, dB" in page
    for title in ("drop", "agree, %", "won", "lost", "cosine"):
        assert f'<th class="n">{title}</th>' not in page
        assert (f'<th class="n">{title}</th>' in render(make_source())) == (title != "cosine")


def test_page_has_the_figures_of_a_task_in_words() -> None:
    figures = {"kept_delta1_percent": 98.5, "kept_abs_rel": 0.0213}
    figures |= {"aligned_abs_rel": 0.1, "reference_aligned_abs_rel": 0.09}
    judged = Accuracy(20, True, None, None, None, task="depth", level_sqnr_db={"depth": 31.0}, task_figures=figures)
    first, *others = make_report().variants
    variants = (
        replace(first, accuracy=judged, choice_accuracy=None),
        *(replace(v, accuracy=None, choice_accuracy=None) for v in others),
    )
    page = render(make_source(report=make_report(variants=variants)))
    assert Tags(page).open == []
    assert "<h4>Figures of the task</h4>" in page
    for text in (
        *("δ1 to the float model&#39;s depth", "98.50 %", "0.0213"),
        "0.1000, the float model&#39;s 0.0900",
    ):
        assert text in page
    assert "<h4>Figures of the task</h4>" not in render(make_source())
