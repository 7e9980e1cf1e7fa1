"""The rooms of edgevit, and who may import whom; read from the sources.

python -m tests.support.layers            # the rooms from the top, their lines, and what each imports
python -m tests.support.layers picture    # what each is for and may import: the picture in CONTRIBUTING.md
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[2] / "edgevit"

BELOW: dict[str, tuple[str, ...]] = {
    "cli": (
        "remote",
        "build",
        "measure",
        "checkpoints",
        "quantize",
        "engines",
        "models",
        "runtime",
        "graph",
        "pixels",
        "core",
    ),
    "remote": ("build", "measure", "checkpoints", "runtime", "pixels", "core"),
    "build": ("measure", "checkpoints", "quantize", "engines", "models", "runtime", "graph", "pixels", "core"),
    "measure": ("checkpoints", "models", "runtime", "pixels", "core"),
    "checkpoints": ("models", "graph", "pixels", "core"),
    "quantize": ("models", "runtime", "graph", "core"),
    "engines": ("runtime", "graph", "pixels", "core"),
    "models": ("graph", "pixels", "core"),
    "runtime": ("pixels", "core"),
    "graph": ("core",),
    "pixels": ("core",),
    "core": (),
}
"""From the top: the rooms that each may import from, also inside functions and for type checkers."""


def name_modules(root: Path) -> dict[str, Path]:
    """Every module of a package by its dotted name."""
    found = {}
    for path in root.rglob("*.py"):
        parts = [root.name, *path.relative_to(root).with_suffix("").parts]
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def walk_imports(
    body: Iterable[ast.AST], *, types: bool = False, inside: bool = False
) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    """Import statements, each with whether it is inside a function; with ``types``, also those for type checkers."""
    for node in body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node, inside
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test) and not types:
            yield from walk_imports(node.orelse, types=types, inside=inside)
        else:
            function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from walk_imports(ast.iter_child_nodes(node), types=types, inside=inside or function)


def read_imports(path: Path, modules: Iterable[str], *, types: bool = False) -> set[tuple[str, bool]]:
    """Full names that a file imports, each with whether it does so inside a function."""
    names = set()
    for node, inside in walk_imports(ast.parse(path.read_text(encoding="utf-8")).body, types=types):
        if isinstance(node, ast.Import):
            names |= {(alias.name, inside) for alias in node.names}
            continue
        assert not node.level, f"{path} imports relatively"
        base = node.module or ""
        full = {f"{base}.{alias.name}" for alias in node.names}
        names |= {(name if name in modules else base, inside) for name in full}
    return names


def draw(root: Path = ROOT, *, types: bool = False) -> dict[str, set[str]]:
    """Of every module, the modules of the same package that it imports."""
    modules = name_modules(root)
    return {
        name: {other for other, _ in read_imports(path, modules, types=types) if other in modules} - {name}
        for name, path in modules.items()
    }


def find_circle(graph: dict[str, set[str]]) -> list[str]:
    """The modules of one circle of imports, or none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as exc:
        return list(reversed(exc.args[1]))
    return []


def find_room(module: str) -> str:
    """``edgevit.core.report.scores`` → ``core``; empty for the package itself and what lies beside the rooms."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in BELOW else ""


def list_strays(root: Path = ROOT, below: dict[str, tuple[str, ...]] = BELOW) -> list[str]:
    """Imports from a room that the importing one's line does not name."""
    strays = []
    for name, imported in sorted(draw(root, types=True).items()):
        room = find_room(name)
        for other in sorted(imported):
            target = find_room(other)
            if room and target and target != room and target not in below[room]:
                strays.append(f"{name} imports {other}")
    return strays


def draw_rooms(root: Path = ROOT) -> str:
    """The rooms from the top, one a line: files, lines of code, and the rooms that each really imports."""
    graph, modules = draw(root, types=True), name_modules(root)
    rows = [f"{'room':<12} {'files':>5} {'lines':>6}  imports"]
    for room in BELOW:
        own = [name for name in modules if find_room(name) == room]
        lines = sum(len(modules[name].read_text(encoding="utf-8").splitlines()) for name in own)
        imported = {find_room(other) for name in own for other in graph[name]} - {room, ""}
        rows.append(f"{room:<12} {len(own):>5} {lines:>6}  {' '.join(r for r in BELOW if r in imported) or '–'}")
    return "\n".join(rows)


def draw_picture(root: Path = ROOT, below: dict[str, tuple[str, ...]] = BELOW) -> str:
    """The rooms from the top, one a line: the first line of its docstring, and the rooms that each may import."""
    order = list(below)
    rows = [f"{'room':<12} {'what it is':<70} may import"]
    for room, others in below.items():
        lines = ast.get_docstring(ast.parse((root / room / "__init__.py").read_text(encoding="utf-8")))
        assert lines, f"{room} says nothing of itself"
        everything = set(others) == set(order[order.index(room) + 1 :]) and len(others) > 1
        allowed = "all below" if everything else " ".join(others) or "–"
        rows.append(f"{room:<12} {lines.splitlines()[0]:<70} {allowed}")
    return "\n".join(rows)


if __name__ == "__main__":
    print(draw_picture() if sys.argv[1:] == ["picture"] else draw_rooms())
