"""Bad input to every command: one error, one hint, status 2, and no defect of ours."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest

from edgevit.cli.demo_models import MODELS
from edgevit.core.packages import install_line
from tests.support.tiny_bundle import make_portable_bundle

VIT = MODELS["vit"]


def refuse(result, said):
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    assert "unexpected" not in result.stderr
    assert "\nerror: " in f"\n{result.stderr}"
    assert "\nhint: " in result.stderr
    assert said in result.stderr
    return result.stderr


def test_build_for_an_unknown_target_names_close_ones(run):
    text = refuse(run("build", VIT, "--target", "intel-cpus"), "unknown target 'intel-cpus'")
    assert "did you mean intel-cpu" in text


def test_build_for_a_target_file_with_a_misspelt_key_names_it(run, tmp_path):
    file = tmp_path / "board.toml"
    file.write_text('title = "x"\nbackend = "onnxruntime"\ndevise = "CPU"\nbuild_on = "host"\nprecisions = ["fp32"]\n')
    text = refuse(run("build", VIT, "--target", file), "devise")
    assert "did you mean device" in text


def test_build_with_a_recipe_of_a_misspelt_key_names_it(run, tmp_path):
    file = tmp_path / "recipe.toml"
    file.write_text('precison = "fp32"\n')
    assert "did you mean precision" in refuse(run("build", VIT, "--target", "cpu", "--recipe", file), "precison")


def test_build_with_an_unknown_recipe_names_the_known_ones(run):
    assert "default" in refuse(run("build", VIT, "--target", "cpu", "--recipe", "defalt"), "defalt")


@pytest.mark.parametrize("command", [["build", "--target", "cpu"], ["inspect"]])
def test_missing_checkpoint_is_refused(run, tmp_path, command):
    refuse(run(*command, tmp_path / "nowhere"), "nowhere")


def test_run_lists_a_missing_bundle_and_the_missing_images(run, tmp_path):
    (tmp_path / "there.png").touch()
    paths = [tmp_path / name for name in ("bundle", "one.png", "there.png", "two.png")]
    text = refuse(run("run", *paths), "neither the bundle nor 2 of 3 images are there")
    assert [line.strip() for line in text.splitlines() if line.startswith("  ")] == [
        str(path) for path in paths if path.stem != "there"
    ]


def test_build_and_eval_list_all_paths_that_are_not_there(run, tmp_path):
    places = {name: tmp_path / name for name in ("source", "board.toml", "train", "held", "mine.toml")}
    source, *rest = places.values()
    options = zip(("--target", "--calibration", "--validation", "--recipe"), rest, strict=True)
    text = refuse(run("build", source, *(part for pair in options for part in pair)), "5 paths are not there")
    assert all(str(path) in text for path in places.values())
    text = refuse(run("eval", source, "--data", places["held"], "--reference", "timm/some"), "2 paths are not there")
    assert str(source) in text
    assert str(places["held"]) in text
    long = "a" * 5000  # which no file system holds
    assert f"--data: {long}" in refuse(run("eval", source, "--data", long), "2 paths are not there")
    refuse(run("build", long, "--target", "intel-cpu"), "cannot be written: File name too long")


def test_empty_folder_is_no_checkpoint(run, tmp_path):
    refuse(run("inspect", tmp_path), str(tmp_path))


@pytest.mark.parametrize(
    ("task", "levels", "said"), [("features", "3,1", "ascending order"), ("embed", "1,3", "is for features")]
)
def test_build_with_levels_that_do_not_fit_shows_how_they_are_given(run, tmp_path, task, levels, said):
    text = refuse(
        run("build", VIT, "--target", "cpu", "--task", task, "--levels", levels, "--out", tmp_path / "b"), said
    )
    assert "--levels 0,2,3" in text
    assert not (tmp_path / "b").exists()


def test_build_with_missing_images_is_refused_before_the_slow_part(run, tmp_path):
    text = refuse(run("build", VIT, "--target", "cpu", "--validation", tmp_path / "no", "--out", tmp_path / "b"), "no")
    assert "export" not in text
    assert not (tmp_path / "b").exists()


def test_build_into_a_folder_that_is_no_bundle_is_refused(run, tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    refuse(run("build", VIT, "--target", "cpu", "--out", tmp_path), "not an edgevit bundle")
    assert (tmp_path / "thesis.txt").read_text() == "precious"


@pytest.mark.parametrize(
    "command",
    [("build", VIT, "--target", "cpu"), ("finish", "bundle"), ("bench", "bundle"), ("eval", "bundle", "--data", ".")],
)
def test_host_that_ssh_would_take_for_an_option_is_refused(run, command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_portable_bundle(tmp_path / "bundle", tmp_path / "work")
    refuse(run(*command, "--on", "-oProxyCommand=touch pwned"), "is not the name of a host")
    assert not (tmp_path / "pwned").exists()


def test_build_of_a_precision_that_the_target_lacks_is_refused(run, tmp_path):
    file = tmp_path / "board.toml"
    file.write_text('title = "x"\nbackend = "onnxruntime"\ndevice = "CPU"\nbuild_on = "host"\nprecisions = ["fp32"]\n')
    refuse(run("build", VIT, "--target", file, "--precision", "fp16", "--out", tmp_path / "b"), "does not support fp16")


@pytest.mark.parametrize("size", ["40", "33x32"])
def test_image_size_that_the_model_cannot_take_is_refused(run, size):
    if size == "40":  # a multiple of the patch: positions are interpolated
        assert run("inspect", VIT, "--image-size", size).exit_code == 0
    else:
        refuse(run("inspect", VIT, "--image-size", size), "patch")


@pytest.mark.parametrize(
    "command",
    [["run", "BUNDLE", __file__], ["bench", "BUNDLE"], ["eval", "BUNDLE", "--data", "x"], ["finish", "BUNDLE"]],
)
def test_missing_bundle_is_refused(run, tmp_path, command):
    refuse(run(*[tmp_path / "nowhere" if part == "BUNDLE" else part for part in command]), "nowhere")


def test_run_lists_all_missing_images(run, tmp_path):
    text = refuse(run("run", tmp_path, tmp_path / "a.png", tmp_path / "b.png"), "a.png")
    assert "b.png" in text


def test_run_lists_missing_and_damaged_images_in_one_go(line, run, photos):
    text = refuse(run("run", line.bundle, photos / "nowhere.png", photos), "3 of 5 images cannot be used")
    for name in ("nowhere.png: No such file", "b.jpg: not a JPEG", "d.gif: not JPEG"):
        assert name in text


def test_nothing_is_written_inside_a_bundle(line, run):
    before = sorted(line.bundle.rglob("*"))
    inside = line.bundle / "inside"
    refuse(run("build", VIT, "--target", "cpu", "--out", inside), "lies inside the bundle")
    refuse(run("run", line.bundle, line.validation, "--save", inside / "x.npz"), "lies inside the bundle")
    refuse(run("report", line.bundle, "--out", line.bundle / "page.html"), "lies inside the bundle")
    assert sorted(line.bundle.rglob("*")) == before


def test_bundle_that_is_given_as_a_checkpoint_is_called_one(line, run):
    refuse(run("build", line.bundle, "--target", "cpu"), "is a bundle of edgevit")


def test_inspect_of_a_bundle_without_its_report_names_all_that_is_missing(line, run, tmp_path):
    copy = shutil.copytree(line.bundle, tmp_path / "copy")
    engine = next(path for path in copy.iterdir() if path.suffix in (".onnx", ".bin"))
    for file in (copy / "report.json", engine):
        file.unlink()
    text = refuse(run("inspect", copy), "2 files are not as built")
    assert "report.json: missing" in text
    assert f"{engine.name}: missing" in text


def test_run_of_a_file_that_is_no_image_is_refused(line, run):
    refuse(run("run", line.bundle, line.recipe), "quick.toml")


@pytest.fixture
def photos(line, tmp_path):
    """A folder with an image, one in a folder below, one that is damaged, one of another format, and a text."""
    folder = tmp_path / "photos"
    (folder / "below").mkdir(parents=True)
    (folder / "a.png").write_bytes((line.validation / "3" / "1202.png").read_bytes())
    (folder / "below" / "c.png").write_bytes((line.validation / "7" / "1200.png").read_bytes())
    (folder / "b.jpg").write_bytes(b"damaged")
    (folder / "d.gif").write_bytes(b"GIF89a")
    (folder / "notes.txt").write_text("x")
    return folder


def test_run_of_a_folder_names_all_bad_images_in_one_go(line, run, photos):
    text = refuse(run("run", line.bundle, photos), "2 of 4 images cannot be used")
    assert f"{photos / 'b.jpg'}: not a JPEG" in text
    assert f"{photos / 'd.gif'}: not JPEG" in text
    assert "--skip-bad-images" in text


def test_run_without_bad_images_answers_the_others_and_names_those(line, run, photos):
    nowhere = photos / "nowhere.png"
    refuse(run("run", line.bundle, photos, nowhere), "nowhere.png")
    result = run("run", line.bundle, photos, nowhere, "--skip-bad-images", "--json")
    assert result.exit_code == 0, result.output
    answers = {item["image"]: item for item in json.loads(result.stdout)}
    assert list(answers) == [str(photos / name) for name in ("a.png", "below/c.png", "d.gif", "b.jpg", "nowhere.png")]
    assert answers[str(photos / "a.png")]["predictions"][0]["label"] == "3"
    assert answers[str(photos / "below" / "c.png")]["predictions"][0]["label"] == "7"
    assert "No such file" in answers[str(nowhere)]["error"]
    for name in ("b.jpg", "d.gif", "nowhere.png"):
        assert f"  {photos / name}: " in result.stderr


def test_run_of_bad_images_only_is_refused_also_where_they_are_skipped(line, run, photos, tmp_path):
    refuse(run("run", line.bundle, photos / "b.jpg", "--skip-bad-images"), "1 of 1 image cannot be used")
    (tmp_path / "empty").mkdir()
    refuse(run("run", line.bundle, tmp_path / "empty"), "a folder without images")


def test_run_of_an_image_that_is_named_twice_answers_twice(line, run, photos):
    result = run("run", line.bundle, photos / "a.png", photos / "a.png", "--json")
    first, second = json.loads(result.stdout)
    assert first == second
    assert run("run", line.bundle, photos / "a.png", photos / "a.png").stdout.count("a.png") == 2


def test_build_names_the_bad_images_of_both_sets_in_one_go(line, run, photos, tmp_path):
    table = tmp_path / "validation.csv"
    table.write_text("file\nphotos/a.png\nphotos/a.png\nphotos/b.jpg\nphotos/nowhere.png\n")
    (photos / "below" / "e.png").write_bytes(b"damaged")
    both = refuse(
        run(
            "build", VIT, "--target", "cpu", "--out", tmp_path / "b",
            "--calibration", photos / "below", "--validation", table,
        ),
        "has 3 bad images",
    )  # fmt: skip
    assert f"{photos / 'below'} has 1 bad image:\n  e.png: " in both
    for words in ("photos/a.png again", "photos/b.jpg: not", "photos/nowhere.png: No such file"):
        assert words in both


def test_eval_with_a_label_out_of_range_names_it(line, run, tmp_path):
    table = tmp_path / "data.csv"
    picture = line.validation / "3" / "1202.png"
    table.write_text(f"file,label\n{picture},3\n{line.validation / '7' / '1200.png'},10\n")
    assert "--skip-bad-images" not in refuse(run("eval", line.bundle, "--data", table), "10")


def test_eval_without_its_unreadable_image_goes_on_when_asked(line, run, tmp_path):
    for name in ("3/1202.png", "7/1200.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes((line.validation / name).read_bytes())
    (tmp_path / "3" / "broken.png").write_bytes(b"not a picture")
    refuse(run("eval", line.bundle, "--data", tmp_path), "broken.png")
    result = run("eval", line.bundle, "--data", tmp_path, "--skip-bad-images", "--json")
    assert result.exit_code == 0, result.output
    assert "left out:\n  3/broken.png: not a JPEG" in result.stderr
    assert json.loads(result.stdout)["data"] | {"sha256": ""} == {
        "path": str(tmp_path), "images": 2, "labelled": True, "sha256": "", "skipped_images": 1,
        "skipped": ["3/broken.png: not a JPEG, PNG, WebP or BMP image, or its header is damaged"],
        "matching": "2 classes, matched by name",
    }  # fmt: skip


def test_targets_with_an_unknown_name_lists_the_known_ones(run):
    assert "raspberry-pi-5" in refuse(run("targets", "rasberry"), "rasberry")


def test_demo_into_a_file_is_refused(run, tmp_path):
    (tmp_path / "file").write_text("x")
    refuse(run("demo", "--out", tmp_path / "file"), "file")


def test_missing_optional_package_is_named_with_its_install_line(run, monkeypatch):
    def fail(*args, **kwargs):
        raise ModuleNotFoundError("No module named 'onnx_ir'", name="onnx_ir.passes")

    monkeypatch.setattr("edgevit.build.inspect.inspect_source", fail)
    assert install_line("build") in refuse(run("inspect", VIT), "onnx_ir.passes is not installed")


@pytest.mark.parametrize(
    ("package", "extra"), [("torch", "build"), ("safetensors", "build"), ("onnxruntime", "onnxruntime")]
)
def test_build_without_a_package_says_so_before_the_slow_part(tmp_path, package, extra):
    arguments = ["build", str(VIT), "--target", "cpu", "--out", str(tmp_path / "b")]
    code = f"import sys\nsys.modules[{package!r}] = None\nfrom edgevit.cli import main\nmain({arguments!r})"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert package in result.stderr
    assert f"hint: {install_line(extra)}" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "b").exists()


def test_list_of_offenders_is_short_on_the_screen_and_whole_with_json(run, tmp_path):
    for number in range(23):
        (tmp_path / f"bad{number:02}.png").write_bytes(b"no image")
    command = ["build", VIT, "--target", "cpu", "--precision", "fp32", "--validation", tmp_path]
    text = refuse(run(*command, "--out", tmp_path.parent / "never"), "has 23 bad images")
    assert "  … and 13 more (--json lists all)" in text.splitlines()
    assert "bad10.png" not in text
    result = run(*command, "--out", tmp_path.parent / "never", "--json")
    assert result.exit_code == 2
    document = json.loads(result.stdout)
    assert sum(f"  bad{number:02}.png: " in document["error"] for number in range(23)) == 23
    assert "more" not in document["error"]
    assert "--json lists all" not in result.stderr
