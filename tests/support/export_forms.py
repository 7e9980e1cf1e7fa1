"""Forms of the export with every fold, and with none."""

from __future__ import annotations

import dataclasses
from typing import Any

from edgevit.core.target import ExportForm

SWITCHES = [f.name for f in dataclasses.fields(ExportForm) if f.name.startswith("fold_")]
_ON: dict[str, Any] = dict.fromkeys(SWITCHES, True)
_OFF: dict[str, Any] = dict.fromkeys(SWITCHES, False)
EVERYTHING = ExportForm(**_ON)
NOTHING = ExportForm(qkv="packed", patch_embedding="conv", **_OFF)
