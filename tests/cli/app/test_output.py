"""What apps do where they are called wrongly, where their answers are lost, and with text that steers a terminal."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from edgevit.cli.app.write import LANGUAGES
from edgevit.cli.terminal import show_controls
from edgevit.runtime import open_bundle
from tests.support.cpp_apps import run_app
from tests.support.cpp_build import SOURCES
from tests.support.tiny_bundle import make_bundle

LABELS = [
    *("\u061c\u200e\u200f", "\x1b]0;title\x07", "two\nlines\tand\rmore", "C1 \x80\x85\x9b31m\x9f\xa0é", "plain"),
    *("\u2027\u2028\u202a\u202e\u202f", "\u2065\u2066\u2069\u206a", "\x7f猫", "\U0001f600\U0001f6c0", "also plain"),
]


def run_shell(program: Path, arguments: list[Path | str], rest: str) -> subprocess.CompletedProcess[str]:
    command = [*([sys.executable] if program.suffix == ".py" else []), program, *arguments]
    text = f"{shlex.join(map(str, command))} {rest}"
    environment = {**os.environ, "PYTHONPATH": str(SOURCES.parents[2])}
    return subprocess.run(["bash", "-c", text], capture_output=True, text=True, env=environment, check=False)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("camera", [False, True])
def test_answers_that_are_lost_have_status_2_and_a_sentence(apps, tiny, photos, language, camera):
    arguments = [tiny, "--camera", photos] if camera else [tiny, photos / "0.png"]
    for rest, said in [(">/dev/full", "No space left on device"), (">&-", "")]:
        done = run_shell(apps(language), arguments, rest)
        assert done.returncode == 2, done.stderr
        first, second = done.stderr.splitlines()
        assert first.startswith("error: standard output ")
        assert said in first
        assert second.startswith("hint: ")


@pytest.mark.parametrize("language", LANGUAGES)
def test_reader_that_leaves_is_no_error(apps, tiny, photos, language):
    done = run_shell(apps(language), [tiny, *[photos / "0.png"] * 3], "| true")
    assert done.stderr == ""


@pytest.mark.parametrize("language", LANGUAGES)
def test_wrong_usage_has_status_2_before_the_bundle_is_opened(apps, photos, language):
    photo = photos / "0.png"
    for arguments in [
        ["--camera"],
        ["--foo"],
        [photo, "--foo"],
        ["--camera", "--camera"],
        ["--camera", photos, "--camera", photos],
        ["--camera", photos, photo],
    ]:
        done = run_app(apps(language), photos / "no bundle", *arguments)
        assert (done.returncode, done.stdout) == (2, ""), arguments
        assert done.stderr.startswith("usage: "), arguments
        assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("language", LANGUAGES)
def test_file_in_place_of_a_camera_is_told_with_a_hint(apps, tiny, photos, language):
    done = run_app(apps(language), tiny, "--camera", photos / "0.jpg")
    assert done.returncode == 2
    assert f"error: {photos / '0.jpg'} is neither a camera nor a folder\nhint: name a device" in done.stderr


@pytest.mark.parametrize("language", LANGUAGES)
def test_folder_with_a_damaged_image_has_a_hint(apps, tiny, photos, tmp_path, language):
    (tmp_path / "0.png").write_bytes((photos / "0.png").read_bytes())
    (tmp_path / "1.png").write_bytes(b"no image")
    done = run_app(apps(language), tiny, "--camera", tmp_path)
    assert done.returncode == 1
    assert "1.png" in done.stderr
    assert done.stderr.splitlines()[-1] == "hint: check the camera, or the images of the folder"


@pytest.mark.parametrize("language", LANGUAGES)
def test_labels_are_shown_as_the_command_line_shows_them(apps, photos, tmp_path, language):
    seen: set[str] = set()
    for number, labels in enumerate([LABELS, LABELS[5:] + LABELS[:5]]):  # the same classes are the best of any photo
        folder = tmp_path / str(number)
        bundle = make_bundle(folder / "bundle", folder / "work", target="intel-cpu", labels=tuple(labels)).path
        done = run_app(apps(language), bundle, photos / "0.png")
        assert done.returncode == 0, done.stderr
        with open_bundle(bundle) as predictor:
            found = [guess.label for guess in predictor.classify(photos / "0.png", top_k=5)]
        said = [line.split("%", 1)[1].lstrip(" ").split("  ", 1)[1] for line in done.stdout.split("\n")[1:6]]
        assert said == [show_controls(label.replace("\n", "\\n").replace("\t", "\\t")) for label in found]
        seen |= set(found)
    assert len(seen) >= 8


def test_large_image_is_refused_without_pillows_warning(apps, tiny, tmp_path):
    Image.new("1", (10000, 9000)).save(tmp_path / "large.png")
    done = run_app(apps("python"), tiny, tmp_path / "large.png")
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "Warning" not in done.stderr
