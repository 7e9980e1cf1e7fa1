"""``edgevit report``, ``build --report`` and what they refuse."""

from __future__ import annotations

import json
import os

import pytest

from edgevit.core.errors import OutputError
from tests.support.browser import CHROMIUM, open_tab
from tests.support.page_bundles import make_report, write_page_bundle

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")


def make_bundles(folder, count=1):
    return [write_page_bundle(folder / f"bundle-{i}", make_report()).path for i in range(count)]


def test_report_writes_one_file_and_says_where(run, tmp_path) -> None:
    (bundle,) = make_bundles(tmp_path)
    out = tmp_path / "page.html"
    result = run("report", bundle, "--out", out)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(f"report: {out} (")
    page = out.read_text(encoding="utf-8")
    assert page.startswith("<!DOCTYPE html>")
    assert "bundle-0" in page
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle-0", "page.html"], "and nothing else"


def test_report_with_json_prints_the_document(run, tmp_path) -> None:
    bundles = make_bundles(tmp_path, 2)
    result = run("report", *bundles, "--out", tmp_path / "page.html", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["page"] == str(tmp_path / "page.html")
    assert [b["name"] for b in found["document"]["bundles"]] == ["bundle-0", "bundle-1"]


def test_report_of_bundles_with_one_name_tells_them_apart(run, tmp_path) -> None:
    paths = [write_page_bundle(tmp_path / folder / "bundle", make_report()).path for folder in ("a", "b")]
    result = run("report", *paths, paths[0], "--out", tmp_path / "page.html", "--json")
    names = [b["name"] for b in json.loads(result.stdout)["document"]["bundles"]]
    assert len(set(names)) == 3
    assert names[1] == str(paths[1])


def refuse(result, *words: str) -> None:
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("error: ")
    assert result.stderr.splitlines()[-1].startswith("hint: ")
    for word in words:
        assert word in result.stderr
    assert "Traceback" not in result.stderr


def test_report_lists_every_bundle_that_it_cannot_read(run, tmp_path) -> None:
    (good,) = make_bundles(tmp_path)
    (tmp_path / "folder").mkdir()
    newer = make_report()
    later = write_page_bundle(tmp_path / "later", newer).path
    data = json.loads((later / "report.json").read_text())
    (later / "report.json").write_text(json.dumps({**data, "schema_version": 99}))
    out = tmp_path / "page.html"
    result = run("report", good, tmp_path / "none", tmp_path / "folder", later, "--out", out)
    refuse(result, "3 of what was named", f"{tmp_path / 'none'} is not there", "is not a bundle", "report schema 99")
    assert not out.exists()


def test_report_refuses_a_changed_report(run, tmp_path) -> None:
    (bundle,) = make_bundles(tmp_path)
    file = bundle / "report.json"
    file.write_text(file.read_text().replace("it is fast", "it is best"))
    refuse(run("report", bundle, "--out", tmp_path / "page.html"), "report.json is not as the bundle's manifest says")


@pytest.mark.parametrize(
    ("out", "word"),
    [
        ("folder", "is a folder"),
        ("none/page.html", "is not a folder"),
        ("bundle-0/page.html", "lies inside the bundle"),
    ],
)
def test_report_refuses_where_it_cannot_write(run, tmp_path, out, word) -> None:
    (bundle,) = make_bundles(tmp_path)
    (tmp_path / "folder").mkdir()
    before = sorted(tmp_path.rglob("*"))
    refuse(run("report", bundle, "--out", tmp_path / out), word)
    assert sorted(tmp_path.rglob("*")) == before


def test_report_replaces_its_own_pages_and_nothing_else(run, tmp_path) -> None:
    (bundle,) = make_bundles(tmp_path)
    own, notes = tmp_path / "page.html", tmp_path / "notes.html"
    for _ in range(2):
        assert run("report", bundle, "--out", own).exit_code == 0
    notes.write_text("<!DOCTYPE html><title>mine</title>")
    refuse(run("report", bundle, "--out", notes), "notes.html is there, and is not such a page")
    build = ("build", bundle, "--target", "cpu", "--out", tmp_path / "notes", "--report")
    refuse(run(*build), "notes.html is there, and is not such a page")
    assert notes.read_text() == "<!DOCTYPE html><title>mine</title>"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_report_refuses_a_folder_without_permission(run, tmp_path) -> None:
    (bundle,) = make_bundles(tmp_path)
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    refuse(run("report", bundle, "--out", closed / "page.html"), "cannot write")


def test_report_without_its_packages_names_the_extra(run, tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    (bundle,) = make_bundles(tmp_path)
    refuse(run("report", bundle, "--out", tmp_path / "page.html"), "matplotlib is not installed", "[report]")
    missing = run("build", tmp_path / "none", "--target", "cpu", "--report")
    refuse(missing, "matplotlib is not installed")


def test_page_of_a_real_build_holds_its_figures(run, line, tmp_path) -> None:
    from edgevit.cli.tables import format_ms

    out = tmp_path / "page.html"
    assert run("report", line.bundle, "--out", out).exit_code == 0
    page = out.read_text(encoding="utf-8")
    report = line.document["report"]
    assert report["verdict"]["sentence"].split(":")[0] in page
    for variant in report["variants"]:
        for name in ("p50_ms", "p90_ms", "p99_ms"):
            assert format_ms(variant["latency"][name]) in page


def test_build_with_report_writes_the_page_beside_the_bundle(run, line, tmp_path) -> None:
    from edgevit.cli.demo_models import MODELS

    out = tmp_path / "vit"
    options = ("--target", "cpu", "--precision", "fp32", "--recipe", line.recipe, "--out", out, "--report")
    result = run("build", MODELS["vit"], *options)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1] == f"report: {tmp_path / 'vit.html'}"
    assert (tmp_path / "vit.html").is_file()
    assert run("check", out).exit_code == 0, "the page is none of the bundle's files"


def test_build_whose_page_cannot_be_written_still_shows_its_verdict(run, line, tmp_path, monkeypatch) -> None:
    from edgevit.cli.demo_models import MODELS

    out = tmp_path / "vit"

    def fail(document: object) -> str:
        raise OutputError("the disk is full", "make room")

    monkeypatch.setattr("edgevit.cli.page.write.render_page", fail)
    options = ("--target", "cpu", "--precision", "fp32", "--recipe", line.recipe, "--out", out, "--report", "--quiet")
    result = run("build", MODELS["vit"], *options)
    refuse(result, "the disk is full")
    assert f"bundle: {out}" in result.stdout


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
def test_page_in_a_browser_fits_a_telephone_and_a_desk_and_says_nothing_on_the_console(run, tmp_path) -> None:
    bundles = make_bundles(tmp_path, 3)
    for name, shown in (("one", bundles[:1]), ("three", bundles)):
        assert run("report", *shown, "--out", tmp_path / f"{name}.html").exit_code == 0
    with open_tab() as tab:
        for name in ("one", "three"):
            for width in (360, 1400):
                tab.open(tmp_path / f"{name}.html", width)
                assert tab.evaluate("document.documentElement.scrollWidth") == width, (name, width)
                assert tab.evaluate("document.querySelectorAll('section').length") >= 6
        assert tab.messages == []
        tab.evaluate("console.error('seen')")
        assert len(tab.messages) == 1, "an error would have been heard"
