"""The line reads like one: what build_model and finish_bundle call takes few arguments."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap
from collections.abc import Callable
from typing import Any

import pytest

from edgevit.build.build import build_model
from edgevit.build.finish import finish_bundle

MOST_ARGUMENTS = 5


def list_called(function: Callable[..., Any]) -> dict[str, Any]:
    """The package's own functions that a function's body, and those of its module's private ones, call by name."""
    function = inspect.unwrap(function)
    known = function.__globals__
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    names = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    found = {name: known[name] for name in names if name in known}
    ours = {
        name: called
        for name, called in found.items()
        if called.__module__.startswith("edgevit.") and not dataclasses.is_dataclass(called)
    }
    parts = [f for name, f in ours.items() if name.startswith("_") and f.__module__ == function.__module__]
    return {**ours, **{name: called for part in parts for name, called in list_called(part).items()}}


@pytest.mark.parametrize("function", [build_model, finish_bundle])
def test_a_function_of_the_line_takes_at_most_five_arguments(function: Callable[..., Any]) -> None:
    called = list_called(function)
    assert {"conclude", "pack_result", "lock_output"} <= set(called)
    many = {name: len(inspect.signature(f).parameters) for name, f in called.items() if inspect.isfunction(f)}
    assert {name: count for name, count in many.items() if count > MOST_ARGUMENTS} == {}
