"""The C++ runtime, built for tests; once for the same sources, also in later runs."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from tests.support.under_tier import ALL_CORES

SOURCES = Path(__file__).parents[2] / "edgevit" / "runtime" / "cpp"
BUILDS = Path(__file__).parents[2] / "build" / "cpp"
"""Not tracked. A folder for each set of options, in which only what has changed is compiled anew."""

FOR_ARM = {"CMAKE_TOOLCHAIN_FILE": str(SOURCES / "cmake" / "aarch64-linux-gnu.cmake")}
"""CMake's variables that compile for 64-bit Arm."""

_ABSENT = ("Could NOT find", "Could not find a package", "No CMAKE_CXX_COMPILER could be found", "cannot find libasan")
"""What CMake says where this machine lacks something, not where the project is wrong."""


def build_cpp(targets: Sequence[str], options: Mapping[str, str] | None = None) -> Path:
    """Build CMake targets of the C++ runtime with its tests; skips the test where a tool or library is absent.

    Args:
        targets: Names of CMake targets.
        options: CMake's variables, such as ``{"EDGEVIT_ONLY_PIXELS": "ON"}``.

    Returns:
        The build folder, which other processes share: read only.
    """
    settings = {"EDGEVIT_TESTS": "ON", "CMAKE_BUILD_TYPE": "Release", **(options or {})}
    compiler = "aarch64-linux-gnu-g++" if settings.items() >= FOR_ARM.items() else "c++"
    for tool in ("cmake", settings.get("CMAKE_CXX_COMPILER", compiler)):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is absent")
    folder = BUILDS / hashlib.sha256(repr((str(SOURCES), sorted(settings.items()))).encode()).hexdigest()[:12]
    folder.mkdir(parents=True, exist_ok=True)
    with _lock(folder / "lock"):
        stamp, state = folder / "built", hash_sources()
        built = stamp.read_text().split() if stamp.is_file() else []
        done = set(built[1:]) if built[:1] == [state] else set()
        if not done.issuperset(targets):
            generator = ["-G", "Ninja"] if shutil.which("ninja") else []
            variables = [f"-D{name}={value}" for name, value in settings.items()]
            run_tool(["cmake", "-S", str(SOURCES), "-B", str(folder), *generator, *variables])
            run_tool(["cmake", "--build", str(folder), "--target", *targets])
            stamp.write_text(" ".join([state, *sorted(done.union(targets))]))
    return folder


def hash_sources() -> str:
    """Of everything that a build reads from the project."""
    found = hashlib.sha256()
    for path in sorted(path for path in SOURCES.rglob("*") if path.is_file()):
        found.update(f"{path.relative_to(SOURCES)}\0{path.stat().st_size}\0".encode())
        found.update(path.read_bytes())
    return found.hexdigest()


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Processes of a test run wait for one another."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _all_cores() -> Iterator[None]:
    """What starts within may use all cores of the run: the other processes wait for what is compiled."""
    cores = os.environ.get(ALL_CORES)
    if not cores:
        yield
        return
    own = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {int(core) for core in cores.split(",")})
    try:
        yield
    finally:
        os.sched_setaffinity(0, own)


def run_tool(command: Sequence[str]) -> None:
    """Run CMake or a compiler; skips the test where it says that something is absent, fails it for any other reason."""
    jobs = {"CMAKE_BUILD_PARALLEL_LEVEL": str(min(2, os.cpu_count() or 1))}
    with _all_cores():
        done = subprocess.run(command, capture_output=True, text=True, env={**jobs, **os.environ}, check=False)
    if done.returncode:
        said = done.stdout + done.stderr
        missing = [line.strip() for line in said.splitlines() if any(text in line for text in _ABSENT)]
        if missing:
            pytest.skip(missing[0])
        pytest.fail(f"{' '.join(command)}\n{said[-6000:]}", pytrace=False)
