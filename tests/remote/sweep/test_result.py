"""Results on disk: they come back as they were, fit the schema, and an answer has its link."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import jsonschema
import pytest

from edgevit.core.errors import BundleError, OutputError
from edgevit.remote.sweep.chosen import link_chosen
from edgevit.remote.sweep.question import FIGURES, Question
from edgevit.remote.sweep.result import SWEEP_FILE, CellResult, SweepResult, describe_report
from scripts.write_sweep_schema import PATH, dump_schema
from tests.support.page_bundles import make_report
from tests.support.sweeps import make_cell, make_failed, make_sweep, write_sweep

VALIDATOR = jsonschema.Draft202012Validator(json.loads(PATH.read_text(encoding="utf-8")))


def test_schema_is_what_the_script_writes_and_a_schema_itself() -> None:
    assert PATH.read_text(encoding="utf-8") == dump_schema(), "run python -m scripts.write_sweep_schema"
    jsonschema.Draft202012Validator.check_schema(VALIDATOR.schema)


def make_all() -> SweepResult:
    """Every kind of cell, one of them from a build's own report, and a target without an answer."""
    report = dataclasses.replace(make_report())
    cells = [
        make_cell("a"),
        make_failed("b"),
        make_cell("c", passed=False, bundle=None, variant=None, precision=None),
        describe_report("d", "1" * 32, "hf-hub:timm/vit", "cpu", report, bundle=True),
        make_cell("e", "jetson", figures={"top1": 1.0}),
    ]
    return make_sweep(cells)


def test_result_fits_the_schema_and_comes_back_as_it_was(tmp_path) -> None:
    result = make_all()
    result.save(tmp_path)
    VALIDATOR.validate(json.loads((tmp_path / SWEEP_FILE).read_text()))
    assert SweepResult.load(tmp_path) == result
    assert [p.name for p in tmp_path.iterdir()] == [SWEEP_FILE]


def test_figures_of_a_report_are_those_that_a_question_may_name() -> None:
    cell = make_all().cells[3]
    assert {"top1", "latency_p50_ms", "size_mb"} <= cell.figures.keys() <= FIGURES.keys()
    assert cell.bundle == "cells/d/bundle"
    assert cell.latency_interval_ms is None  # an earlier version's report, which has none


def test_a_cell_says_how_sure_its_median_is() -> None:
    report = make_report()
    variants = [
        dataclasses.replace(v, latency=dataclasses.replace(v.latency, low_ms=4.25, high_ms=4.5))
        for v in report.variants
        if v.latency is not None
    ]
    report = dataclasses.replace(report, variants=tuple(variants))
    cell = describe_report("d", "1" * 32, "hf-hub:timm/vit", "cpu", report, bundle=True)
    assert cell.latency_interval_ms == (4.25, 4.5)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda d: d.pop("cells"),
        lambda d: d["cells"][0].update(figures={"top1": "97"}),
        lambda d: d["cells"][0].pop("name"),
        lambda d: d["question"].update(want="cheapest"),
        lambda d: d.update(schema_version=2),
        lambda d: d.update(more=1),
        lambda d: d.update(fronts={"cpu": "a"}),
    ],
)
def test_what_the_schema_refuses_the_reader_refuses(tmp_path, spoil) -> None:
    make_all().save(tmp_path)
    path = tmp_path / SWEEP_FILE
    data = json.loads(path.read_text())
    spoil(data)
    path.write_text(json.dumps(data))
    assert not VALIDATOR.is_valid(data)
    with pytest.raises(BundleError):
        SweepResult.load(tmp_path)


@pytest.mark.parametrize("content", [None, "", "{", "[]", '{"a": NaN}'])
def test_no_result_is_an_error_of_edgevit_s(tmp_path, content) -> None:
    if content is not None:
        (tmp_path / SWEEP_FILE).write_text(content)
    with pytest.raises(BundleError):
        SweepResult.load(tmp_path)


def save_cell(root: Path, cell: CellResult) -> Path:
    folder = root / "cells" / cell.name
    folder.mkdir(parents=True)
    if cell.bundle is not None:
        (root / cell.bundle).mkdir()
    cell.save(folder)
    return folder


@pytest.mark.parametrize("cell", make_all().cells, ids=lambda cell: cell.name)
def test_cell_comes_back_as_it_was_and_only_by_its_key(tmp_path, cell) -> None:
    folder = save_cell(tmp_path, cell)
    assert CellResult.load(folder, cell.key) == cell
    assert CellResult.load(folder, "f" * 32) is None


def test_cell_whose_bundle_is_gone_or_whose_file_is_cut_off_is_not_done(tmp_path) -> None:
    cell = make_cell("a")
    folder = save_cell(tmp_path, cell)
    (tmp_path / "cells/a/bundle").rmdir()
    assert CellResult.load(folder, cell.key) is None
    (tmp_path / "cells/a/bundle").mkdir()
    file = folder / "result.json"
    file.write_bytes(file.read_bytes()[:100])
    assert CellResult.load(folder, cell.key) is None


def test_result_that_cannot_be_written_says_so(tmp_path) -> None:
    with pytest.raises(OutputError, match="cannot write"):
        make_all().save(tmp_path / "none")


# The chosen bundles


def test_each_answer_has_a_link_that_moves_with_the_sweep(tmp_path) -> None:
    cells = [make_cell("a"), make_cell("b", "my board/1"), make_failed("c", "jetson")]
    root = write_sweep(tmp_path / "s", result := make_sweep(cells))
    places = link_chosen(result, root)
    assert {t: p.name for t, p in places.items()} == {"cpu": "cpu", "my board/1": "my-board-1"}
    assert not os.path.isabs(os.readlink(root / "chosen" / "cpu"))
    root.rename(tmp_path / "moved")
    assert (tmp_path / "moved/chosen/cpu").resolve() == tmp_path / "moved/cells/a/bundle"


def test_another_answer_replaces_the_link_and_leaves_the_bundles(tmp_path) -> None:
    cells = [make_cell("a"), make_cell("b", figures={"latency_p50_ms": 1.0})]
    root = write_sweep(tmp_path, make_sweep(cells))
    (root / "cells/b/bundle/engine").write_text("b")
    link_chosen(make_sweep(cells), root)
    assert (root / "chosen/cpu/engine").read_text() == "b"
    link_chosen(make_sweep(cells, Question(where=("latency_p50_ms > 1",))), root)
    assert (root / "chosen/cpu").resolve() == root / "cells/a/bundle"
    link_chosen(make_sweep(cells, Question(where=("top1 > 99",))), root)
    assert not (root / "chosen").exists()
    assert (root / "cells/b/bundle/engine").read_text() == "b"


def test_where_no_link_can_be_made_there_is_a_copy(tmp_path, monkeypatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise OSError("a privilege is not held")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    root = write_sweep(tmp_path, result := make_sweep([make_cell("a")]))
    (root / "cells/a/bundle/engine").write_text("a")
    for _ in range(2):
        link_chosen(result, root)
        assert not (root / "chosen/cpu").is_symlink()
        assert (root / "chosen/cpu/engine").read_text() == "a"
