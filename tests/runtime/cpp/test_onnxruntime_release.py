"""Which releases of ONNX Runtime the library takes, asked of a double: headers may be newer than the library."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.cpp_apps import compile_library
from tests.support.cpp_build import SOURCES, build_cpp
from tests.support.cpp_engine import choose_libraries, find_headers


@pytest.mark.parametrize(
    ("release", "code", "said"),
    [
        (17, "library", "the engine needs ONNX Runtime 1.18 or later; here is 1.17.0"),
        (18, "device", "ONNX Runtime cannot open {}/model.onnx: the double has no sessions"),
    ],
)
def test_a_release_is_taken_from_1_18(
    built: dict[str, Path], tmp_path: Path, release: int, code: str, said: str
) -> None:
    headers = find_headers()
    if headers is None:
        pytest.skip("ONNX Runtime's headers are absent: python -m scripts.get_onnxruntime_headers")
    double = tmp_path / "libonnxruntime.so.1"
    compile_library([SOURCES / "tests/doubles/onnxruntime.c"], double, f"-I{headers}", f"-Wl,-soname,{double.name}")
    program = build_cpp(["edgevit_answers"], choose_libraries()) / "src/api/edgevit_answers"
    command = list(map(str, (program, built["cpu"], os.devnull, tmp_path / "answers")))
    environment = {**os.environ, "LD_PRELOAD": str(double), "EDGEVIT_DOUBLE_RELEASE": str(release)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 2
    told = next(line for line in done.stderr.splitlines() if line.startswith(f"{code}: "))
    assert told.endswith(said.format(built["cpu"]))
