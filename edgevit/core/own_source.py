"""hash_source: a hash over the files of edgevit that a module's results may depend on.

These are the module, everything that it imports and what that imports in turn, wherever the import stands: in a
function too, and for type checkers, as those name the classes of what a function is given. Tables of modules are
strings: a module that a string names counts where anything of its room is imported, as who loads it by its name lies
there, or imports what does. All of it is sought in the text: to parse every file would take seconds.
"""

from __future__ import annotations

import functools
import hashlib
import re
from pathlib import Path
from typing import NamedTuple

PACKAGE = Path(__file__).parents[1]

_FROM = re.compile(r"^[ \t]*from (edgevit[\w.]*) import (\([^)]*\)|.*)", re.MULTILINE)
_IMPORT = re.compile(r"^[ \t]*import (edgevit[\w.]*)", re.MULTILINE)
_NAME = re.compile(r"edgevit(?:\.\w+)+")
_REFERENCE = "`~/"  # in front of a name that a docstring refers to


@functools.cache
def hash_source(*roots: str, package: Path = PACKAGE) -> str:
    """A hash of the names and texts of :func:`find_modules`, as they are at the first call."""
    total = hashlib.sha256()
    for name in sorted(find_modules(*roots, package=package)):
        total.update(name.encode() + _read(_list_modules(package)[name]).digest)
    return total.hexdigest()


def find_modules(*roots: str, package: Path = PACKAGE) -> set[str]:
    """The roots and the modules that they import, directly or not, with the packages that these lie in.

    The package ``edgevit`` is among them and is not followed, as it imports only what an app asks it for.

    Args:
        roots: Such as ``edgevit.build.trial``. Where one is no module of edgevit's, what it uses of edgevit is not
            looked at: then it is all of it.
        package: The folder ``edgevit``.
    """
    modules = _list_modules(package)
    if not all(root in modules for root in roots):
        return set(modules)
    seen: set[str] = set()
    named: set[str] = set()
    pending = set(roots)
    while pending:
        name = pending.pop()
        seen.add(name)
        if "." in name:  # importing a module runs its package; or the name is one in a module
            pending.add(name.rpartition(".")[0])
            if name in modules:
                source = _read(modules[name])
                pending |= source.imports
                named |= source.names
        pending -= seen
        pending = pending or {n for n in named - seen if ".".join(n.split(".")[:2]) in seen}
    return seen & modules.keys()


@functools.cache
def _list_modules(package: Path) -> dict[str, Path]:
    found = {}
    for path in package.rglob("*.py"):
        parts = ["edgevit", *path.relative_to(package).with_suffix("").parts]
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


class _Source(NamedTuple):
    imports: frozenset[str]
    names: frozenset[str]  # that stand in it, in an import or not
    digest: bytes


@functools.cache
def _read(path: Path) -> _Source:
    content = path.read_bytes()
    text = content.decode()
    imports = set(_IMPORT.findall(text))
    for module, imported in _FROM.findall(text):
        imports |= {module, *(f"{module}.{name}" for name in re.findall(r"\w+", imported))}
    names = {m.group() for m in _NAME.finditer(text) if text[m.start() - 1] not in _REFERENCE}
    return _Source(frozenset(imports), frozenset(names), hashlib.sha256(content).digest())
