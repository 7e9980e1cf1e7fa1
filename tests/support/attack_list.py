"""The hostile bundles of tests/attacks as a list for the C++ runtime's ``edgevit_everything``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

_ANSWERS = Path(__file__).parents[1] / "attacks" / "answers.json"
_OF_THE_ENGINE = ("opens", "library", "device", "canary")
"""What only an engine library finds, or what has an engine that is none."""


def write_attack_list(folder: Path, elsewhere: bool = False) -> Path:
    """Make all of them below ``folder``; skips where what signs them is absent.

    Args:
        folder: Exists.
        elsewhere: Whether they are opened on another architecture than theirs, which is seen before the canary.
    """
    pytest.importorskip("cryptography", reason="signing needs cryptography")
    from tests.attacks.make import make_attacks

    made, lines = make_attacks(folder), []
    for name, code in json.loads(_ANSWERS.read_text()).items():
        key = [str(folder / made[name]["public_key"])] if "public_key" in made[name] else []
        told = "*" if code in _OF_THE_ENGINE or (elsewhere and name.startswith("canary-")) else code
        lines.append(" ".join([told, str(folder / made[name]["path"]), *key]))
    (folder / "list.txt").write_text("\n".join(lines) + "\n")
    return folder / "list.txt"
