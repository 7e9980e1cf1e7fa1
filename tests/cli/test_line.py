"""Every command on real bundles of the demonstration models."""

from __future__ import annotations

import json
import re
import shutil
from typing import Any

import pytest

from edgevit.cli.demo_models import MODELS
from edgevit.core.report.report import Report


def widest(text):
    return max(map(len, text.splitlines()))


def test_build_document_holds_report_and_manifest(line):
    report, manifest = line.document["report"], line.document["manifest"]
    assert line.document["bundle"] == str(line.bundle)
    assert [v["name"] for v in report["variants"]] == ["fp32", "fp16", "int8"]
    assert report["quantization"]["int8"]["images"] == 40
    assert [v["status"] for v in report["variants"]].count("CHOSEN") == 1
    assert report["verdict"]["passed"] is True
    assert report["data"]["validation"]["images"] == 100
    assert manifest["labels"] == list("0123456789")
    assert json.loads((line.bundle / "report.json").read_text(encoding="utf-8")) == report
    accuracy = report["variants"][0]["accuracy"]
    assert accuracy["reference_top1"] == 98, "as timm counts; of all held-out digits see test_demo_models.py"
    assert accuracy["agreement"] == 100


def test_build_prints_the_verdict_table_within_80_columns(line, run):
    out = line.folder / "again"
    result = run(
        "build", MODELS["vit"], "--target", "cpu", "--recipe", line.recipe, "--out", out,
        "--calibration", line.calibration, "--validation", line.validation,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert " ".join(lines[0].split()) == "variant p50 p90 ratio 95 % top-1 drop agree dB MB status"
    assert set(lines[1]) == {"─"}
    rows = lines[2:5]
    assert [row.split()[0] for row in rows] == ["fp32", "fp16", "int8"]
    assert "CHOSEN" in "".join(rows)
    assert widest("\n".join(lines[:5])) <= 80
    sites = next(i for i, text in enumerate(lines) if " ".join(text.split()) == "site SQNR alone precision")
    assert lines[sites - 1].startswith("int8: ")
    assert lines[sites - 1].endswith(" sites, calibrated on 40 images")
    noises = [float(text.split()[1]) for text in lines[sites + 2 : sites + 7]]
    assert noises == sorted(noises), "the worst first"
    assert any(text.startswith(f"bundle: {out}") for text in lines)
    assert lines[-1] == f"next:   edgevit run {out} IMAGE"
    assert "timm hub folder: vit_tiny_patch16_224" in result.stderr
    assert "latency" in result.stderr
    assert not any(text != text.rstrip() for text in lines)


def test_build_on_random_pixels_has_status_1_and_says_why(line, run, tmp_path):
    arguments = ["build", MODELS["vit"], "--target", "cpu", "--precision", "int8", "--recipe", line.recipe]
    refused = run(*arguments, "--out", tmp_path / "b")
    assert refused.exit_code == 2
    assert "--calibration random" in refused.stderr
    result = run(*arguments, "--out", tmp_path / "b", "--calibration", "random")
    assert result.exit_code == 1, result.output
    assert "calibrated on 32 random images" in result.stdout
    assert "for latency trials, not for use" in " ".join(result.stdout.split())
    assert "calibration: random pixels, seed 0" in result.stderr
    assert (tmp_path / "b" / "manifest.json").is_file()
    assert result.stdout.splitlines()[-1] == f"next:   edgevit bench {tmp_path / 'b'}"
    (image, *_) = sorted(line.validation.glob("*/*.png"))
    for asked in (["run", tmp_path / "b", image], ["eval", tmp_path / "b", "--data", line.validation]):
        answer = run(*asked)
        assert answer.exit_code == 0, answer.output
        assert "calibrated on random pixels: for latency trials, not for use" in answer.stderr
        assert "random" not in run(asked[0], line.bundle, *asked[2:]).stderr


def test_build_takes_a_folder_called_random_by_its_path(line, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "random").symlink_to(line.calibration)
    result = run(
        "build", MODELS["vit"], "--target", "cpu", "--precision", "fp32", "--recipe", line.recipe, "--json",
        "--calibration", "./random", "--out", tmp_path / "b",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["report"]["data"]["calibration"]["images"] == 40


def test_build_quiet_prints_the_result_alone(line, run):
    out = line.folder / "quiet"
    arguments = [
        "build",
        MODELS["vit"],
        "--target",
        "cpu",
        "--precision",
        "fp32",
        "--recipe",
        line.recipe,
        "--out",
        out,
    ]
    result = run(*arguments, "--quiet")
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    assert "parity only" in result.stdout


def test_build_for_a_device_elsewhere_ends_in_a_portable_bundle(line, run):
    out = line.folder / "portable"
    result = run("build", MODELS["swin"], "--target", "jetson", "--recipe", line.recipe, "--out", out)
    assert result.exit_code == 0, result.output
    assert "portable" in result.stdout
    over_ssh, by_hand = result.stdout.splitlines()[-2:]
    assert over_ssh.startswith("next:   edgevit finish ")
    assert over_ssh.endswith(" --on USER@BOARD")
    assert by_hand.startswith("        or copy the folder to the device and run edgevit finish ")
    opened = run("run", out, line.validation / "3" / "1202.png")
    assert opened.exit_code == 2
    assert "edgevit finish" in opened.stderr


def test_build_for_a_gpu_elsewhere_shows_what_its_compiler_fuses(line, run):
    pytest.importorskip("tensorrt_rtx")
    out = line.folder / "rehearsed"
    result = run("build", MODELS["swin"], "--target", "jetson-thor", "--recipe", line.recipe, "--out", out)
    assert result.exit_code == 0, result.output
    assert "rehearsal of fp16 by tensorrt_rtx" in result.stderr
    assert "for SM120, not on NVIDIA Jetson Thor" in result.stderr
    shown = run("inspect", out).stdout
    assert "What the engine library made of it:" in shown
    assert "float16_range: 0 places" in shown
    assert "layers; attention" in shown
    report = Report.load(out / "report.json")
    assert set(report.fusion) == {"fp16", "fp32"}  # every precision that is tried
    assert report.variants[0].latency is None


def test_build_over_its_latency_budget_has_status_1_and_leaves_the_bundle(line, run):
    out = line.folder / "slow"
    result = run(
        "build", MODELS["vit"], "--target", "cpu", "--precision", "fp32", "--recipe", line.recipe,
        "--max-latency", "0.0001", "--out", out, "--json",
    )  # fmt: skip
    assert result.exit_code == 1, result.output
    document = json.loads(result.stdout)
    assert document["report"]["verdict"]["passed"] is False
    assert (out / "manifest.json").is_file()
    assert document["report"]["budget"]["max_latency_ms"] == 0.0001


def test_build_names_its_bundle_after_checkpoint_and_target(line, run, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    result = run("build", f"{MODELS['vit']}/", "--target", "cpu", "--precision", "fp32", "--recipe", line.recipe)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "vit_digits-cpu" / "manifest.json").is_file()
    assert result.stdout.splitlines()[-1] == "next:   edgevit run vit_digits-cpu IMAGE"


def test_build_takes_the_recipe_of_a_bundle(line, run, tmp_path):
    result = run(
        "build", MODELS["vit"], "--target", "cpu", "--recipe", line.bundle / "recipe.toml", "--precision", "fp32",
        "--out", tmp_path / "b", "--json",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert [v["name"] for v in json.loads(result.stdout)["report"]["variants"]] == ["fp32"]


def test_inspect_of_a_bundle_shows_what_was_folded_and_every_file(line, run):
    result = run("inspect", line.bundle)
    assert result.exit_code == 0, result.output
    assert "attention_scale: 4 places (blocks.0.attn … blocks.3.attn)" in result.stdout
    assert "left alone: " in result.stdout
    for file in ("report.json", "recipe.toml", "model.onnx"):
        assert file in result.stdout
    document = json.loads(run("inspect", line.bundle, "--json").stdout)
    assert document["kind"] == "bundle"
    assert document["report"]["verdict"] == line.document["report"]["verdict"]


def test_inspect_of_a_bundle_with_a_damaged_engine_says_so_and_has_status_1(line, run, tmp_path):
    damaged = tmp_path / "damaged"
    shutil.copytree(line.bundle, damaged)
    content = bytearray((damaged / "model.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (damaged / "model.onnx").write_bytes(content)
    result = run("inspect", damaged)
    assert result.exit_code == 1
    assert "not as built:" in result.stdout
    assert "model.onnx: SHA-256" in " ".join(result.stdout.split())
    assert json.loads(run("inspect", damaged, "--json").stdout)["damage"][0].startswith("model.onnx: ")
    assert "all as built" in run("inspect", line.bundle).stdout


def test_inspect_of_a_checkpoint_lists_its_sites_within_80_columns(run):
    result = run("inspect", MODELS["swin"])
    assert result.exit_code == 0, result.output
    assert "swin_tiny_patch4_window7_224 (swin)" in result.stdout
    assert "layers.1.blocks.1.attn.qkv" in result.stdout
    assert widest(result.stdout.split("Quantizable")[1]) <= 80
    document = json.loads(run("inspect", MODELS["swin"], "--json").stdout)
    assert (document["kind"], document["parameters"], len(document["sites"])) == ("checkpoint", 135_670, 19)


def test_run_gives_the_label_of_a_digit(line, run):
    images = [line.validation / "7" / "1200.png", line.validation / "3" / "1202.png"]
    result = run("run", line.bundle, *images, "--top-k", "2", "--json")
    assert result.exit_code == 0, result.output
    answers = json.loads(result.stdout)
    assert [a["image"] for a in answers] == list(map(str, images))
    assert [a["predictions"][0]["label"] for a in answers] == ["7", "3"]
    assert all(len(a["predictions"]) == 2 for a in answers)
    assert answers[0]["predictions"][0]["probability"] > 0.5
    assert "probability" in run("run", line.bundle, *images).stdout


def test_eval_counts_what_the_build_counted(line, run):
    result = run("eval", line.bundle, "--data", line.validation, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    chosen = next(v for v in line.document["report"]["variants"] if v["status"] == "CHOSEN")
    assert found["top1"] == chosen["accuracy"]["top1"]
    assert found["data"]["images"] == 100
    assert "accuracy" not in found
    assert "reference" not in found


def test_eval_with_a_reference_counts_agreement(line, run):
    result = run("eval", line.bundle, "--data", line.validation, "--reference", MODELS["vit"], "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    chosen = next(v for v in line.document["report"]["variants"] if v["status"] == "CHOSEN")
    for key in ("agreement", "top1", "reference_top1", "gained", "lost"):
        assert found["accuracy"][key] == chosen["accuracy"][key]
    text = run("eval", line.bundle, "--data", line.validation, "--reference", MODELS["vit"]).stdout
    assert "agreement  100 %" in text


def test_eval_warns_where_a_bundle_is_right_by_chance_only(line, run, tmp_path):
    """The labels of another order: a top-1 that looks like a figure and means nothing."""
    for folder in line.validation.iterdir():
        shutil.copytree(folder, tmp_path / str((int(folder.name) + 3) % 10))
    result = run("eval", line.bundle, "--data", tmp_path)
    assert result.exit_code == 0, result.output
    warning = next(text for text in result.stderr.splitlines() if text.startswith("warning: "))
    assert "the bundle is right on " in warning
    assert "no better than chance (10.0 %); the labels: 10 classes, matched by " in warning
    assert "check that the labels are this model's classes" in warning
    assert "of 100 images" in warning
    (doubt,) = json.loads(run("eval", line.bundle, "--data", tmp_path, "--json").stdout)["doubts"]
    assert warning == f"warning: {doubt}"
    assert "warning" not in run("eval", line.bundle, "--data", line.validation).stderr


def test_eval_without_labels_and_reference_is_refused(line, run):
    result = run("eval", line.bundle, "--data", line.validation / "3")
    assert result.exit_code == 2
    assert "--reference" in result.stderr


def test_eval_with_the_checkpoint_of_another_model_is_refused(line, run, assets):
    result = run("eval", line.bundle, "--data", line.validation, "--reference", assets / "deit_tiny_imagenet")
    assert result.exit_code == 2
    assert "classes" in result.stderr


def test_bench_compares_bundles_as_ratios(line, run):
    other = line.folder / "copy"
    shutil.copytree(line.bundle, other, dirs_exist_ok=True)
    arguments = ["bench", line.bundle, other, "--runs", "2", "--seconds", "0.02"]
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    first, second = json.loads(result.stdout)["bundles"]
    assert "ratio" not in first
    assert second["ratio"]["low"] <= second["ratio"]["value"] <= second["ratio"]["high"]
    assert second["latency"]["runs"] >= 2
    table = run(*arguments).stdout
    assert widest(table) <= 80
    assert [row.split()[0] for row in table.splitlines()[2:]] == ["vit-cpu", "copy"]


def test_bench_takes_threads_throughput_and_cold_start(line, run):
    result = run(
        "bench",
        line.bundle,
        "--runs",
        "1",
        "--seconds",
        "0.01",
        "--threads",
        "1",
        "--throughput",
        "--cold-start",
        "--json",
    )
    assert result.exit_code == 0, result.output
    (figures,) = json.loads(result.stdout)["bundles"]
    assert figures["latency"]["settings"]["threads"] == 1
    assert figures["throughput"]["images_per_second"] > 0
    assert figures["cold_start"]["load_ms"] > 0


def test_build_says_what_an_app_waits_for_in_a_line_of_80_columns(line, run):
    variants = {v["name"]: v for v in line.document["report"]["variants"]}
    times = variants[line.document["report"]["verdict"]["chosen"]]["end_to_end"]
    assert (line.calibration / times["image"]).is_file()
    assert (times["width"], times["height"], times["format"]) == (8, 8, "PNG")
    assert all(v["end_to_end"]["runs"] >= 2 for v in variants.values())
    out = line.folder / "waits"
    result = run(
        "build", MODELS["vit"], "--target", "cpu", "--recipe", line.recipe, "--out", out,
        "--calibration", line.calibration, "--precision", "fp32",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    (said,) = [text for text in result.stdout.splitlines() if text.startswith("end to end: ")]
    assert re.fullmatch(
        r"end to end: [\d.]+ ms = decode [\d.]+ \+ resize [\d.]+ \+ fp32 engine [\d.]+ \+ answer [\d.]+", said
    )
    assert len(said) <= 80
    assert "measured with one image: 8 × 8 PNG, " in result.stdout
    unjudged = run("build", MODELS["vit"], "--target", "cpu", "--recipe", line.recipe, "--out", out)
    assert unjudged.exit_code == 0, unjudged.output
    assert "end to end" not in unjudged.stdout
    assert "end_to_end" not in (out / "report.json").read_text(encoding="utf-8")


@pytest.mark.parametrize("given", [True, False])
def test_bench_measures_end_to_end_with_an_image_or_a_drawn_photo(line, run, given):
    (image, *_) = sorted(line.validation.glob("*/*.png"))
    arguments = ["bench", line.bundle, "--runs", "1", "--seconds", "0.01", "--end-to-end", *([image] if given else [])]
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    assert widest(result.stdout) <= 80
    assert " ".join(result.stdout.split("\n\n")[1].split()[:8]) == "end to end ms decode resize engine answer"
    photo = f"8 × 8 PNG, {image.name}" if given else "synthetic 640 × 480 JPEG"
    assert f"measured with one image: {photo}\n" in result.stdout


def test_bench_without_the_option_measures_no_image(line, run):
    result = run("bench", line.bundle, "--runs", "1", "--seconds", "0.01", "--json")
    assert "end_to_end" not in json.loads(result.stdout)["bundles"][0]


def test_bench_whose_image_is_none_is_refused_before_anything_is_measured(line, run, tmp_path):
    result = run("bench", tmp_path / "nowhere", "--end-to-end", line.bundle)
    assert result.exit_code == 2
    assert "vit-cpu" in result.stderr


def test_bench_on_a_device_sends_no_image(line, run):
    result = run("bench", line.bundle, "--on", "board", "--end-to-end", "photo.jpg")
    assert result.exit_code == 2
    assert "photo.jpg is not sent to board" in result.stderr


def test_bench_refuses_a_bundle_that_is_named_twice(line, run):
    result = run("bench", line.bundle, line.bundle)
    assert result.exit_code == 2
    assert "twice" in result.stderr


def test_bench_refuses_a_batch_that_a_bundle_does_not_take(line, run):
    result = run("bench", line.bundle, "--batch", "3")
    assert result.exit_code == 2
    assert "takes 1 image a call, not 3" in result.stderr


def test_finish_of_a_finished_bundle_is_refused(line, run):
    result = run("finish", line.bundle)
    assert result.exit_code == 2
    assert "unexpected" not in result.stderr


@pytest.mark.parametrize("command", ["run", "bench", "eval", "inspect"])
def test_damaged_bundle_is_refused_by_name_of_its_file(line, run, tmp_path, command):
    damaged = tmp_path / "damaged"
    shutil.copytree(line.bundle, damaged)
    (damaged / "manifest.json").write_text("{", encoding="utf-8")
    more = {"run": [line.validation / "3" / "1202.png"], "eval": ["--data", line.validation]}.get(command, [])
    result = run(command, damaged, *more)
    assert result.exit_code == 2
    assert "manifest.json" in result.stderr
    assert "unexpected" not in result.stderr


def test_build_for_an_rtx_gpu_elsewhere_leaves_its_engine_and_says_what_was_not_measured(line, run):
    pytest.importorskip("tensorrt_rtx")
    out = line.folder / "ahead"
    build = ["build", MODELS["vit"], "--target", "rtx-30", "--precision", "fp16", "--recipe", line.recipe]
    result = run(*build, "--out", out)
    assert result.exit_code == 0, result.output
    assert "fp16 compiled by tensorrt_rtx" in result.stderr
    assert "the engine was not run" in " ".join(result.stdout.split())
    assert result.stdout.splitlines()[-1].startswith("next:   copy the folder to a machine with NVIDIA GeForce RTX 30")
    assert (out / "model.plan").is_file()
    shown = run("inspect", out).stdout
    assert "layers; attention" in shown
    opened = run("run", out, line.validation / "3" / "1202.png")
    assert opened.exit_code == 2
    assert "unexpected" not in opened.stderr


def test_finish_completes_a_portable_bundle_on_its_device(line, run, monkeypatch, tmp_path):
    portable, out = tmp_path / "portable", tmp_path / "finished"
    build = ["build", MODELS["vit"], "--target", "raspberry-pi-5", "--recipe", line.recipe, "--out", portable]
    monkeypatch.setattr("edgevit.engines.availability.read_architecture", lambda: "x86_64")
    assert run(*build, "--json").exit_code == 0
    refused = run("finish", portable)
    assert refused.exit_code == 2
    assert "aarch64" in refused.stderr

    for module in ("edgevit.engines.availability", "edgevit.runtime.predictor"):
        monkeypatch.setattr(f"{module}.read_architecture", lambda: "aarch64")
    result = run("finish", portable, "--out", out, "--json")
    assert result.exit_code == 0, result.output
    chosen = [v for v in json.loads(result.stdout)["report"]["variants"] if v["status"] == "CHOSEN"]
    assert len(chosen) == 1
    assert chosen[0]["parity"]["passed"] is True
    answers = run("run", out, line.validation / "7" / "1200.png", "--top-k", "1", "--json")
    assert answers.exit_code == 0, answers.output
    assert json.loads(answers.stdout)[0]["predictions"][0]["label"] == "7"


def test_python_interface_of_the_readme_builds_the_same(line, tmp_path, monkeypatch):
    import edgevit

    monkeypatch.chdir(tmp_path)
    target, recipe = edgevit.load_target("cpu"), edgevit.load_recipe(line.recipe)
    data: dict[str, Any] = {"calibration": str(line.calibration), "validation": str(line.validation)}
    result = edgevit.build_model(str(MODELS["vit"]), target, out="./bundle", recipe=recipe, **data)
    assert result.report.verdict.passed
    with edgevit.open_bundle("./bundle") as predictor:
        assert predictor.classify(line.validation / "3" / "1202.png", top_k=1)[0].label == "3"
