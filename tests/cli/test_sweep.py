"""``edgevit sweep`` without Ray: the screen, the JSON lines, the page and the exit status; results are made by hand."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import shutil
import sys
from collections import Counter
from typing import Any

import pytest

from edgevit.cli.output import Output
from edgevit.cli.sweep import write_result_page
from edgevit.cli.sweep_progress import SweepBar, describe_cell, describe_running, follow_sweep, format_time
from edgevit.cli.sweep_tables import MOST_ROWS, format_figure, shorten_middle
from edgevit.cli.terminal import open_console
from edgevit.remote.sweep.chosen import link_chosen
from edgevit.remote.sweep.question import FIGURES, Question
from edgevit.remote.sweep.result import SweepResult
from edgevit.remote.sweep.run import State, Step
from tests.support.page_bundles import make_report, write_page_bundle
from tests.support.sweeps import make_cell, make_failed, make_sweep, write_sweep

LONG = "vit_base_patch14_reg4_dinov2.lvd142m_nvidia-jetson-orin_int8"


def make_many(count: int):
    return [
        make_failed(f"{LONG}_{i}") if i % 10 == 9 else
        make_cell(f"{LONG}_{i}", figures={"latency_p50_ms": 1.0 + i, "top1": 80.0 + i % 17, "size_mb": 346.3})
        for i in range(count)
    ]  # fmt: skip


@pytest.fixture
def swept(run, tmp_path, monkeypatch):
    """Run the command with a sweep that comes to the given result at once; gives what was printed and the folder."""
    monkeypatch.setenv("COLUMNS", "80")
    plan, folder = tmp_path / "plan.toml", tmp_path / "plan-sweep"
    plan.write_text("")

    results: list[SweepResult] = []

    def sweep(given, *, out, listen, note, **options) -> SweepResult:
        write_sweep(out.resolve(), result := results[-1])
        link_chosen(result, out.resolve())
        listen(State(len(result.cells), running=Counter[Step]({"prepare": 1})), None)
        for done, cell in enumerate(result.cells, 1):
            listen(State(len(result.cells), done, sum(c.failed for c in result.cells[:done]), left_seconds=9.0), cell)
        return result

    monkeypatch.setattr("edgevit.remote.sweep.sweep.sweep", sweep)

    def do(result: SweepResult, *arguments: str):
        results.append(result)
        return run("sweep", plan, "--out", folder, *arguments), folder

    return do


def test_sweep_shows_the_best_first_and_the_answer_and_writes_the_page_and_the_link(swept) -> None:
    pytest.importorskip("jinja2")
    pytest.importorskip("matplotlib")
    cells = [make_cell("slow", figures={"latency_p50_ms": 9.0}), make_cell("fast"), make_cell("cheap", "jetson")]
    found, folder = swept(make_sweep(cells))
    assert found.exit_code == 0, found.output
    lines = found.stdout.splitlines()
    assert lines[0] == "cpu:"
    assert lines[1].split() == ["cell", "precision", "top-1", "p50", "p90", "MB", "is"]
    assert lines[3].split() == ["fast", "int8", "97.50", "2.00", "2.50", "1.5", "*", "CHOSEN"]
    assert lines[4].split() == ["slow", "int8", "97.50", "9.00", "2.50", "1.5", "fit"]
    assert "cpu: fast is the fastest with top1 >= 90" in found.stdout
    assert f"page: {folder / 'sweep.html'}" in lines
    assert "<title>edgevit report: plan-sweep</title>" in (folder / "sweep.html").read_text()
    assert (folder / "chosen" / "cpu").resolve() == folder / "cells" / "fast" / "bundle"
    assert (folder / "chosen" / "jetson").resolve() == folder / "cells" / "cheap" / "bundle"


def test_screen_of_a_thousand_long_names_is_short_and_fits_80_columns(swept) -> None:
    found, _ = swept(make_sweep(make_many(1000)), "--quiet")
    assert found.exit_code == 1, "some failed"
    lines = found.stdout.splitlines()
    assert max(len(line) for line in lines if "/" not in line) <= 80, "paths are not broken"
    rows = [line for line in lines if "fit" in line and "…" in line]
    assert len(rows) <= MOST_ROWS
    assert len(lines) < 70
    assert any(f"and {1000 - MOST_ROWS} more" in line for line in lines)
    assert "and 90 more failed" in found.stdout
    assert found.stderr == ""


@pytest.mark.parametrize("where", [("top1 >= 99", "latency_p90_ms <= 0.001", "cosine > 1"), ()])
def test_rows_stay_rows_whatever_is_said_of_their_cells(swept, where) -> None:
    cells = [*make_many(9), make_cell("missed", passed=False), make_cell("none", bundle=None), make_failed("failed")]
    found, _ = swept(make_sweep(cells, Question(where=where)), "--quiet")
    table = found.stdout[: found.stdout.index("\n\n")].splitlines()
    assert max(map(len, table)) <= 80
    assert sum(line.startswith("vit_base") for line in table) == 9
    assert all(line.startswith(("cpu:", "cell ", "─", "vit_base", "missed", "none", "failed", " ")) for line in table)


def test_json_is_a_line_a_cell_and_the_result_last_also_when_quiet(swept) -> None:
    cells = [make_cell("a"), make_failed("b")]
    for options in (["--json"], ["--json", "--quiet"]):
        found, folder = swept(make_sweep(cells), *options)
        lines = [json.loads(line) for line in found.stdout.splitlines()]
        assert [line["event"] for line in lines] == ["cell", "cell", "result"]
        assert [line.get("name") for line in lines[:2]] == ["a", "b"]
        assert (lines[1]["done"], lines[1]["failed"], lines[1]["total"]) == (2, 1, 2)
        assert lines[0]["figures"]["top1"] == 97.5
        assert [cell["name"] for cell in lines[2]["cells"]] == ["a", "b"]
        assert lines[2]["answers"][0]["chosen"] == "a"
        assert lines[2]["folder"] == str(folder)
        shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("cells", "status"),
    [
        ([make_cell("a")], 0),
        ([make_cell("a"), make_cell("b", passed=False)], 0),
        ([make_cell("a"), make_failed("b")], 1),
        ([make_cell("a", figures={"top1": 1.0})], 1),
    ],
)
def test_exit_status_is_1_where_a_cell_failed_or_a_target_has_no_answer(swept, cells, status) -> None:
    assert swept(make_sweep(cells))[0].exit_code == status


def test_without_the_extra_there_is_a_note_and_no_page(swept, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    found, folder = swept(make_sweep([make_cell("a")]))
    assert found.exit_code == 0
    assert "no page: matplotlib is not installed" in found.stderr
    assert "[report]" in found.stderr
    assert "page:" not in found.stdout
    assert not (folder / "sweep.html").exists()


def test_the_best_bundles_have_pages_of_their_own_which_are_written_once(swept) -> None:
    pytest.importorskip("jinja2")
    pytest.importorskip("matplotlib")
    figures = {"latency_p50_ms": 9.0}
    cells = [make_cell("slow", figures=figures), make_cell("fast"), make_cell("broken", "jetson")]
    found, folder = swept(make_sweep(cells))  # all are empty folders
    for name in ("fast", "slow"):
        shutil.rmtree(folder / "cells" / name / "bundle")
        write_page_bundle(folder / "cells" / name / "bundle", make_report())
    page = folder / "cells/fast/bundle.html"

    def look() -> str:
        output = Output(quiet=False)
        write_result_page(output, folder, make_sweep(cells))
        return (folder / "sweep.html").read_text()

    assert 'href="./cells/fast/bundle.html"' in look()
    assert "<title>edgevit report: bundle</title>" in page.read_text()
    assert not (folder / "cells/slow/bundle.html").exists()  # it is beaten
    assert "no page: broken: " in found.stderr
    written = page.stat().st_mtime_ns
    look()
    assert page.stat().st_mtime_ns == written
    os.utime(page, (1, 1))  # of a bundle that lay there before
    look()
    assert page.stat().st_mtime_ns >= written


def test_a_page_of_somebody_else_s_stays_and_the_result_is_shown(swept) -> None:
    found, folder = swept(make_sweep([make_cell("a")]))
    (folder / "sweep.html").write_text("mine")
    shutil.rmtree(folder / "cells")
    found, folder = swept(make_sweep([make_cell("a")]))
    assert found.exit_code == 0
    assert "no page: " in found.stderr
    assert (folder / "sweep.html").read_text() == "mine"
    assert "a is the fastest" in found.stdout


def write_plan(folder, sources: int = 1, extra: str = ""):
    names = [f"{LONG}_{i}" for i in range(sources)]
    for name in names:
        (folder / name).mkdir()
        (folder / name / "model.safetensors").write_bytes(b"tensors, which nobody reads here")
    plan = folder / "plan.toml"
    plan.write_text(f"sources = {json.dumps(names)}\ntargets = ['cpu']\nprecisions = ['fp32']\n{extra}")
    return plan


def test_dry_run_shows_states_and_needs_and_writes_nothing(run, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    plan = write_plan(tmp_path, 30)
    before = sorted(tmp_path.rglob("*"))
    found = run("sweep", plan, "--dry-run")
    assert found.exit_code == 0, found.output
    lines = found.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert len([line for line in lines if line.startswith("vit_base")]) == MOST_ROWS
    assert lines[-2:] == ["… and 10 more: --json lists all", "30 cells: 30 to do"]
    assert "a node to itself" in found.stdout
    assert sorted(tmp_path.rglob("*")) == before
    document = json.loads(run("sweep", plan, "--dry-run", "--json").stdout)
    assert len(document["cells"]) == 30
    assert {cell["state"] for cell in document["cells"]} == {"to do"}


def test_dry_run_knows_what_is_done_and_what_failed(run, tmp_path) -> None:
    from edgevit.remote.sweep.plan import list_cells, load_plan
    from edgevit.remote.sweep.sweep import list_jobs

    plan = write_plan(tmp_path, 3)
    jobs = list_jobs(list_cells(load_plan(plan), tmp_path), tmp_path / "plan-sweep")
    for number, (name, job) in enumerate(jobs.items()):
        made = (make_cell(name, bundle=None), make_failed(name))
        if number < 2:
            job.folder.mkdir(parents=True)
            dataclasses.replace(made[number], key=job.key).save(job.folder)
    found = run("sweep", plan, "--dry-run", "--json")
    assert [cell["state"] for cell in json.loads(found.stdout)["cells"]] == ["done", "failed earlier", "to do"]
    assert run("sweep", plan, "--dry-run").stdout.splitlines()[-1] == "3 cells: 1 to do, 1 done, 1 failed earlier"
    again = run("sweep", plan, "--dry-run", "--again")
    assert again.stdout.splitlines()[-1] == "3 cells: 2 to do, 1 done"


@pytest.mark.parametrize("options", [(), ("--dry-run",)])
def test_file_in_the_place_of_the_folder_is_said_so(run, tmp_path, options) -> None:
    (tmp_path / "out").write_text("mine")
    found = run("sweep", write_plan(tmp_path, 1), "--out", tmp_path / "out", *options)
    assert found.exit_code == 2
    assert "out is a file, and a sweep writes a folder" in found.stderr
    assert (tmp_path / "out").read_text() == "mine"


def test_interrupted_sweep_says_that_it_can_go_on(run, tmp_path, monkeypatch) -> None:
    def stop(*args: Any, **more: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules["edgevit.remote.sweep.sweep"], "sweep", stop)
    found = run("sweep", write_plan(tmp_path, 1), "--json")
    assert found.exit_code == 130
    assert found.stderr.strip().splitlines() == [
        "error: interrupted; cells that have a result keep it",
        "hint: run the same command again, and the others are built",
    ]
    assert json.loads(found.stdout)["error"].startswith("interrupted")


def test_bad_plan_is_two_lines_with_all_its_faults(run, tmp_path) -> None:
    plan = write_plan(tmp_path, 1, "calibration = 'nowhere'\n[question]\nwhere = ['top1 >= 1']\n")
    plan.write_text(plan.read_text().replace("'cpu'", "'cpu', 'cpo'"))
    found = run("sweep", plan, "--dry-run")
    assert found.exit_code == 2
    assert "3 problems" in found.stderr
    assert "where: top1 >= 1 needs validation images" in found.stderr
    assert "nowhere: no such file or folder" in found.stderr
    assert "unknown target 'cpo'" in found.stderr
    assert "hint: " in found.stderr


def test_plan_that_is_not_there_is_said_so(run, tmp_path) -> None:
    found = run("sweep", tmp_path / "none.toml")
    assert found.exit_code == 2
    assert "none.toml" in found.stderr


# Progress


def test_without_a_terminal_there_is_one_line_a_cell(capsys) -> None:
    with follow_sweep(Output()) as listen:
        for _ in range(5):
            listen(State(2, 0, running=Counter[Step]({"prepare": 1})), None)
        listen(State(2, 1, 0, left_seconds=75.0), make_cell("a"))
        listen(State(2, 2, 1, left_seconds=0.0), make_failed("b"))
    assert capsys.readouterr().err.splitlines() == [
        "1 of 2: a: passed, p50 2.00, top-1 97.50, MB 1.5 (1:15 left)",
        "2 of 2: b: failed: the graph is not one",
    ]


def test_quiet_follows_in_silence(capsys) -> None:
    with follow_sweep(Output(quiet=True)) as listen:
        listen(State(1, 1), make_cell("a"))
    assert capsys.readouterr() == ("", "")


def test_terminal_shows_a_bar_with_the_counts(monkeypatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    with follow_sweep(Output()) as listen:
        listen(State(60, 12, 2, Counter({"prepare": 3, "build": 1}), 250.0), make_cell("a"))
    assert "a: passed" in screen.getvalue()
    assert "12 of 60, 2 failed" in screen.getvalue()


def test_bar_fits_80_columns_and_says_what_runs() -> None:
    bar = SweepBar(clock=iter([0.0, 1.0, 4000.0]).__next__)
    screens = []
    for state in (None, State(100_000, 99_999, 12_345, Counter({"prepare": 64, "portable": 3, "build": 1}), 360_000.0)):
        bar.state = state
        stream = io.StringIO()
        open_console(stream).print(bar.draw())
        screens.append([line.rstrip() for line in stream.getvalue().splitlines()])
    assert screens[0] == ["cells  0:01"]
    assert screens[1][0].endswith("99999 of 100000, 12345 failed  1:06:40, 100:00:00 left")
    assert screens[1][1] == "67 prepare, 1 measures"
    assert max(map(len, screens[1])) <= 80


def test_what_runs_in_words() -> None:
    assert describe_running(State(1)) == ""
    assert describe_running(State(3, running=Counter({"prepare": 1, "build": 2}))) == "1 prepares, 2 measure"


def test_line_of_a_cell_has_what_was_measured() -> None:
    bare = make_cell("a", passed=False, figures=dict.fromkeys(("top1", "latency_p50_ms")))
    assert describe_cell(State(2, 1), bare) == "1 of 2: a: budget missed, MB 1.5"
    assert describe_cell(State(2, 1), make_failed("x" * 90)).count("…") == 1


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (59.9, "0:59"), (61, "1:01"), (3599, "59:59"), (7325, "2:02:05")]
)
def test_times(seconds, text) -> None:
    assert format_time(seconds) == text


def test_every_figure_has_a_column_and_digits() -> None:
    for name in FIGURES:
        assert 1 <= len(format_figure(name, 12.3456)) <= 7
        assert format_figure(name, None) == "–"


@pytest.mark.parametrize("width", range(3, 20))
def test_middle_is_left_out_and_both_ends_stay(width) -> None:
    text = "abcdefghijklmnopq"
    short = shorten_middle(text, width)
    assert len(short) == min(width, len(text))
    if width < len(text):
        begin, end = short.split("…")
        assert text.startswith(begin)
        assert text.endswith(end)
        assert begin
        assert end
