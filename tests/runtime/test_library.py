from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("openvino")

_CONVERTER = "openvino.tools.ovc"


def run(code: str, home: Path) -> list[str]:
    """What a fresh process prints, one line each."""
    environment = {key: value for key, value in os.environ.items() if key != "CI"} | {"HOME": str(home)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_openvino_comes_without_its_converter_and_writes_nothing_into_the_home(tmp_path: Path) -> None:
    code = f"""
import sys
from edgevit.runtime.library import import_library
finders = list(sys.meta_path)
openvino = import_library("openvino")
print({_CONVERTER!r} in sys.modules, "openvino_telemetry" in sys.modules, sys.meta_path == finders)
print(openvino.Core().available_devices[0])
print(import_library("openvino") is openvino)
"""
    assert run(code, tmp_path) == ["False False True", "CPU", "True"]
    assert list(tmp_path.iterdir()) == []


def test_whoever_asks_for_the_converter_gets_the_librarys_own(tmp_path: Path) -> None:
    code = f"""
import sys
from edgevit.runtime.library import import_library
openvino = import_library("openvino")
print(hasattr(openvino, "nothing"))
from openvino import convert_model
import {_CONVERTER}
print(convert_model is sys.modules[{_CONVERTER!r}].convert_model, openvino.convert_model is convert_model)
"""
    assert run(code, tmp_path) == ["False", "True True"]


def test_openvino_that_is_there_already_is_left_as_it_is(tmp_path: Path) -> None:
    code = """
import openvino
before = set(vars(openvino))
from edgevit.runtime.library import import_library
print(import_library("openvino") is openvino, set(vars(openvino)) == before, "convert_model" in before)
"""
    assert run(code, tmp_path) == ["True True True"]
