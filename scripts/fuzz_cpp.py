"""Fuzz the C++ runtime: what reads a bundle's files gets bytes that nobody meant, under clang's sanitizers.

``python -m scripts.fuzz_cpp --seconds 600`` runs each of :data:`PARTS` for so long (libFuzzer, AddressSanitizer,
UndefinedBehaviorSanitizer), on two cores at most. What it finds on the way is kept in ``build/fuzz-cpp/``; a crash ends
it with status 1 and stays there as ``PART-crash-…``: mend the fault, and add the file to ``tests/attacks/corpus-cpp/``.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
CORPUS = ROOT / "tests/attacks/corpus-cpp"
PARTS = ("manifest", "packed", "canary", "references")
TARGETS = tuple(f"fuzz_{part}" for part in PARTS)
"""Of CMake."""
COMPILERS = ("clang++", "clang++-14")
_MOST_BYTES = 16384


@dataclass(frozen=True)
class Run:
    """What a run came to.

    Attributes:
        part: Of :data:`PARTS`.
        runs: Inputs that were tried.
        coverage: Edges that they reached.
        said: The end of what libFuzzer said.
        status: 0, or another where something was found.
    """

    part: str
    runs: int
    coverage: int
    said: str
    status: int


def find_compiler() -> str | None:
    """A clang that has libFuzzer's library."""
    for name in COMPILERS:
        if shutil.which(name) is None:
            continue
        found = subprocess.run([name, "-print-runtime-dir"], capture_output=True, text=True, check=False).stdout.strip()
        folders = [Path(found), Path(found).parent / "linux"]
        if any(list(folder.glob("libclang_rt.fuzzer*")) for folder in folders):
            return name
    return None


def list_options(compiler: str) -> dict[str, str]:
    """CMake's variables of a build for fuzzing."""
    return {
        "CMAKE_CXX_COMPILER": compiler,
        "CMAKE_C_COMPILER": compiler.replace("clang++", "clang"),
        "CMAKE_BUILD_TYPE": "None",
        "CMAKE_CXX_FLAGS": "-O1 -gline-tables-only",
        "EDGEVIT_FUZZ": "ON",
        "EDGEVIT_SANITIZE": "fuzzer-no-link,address,undefined",
    }


def fuzz(build: Path, part: str, found: Path, limit: Sequence[str]) -> Run:
    """Run one of the targets.

    Args:
        build: Where they were built.
        part: Of :data:`PARTS`.
        found: A folder for inputs that reach something new, and for crashes.
        limit: libFuzzer's options that end it, such as ``-runs=1000``.
    """
    own = found / part
    own.mkdir(parents=True, exist_ok=True)
    command = [build / f"fuzz/fuzz_{part}", own, CORPUS / part, *limit]
    command += [f"-max_len={_MOST_BYTES}", "-timeout=10", "-malloc_limit_mb=256", "-print_final_stats=1"]
    command += [f"-artifact_prefix={found}/{part}-"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, errors="replace", check=False)
    runs = re.findall(r"stat::number_of_executed_units: (\d+)", done.stderr)
    coverage = re.findall(r"cov: (\d+)", done.stderr)
    reached, edges = (int(numbers[-1]) if numbers else 0 for numbers in (runs, coverage))
    return Run(part, reached, edges, done.stderr[-6000:], done.returncode)


def _build(compiler: str, folder: Path) -> None:
    variables = [f"-D{name}={value}" for name, value in list_options(compiler).items()]
    subprocess.run(["cmake", "-S", ROOT / "edgevit/runtime/cpp", "-B", folder, *variables], check=True)
    # and nothing else: clang puts a sanitizer's own part into programs only, so that the library does not link
    subprocess.run(["cmake", "--build", folder, "--parallel", "2", "--target", *TARGETS], check=True)


def main() -> int:
    """The program's exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=int, default=600, help="for each part")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    arguments = parser.parse_args()
    compiler = find_compiler()
    if compiler is None:
        print("there is no clang with libFuzzer: install clang and its compiler-rt", file=sys.stderr)
        return 2
    found = ROOT / "build/fuzz-cpp"
    _build(compiler, found / "cmake")
    os.environ.setdefault("UBSAN_OPTIONS", "print_stacktrace=1")
    results = [fuzz(found / "cmake", part, found, [f"-max_total_time={arguments.seconds}"]) for part in arguments.parts]
    for run in results:
        print(f"{run.part}: {run.runs} runs, {run.coverage} edges, status {run.status}")
        if run.status:
            print(run.said)
    return int(any(run.status for run in results))


if __name__ == "__main__":
    sys.exit(main())
