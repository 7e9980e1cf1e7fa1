"""What the C++ runtime adds: the start of a process, and each call over OpenVINO's own.

    python -m benchmarks.bench_cpp BUNDLE [--rounds 100] [--starts 20]

``overhead``: in one process OpenVINO's request, which has the pixels already, and ``edgevit_run`` answer in turns,
twenty calls each, in the other order every second round. Both were compiled in this process with the same settings, and
their answers are equal to the bit. ``kept``: the same of what an earlier start kept over what is compiled; that is
OpenVINO's own matter, and has no bar. ``start``: whole processes, one after the other, from the parent's call to the
printed answer, and what the process has used of the processor by then; the first compiles and keeps, the others take
what was kept. On a busy machine read the latter. The cache is one of the run's own.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from edgevit.measure.intervals import ratio_of_medians
from tests.support.cpp_build import build_cpp
from tests.support.cpp_engine import choose_libraries

MOST_OVERHEAD = 1.01
MOST_START_MS = 400


def measure_ratio(program: Path, bundle: Path, rounds: int, what: str) -> tuple[float, float, float]:
    """Ratio of the medians of ``overhead`` or ``kept``, with its interval."""
    with tempfile.TemporaryDirectory(prefix="edgevit-kept-") as cache:
        environment = {**os.environ, "EDGEVIT_CACHE": cache}
        command: list[str | Path] = [program, what, bundle, str(rounds)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise SystemExit(f"the program ended with {done.returncode}: {done.stdout[-500:]}")
    pairs = [tuple(map(float, line.split())) for line in done.stdout.splitlines()]
    ours, other = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    ratio, low, high = ratio_of_medians(ours, other)
    names = ("edgevit_run", "bare") if what == "overhead" else ("kept", "compiled")
    medians = (f"{name} {statistics.median(values):.0f} µs" for name, values in zip(names, (ours, other), strict=True))
    print(f"{' / '.join(names)} {ratio:.4f} ({low:.4f} to {high:.4f}): {', '.join(medians)}")
    return ratio, low, high


def measure_starts(program: Path, bundle: Path, starts: int) -> list[tuple[float, float]]:
    """Wall and processor's milliseconds of each process, the first of which compiles."""
    found = []
    with tempfile.TemporaryDirectory(prefix="edgevit-start-") as cache:
        environment = {**os.environ, "EDGEVIT_CACHE": cache}
        for _ in range(starts + 1):
            begin = time.perf_counter()
            command = [str(program), "start", str(bundle)]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as child:
                assert child.stdout is not None
                line = child.stdout.readline()
                wall = 1e3 * (time.perf_counter() - begin)
            if child.returncode:
                raise SystemExit(f"a process ended with {child.returncode}: {line}")
            found.append((wall, float(line.split()[2])))
    return found


def main() -> int:
    """Exit status 1 where a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--starts", type=int, default=20)
    options = parser.parse_args()
    program = build_cpp(["edgevit_timing"], choose_libraries()) / "src/api/edgevit_timing"
    (wall, used), *kept = measure_starts(program, options.bundle, options.starts)
    print(f"start, compiled: {wall:.0f} ms, of the processor {used:.0f} ms")
    for place, what in ((0, "wall"), (1, "processor")):
        values = [pair[place] for pair in kept]
        print(f"start, kept, {what}: least {min(values):.0f} ms, median {statistics.median(values):.0f} ms")
    measure_ratio(program, options.bundle, options.rounds, "kept")
    ratio, _, _ = measure_ratio(program, options.bundle, options.rounds, "overhead")
    return 0 if ratio <= MOST_OVERHEAD and statistics.median(w for w, _ in kept) <= MOST_START_MS else 1


if __name__ == "__main__":
    sys.exit(main())
