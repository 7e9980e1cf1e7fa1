"""The tables of the C++ runtime, from Python's: what a manifest's keys hold, and what a bundle may set.

``python -m scripts.write_runtime_tables`` writes ``schema_table.inc`` and ``settings_table.inc`` in
``edgevit/runtime/cpp/src/bundle/``, so that both runtimes read one definition: the dataclasses of the manifest and
:data:`edgevit.core.libraries.LIBRARIES`. A test compares the files with what this would write.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from edgevit.core.engine import LARGEST_BATCH, Setting
from edgevit.core.isa import TIERS
from edgevit.core.libraries import LIBRARIES
from edgevit.core.report.place import MOST_IMAGES
from edgevit.core.task import Task
from edgevit.runtime import settings
from edgevit.runtime.manifest import SCHEMA_VERSION, Manifest

FOLDER = Path(__file__).parent.parent / "edgevit/runtime/cpp/src/bundle"
_HEAD = "// Written by `python -m scripts.write_runtime_tables` from Python's tables; not to be edited.\n"
_NOT_STORED = ("directory", "contents")
"""Of an engine, where its files lie."""
_SCALARS = {str: "text", int: "whole", float: "number", bool: "truth", Any: "any", object: "any"}


class _Schema:
    """Lines of ``schema_table.inc``: every form is a constant, written before those that hold it."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._names: dict[Any, str] = {}

    def add(self, kind: Any) -> str:
        """The constant's name of a type."""
        if kind not in self._names:
            parts = self._describe(kind)  # before its own name: those of its parts are counted first
            name = (
                f"k{kind.__name__}Form"
                if isinstance(kind, type) and dataclasses.is_dataclass(kind)
                else f"kForm{len(self._names)}"
            )
            self._names[kind] = name
            self.lines.append(f"constexpr Form {name}{{{', '.join(parts)}}};")
        return self._names[kind]

    def _describe(self, kind: Any) -> list[str]:
        origin, args = get_origin(kind), get_args(kind)
        if kind in _SCALARS:
            return [f"Form::{_SCALARS[kind]}"]
        if dataclasses.is_dataclass(kind) and isinstance(kind, type):
            return ["Form::record", *self._list("Field", f"k{kind.__name__}Fields", self._list_fields(kind))]
        if origin is Literal:
            return ["Form::choice", *self._list("char* const", f"kChoices{len(self.lines)}", map(_quote, args))]
        if origin in (Union, types.UnionType):
            members = [self.add(arg) for arg in args if arg is not type(None)]
            form = "Form::optional" if type(None) in args else "Form::either"
            return [form, *self._list_members(members)]
        if origin is tuple:
            variadic = len(args) == 2 and args[1] is Ellipsis
            members = [self.add(arg) for arg in (args[:1] if variadic else args)]
            return ["Form::list" if variadic else "Form::fixed", *self._list_members(members)]
        if isinstance(origin, type) and issubclass(origin, Mapping):
            return ["Form::table", *self._list_members([self.add(args[1])])]
        raise TypeError(f"the C++ runtime has no form for {kind}")

    def _list_fields(self, kind: Any) -> list[str]:
        resolved, rows = typing.get_type_hints(kind), []
        for field in dataclasses.fields(kind):
            if field.name in _NOT_STORED:
                continue
            optional = type(None) in get_args(resolved[field.name])
            default = field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
            needed = "false" if optional or default else "true"
            rows.append(f"{{{_quote(field.name)}, &{self.add(resolved[field.name])}, {needed}}}")
        return rows

    def _list_members(self, members: list[str]) -> list[str]:
        return self._list("Form* const", f"kMembers{len(self.lines)}", [f"&{member}" for member in members])

    def _list(self, kind: str, name: str, rows: Iterable[str]) -> list[str]:
        rows = list(rows)
        self.lines.append(f"constexpr const {kind} {name}[] = {{{', '.join(rows)}}};")
        return [name, str(len(rows))]


