"""Commands that messages suggest."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

import edgevit
from edgevit.core.command import write_command


@pytest.mark.parametrize("name", ["-name", "--out=x", "a b", "$HOME", "plain", "/there/-name"])
def test_path_is_one_argument_and_no_option(name: str) -> None:
    command = shlex.split(write_command("bench", Path(name), "--on", "user@board"))
    assert [command[:2], command[3:]] == [["edgevit", "bench"], ["--on", "user@board"]]
    assert not command[2].startswith("-")
    assert Path(command[2]) == Path(name)


def test_every_command_with_a_path_is_written_in_one_place() -> None:
    root = Path(edgevit.__file__).parent
    found = {path for path in root.rglob("*.py") if "shlex" in path.read_text(encoding="utf-8")}
    assert found == {root / "core" / "command.py", root / "remote" / "ssh.py"}
