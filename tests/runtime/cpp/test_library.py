"""The library as a file: what it shows, what it weighs, what it allocates, and how another project uses it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from edgevit.runtime import open_bundle
from tests.support.cpp_build import SOURCES, build_cpp
from tests.support.cpp_engine import choose_libraries, find_headers

ENGINE_FREE_BYTES = 1 << 20


@pytest.fixture(scope="module")
def build() -> Path:
    return build_cpp(["edgevit", "edgevit_bare", "edgevit_allocations"], choose_libraries())


def _run(*command: object, **variables: str) -> str:
    environment = {**os.environ, **variables}
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_symbols_are_those_of_the_list(build: Path) -> None:
    if shutil.which("nm") is None:
        pytest.skip("nm is absent")
    lines = _run("nm", "-D", "--defined-only", build / "src/api/libedgevit.so").splitlines()
    found = sorted(line.split()[-1].partition("@")[0] for line in lines)
    listed = (SOURCES / "abi" / "symbols.txt").read_text().split()
    assert found == listed, "a symbol that goes or changes breaks apps: raise EDGEVIT_ABI_VERSION and SOVERSION with it"


def test_the_part_without_engine_libraries_is_small(build: Path, tmp_path: Path) -> None:
    if shutil.which("strip") is None:
        pytest.skip("strip is absent")
    _run("strip", "-o", tmp_path / "stripped.so", build / "src/api/libedgevit_bare.so")
    assert (tmp_path / "stripped.so").stat().st_size <= ENGINE_FREE_BYTES


@pytest.mark.parametrize("target", ["intel-cpu", "cpu"])
def test_answers_allocate_nothing_of_the_librarys_own(build: Path, built: dict[str, Path], target: str) -> None:
    if target == "cpu" and find_headers() is None:
        pytest.skip("ONNX Runtime's headers are absent: python -m scripts.get_onnxruntime_headers")
    first, *owners = _run(build / "src/api/edgevit_allocations", built[target]).splitlines()
    assert first == "calls 150"
    print(owners)  # of the engine library: its own matter
    assert not [line for line in owners if line.startswith(("libedgevit", "edgevit_allocations", "unknown"))]


def test_the_link_to_onnxruntime_stays_when_cmake_runs_again(build: Path) -> None:
    link = build / "onnxruntime" / "libonnxruntime.so.1"
    if not link.is_symlink():
        pytest.skip("ONNX Runtime's headers are absent, or its library has the loader's name")
    before = link.lstat().st_ctime_ns
    _run("cmake", build)
    assert link.lstat().st_ctime_ns == before, "made again: programs that start meanwhile may not find it"


def test_another_project_finds_and_uses_the_installed_package(
    build: Path, built: dict[str, Path], tmp_path: Path
) -> None:
    _run("cmake", "--install", build, "--prefix", tmp_path / "installed")
    generator = ["-G", "Ninja"] if shutil.which("ninja") else []
    consumer = tmp_path / "consumer"
    prefix = f"-DCMAKE_PREFIX_PATH={tmp_path / 'installed'}"
    _run("cmake", "-S", SOURCES / "tests/consumer", "-B", consumer, *generator, prefix)
    _run("cmake", "--build", consumer)
    bundle = built["intel-cpu"]
    with open_bundle(bundle) as python:
        wanted = python.classify(np.full((200, 300, 3), 128, np.uint8), 2)
    lines = [f"{found.index} {found.value:.6f}" for found in wanted]
    assert _run(consumer / "classify_c", bundle).splitlines() == lines
    assert _run(consumer / "classify_cpp", bundle).splitlines() == [*lines, f"3 {wanted[0].index}", "1"]
    failed = subprocess.run(
        [str(consumer / "classify_cpp"), str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert failed.returncode == 2
    assert failed.stdout.startswith("not-a-bundle: ")
    cache = tmp_path / "cache"
    assert _run(consumer / "mistakes_cpp", bundle, EDGEVIT_CACHE=str(cache)).splitlines() == [
        "no path: argument",
        "a key file that was not there: argument",
        "no images: nothing",
        "moved to: nothing",
        "moved from: argument",
    ]
    assert not cache.exists()
