"""What a build shows at its end."""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path

import pytest

from edgevit.cli.verdict import suggest_next
from tests.support.tiny_bundle import make_bundle, make_manifest


@pytest.mark.parametrize("name", ["plain", "größe mit leer", "it's; here"])
def test_suggest_next_when_pasted_into_a_shell_names_the_one_folder(name: str, tmp_path: Path) -> None:
    finished = make_bundle(tmp_path / "bundle", tmp_path / "work").manifest
    unmeasured = dataclasses.replace(finished, figures={})
    assert shlex.split(suggest_next(Path("out") / name, finished)) == ["edgevit", "run", f"out/{name}", "IMAGE"]
    for manifest, verb in ((unmeasured, "bench"), (make_manifest(), "finish")):
        assert shlex.split(suggest_next(Path(name), manifest))[-4:] == ["edgevit", verb, name, "there"]
