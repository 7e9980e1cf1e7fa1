"""``edgevit check``, and what the other commands say of a bundle's canary."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from edgevit.build.inspect import inspect_bundle
from edgevit.cli.inspect import _describe_canary
from edgevit.runtime.bundle import load_bundle
from edgevit.runtime.manifest import dump_manifest


@pytest.fixture(autouse=True)
def own_memory(monkeypatch, tmp_path):
    monkeypatch.setenv("EDGEVIT_CACHE", str(tmp_path / "memory"))


@pytest.fixture
def change(line, tmp_path):
    """A copy of the bundle whose manifest, which is whole, was written with other fields."""

    def write(name="copy", **fields) -> Path:
        copy = shutil.copytree(line.bundle, tmp_path / name)
        manifest = dataclasses.replace(load_bundle(copy).manifest, **fields)
        (copy / "manifest.json").write_bytes(dump_manifest(manifest))
        return copy

    return write


@pytest.fixture
def elsewhere(line, change):
    """The bundle, judged with another version of the library; ``least_db`` as the test wants it."""

    def write(name="copy", **record) -> Path:
        canary = load_bundle(line.bundle).manifest.canary
        place = dataclasses.replace(canary.place, version="0.0.1")
        return change(name, canary=dataclasses.replace(canary, place=place, **record))

    return write


def words(text):
    return " ".join(text.split())


def test_check_of_a_bundle_where_it_was_built_passes_and_shows_both_places(line, run):
    result = run("check", line.bundle)
    assert result.exit_code == 0, result.output
    assert "all as built" in result.stdout
    assert "canary passed: " in words(result.stdout)
    rows = {row.split("  ")[0]: row for row in result.stdout.splitlines()}
    assert rows["engine library"].count("onnxruntime") == 2
    assert rows["inference_precision"].split() == ["inference_precision", "f32", "f32"]
    assert "differs" not in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80
    document = json.loads(run("check", line.bundle, "--json").stdout)
    assert document["passed"] is True
    assert document["canary"]["inferences"] == 3
    assert document["here"] == document["built"]
    assert document["files"] == len(load_bundle(line.bundle).manifest.files)


def test_check_answers_although_a_pass_is_remembered(elsewhere, run):
    bundle = elsewhere()
    for _ in range(2):
        assert json.loads(run("check", bundle, "--json").stdout)["canary"]["status"] == "passed"
    assert "differs" in run("check", bundle).stdout


def test_check_of_an_engine_that_answers_something_else_has_status_1_and_the_figures(elsewhere, run):
    bundle = elsewhere(least_db=500.0)
    result = run("check", bundle)
    assert result.exit_code == 1, result.output
    assert "canary failed: " in words(result.stdout)
    assert "at least 500.0 dB" in words(result.stdout)
    result = run("check", bundle, "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["passed"] is False


def test_check_of_a_damaged_file_names_it_and_has_status_2(line, run, tmp_path):
    damaged = shutil.copytree(line.bundle, tmp_path / "damaged")
    content = bytearray((damaged / "model.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (damaged / "model.onnx").write_bytes(content)
    (damaged / "more").write_text("")
    result = run("check", damaged)
    assert result.exit_code == 2
    assert "model.onnx: SHA-256" in result.stderr
    assert "more: not in the manifest" in result.stderr


def test_check_of_a_bundle_without_a_canary_says_that_nothing_is_known(change, run):
    bundle = change(
        canary=None, files={k: v for k, v in load_bundle(change("x")).manifest.files.items() if "npz" not in k}
    )
    (bundle / "canary.npz").unlink()
    result = run("check", bundle)
    assert result.exit_code == 2
    assert "it has no canary" in result.stderr
    assert "edgevit eval" in result.stderr


def test_run_bench_and_eval_refuse_what_answers_something_else_and_open_it_when_told(line, elsewhere, run):
    bundle, image = elsewhere(least_db=500.0), line.validation / "3" / "1202.png"
    timed = ["bench", bundle, "--runs", "1", "--seconds", "0.01"]
    for command in (["run", bundle, image], timed, ["eval", bundle, "--data", line.validation]):
        result = run(*command)
        assert result.exit_code == 2, result.output
        assert "the engine answers something else here than at the build" in result.stderr
        assert "500.0 dB is the least" in result.stderr
        assert "--check never" in result.stderr
        result = run(*command, "--check", "never")
        assert result.exit_code == 0, result.output
        assert "not checked" in result.output


def test_run_bench_and_eval_say_what_was_done_also_as_json(line, elsewhere, run):
    bundle, image = elsewhere(), line.validation / "3" / "1202.png"
    first = run("run", bundle, image)
    assert first.exit_code == 0, first.output
    assert "canary: passed: " in first.stderr
    assert "canary: passed when it was first opened here: " in run("run", bundle, image).stderr
    assert json.loads(run("run", bundle, image, "--json").stdout)[0]["canary"] == "remembered"
    timed = run("bench", bundle, line.bundle, "--runs", "1", "--seconds", "0.01", "--check", "always", "--json")
    assert [row["canary"]["status"] for row in json.loads(timed.stdout)["bundles"]] == ["passed", "passed"]
    assert f"{bundle.name}: canary: passed: " in timed.stderr
    judged = run("eval", bundle, "--data", line.validation, "--json")
    assert json.loads(judged.stdout)["canary"]["status"] == "remembered"
    assert "canary" in run("eval", line.bundle, "--data", line.validation).stdout


def test_inspect_says_what_the_canary_holds_and_where_it_is_without_running_anything(line, elsewhere, run, monkeypatch):
    def fail(*arguments, **named):
        raise AssertionError("inspect runs nothing")

    monkeypatch.setattr("edgevit.runtime.onnxruntime.open_session", fail)
    found = run("inspect", line.bundle)
    assert found.exit_code == 0, found.output
    assert "3 images, " in words(found.stdout)
    assert "this is the place where it was judged" in words(found.stdout)
    assert json.loads(run("inspect", line.bundle, "--json").stdout)["differences"] == {}
    bundle = elsewhere()
    text = words(run("inspect", bundle).stdout)
    assert "so its first opening here answers it: engine library onnxruntime " in text
    assert "at the build onnxruntime 0.0.1" in text
    differences = json.loads(run("inspect", bundle, "--json").stdout)["differences"]
    assert list(differences) == ["engine library"]


def test_inspect_of_a_bundle_that_does_not_open_here_says_so(line, run, monkeypatch):
    from edgevit.core.errors import MissingPackageError

    def fail():
        raise MissingPackageError("onnxruntime is not installed", "install it")

    monkeypatch.setattr("edgevit.runtime.onnxruntime.import_onnxruntime", fail)
    found = inspect_bundle(line.bundle)
    assert found.differences is None
    assert _describe_canary(found).endswith("it does not open here")


def test_eval_says_where_it_finds_more_or_less_than_the_bundle_carries(line, change, run):
    figures = load_bundle(line.bundle).manifest.figures
    same = run(
        "eval",
        line.bundle,
        "--data",
        line.validation,
        "--reference",
        line.document["manifest"]["source"]["path"],
        "--json",
    )
    assert same.exit_code == 0, same.output
    changes = {c["name"]: c for c in json.loads(same.stdout)["changes"]}
    assert sorted(changes) == ["agreement", "top-1"]
    assert not any(c["beyond_chance"] for c in changes.values())
    assert changes["top-1"]["percent"] == pytest.approx(figures["top1_percent"])
    assert "more than chance" not in same.stderr
    boasts = change(figures={**figures, "top1_percent": 50.0})
    result = run("eval", boasts, "--data", line.validation)
    assert result.exit_code == 0
    assert "the bundle carries 50.00 % of 100: more than chance makes of images of the same kind" in result.stderr
    document = json.loads(run("eval", boasts, "--data", line.validation, "--json").stdout)
    assert document["changes"][0]["beyond_chance"] is True
