"""Frozen dataclasses to and from plain data (JSON, TOML), refusing what they do not know.

Only the standard library, because the device runtime reads its manifest with it.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import itertools
import re
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from edgevit.core.errors import ErrorMaker, format_offenders

T = TypeVar("T")

_MOST_SHOWN = 50
"""Problems of one document; whoever wrote more of them wrote something else."""

NOT_STORED: Mapping[str, Any] = types.MappingProxyType({"stored": False})
"""Metadata of a field that is no part of the plain data."""


class FieldError(ValueError):
    """What a dataclass's own check refuses.

    Args:
        problems: One sentence each, all of them; each names the fields that it is about.
    """

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__(self.problems)

    def __str__(self) -> str:
        return "; ".join(self.problems)


def refuse(*rules: tuple[object, str]) -> None:
    """Raise FieldError with the sentences of all rules that are broken, each ``(whether it is, the sentence)``."""
    problems = [problem for broken, problem in rules if broken]
    if problems:
        raise FieldError(problems)


def from_data(cls: type[T], data: object, where: str, error: ErrorMaker) -> T:
    """Build the dataclass ``cls`` from plain data.

    Args:
        cls: A dataclass whose fields are scalars, literals, tuples, mappings, optional or dataclasses of these.
        data: What ``json.load`` or ``tomllib.load`` returned.
        where: Shown before each complaint, for example ``targets/my-board.toml``.
        error: The exception to raise: a class, or what makes one.

    Raises:
        EdgevitError: As ``error``, listing every unknown key, missing key, value of a wrong type and value that the
            class itself refuses.
    """
    complaints: list[str] = []
    hints: list[str] = []
    value = _convert(cls, data, "", complaints, hints)
    if complaints:
        plural = "s" if len(complaints) > 1 else ""
        shown = format_offenders([_shorten(c) for c in complaints[:_MOST_SHOWN]])
        if len(complaints) > _MOST_SHOWN:
            shown += f"\n  … and {len(complaints) - _MOST_SHOWN} more"
        raise error(
            f"{where} has {len(complaints)} problem{plural}:\n{shown}",
            "; ".join(dict.fromkeys(hints)) or "correct the listed keys and run again",
        )
    return typing.cast(T, value)


def to_data(value: Any) -> Any:
    """The inverse of :func:`from_data`: plain dicts, lists and scalars.

    Fields that are ``None`` are left out, unless their default is another value.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [(f, getattr(value, f.name)) for f in list_fields(type(value))]
        return {f.name: to_data(item) for f, item in fields if item is not None or _has_other_default(f)}
    if isinstance(value, Mapping):
        return {str(k): to_data(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_data(v) for v in value]
    return value


def list_fields(kind: Any) -> list[dataclasses.Field[Any]]:
    """The fields of a dataclass that are part of its plain data."""
    return [f for f in dataclasses.fields(kind) if f.init and f.metadata.get("stored", True)]


def _has_other_default(field: dataclasses.Field[Any]) -> bool:
    """Whether leaving the field out would give something else than ``None``."""
    return field.default not in (None, dataclasses.MISSING) or field.default_factory is not dataclasses.MISSING


def _convert(kind: Any, data: Any, path: str, complaints: list[str], hints: list[str]) -> Any:
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _convert_dataclass(kind, data, path, complaints, hints)
    origin, args = get_origin(kind), get_args(kind)
    if kind is Any or kind is object:
        return data
    if origin in (Union, types.UnionType):
        return _convert_union(args, data, path, complaints, hints)
    if origin is Literal:
        if not any(type(data) is type(a) and data == a for a in args):  # 1 == True, but they are not the same choice
            valid = ", ".join(repr(a) for a in args)
            complaints.append(f"{path or 'value'} = {_show(data)} is not one of {valid}")
        return data
    if origin is tuple:
        if not isinstance(data, (list, tuple)):
            complaints.append(f"{path} = {_show(data)} is not a list")
            return ()
        variadic = len(args) == 2 and args[1] is Ellipsis
        if variadic and set(map(type, data)) <= _find_plain_types(args[0]):
            return tuple(data)
        if not variadic and len(args) != len(data):
            complaints.append(f"{path} = {_show(data)} has {len(data)} values, not {len(args)}")
            return ()
        kinds = [args[0]] * len(data) if variadic else list(args)
        few = _stop_at_many(enumerate(zip(kinds, data, strict=True)), complaints)
        return tuple(_convert(k, d, f"{path}[{i}]", complaints, hints) for i, (k, d) in few)
    if origin is not None and isinstance(origin, type) and issubclass(origin, Mapping):
        if not isinstance(data, Mapping):
            complaints.append(f"{path} = {_show(data)} is not a table")
            return {}
        if args[1] is Any or set(map(type, data.values())) <= _find_plain_types(args[1]):
            return dict(data)
        few = _stop_at_many(data.items(), complaints)
        return {k: _convert(args[1], v, f"{path}.{_show_key(k)}", complaints, hints) for k, v in few}
    return _convert_scalar(kind, data, path, complaints)


@functools.cache
def _find_plain_types(kind: Any) -> frozenset[type]:
    """The types of values that ``kind`` takes as they are: of a list of labels, each needs no look of its own."""
    members = list(get_args(kind)) if get_origin(kind) in (Union, types.UnionType) else [kind]
    plain = [member for member in members if member in (str, int, bool, float)]
    if float in plain and int in plain and plain.index(float) < plain.index(int):
        plain.remove(int)  # whole numbers become floats
    return frozenset(plain)


def _stop_at_many(items: Iterable[T], complaints: list[str]) -> Iterator[T]:
    """The items, until there are more complaints than anybody reads: a document of a million faults takes no minute."""
    return itertools.takewhile(lambda _: len(complaints) <= _MOST_SHOWN, items)


def _convert_union(args: tuple[Any, ...], data: Any, path: str, complaints: list[str], hints: list[str]) -> Any:
    if data is None and type(None) in args:
        return None
    members = [a for a in args if a is not type(None)]
    attempts: list[list[str]] = []
    attempt_hints: list[str] = []
    for member in members:
        attempt: list[str] = []
        value = _convert(member, data, path, attempt, attempt_hints)
        if not attempt:
            return value
        attempts.append(attempt)
    complaints.extend(attempts[0] if len(attempts) == 1 else [" or ".join(a[0] for a in attempts)])
    hints.extend(attempt_hints)
    return None


def _convert_scalar(kind: Any, data: Any, path: str, complaints: list[str]) -> Any:
    if kind is float and isinstance(data, int) and not isinstance(data, bool):
        try:
            return float(data)
        except OverflowError:
            complaints.append(f"{path or 'value'} is a whole number too large for a float")
            return data
    if (kind in (int, float) and isinstance(data, bool)) or not isinstance(data, kind):
        complaints.append(f"{path or 'value'} = {_show(data)} is not {_kind_name(kind)}")
    return data


def _show(data: Any) -> str:
    return _shorten(repr(data), 200)


def _show_key(key: object) -> str:
    return _shorten(str(key), 200)


def _shorten(text: str, most: int = 1000) -> str:
    """Somebody may have put a whole document in place of a value."""
    return text if len(text) <= most else text[:most] + " …"


@functools.cache
def _resolve_types(kind: Any) -> dict[str, Any]:
    """The types of a dataclass's fields, which are compiled anew whenever they are asked for."""
    return typing.get_type_hints(kind)


def _kind_name(kind: Any) -> str:
    names = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}
    return names.get(kind, getattr(kind, "__name__", str(kind)))


