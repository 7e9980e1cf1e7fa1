"""A short run of libFuzzer on what reads a bundle's files; ``make fuzz-cpp`` is a long one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgevit.runtime.onnx_references import list_references
from scripts import fuzz_cpp
from scripts.fuzz_cpp import PARTS, TARGETS, find_compiler, fuzz, list_options
from tests.support.cpp_build import build_cpp
from tests.support.cpp_bundle import CppBundle
from tests.support.spoiled_bundle import MANIFEST

_RUNS = {"manifest": 1000, "packed": 3000, "canary": 3000, "references": 5000}


@pytest.fixture(scope="module")
def build() -> Path:
    compiler = find_compiler()
    if compiler is None:
        pytest.skip("there is no clang with libFuzzer")
    return build_cpp(TARGETS, list_options(compiler))


@pytest.mark.parametrize("part", PARTS)
def test_bytes_that_nobody_meant_are_refused_without_a_crash(build: Path, tmp_path: Path, part: str) -> None:
    run = fuzz(build, part, tmp_path, [f"-runs={_RUNS[part]}", "-seed=1"])
    assert run.status == 0, run.said
    assert run.runs >= _RUNS[part]
    assert run.coverage > 100  # the library itself is watched, not only the target


def test_long_run_builds_only_what_the_short_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library itself does not link under clang's sanitizers."""
    commands: list[list[str]] = []
    monkeypatch.setattr("scripts.fuzz_cpp.subprocess.run", lambda command, check: commands.append([*map(str, command)]))
    fuzz_cpp._build("clang++", tmp_path)
    (build,) = (command for command in commands if "--build" in command)
    assert build[build.index("--target") + 1 :] == list(TARGETS) == [f"fuzz_{part}" for part in PARTS]


@pytest.mark.parametrize("part", ["manifest", "packed", "canary", "references"])
def test_seeds_of_the_fuzzing_are_what_they_are_for(cpp: CppBundle, tmp_path: Path, part: str) -> None:
    folder = Path(__file__).parents[2] / "attacks/corpus-cpp" / part
    for file in folder.iterdir():
        if part == "manifest":
            (tmp_path / MANIFEST).write_bytes(file.read_bytes())
            assert cpp.open(tmp_path).code == "damaged", file  # a whole manifest, of files that are not there
        elif part == "packed":
            assert cpp.open(file).code == "manifest", file
        elif part == "canary":
            assert sorted(np.load(file)) == ["built.logits", "float.logits", "pixels"]
        else:
            assert cpp.list_references(file.read_bytes()).data == list(list_references(file)) != []
