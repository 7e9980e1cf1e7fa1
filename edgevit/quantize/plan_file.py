"""save_plan, load_plan: a quantisation plan on disk, so that sites can go back to float without calibrating again.

Two files: ``<stem>.json`` holds the structure, ``<stem>.npz`` the arrays that it refers to by number. Every dataclass
of edgevit's own is kept with all of its fields, so that a plan may grow fields and nouns.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgevit.core.errors import CalibrationError
from edgevit.quantize.plan import QuantizationPlan

FORMAT = 1

Array = npt.NDArray[Any]


def save_plan(plan: QuantizationPlan, path: Path) -> None:
    """Write a plan that :func:`load_plan` reads back exactly: to the bit, with the arrays' types and shapes.

    Args:
        plan: Its fields may hold plain values, numpy's arrays and numbers, tuples, lists, mappings and dataclasses of
            edgevit's own.
        path: Of the JSON; the arrays lie beside it, with the suffix ``.npz``.

    Raises:
        TypeError: A field holds something else.
    """
    arrays: list[Array] = []
    document = {"format": FORMAT, "plan": _encode(plan, arrays)}
    named: dict[str, Any] = {str(i): array for i, array in enumerate(arrays)}
    np.savez(path.with_suffix(".npz"), **named)
    path.write_text(json.dumps(document, separators=(",", ":")), encoding="utf-8")


def load_plan(path: Path) -> QuantizationPlan:
    """Read what :func:`save_plan` wrote.

    Raises:
        CalibrationError: A file is missing or damaged, or is of another format.
    """
    hint = "delete the build cache and build again"
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["format"] != FORMAT:
            raise ValueError(f"format {document['format']}, not {FORMAT}")
        with np.load(path.with_suffix(".npz"), allow_pickle=False) as stored:
            plan = _decode(document["plan"], dict(stored))
    except (OSError, ValueError, LookupError, TypeError, AttributeError, ImportError, zipfile.BadZipFile) as exc:
        raise CalibrationError(f"{path} is no plan that can be read: {exc}", hint) from exc
    if not isinstance(plan, QuantizationPlan):
        raise CalibrationError(f"{path} holds no plan", hint)
    return plan


def _encode(value: Any, arrays: list[Array]) -> Any:
    """Scalars are themselves; everything else is a list that begins with what it is."""
    if isinstance(value, (np.ndarray, np.generic)):
        if value.dtype.hasobject:
            raise TypeError(f"an array of {value.dtype} has no place in a plan")
        if value.dtype.kind == "V":  # FP8, of which numpy's files keep only the bytes
            arrays.append(np.asarray(value).view(np.uint8))
            return ["bytes", len(arrays) - 1, value.dtype.name]
        arrays.append(np.asarray(value))
        return ["array" if isinstance(value, np.ndarray) else "number", len(arrays) - 1]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if type(value) in (tuple, list):
        return [type(value).__name__, *(_encode(item, arrays) for item in value)]
    if isinstance(value, Mapping):
        return ["mapping", *([_encode(k, arrays), _encode(v, arrays)] for k, v in value.items())]
    kind = type(value)
    if dataclasses.is_dataclass(kind) and kind.__module__.startswith("edgevit."):
        fields = {f.name: _encode(getattr(value, f.name), arrays) for f in dataclasses.fields(kind)}
        return ["noun", kind.__module__, kind.__qualname__, fields]
    raise TypeError(f"a {kind.__module__}.{kind.__qualname__} has no place in a plan")


def _decode(data: Any, arrays: Mapping[str, Array]) -> Any:
    if not isinstance(data, list):
        return data
    what, *items = data
    if what in ("array", "number"):
        found = arrays[str(items[0])]
        return found if what == "array" else found[()]
    if what == "bytes":
        return arrays[str(items[0])].view(items[1])
    if what in ("tuple", "list"):
        values = [_decode(item, arrays) for item in items]
        return tuple(values) if what == "tuple" else values
    if what == "mapping":
        return {_decode(k, arrays): _decode(v, arrays) for k, v in items}
    if what == "noun":
        module, name, fields = items
        return _decode_noun(module, name, {k: _decode(v, arrays) for k, v in fields.items()})
    raise ValueError(f"it holds {what!r}")


def _decode_noun(module: str, name: str, fields: Mapping[str, Any]) -> Any:
    if not module.startswith("edgevit."):
        raise ValueError(f"{module} is not edgevit's own")
    kind = getattr(importlib.import_module(module), name)
    if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
        raise ValueError(f"{module}.{name} is no noun")
    return kind(**fields)
