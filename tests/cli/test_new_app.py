from __future__ import annotations

import json
import shlex
import subprocess
import sys

import pytest

from tests.support.tiny_bundle import make_bundle


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    return make_bundle(folder / "bundle", folder / "work", target="intel-cpu").path


@pytest.mark.parametrize("language", ["cpp", "c", "python"])
def test_what_was_written_is_shown_with_the_next_commands(run, tiny, tmp_path, language):
    out = tmp_path / "my app"
    result = run("new-app", out, "--bundle", tiny, "--language", language)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == f"{out}/"
    shown = [line.split(maxsplit=1)[1] for line in lines if line.startswith(("├", "└"))]
    assert shown == sorted(f"{path.name}/" if path.is_dir() else path.name for path in out.iterdir())
    assert {"README.md", "bundle/"} <= set(shown)
    assert ("edgevit/" in shown) == (language != "python")
    build = " && cmake -S . -B build && cmake --build build" if language != "python" else ""
    assert lines[-2] == f"next:   cd {shlex.quote(str(out))}{build}"
    assert lines[-1].split() == [
        *(["python", "main.py"] if language == "python" else ["build/app"]),
        "bundle",
        "IMAGE...",
    ]


def test_document_has_the_same(run, tiny, tmp_path):
    result = run("new-app", tmp_path / "app", "--bundle", tiny, "--language", "c", "--camera", "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["folder"] == str(tmp_path / "app")
    assert {"main.c", "camera.c", "frame_queue.c", "bundle/", "edgevit/"} <= set(document["files"])
    assert document["build"].startswith("cmake ")
    assert document["run"] == "build/app bundle IMAGE..."


def test_python_app_runs_as_the_last_line_says(run, tiny, tmp_path):
    from tests.support.photos import make_photo

    out = tmp_path / "app"
    result = run("new-app", out, "--bundle", tiny, "--language", "python")
    make_photo(30, 40).save(out / "photo.png")
    command = result.stdout.splitlines()[-1].strip().replace("IMAGE...", "photo.png").split()
    done = subprocess.run([sys.executable, *command[1:]], cwd=out, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("photo.png  40 x 30  decode ")
    assert len(done.stdout.splitlines()) == 6


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--bundle", "{tiny}", "--language", "rust"], "cpp"),
        (["--language", "cpp"], "--bundle"),
        (["--bundle", "{tiny}"], "--language"),
        (["--bundle", "{tiny}/nothing", "--language", "cpp"], "nothing"),
    ],
)
def test_bad_usage_has_status_2_and_writes_nothing(run, tiny, tmp_path, arguments, said):
    result = run("new-app", tmp_path / "app", *(argument.format(tiny=tiny) for argument in arguments))
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stderr.startswith("error: ")
    assert "\nhint: " in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_folder_that_is_not_empty_has_status_2(run, tiny, tmp_path):
    (tmp_path / "mine.txt").touch()
    result = run("new-app", tmp_path, "--bundle", tiny, "--language", "cpp")
    assert result.exit_code == 2
    assert "is not empty" in result.stderr
    told = json.loads(run("new-app", tmp_path, "--bundle", tiny, "--language", "cpp", "--json").stdout)
    assert told["code"] == "argument", "the caller's mistake"
