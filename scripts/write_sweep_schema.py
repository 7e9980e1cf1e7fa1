"""Write docs/sweep.schema.json, the JSON Schema of a sweep's result, from the classes that read it.

python -m scripts.write_sweep_schema
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edgevit.remote.sweep.plan import Plan
from edgevit.remote.sweep.question import FIGURES
from edgevit.remote.sweep.result import SweepResult
from scripts.write_manifest_schema import describe_class

PATH = Path(__file__).parents[1] / "docs" / "sweep.schema.json"


def make_schema() -> dict[str, Any]:
    """The document, in which the plan and the figures, that the classes take as they are, are described too."""
    definitions: dict[str, Any] = {}
    root = describe_class(SweepResult, definitions)
    definitions["Plan"] = describe_class(Plan, definitions)
    root["properties"]["plan"] = {"$ref": "#/$defs/Plan"}
    root["required"] = sorted([*root["required"], "answers", "fronts", "machines", "schema_version"])
    definitions["CellResult"]["properties"]["figures"] = {
        "type": "object",
        "properties": {name: {"type": "number", "description": text} for name, text in FIGURES.items()},
        "additionalProperties": False,
    }
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "sweep.json of edgevit sweep"}
    return {**head, **root, "$defs": dict(sorted(definitions.items()))}


def dump_schema() -> str:
    """The file's content."""
    return json.dumps(make_schema(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    PATH.write_text(dump_schema(), encoding="utf-8")
    print(f"written: {PATH}")
