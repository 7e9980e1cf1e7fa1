"""Write docs/manifest.schema.json, the JSON Schema of a bundle's manifest, from the classes that read it.

python -m scripts.write_manifest_schema

What the schema refuses, every reader refuses. A reader refuses more: what JSON Schema has no words for, such as fields
that contradict one another, and a digest that does not fit.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from edgevit.core import answer, schema
from edgevit.core.answer import Answer
from edgevit.core.engine import LARGEST_BATCH, Engine, TensorSpec
from edgevit.core.report.place import MOST_IMAGES, CanaryRecord
from edgevit.core.target import Target
from edgevit.pixels.preprocess import Preprocess
from edgevit.runtime.manifest import DIGEST_KEY, SCHEMA_VERSION, FileRecord, Manifest
from edgevit.runtime.packed import MOST_FILES

PATH = Path(__file__).parents[1] / "docs" / "manifest.schema.json"
LARGEST_SIDE = 1 << 15
"""Of an image: what :class:`Preprocess` takes."""

_SIDE = {"minimum": 1, "maximum": LARGEST_SIDE}
_HASH = {"pattern": "^[0-9a-f]{64}$"}
BOUNDS: dict[tuple[type, str], Mapping[str, Any]] = {
    (Manifest, "schema_version"): {"minimum": 1, "maximum": SCHEMA_VERSION},
    (Manifest, "inputs"): {"minItems": 1, "maxItems": 1},
    (Manifest, "outputs"): {"minItems": 1},
    (Manifest, "batch"): {"items": {"type": "integer", "minimum": 1, "maximum": LARGEST_BATCH}},
    (Manifest, "files"): {
        "maxProperties": MOST_FILES - 1,
        "propertyNames": {"pattern": r"^[^/\\:\u0000\"<>|?*][^\\:\u0000\"<>|?*]*$"},
    },
    (Engine, "files"): {"minItems": 1},
    (Engine, "batch"): {"items": {"type": "integer", "minimum": 1, "maximum": LARGEST_BATCH}},
    (FileRecord, "sha256"): _HASH,
    (FileRecord, "size_bytes"): {"minimum": 0},
    (TensorSpec, "shape"): {
        "items": {"anyOf": [{"type": "integer", "minimum": 1, "maximum": (1 << 31) - 1}, {"type": "string"}]}
    },
    (Target, "precisions"): {"minItems": 1},
    (Target, "opset"): {"minimum": 17, "maximum": 24},
    (CanaryRecord, "images"): {"minimum": 1, "maximum": MOST_IMAGES},
    **{(Preprocess, name): _SIDE for name in ("height", "width", "resize_height", "resize_width")},
    (Answer, "outputs"): {"minItems": 1, "maxItems": 2},
    (Answer, "threshold"): {"minimum": 0},
    (Answer, "mask_size"): {"items": {"type": "integer", "minimum": 1, "maximum": answer.LARGEST_MASK}},
    (Answer, "kernel"): {"minimum": 1, "maximum": answer.LARGEST_KERNEL},
    (Answer, "edges"): {"maxItems": answer.MOST_EDGES},
    (Preprocess, "std"): {"items": {"type": "number", "exclusiveMinimum": 0}},
    (Preprocess, "fill"): {"items": {"type": "integer", "minimum": 0, "maximum": 255}},
    (Preprocess, "rescale"): {"exclusiveMinimum": 0},
}
"""What a class refuses of one of its fields, beside values of another type."""

_SCALARS = {str: "string", int: "integer", float: "number", bool: "boolean"}


def make_schema() -> dict[str, Any]:
    """The document."""
    definitions: dict[str, Any] = {}
    root = describe_class(Manifest, definitions)
    root["properties"][DIGEST_KEY] = {"type": "string", **_HASH}
    root["required"] = sorted([*root["required"], DIGEST_KEY, "schema_version"])
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "manifest.json of an edgevit bundle"}
    return {**head, **root, "$defs": dict(sorted(definitions.items()))}


def describe_class(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    """The schema of a frozen dataclass; the classes of its fields come into ``definitions``."""
    resolved = typing.get_type_hints(kind)
    properties, required = {}, []
    for field in schema.list_fields(kind):
        described = _describe(resolved[field.name], definitions)
        bounds = BOUNDS.get((kind, field.name), {})
        properties[field.name] = {**described, **bounds}
        default = field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
        if not default and type(None) not in get_args(resolved[field.name]):
            required.append(field.name)
    return {"type": "object", "properties": properties, "required": sorted(required), "additionalProperties": False}


def _describe(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    origin, args = get_origin(kind), get_args(kind)
    if dataclasses.is_dataclass(kind):
        name = getattr(kind, "__name__", "")
        if name not in definitions:
            definitions[name] = describe_class(kind, definitions)
        return {"$ref": f"#/$defs/{name}"}
    if kind is Any or kind is object:
        return {}
    if origin in (Union, types.UnionType):
        return {"anyOf": [_describe(member, definitions) for member in args]}
    if kind is type(None):
        return {"type": "null"}
    if origin is Literal:
        return {"enum": list(args)}
    if origin is tuple and len(args) == 2 and args[1] is Ellipsis:
        return {"type": "array", "items": _describe(args[0], definitions)}
    if origin is tuple:
        assert len(set(args)) == 1, kind
        return {"type": "array", "items": _describe(args[0], definitions), "minItems": len(args), "maxItems": len(args)}
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {"type": "object", "additionalProperties": _describe(args[1], definitions)}
    return {"type": _SCALARS[kind]}


def dump_schema() -> str:
    """The file's content."""
    return json.dumps(make_schema(), indent=1) + "\n"


if __name__ == "__main__":
    PATH.write_text(dump_schema(), encoding="utf-8")
    print(f"written: {PATH}")
