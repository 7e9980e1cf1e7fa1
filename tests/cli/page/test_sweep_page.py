"""The page of a sweep: its answer, a chart a target, all cells with their links, and nothing that steers a browser."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from edgevit.remote.sweep.chosen import link_chosen
from edgevit.remote.sweep.question import Question
from edgevit.remote.sweep.result import SweepResult
from tests.support.browser import CHROMIUM, open_tab
from tests.support.page_tags import HOSTILE, Tags
from tests.support.sweeps import make_cell, make_failed, make_sweep, write_sweep

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")

from edgevit.cli.page.sweep_document import make_sweep_document
from edgevit.cli.page.sweep_render import render_sweep


def render(result: SweepResult, root: Path, out: Path | None = None) -> str:
    return render_sweep(make_sweep_document(result, root, out or root / "sweep.html"))


def list_links(page: str) -> list[str]:
    return [str(attributes["href"]) for tag, attributes in Tags(page).found if tag == "a"]


def list_rows(page: str, section: str) -> list[str]:
    """The rows of a target's whole table, as text."""
    part = page[page.index(f'<section id="{section}"') :]
    part = part[part.index("All cells") : part.index("</section>")]
    rows = re.findall(r"<tr.*?</tr>", part[part.index("<tbody>") :], re.S)
    return [" ".join(re.sub(r"<[^>]*>", " ", row).split()) for row in rows]


CELLS = [
    make_cell("slow", figures={"latency_p50_ms": 9.0, "top1": 99.0}),
    make_cell("fast", figures={"latency_p50_ms": 1.0, "top1": 80.0}),
    make_cell("middle", source="/models/swin", figures={"latency_p50_ms": 3.0, "top1": 95.0}),
    make_cell("missed", passed=False, bundle=None, figures={"latency_p50_ms": 4.0, "top1": 50.0}),
    make_failed("broken", hint="give another"),
    make_cell("far", "jetson", figures={"latency_p50_ms": None}),
]


def test_answer_comes_first_and_each_target_has_a_section(tmp_path) -> None:
    root = write_sweep(tmp_path / "plan-sweep", result := make_sweep(CELLS))
    link_chosen(result, root)
    page = render(result, root)
    tags = Tags(page)
    assert tags.open == []
    sections = [a["id"] for tag, a in tags.found if tag == "section"]
    assert sections == ["answer", "target0", "target1", "machine", "plan"]
    assert "<h1>plan-sweep: the fastest with top1 &gt;= 90</h1>" in page
    assert page.index("✓ middle") < page.index("<svg")
    assert "latency_p50_ms was not measured" in page
    assert "6 cells for 2 targets" in page
    assert page.count("<svg") == 1, "no latency, no chart"
    assert "No chart" in page
    assert not re.search(r"<script|https?:|\son\w+=", page)


def test_table_has_all_cells_the_best_first_and_the_failed_with_its_error(tmp_path) -> None:
    rows = list_rows(render(make_sweep(CELLS), tmp_path), "target0")
    assert [re.sub("^∗ ", "", row).split()[1] for row in rows] == ["middle", "slow", "fast", "missed", "broken"]
    assert [row.startswith("∗") for row in rows] == [True, True, True, False, False]
    assert rows[0].endswith("chosen")
    assert rows[1].endswith("fit")
    assert rows[2].endswith("top1 not &gt;= 90")
    assert rows[3].endswith("no bundle")
    assert rows[4] == "5 broken failed: the graph is not one line two give another"


def test_links_lead_to_pages_where_there_are_any_and_to_folders_else(tmp_path) -> None:
    root = write_sweep(tmp_path / "plan-sweep", result := make_sweep(CELLS))
    link_chosen(result, root)
    (root / "cells/fast/bundle.html").write_text("")
    out = tmp_path / "pages" / "p.html"
    out.parent.mkdir()
    for where in (root / "sweep.html", out):
        links = [link for link in list_links(render(result, root, where)) if not link.startswith("#")]
        assert len(links) == 5, "four bundles, and the chosen one"
        assert all((where.parent / link).exists() for link in links)
        assert sum(link.endswith("cells/fast/bundle.html") for link in links) == 1