def write_schema() -> str:
    """The forms of a manifest and of its options of a task."""
    schema = _Schema()
    for kind in (Manifest, Task):
        schema.add(kind)
    return _HEAD + "".join(f"{line}\n" for line in schema.lines)


def write_settings() -> str:
    """Engine libraries, instruction sets and the settings that a bundle may have."""
    lines = [
        f"constexpr int64_t kSchemaVersion = {SCHEMA_VERSION};",
        f"constexpr int64_t kLargestBatch = {LARGEST_BATCH};",
        f"constexpr int64_t kMostImages = {MOST_IMAGES};",
        f"constexpr int64_t kMostCount = {settings.MOST};",
        *_write_texts("kKeys", settings.KEYS),
        *_write_texts("kGpuKeys", settings.GPU_KEYS),
        *_write_texts("kCountKeys", settings.COUNTS),
        *_write_texts("kSwitchKeys", settings.SWITCHES),
        *(line for key, choices in settings.CHOICES.items() for line in _write_texts(f"kChoices_{key}", choices)),
        *_write_rows("Choices", "kChoiceKeys", (f"{{{_quote(k)}, kChoices_{k}}}" for k in settings.CHOICES)),
    ]
    for name, library in LIBRARIES.items():
        rows = []
        for number, (key, values) in enumerate(library.bundle_properties.items()):
            lines.append(_write_array("PropertyValue", f"kValues_{name}_{number}", map(_value, values)))
            rows.append(f"{{{_quote(key)}, kValues_{name}_{number}, {len(values)}}}")
        lacks = [f"{{{_quote(tier)}, {_quote(reason)}}}" for tier, reason in library.lacks_isa.items()]
        lines += [
            *_write_rows("Property", f"kProperties_{name}", rows),
            *_write_texts(f"kDevices_{name}", library.devices),
            *_write_rows("Lack", f"kLacks_{name}", lacks),
        ]
    lines += _write_rows(
        "Library",
        "kLibraries",
        (
            f"{{{_quote(name)}, {_truth(library.cpu)}, {_truth(library.nvidia)}, kDevices_{name}, kProperties_{name},"
            f" kLacks_{name}}}"
            for name, library in LIBRARIES.items()
        ),
    )
    lines += _write_rows("Tier", "kTiers", (f"{{{_quote(n)}, {_quote(t.architecture)}}}" for n, t in TIERS.items()))
    return _HEAD + "".join(f"{line}\n" for line in lines)


def _write_texts(name: str, texts: Iterable[str]) -> list[str]:
    return _write_rows("char*", name, map(_quote, texts))


def _write_rows(kind: str, name: str, rows: Iterable[str]) -> list[str]:
    """A row of the table by its array, or by none where it is empty: C++ has no empty arrays."""
    held = list(rows)
    of = "const char*" if kind == "char*" else kind
    if not held:
        return [f"constexpr Span<{of}> {name}{{nullptr, 0}};"]
    return [
        _write_array(kind, f"{name}Rows", held),
        f"constexpr Span<{of}> {name}{{{name}Rows, {len(held)}}};",
    ]


def _write_array(kind: str, name: str, rows: Iterable[str]) -> str:
    const = "const char* const" if kind == "char*" else kind
    return f"constexpr {const} {name}[] = {{{', '.join(rows)}}};"


def _value(value: Setting) -> str:
    if isinstance(value, bool):
        return f"{{nullptr, {_truth(value)}}}"
    assert isinstance(value, str), f"{value!r} is a value of a property that the C++ runtime has no form for"
    return f"{{{_quote(value)}, false}}"


def _truth(value: bool) -> str:
    return "true" if value else "false"


def _quote(text: str) -> str:
    return json.dumps(text)


TABLES = {"schema_table.inc": write_schema, "settings_table.inc": write_settings}

if __name__ == "__main__":
    for file, write in TABLES.items():
        (FOLDER / file).write_text(write(), encoding="utf-8")
