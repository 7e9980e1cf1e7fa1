"""The public surface: exact, complete and cheap to import."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import edgevit

HEAVY = (
    "torch",
    "onnx",
    "onnxscript",
    "onnx_ir",
    "onnxruntime",
    "openvino",
    "transformers",
    "timm",
    "PIL",
    "rich",
    "numpy",
)


def loaded_after(code: str) -> set[str]:
    """Top-level packages that a fresh interpreter has imported after running ``code``."""
    script = f"{code}\nimport sys\nprint(' '.join(sorted({{m.partition('.')[0] for m in sys.modules}})))"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(result.stdout.split("\n")[-2].split())


def type_checking_imports() -> set[str]:
    tree = ast.parse(Path(edgevit.__file__).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    return {alias.name for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}


def test_all_is_exact():
    lazy = set(edgevit._MODULES)
    assert set(edgevit.__all__) == lazy | {"__version__"}
    assert type_checking_imports() == lazy, "type checkers must see the names that __getattr__ serves"
    assert len(edgevit.__all__) == len(set(edgevit.__all__))
    assert set(edgevit.__all__) <= set(dir(edgevit))


@pytest.mark.parametrize("name", sorted(edgevit._MODULES))
def test_every_public_name_can_be_imported_and_documents_itself(name):
    value = getattr(edgevit, name)
    assert value.__doc__
    assert value.__module__.startswith("edgevit")


def test_a_name_that_is_not_there_raises_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'build_everything'"):
        edgevit.build_everything  # noqa: B018


def test_version_is_that_of_the_package():
    pyproject = (Path(edgevit.__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    assert f'version = "{edgevit.__version__}"' in pyproject
    assert re.fullmatch(r"\d+\.\d+\.\d+", edgevit.__version__)


def test_import_loads_no_package_beyond_the_standard_library():
    assert not loaded_after("import edgevit") & {*HEAVY, "click"}


def test_help_loads_the_command_line_parser_alone():
    code = "import edgevit.cli\ntry: edgevit.cli.main(['--help'])\nexcept SystemExit as end: assert end.code == 0"
    loaded = loaded_after(code)
    assert "click" in loaded
    assert not loaded & set(HEAVY)


@pytest.mark.parametrize("name", ["Target", "load_target", "EdgevitError", "Report", "Budget"])
def test_plain_nouns_load_no_heavy_package(name):
    assert not loaded_after(f"import edgevit; edgevit.{name}") & (set(HEAVY) - {"numpy"})
