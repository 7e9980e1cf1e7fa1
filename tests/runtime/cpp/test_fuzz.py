"""A short run of libFuzzer on what reads a bundle's files; ``make fuzz-cpp`` is a long one."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.fuzz_cpp import PARTS, find_compiler, fuzz, list_options
from tests.support.cpp_build import build_cpp

_RUNS = {"manifest": 1000, "packed": 3000, "canary": 3000, "references": 5000}


@pytest.fixture(scope="module")
def build() -> Path:
    compiler = find_compiler()
    if compiler is None:
        pytest.skip("there is no clang with libFuzzer")
    return build_cpp([f"fuzz_{part}" for part in PARTS], list_options(compiler))


@pytest.mark.parametrize("part", PARTS)
def test_bytes_that_nobody_meant_are_refused_without_a_crash(build: Path, tmp_path: Path, part: str) -> None:
    run = fuzz(build, part, tmp_path, [f"-runs={_RUNS[part]}", "-seed=1"])
    assert run.status == 0, run.said
    assert run.runs >= _RUNS[part]
    assert run.coverage > 100  # the library itself is watched, not only the target
