"""Hostile bundles: each is refused with its code, and nothing outside of it is read on the way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgevit.core.errors import CODES, EdgevitError
from edgevit.runtime import open_bundle
from tests.attacks.make import ANSWERS, make_attacks
from tests.support.opened_files import list_opened


@pytest.fixture(scope="module")
def attacks(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("attacks")
    return folder, make_attacks(folder)


def test_every_answer_is_a_code_that_there_is() -> None:
    assert set(ANSWERS.values()) <= {"opens", *CODES}


def test_every_attack_has_an_answer_and_every_answer_an_attack(attacks: tuple[Path, dict[str, Any]]) -> None:
    assert set(attacks[1]) == set(ANSWERS)
    assert (attacks[0] / "answers.json").is_file()


@pytest.mark.parametrize("name", ANSWERS)
def test_attack_is_refused_with_its_code(attacks: tuple[Path, dict[str, Any]], name: str) -> None:
    folder, made = attacks
    attack = made[name]
    key = folder / attack["public_key"] if "public_key" in attack else None
    path = folder / attack["path"]
    try:
        with (
            list_opened() as opened,
            open_bundle(path, public_key=key, check=attack.get("check", "never")),
        ):
            code, hint = "opens", "none"
    except EdgevitError as exc:
        code, hint = exc.code, exc.hint
    assert code == attack["code"]
    assert hint
    near = [Path(file) for file in opened if file.startswith((str(folder), "/etc/", "/dev/"))]
    assert [file for file in near if file not in (path, key) and path not in file.parents] == []