def test_text_of_a_result_is_no_markup_and_no_address(tmp_path) -> None:
    cell = make_cell(HOSTILE, HOSTILE, HOSTILE, bundle="javascript:alert(1)", sentence=HOSTILE, warnings=(HOSTILE,))
    other = make_cell("b", HOSTILE, bundle="../../etc", machine=HOSTILE)
    failed = make_failed("c", HOSTILE, error=HOSTILE, hint=HOSTILE)
    (tmp_path.parent / "etc").mkdir(exist_ok=True)
    page = render(make_sweep([cell, other, failed], machines={HOSTILE: 1}), tmp_path)
    tags = Tags(page)
    assert tags.open == []
    assert "script" not in {tag for tag, _ in tags.found}
    assert set(list_links(page)) == {"#target0"}


def test_a_thousand_cells_have_a_thousand_rows_and_few_labels(tmp_path) -> None:
    cells = [
        make_cell(f"c{i}", source=f"/m/{i}", variant=("fp32", "int8")[i % 2],
                  figures={"latency_p50_ms": 1.0 + i % 97, "top1": 60 + (i * 37 % 101) / 3})
        for i in range(1000)
    ]  # fmt: skip
    result = make_sweep(cells)
    page = render(result, tmp_path)
    assert len(list_rows(page, "target0")) == 1000
    svg = page[page.index("<svg") : page.index("</svg>")]
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", svg)
    assert {"fp32", "int8"} <= set(texts), "marks differ by precision: sources are too many"
    numbers = [text for text in texts if text.isdecimal()]
    assert len(numbers) <= len(result.fronts["cpu"]) + 1 + 16, "the ticks of both axes, and the front"
    assert len(page) < 2_000_000


def test_bounds_of_the_question_are_drawn_where_they_are_near(tmp_path) -> None:
    def list_texts(*where: str) -> str:
        return render(make_sweep(CELLS[:3], Question(where=where)), tmp_path)

    near = list_texts("top1 >= 90", "latency_p50_ms <= 5")
    assert "least that is asked for" in near
    assert "most that is asked for" in near
    far = list_texts("top1 >= 1", "latency_p50_ms <= 5000")
    assert "that is asked for</text>" not in far


def test_warnings_that_differ_in_numbers_are_one_and_counted(tmp_path) -> None:
    cells = [make_cell(f"c{i}", warnings=(f"the load was {i}.5", "it is old")) for i in range(3)]
    document = make_sweep_document(make_sweep(cells), tmp_path, tmp_path / "p.html")
    assert [(w["text"], w["cells"], w["cell"]) for w in document["warnings"]] == [
        ("the load was 0.5", 3, "c0"),
        ("it is old", 3, "c0"),
    ]
    assert document["seconds"] == {"measure": 6.0, "export": 3.0}
    json.dumps(document, allow_nan=False)


def test_report_of_a_sweep_s_folder_writes_its_page_again(tmp_path) -> None:
    from click.testing import CliRunner

    from edgevit.cli import main

    root = write_sweep(tmp_path / "plan-sweep", make_sweep(CELLS))
    out = tmp_path / "p.html"

    def run(*arguments: object):
        return CliRunner().invoke(main, [str(a) for a in arguments])

    for _ in range(2):
        found = run("report", root, "--out", out)
        assert found.exit_code == 0, found.output
    assert "<title>edgevit report: plan-sweep</title>" in out.read_text()
    document = json.loads(run("report", root, "--out", out, "--json").stdout)["document"]
    assert [target["chosen"] for target in document["targets"]] == ["middle", None]
    both = run("report", root, root, "--out", out)
    assert both.exit_code == 2
    assert "give it without others" in both.stderr
    (root / "sweep.json").write_text("{}")
    assert run("report", root, "--out", out).exit_code == 2


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
def test_page_in_a_browser_fits_a_telephone_and_a_desk_and_says_nothing_on_the_console(tmp_path) -> None:
    long = "vit_base_patch14_reg4_dinov2.lvd142m_nvidia-jetson-orin-nano_int8"
    cells = [*CELLS, *(make_cell(f"{long}_{i}", figures={"latency_p50_ms": 2.0 + i}) for i in range(40))]
    out = tmp_path / "sweep.html"
    out.write_text(render(make_sweep(cells), tmp_path), encoding="utf-8")
    with open_tab() as tab:
        for width in (360, 1400):
            tab.open(out, width)
            assert tab.evaluate("document.documentElement.scrollWidth") == width
        assert tab.messages == []