def _convert_dataclass(kind: Any, data: Any, path: str, complaints: list[str], hints: list[str]) -> Any:
    if not isinstance(data, Mapping):
        complaints.append(f"{path or 'the document'} = {_show(data)} is not a table")
        return None
    before = len(complaints)
    fields = {f.name: f for f in list_fields(kind)}
    resolved = _resolve_types(kind)
    prefix = f"{path}." if path else ""
    for key in data:
        if key not in fields:
            few = len(complaints) < _MOST_SHOWN
            close = difflib.get_close_matches(_show_key(key), fields, n=1) if few else []
            guess = f" (did you mean {prefix}{close[0]}?)" if close else ""
            complaints.append(f"unknown key {prefix}{_show_key(key)}{guess}")
            if few:
                hints.append(f"valid keys{f' of {path}' if path else ''}: {', '.join(fields)}")
    values: dict[str, Any] = {}
    faulty: list[str] = []
    for name, field in fields.items():
        known = len(complaints)
        if name in data:
            values[name] = _convert(resolved[name], data[name], prefix + name, complaints, hints)
        elif not _has_default(field):
            if type(None) in get_args(resolved[name]):
                values[name] = None
            else:
                complaints.append(f"missing key {prefix}{name}")
        if len(complaints) > known:
            faulty.append(name)
    complaints += [f"{path}: {problem}" if path else problem for problem in _check(kind, values, faulty, resolved)]
    return kind(**values) if len(complaints) == before else None


def _check(kind: Any, values: Mapping[str, Any], faulty: Iterable[str], resolved: Mapping[str, Any]) -> list[str]:
    """What the class refuses of the values; where some are no values of their type, what it refuses of the others."""
    whole = dict(values)
    try:
        for name in faulty:
            whole.pop(name, None)
            if not _has_default(next(f for f in dataclasses.fields(kind) if f.name == name)):
                whole[name] = _stand_in(resolved[name])
        kind(**whole)
    except FieldError as exc:
        about = [re.compile(rf"\b{re.escape(name)}\b") for name in faulty]
        return [problem for problem in exc.problems if not any(word.search(problem) for word in about)]
    except (ValueError, TypeError) as exc:
        return [] if faulty else [str(exc)]
    return []


def _has_default(field: dataclasses.Field[Any]) -> bool:
    return field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING


def _stand_in(kind: Any) -> Any:
    """Some value of a type, so that a class can check the values beside it.

    Raises:
        TypeError: The type has no obvious value.
    """
    origin, args = get_origin(kind), get_args(kind)
    if origin is Literal:
        return args[0]
    if origin in (Union, types.UnionType):
        return _stand_in(args[0])
    if origin is tuple:
        return () if len(args) == 2 and args[1] is Ellipsis else tuple(_stand_in(arg) for arg in args)
    if origin is not None and isinstance(origin, type) and issubclass(origin, Mapping):
        return {}
    if kind in (str, bool, int, float):
        return kind(1)
    raise TypeError(f"nothing stands in for {kind}")
