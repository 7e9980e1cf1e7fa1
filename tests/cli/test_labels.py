"""Labels as texts on the command line: what inspect shows, and what is refused before anything is read."""

from __future__ import annotations

import json

import pytest

from edgevit.cli.demo_models import MODELS
from tests.support.two_towers import LABELS, write_clip


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip")
    write_clip(folder)
    return folder


@pytest.fixture
def labels(tmp_path):
    path = tmp_path / "labels.txt"
    path.write_text("\n".join(LABELS))
    return path


def show(run, *arguments):
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return " ".join(result.stdout.split())


def test_inspect_of_both_towers_says_that_labels_make_a_classifier(run, clip):
    text = show(run, "inspect", clip)
    assert "task embed" in text
    assert "its text tower can make a classifier of it: --labels FILE, a label a line" in text


def test_inspect_with_labels_shows_the_classifier_that_they_make(run, clip, labels, tmp_path):
    text = show(run, "inspect", clip, "--labels", labels)
    assert "task classify" in text
    assert "classes 6: tench, English springer, cassette player, …" in text
    assert "templates a photo of a {}." in text
    assert "label_head Linear 24 → 6" in text
    (tmp_path / "templates.txt").write_text("{}\na drawing of a {}.\n")
    found = json.loads(
        run("inspect", clip, "--labels", labels, "--templates", tmp_path / "templates.txt", "--json").stdout
    )
    assert found["source"]["templates"] == ["{}", "a drawing of a {}."]
    assert found["labels"] == LABELS
    assert "the head is 6 labels as texts, the mean of 2 templates" in found["source"]["notes"]
    (tmp_path / "templates.txt").write_text("\n".join(f"{{}} {number}" for number in range(8)))
    text = show(run, "inspect", clip, "--labels", labels, "--templates", tmp_path / "templates.txt")
    assert "templates {} 0 {} 1 {} 2 and 5 more" in text


@pytest.mark.parametrize("command", [["inspect"], ["build", "--target", "cpu"]])
def test_labels_for_what_has_no_text_tower_are_refused(run, labels, command):
    result = run(*command, MODELS["vit"], "--labels", labels)
    assert result.exit_code == 2
    assert "has a head of 10 classes" in result.stderr


def test_missing_files_of_labels_and_templates_are_both_named(run, clip, tmp_path):
    missing = [tmp_path / "labels.txt", tmp_path / "templates.txt"]
    result = run("build", clip, "--target", "cpu", "--labels", missing[0], "--templates", missing[1])
    assert result.exit_code == 2
    assert all(str(path) in " ".join(result.stderr.split()) for path in missing)


def test_labels_for_another_task_are_refused(run, clip, labels):
    result = run("build", clip, "--target", "cpu", "--labels", labels, "--task", "embed")
    assert result.exit_code == 2
    assert "labels are for the tasks classify and detect, not for embed" in result.stderr
