"""Who imports whom: the rooms' table, no circles, a device runtime of numpy and Pillow; and what CONTRIBUTING names.

Read from the sources, so imports inside functions count, and for the rooms those for type checkers too.
"""

from __future__ import annotations

import fnmatch
import re
import sys
from pathlib import Path

import pytest

from tests.support.layers import (
    BELOW,
    ROOT,
    draw,
    draw_picture,
    draw_rooms,
    find_circle,
    list_strays,
    name_modules,
    read_imports,
)

CONTRIBUTING = (ROOT.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")

# What the device runtime may import: at once (tomli is Python's own tomllib before 3.11), and where it is used.
AT_ONCE = {"numpy", "PIL", "tomli"}
WHERE_USED = {"openvino", "onnxruntime", "tensorrt", "tensorrt_rtx", "cuda"}


def test_every_file_lies_in_one_of_the_twelve_rooms_or_is_one_of_three_beside_them() -> None:
    assert len(BELOW) == 12
    beside = {path.name for path in ROOT.iterdir() if path.is_file()}
    assert len(beside) <= 3
    assert {path.name for path in ROOT.iterdir() if path.is_dir()} - {"__pycache__", "_data"} == set(BELOW)


def test_a_room_imports_those_that_its_line_names_and_no_others() -> None:
    assert list_strays() == []


def test_the_table_goes_down_only() -> None:
    order = list(BELOW)
    assert all(order.index(other) > order.index(room) for room, others in BELOW.items() for other in others)


def test_a_planted_import_from_above_is_found(tmp_path: Path) -> None:
    package = tmp_path / "edgevit"
    for room in ("core", "build"):
        (package / room).mkdir(parents=True)
        (package / room / "__init__.py").touch()
    (package / "__init__.py").touch()
    (package / "build" / "line.py").write_text("import edgevit.core\n")
    assert list_strays(package) == []
    (package / "core" / "low.py").write_text("def f() -> None:\n    from edgevit.build import line\n")
    assert list_strays(package) == ["edgevit.core.low imports edgevit.build.line"]


def test_every_folder_of_tests_is_looked_into(request: pytest.FixtureRequest) -> None:
    """By default pytest leaves out what is called ``build``, as one of the rooms is."""
    left_out = request.config.getini("norecursedirs")
    folders = {path.parent for path in (ROOT.parent / "tests").rglob("test_*.py")}
    names = {part for folder in folders for part in folder.relative_to(ROOT.parent).parts}
    assert "build" in names
    assert [name for name in names if any(fnmatch.fnmatch(name, pattern) for pattern in left_out)] == []


def test_no_test_file_imports_another() -> None:
    tests = ROOT.parent / "tests"
    files, modules = list(tests.rglob("*.py")), name_modules(tests)
    assert len(files) > 150
    shared = [
        f"{path.relative_to(tests)} imports {name}"
        for path in files
        for name, _ in read_imports(path, modules, types=True)
        if re.match(r"tests\.(.*\.)?test_", name)
    ]
    assert shared == [], "what test files share lies in tests/support/"
    strings = re.compile(r"(?:from|import) tests\.(?:\w+\.)*test_\w")  # of what a process of its own is told to do
    assert [path.name for path in files if strings.search(path.read_text(encoding="utf-8"))] == []


def test_no_file_is_above_350_lines() -> None:
    # The agent is sent to a device as one file, which runs there with nothing beside it.
    long = {
        path.relative_to(ROOT).as_posix(): lines
        for path in name_modules(ROOT).values()
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > 350
    }
    assert set(long) <= {"remote/agent.py"}, long
    assert long.get("remote/agent.py", 0) <= 410


def test_the_rooms_are_drawn_with_their_lines() -> None:
    rows = [line.split() for line in draw_rooms().splitlines()[1:]]
    assert [row[0] for row in rows] == list(BELOW)
    assert all(int(row[1]) > 0 and int(row[2]) > 0 for row in rows)


def test_the_picture_in_contributing_is_the_table() -> None:
    assert f"```\n{draw_picture()}\n```" in CONTRIBUTING, "paste what python -m tests.support.layers picture prints"


def test_every_path_that_contributing_names_exists() -> None:
    named = set(re.findall(r"`([\w./<>-]+(?:/|\.(?:py|md|toml)))`", CONTRIBUTING))
    assert {"edgevit/core/isa.py", "tests/parity/cases.py", "targets/<name>.toml"} <= named
    assert [path for path in sorted(named) if "<" not in path and not (ROOT.parent / path).exists()] == []
    # Of a new file the folder exists.
    assert [path for path in sorted(named) if "<" in path and not (ROOT.parent / path).parent.is_dir()] == []


def test_every_table_that_contributing_names_lies_in_its_file() -> None:
    text = " ".join(CONTRIBUTING.split())
    named = re.findall(r"`([A-Za-z_]+)`(?: or `([A-Za-z_]+)`)? (?:of|in) `(edgevit/[\w./]+\.py)`", text)
    assert len(named) > 12
    lost = [
        f"{name} in {path}"
        for *names, path in named
        for name in filter(None, names)
        if not re.search(rf"^(def |class )?{name}\b", (ROOT.parent / path).read_text(encoding="utf-8"), re.M)
    ]
    assert lost == []


def test_every_verb_of_the_line_in_contributing_is_a_function_of_its_file() -> None:
    rows = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \| `([\w/.]+)` \|", CONTRIBUTING, re.M)
    assert len(rows) > 20
    lost = [
        f"{verb} of {path}"
        for verbs, path in rows
        for verb in re.findall(r"\w+", verbs)
        if not re.search(rf"^def {verb}\(", (ROOT.parent / path).read_text(encoding="utf-8"), re.M)
    ]
    assert lost == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = draw()
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
