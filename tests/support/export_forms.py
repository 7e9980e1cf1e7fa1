"""Forms of the export with every fold, and with none."""

from __future__ import annotations

import dataclasses

from edgevit.core.target import ExportForm

SWITCHES = [f.name for f in dataclasses.fields(ExportForm) if f.name.startswith("fold_")]
EVERYTHING = ExportForm(**dict.fromkeys(SWITCHES, True))
NOTHING = ExportForm(qkv="packed", patch_embedding="conv", **dict.fromkeys(SWITCHES, False))
