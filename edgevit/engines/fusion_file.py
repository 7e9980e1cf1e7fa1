"""What became of a graph in an engine, as a file beside the engine."""

from __future__ import annotations

import json
from pathlib import Path

from edgevit.core import schema
from edgevit.core.errors import CompileError
from edgevit.core.report.fusion_record import FusionRecord

FUSION_FILE = "fusion.json"


def save_fusion(record: FusionRecord, directory: Path) -> None:
    """Write the record into an engine's folder."""
    (directory / FUSION_FILE).write_text(json.dumps(schema.to_data(record), indent=1), encoding="utf-8")


def load_fusion(directory: Path) -> FusionRecord | None:
    """The record of an engine's folder; ``None`` where its library tells nothing."""
    path = directory / FUSION_FILE
    if not path.is_file():
        return None
    return schema.from_data(FusionRecord, json.loads(path.read_text(encoding="utf-8")), str(path), CompileError)
