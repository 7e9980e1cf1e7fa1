"""Hostile bundles have the same code in C++ as in Python."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.cpp_bundle import CppBundle, open_in_python

_FOLDER = Path(__file__).parents[2] / "attacks"
_ANSWERS: dict[str, str] = json.loads((_FOLDER / "answers.json").read_text())
_OF_THE_ENGINE = ("opens", "library", "device", "canary")
"""What only an engine library finds: the bundle itself is as it says."""


@pytest.fixture(scope="module")
def attacks(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    pytest.importorskip("cryptography", reason="signing needs cryptography")
    from tests.attacks.make import make_attacks

    folder = tmp_path_factory.mktemp("attacks")
    return folder, make_attacks(folder)


@pytest.mark.parametrize("name", _ANSWERS)
def test_attack_has_the_same_code(cpp: CppBundle, attacks: tuple[Path, dict[str, Any]], name: str) -> None:
    folder, made = attacks
    key = (folder / made[name]["public_key"]).read_bytes() if "public_key" in made[name] else None
    answer = cpp.open(folder / made[name]["path"], public_key=key)
    expected = "ok" if _ANSWERS[name] in _OF_THE_ENGINE else _ANSWERS[name]
    assert answer.code == expected, answer.text
    assert answer.code == "ok" or "\nhint: " in answer.text


@pytest.mark.parametrize(
    "name",
    [
        *("zip-has-a-further-file", "engine-is-not-listed", "files-by-the-hundred-thousand", "name-leads-up"),
        *("too-many-files", "file-is-missing", "hash-lies", "file-is-a-pipe"),
        *("json-has-five-megabytes", "json-has-a-million-values"),
    ],
)
def test_files_and_sizes_are_refused_in_the_same_words(
    cpp: CppBundle, attacks: tuple[Path, dict[str, Any]], name: str
) -> None:
    path = attacks[0] / attacks[1][name]["path"]
    ours, theirs = cpp.open(path), open_in_python(path)
    assert ours.text == theirs.text
    assert len(ours.text) < 2000
