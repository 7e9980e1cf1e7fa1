"""Who imports whom: no circles, also none hidden inside functions, and a device runtime of numpy and Pillow alone.

Read from the sources, so imports inside functions count; those for type checkers alone do not.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import edgevit

ROOT = Path(edgevit.__file__).parent

# What the device runtime may import: at once (tomli is Python's own tomllib before 3.11), and where it is used.
AT_ONCE = {"numpy", "PIL", "tomli"}
WHERE_USED = {"openvino", "onnxruntime", "tensorrt", "tensorrt_rtx", "cuda"}

# The packages that a package may import from, beside itself and the modules of edgevit itself.
BELOW: dict[str, set[str]] = {
    "backends": {"runtime"},
    "cli": {"checkpoints", "demo", "devices", "runtime"},  # checkpoints: which names are hub ids
    "demo": set(),
    "devices": {"runtime"},
    "folds": {"models"},
    "methods": {"observers"},
    "models": set(),
    "observers": set(),
    "runtime": set(),
}


def name_modules(root: Path) -> dict[str, Path]:
    """Every module of a package by its dotted name."""
    found = {}
    for path in root.rglob("*.py"):
        parts = [root.name, *path.relative_to(root).with_suffix("").parts]
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def walk_imports(body: Iterable[ast.AST], inside: bool = False) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    """Import statements that run, each with whether it is inside a function."""
    for node in body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node, inside
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from walk_imports(node.orelse, inside)
        else:
            function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from walk_imports(ast.iter_child_nodes(node), inside or function)


def read_imports(path: Path, modules: Iterable[str]) -> set[tuple[str, bool]]:
    """Full names that a file imports, each with whether it does so inside a function."""
    names = set()
    for node, inside in walk_imports(ast.parse(path.read_text(encoding="utf-8")).body):
        if isinstance(node, ast.Import):
            names |= {(alias.name, inside) for alias in node.names}
            continue
        assert not node.level, f"{path} imports relatively"
        base = node.module or ""
        full = {f"{base}.{alias.name}" for alias in node.names}
        names |= {(name if name in modules else base, inside) for name in full}
    return names


def draw(root: Path) -> dict[str, set[str]]:
    """Of every module, the modules of the same package that it imports."""
    modules = name_modules(root)
    return {
        name: {other for other, _ in read_imports(path, modules) if other in modules} - {name}
        for name, path in modules.items()
    }


def find_circle(graph: dict[str, set[str]]) -> list[str]:
    """The modules of one circle of imports, or none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as exc:
        return list(reversed(exc.args[1]))
    return []


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = draw(ROOT)
    assert len(graph) > 200
    assert find_circle(graph) == []


def test_a_planted_circle_inside_a_function_is_found_and_one_for_type_checkers_is_not(tmp_path: Path) -> None:
    package = tmp_path / "planted"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "high.py").write_text("from planted.low import f\n")
    (package / "low.py").write_text("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import planted.high\n")
    assert find_circle(draw(package)) == []
    (package / "low.py").write_text("def f():\n    from planted import high\n")
    assert set(find_circle(draw(package))) == {"planted.high", "planted.low"}


@pytest.mark.parametrize("package", BELOW)
def test_a_package_imports_from_those_below_it_alone(package: str) -> None:
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    graph = draw(ROOT)
    own = f"edgevit.{package}"
    imported = {other for name in graph if name == own or name.startswith(f"{own}.") for other in graph[name]}
    assert {name.split(".")[1] for name in imported if "." in name} & packages - {package} <= BELOW[package]


def test_the_command_line_is_imported_by_nothing_but_the_module_that_runs_it() -> None:
    users = {name for name, imported in draw(ROOT).items() if any(i.startswith("edgevit.cli") for i in imported)}
    assert {name for name in users if not name.startswith("edgevit.cli")} == {"edgevit.__main__"}


def test_what_the_device_runtime_reaches_needs_numpy_pillow_and_engine_libraries_alone() -> None:
    modules = name_modules(ROOT)
    reached: set[str] = set()
    pending = [name for name in modules if name.startswith("edgevit.runtime")]
    outside: dict[str, set[tuple[str, bool]]] = {}
    while pending:
        name = pending.pop()
        if name in reached:
            continue
        reached.add(name)
        pending += [name.rpartition(".")[0]] if "." in name else []  # importing a module runs its package
        for other, inside in read_imports(modules[name], modules):
            top = other.split(".")[0]
            if other in modules:
                pending.append(other)
            elif top not in sys.stdlib_module_names:
                outside.setdefault(name, set()).add((top, inside))
    assert {"edgevit.core.target", "edgevit.pixels.preprocess", "edgevit.runtime.manifest"} <= reached
    at_once = {name: {top for top, inside in tops if not inside} - AT_ONCE for name, tops in outside.items()}
    assert {name: tops for name, tops in at_once.items() if tops} == {}
    ever = {name: {top for top, _ in tops} - AT_ONCE - WHERE_USED for name, tops in outside.items()}
    assert {name: tops for name, tops in ever.items() if tops} == {}
