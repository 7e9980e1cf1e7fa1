"""``edgevit eval --address``: what it takes, and what it hands on; the evaluation itself is tested in its room."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgevit.core.errors import DataError


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--address", "local", "--on", "user@board"), "--address and --on are two places"),
        (("--resume-folder", "kept"), "--resume-folder is for --address"),
    ],
)
def test_options_that_contradict_each_other_are_refused(run: Any, tmp_path: Path, options, said: str) -> None:
    result = run("eval", tmp_path, "--data", tmp_path, *options)
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.split())


def test_the_address_and_the_folder_are_handed_on(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def evaluate_on(address: str, bundle: Path, data: Path, **options: Any) -> None:
        asked.update(options, address=address, bundle=bundle, data=data)
        raise DataError("enough", "stop")

    monkeypatch.setattr("edgevit.remote.sweep.evaluate_on.evaluate_on", evaluate_on)
    result = run("eval", tmp_path, "--data", tmp_path, "--address", "head:6379", "--resume-folder", tmp_path / "kept")
    assert result.exit_code == 2
    assert "error: enough" in result.stderr
    assert (asked["address"], asked["resume_folder"]) == ("head:6379", tmp_path / "kept")
    assert (asked["bundle"], asked["data"], asked["skip_bad_images"]) == (tmp_path, tmp_path, False)


def test_a_pattern_is_not_taken_for_a_missing_path(run: Any, tmp_path: Path) -> None:
    result = run("eval", tmp_path / "bundle", "--data", tmp_path / "val-{0..3}.tar")
    assert result.exit_code == 2
    assert "paths are not there" not in result.stderr
