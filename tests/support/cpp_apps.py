"""Apps of ``edgevit new-app``, built with one installed runtime; and what they print, read again."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.cpp_build import SOURCES, build_cpp, run_tool
from tests.support.cpp_engine import choose_libraries


@dataclass
class Answer:
    """What an app printed of an image, or of a frame: its first line, and the cells of the others."""

    head: str
    rows: list[list[str]] = field(default_factory=list)

    @property
    def classes(self) -> list[tuple[int, float, float, str]]:
        """Index, probability, number and label."""
        return [(int(row[0]), float(row[1]) / 100, float(row[3]), " ".join(row[4:])) for row in self.rows]


def install_cpp(folder: Path) -> Path:
    """Install the runtime below ``folder``; what ``-Dedgevit_DIR`` is to be."""
    pytest.importorskip("openvino")
    build = build_cpp(["edgevit"], choose_libraries())
    run_tool(["cmake", "--install", str(build), "--prefix", str(folder)])
    (config,) = folder.rglob("edgevitConfig.cmake")
    return config.parent


def build_app(folder: Path, edgevit: Path) -> Path:
    """Build an app with an installed runtime, every warning an error; returns the program."""
    variables = {"EDGEVIT_INSTALLED": "ON", "edgevit_DIR": str(edgevit), "CMAKE_BUILD_TYPE": "Debug"}
    variables |= {"CMAKE_C_FLAGS": "-Werror", "CMAKE_CXX_FLAGS": "-Werror"}
    configure_app(folder, variables)
    run_tool(["cmake", "--build", str(folder / "build")])
    return folder / "build" / "app"


def configure_app(folder: Path, variables: dict[str, str]) -> None:
    """What CMake says of an app before anything is compiled."""
    generator = ["-G", "Ninja"] if shutil.which("ninja") else []
    given = [f"-D{name}={value}" for name, value in variables.items()]
    run_tool(["cmake", "-S", str(folder), "-B", str(folder / "build"), *generator, *given])


def compile_library(sources: Sequence[Path], out: Path, *options: str) -> Path:
    """Sources in C as a library that ctypes can load."""
    if shutil.which("cc") is None:
        pytest.skip("cc is absent")
    command = ["cc", "-std=c11", "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", f"-I{SOURCES / 'include'}"]
    run_tool([*command, *map(str, sources), "-o", str(out), *options])
    return out


def run_app(program: Path, *arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Of a Python app ``program`` is its main.py."""
    command = [sys.executable, str(program)] if program.suffix == ".py" else [str(program)]
    environment = {**os.environ, "PYTHONPATH": str(SOURCES.parents[2])}
    given = [*command, *map(str, arguments)]
    return subprocess.run(given, capture_output=True, text=True, cwd=cwd, env=environment, check=False)


def read_answers(said: str) -> list[Answer]:
    """An answer for each line that is not indented."""
    answers: list[Answer] = []
    for line in said.splitlines():
        if re.match(r"\s", line):
            answers[-1].rows.append(line.split())
        else:
            answers.append(Answer(line))
    return answers
