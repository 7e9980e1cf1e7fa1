"""What a module may run of edgevit, against Python's own parser; and what that is for each stage of a build."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from edgevit.core.cache_folder import STAGES
from edgevit.core.own_source import find_modules, hash_source
from tests.support.layers import ROOT, draw, name_modules

STAGE = """
import edgevit.engines
from edgevit.core import noun
def run():
    from edgevit.graph.passes import (
        fold,
    )
"""
FILES = {
    "__init__.py": "",
    "build/__init__.py": "",
    "build/stage.py": STAGE,
    "build/other.py": "import edgevit.graph\n",
    "core/__init__.py": "",
    "core/noun.py": "TABLE = {'a': 'edgevit.engines.library:OBJECT', 'b': 'edgevit.remote.other'}\n",
    "engines/__init__.py": "",
    "engines/library.py": "if TYPE_CHECKING:\n    from edgevit.pixels.image import Image\n",
    "graph/__init__.py": "",
    "graph/passes/__init__.py": "",
    "graph/passes/fold.py": '"""See :mod:`edgevit.build.other`, and edgevit/cli/line.py."""\n',
    "pixels/__init__.py": "",
    "pixels/image.py": "",
    "remote/__init__.py": "",
    "remote/other.py": "",
    "cli/__init__.py": "",
    "cli/line.py": "from edgevit.build.stage import run\n",
}
OUTSIDE = ("build/other.py", "cli/__init__.py", "cli/line.py", "remote/__init__.py", "remote/other.py")


def plant(folder: Path, **changes: str) -> str:
    """The hash of the stage of a package with some files changed."""
    for name, text in {**FILES, **changes}.items():
        path = folder / "edgevit" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return hash_source("edgevit.build.stage", package=folder / "edgevit")


@pytest.mark.parametrize("file", OUTSIDE)
def test_a_change_of_what_a_module_does_not_import_keeps_its_hash(tmp_path: Path, file: str) -> None:
    assert plant(tmp_path / "changed", **{file: "X = 1\n"}) == plant(tmp_path / "same")


@pytest.mark.parametrize("file", [name for name in FILES if name not in OUTSIDE])
def test_a_change_of_what_a_module_imports_anywhere_changes_its_hash(tmp_path: Path, file: str) -> None:
    changed = plant(tmp_path / "changed", **{file: FILES[file] + "X = 1\n"})
    assert changed != plant(tmp_path / "same") == plant(tmp_path / "again")


def test_a_module_of_somebody_elses_may_run_all_of_it(tmp_path: Path) -> None:
    plant(tmp_path)
    everything = find_modules("tests.core.test_own_source", package=tmp_path / "edgevit")
    assert {"edgevit.cli.line", "edgevit.build.other"} <= everything
    assert len(everything) == len(FILES)


def test_every_import_and_every_name_in_a_string_of_the_package_is_found() -> None:
    modules, imports = name_modules(ROOT), draw(types=True)
    for name, path in modules.items():
        if name == "edgevit":
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr) and not name.startswith(("edgevit.cli", "edgevit.core.cache")):
                texts = [str(part.value) for part in node.values if isinstance(part, ast.Constant)]
                together = [text for text in texts if re.search(r"\bedgevit\.([\w.]*\.)?$", text)]
                assert not together, f"{name} puts the name of a module together, which is not found in its text"
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                node.value.value = None  # a docstring
        strings = [n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
        named = {word for text in strings for word in re.findall(r"edgevit(?:\.\w+)+", text)}
        found = find_modules(name)
        rooms = {".".join(other.split(".")[:2]) for other in found}
        wanted = imports[name] | {other for other in named if ".".join(other.split(".")[:2]) in rooms}
        assert wanted & modules.keys() <= found, name
        if not name.startswith("edgevit.cli"):  # the lazy names of edgevit/__init__.py are an app's
            lazy = [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module == "edgevit"]
            assert {alias.name for n in lazy for alias in n.names} <= {"__version__"}, name


READERS = {"edgevit.checkpoints.timm.vit", "edgevit.checkpoints.onnx_file.module", "edgevit.checkpoints.positions"}
MODEL = READERS | {"edgevit.models.select_task", "edgevit.models.swin_v2", "edgevit.models.folds.layer_scale"}
GRAPH = MODEL | {"edgevit.models.export", "edgevit.graph.passes.fuse_gelu", "edgevit.graph.half_range"}
INT8 = GRAPH | {"edgevit.quantize.methods.gptq", "edgevit.quantize.plan", "edgevit.pixels.resample"}
ENGINE = INT8 | {"edgevit.engines.openvino", "edgevit.engines.onnxruntime", "edgevit.engines.tensorrt.typed"}
NEEDED = {
    "export": GRAPH,
    "optimize": GRAPH,
    "open": INT8 | {"edgevit.build.open_graph", "edgevit.graph.set_batch"},
    "half_range": GRAPH,
    "reference": MODEL | {"edgevit.pixels.resample", "edgevit.measure.reference"},
    "whole_export": {"edgevit.checkpoints.transformers.whole", "edgevit.checkpoints.transformers.dense_tasks"},
    "quantize": INT8 | {"edgevit.quantize.fp8"},
    "set_back": ENGINE | {"edgevit.runtime.openvino", "edgevit.measure.accuracy"},
    "typed": ENGINE,
    "rehearsal": ENGINE,
    "engine": ENGINE,
    "accuracy": ENGINE | {"edgevit.runtime.openvino", "edgevit.measure.accuracy", "edgevit.measure.embeddings"},
    "portable": INT8,
}
FREE = {
    "export": ("edgevit.quantize.", "edgevit.engines.", "edgevit.runtime.", "edgevit.measure."),
    "reference": ("edgevit.quantize.methods", "edgevit.quantize.quantize", "edgevit.measure.accuracy"),
}


def test_a_stage_counts_the_code_that_makes_its_result_and_what_it_starts_from() -> None:
    stages = {}
    for name, path in name_modules(ROOT).items():
        for stage in re.findall(r"cache\.run\(\s*\"(\w+)\"", path.read_text(encoding="utf-8")):
            stages[stage] = find_modules(name, *(f"edgevit.{root}" for root in STAGES[stage]))
    assert stages.keys() == NEEDED.keys()
    for stage, found in stages.items():
        assert NEEDED[stage] <= found, stage
        free = ("edgevit.cli", "edgevit.remote", "edgevit.build.doctor", "edgevit.build.build", *FREE.get(stage, ()))
        assert not [name for name in found if name.startswith(free)], stage
