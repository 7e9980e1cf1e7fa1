from __future__ import annotations

import functools
import json

import pytest

from edgevit.core.recipe import Recipe
from tests.support.digits import write_few


@pytest.fixture
def quick(monkeypatch):
    """Measure and calibrate just long enough to fill the table."""
    monkeypatch.setattr(
        "edgevit.core.recipe.Recipe",
        functools.partial(Recipe, latency_runs=2, latency_seconds=0.05, tune_settings=False, choice_images=40),
    )
    monkeypatch.setattr("edgevit.cli.demo.CALIBRATED", 40)
    monkeypatch.setattr("edgevit.cli.demo_models.write_digits", write_few)


@pytest.fixture
def two_threads():
    """torch with two, also where the suite gives it one."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_demo_builds_both_models_and_reads_held_out_digits_and_again_as_one_document(
    run, quick, two_threads, tmp_path, monkeypatch
) -> None:
    """Two runs into one folder; the second has the builds of the first."""
    import torch

    from edgevit.build.build import build_model

    out = tmp_path / "demo"
    kept = {}

    def build_once(source, target, *, out, **others):
        if out not in kept:
            kept[out] = build_model(source, target, out=out, **others)
        return kept[out]

    monkeypatch.setattr("edgevit.build.build.build_model", build_once)
    result = run("demo", "--target", "cpu", "--out", out)
    assert result.exit_code == 0, result.output
    assert torch.get_num_threads() == 2, "as they were"
    for name in ("vit_digits", "swin_digits"):
        assert f"{name} for cpu" in result.stdout
        assert (out / f"{name}-cpu" / "manifest.json").is_file()
    assert result.stdout.count("CHOSEN") == 2
    report, app = result.stdout.splitlines()[-2:]
    assert report == f"report: {out / 'report.html'}"
    assert app.startswith(f"app:    edgevit new-app my-app --bundle {out / 'vit_digits-cpu'} --language ")
    page = (out / "report.html").read_text(encoding="utf-8")
    assert all(f"{name}-cpu" in page for name in ("vit_digits", "swin_digits"))
    ending = result.stdout.split("Held-out images")[1]
    assert "█" in ending
    labels, vit, swin = (next(x for x in ending.splitlines() if x.startswith(n)) for n in ("label", "vit", "swin"))
    for row in (vit, swin):
        assert [cell for cell in row.split()[1:] if "%" not in cell] == labels.split()[1:]

    result = run("demo", "--target", "cpu", "--out", out, "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert set(document["builds"]) == {"vit", "swin"}
    assert all(build["report"]["verdict"]["passed"] for build in document["builds"].values())
    assert [row["vit"]["label"] for row in document["predictions"]] == [row["label"] for row in document["predictions"]]


@pytest.mark.slow
def test_demo_for_a_device_elsewhere_leaves_portable_bundles_and_predicts_nothing(run, quick, tmp_path) -> None:
    out = tmp_path / "demo"
    result = run("demo", "--target", "jetson", "--out", out)
    assert result.exit_code == 0, result.output
    assert "Held-out" not in result.stdout
    assert "new-app" not in result.stdout, "an app needs an engine"
    manifests = [json.loads(path.read_text()) for path in out.glob("*/manifest.json")]
    assert len(manifests) == 2
    assert all("engine" not in manifest for manifest in manifests)
