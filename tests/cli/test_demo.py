from __future__ import annotations

import functools
import json

import pytest

from edgevit.recipe import Recipe


@pytest.fixture
def quick(monkeypatch):
    """Measure and calibrate just long enough to fill the table."""
    monkeypatch.setattr(
        "edgevit.recipe.Recipe", functools.partial(Recipe, latency_runs=2, latency_seconds=0.05, tune_settings=False)
    )
    monkeypatch.setattr("edgevit.cli.demo.CALIBRATED", 40)


def test_demo_builds_both_models_and_reads_held_out_digits(run, quick, tmp_path):
    out = tmp_path / "demo"
    result = run("demo", "--target", "cpu", "--out", out)
    assert result.exit_code == 0, result.output
    for name in ("vit_digits", "swin_digits"):
        assert f"{name} for cpu" in result.stdout
        assert (out / f"{name}-cpu" / "manifest.json").is_file()
    assert result.stdout.count("CHOSEN") == 2
    ending = result.stdout.split("Held-out images")[1]
    assert "█" in ending
    labels, vit, swin = (next(x for x in ending.splitlines() if x.startswith(n)) for n in ("label", "vit", "swin"))
    for row in (vit, swin):
        assert [cell for cell in row.split()[1:] if "%" not in cell] == labels.split()[1:]


def test_demo_run_again_replaces_its_bundles_and_gives_one_document(run, quick, tmp_path):
    for _ in range(2):
        result = run("demo", "--target", "cpu", "--out", tmp_path / "demo", "--json")
        assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert set(document["builds"]) == {"vit", "swin"}
    assert all(build["report"]["verdict"]["passed"] for build in document["builds"].values())
    assert [row["vit"]["label"] for row in document["predictions"]] == [row["label"] for row in document["predictions"]]


def test_demo_for_a_device_elsewhere_leaves_portable_bundles_and_predicts_nothing(run, quick, tmp_path):
    result = run("demo", "--target", "jetson", "--out", tmp_path / "demo", "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert all("engine" not in build["manifest"] for build in document["builds"].values())
    assert all("vit" not in row for row in document["predictions"])
    assert "Held-out" not in run("demo", "--target", "jetson", "--out", tmp_path / "demo").stdout


def test_demo_leaves_torchs_threads_as_they_were(run, quick, tmp_path):
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert run("demo", "--target", "cpu", "--out", tmp_path / "demo", "--quiet").exit_code == 0
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
