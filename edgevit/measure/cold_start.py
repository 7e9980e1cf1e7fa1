"""What a fresh process pays before its first answer.

A fresh process (:func:`main`) opens the engine or bundle in a folder, runs it once and prints the figures as JSON on
its last line; :func:`measure_cold_start` starts such processes. Nothing but the device runtime is imported there, so
the memory is what an app in Python would need.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgevit.core.engine import Setting
from edgevit.core.errors import DeviceError, EdgevitError, MissingPackageError, format_last_lines
from edgevit.core.isa import LIMIT_VARIABLE, TIERS, TierName
from edgevit.core.json_text import parse_json
from edgevit.core.libraries import LIBRARIES
from edgevit.core.report.report import ColdStart
from edgevit.runtime.library import import_library

# `-m` would put the working folder before the library, where a numpy.py may lie: a user's, or a bundle's.
_START = (
    "import sys; sys.path[:1] = [p for p in sys.path[:1] if p]; "
    "from edgevit.measure.cold_start import main; sys.exit(main(sys.argv[1:]))"
)


def measure_cold_start(
    directory: str | os.PathLike[str],
    *,
    processes: int = 3,
    timeout_seconds: float = 600,
    settings: Mapping[str, Setting] | None = None,
    tier: TierName | None = None,
) -> ColdStart:
    """Open and run the engine or bundle in ``directory`` in fresh processes, one after another.

    Args:
        directory: A folder with ``engine.json`` or ``manifest.json``, or a packed bundle.
        processes: How many; times are their medians, memory is their maximum.
        timeout_seconds: For each.
        settings: Of the engine, over its own.
        tier: Instruction sets that the processes are limited to.

    Raises:
        DeviceError: A process failed, with its last lines, or took too long.
    """
    if processes < 1:
        raise ValueError("a cold start takes a process")
    folder = Path(directory).resolve()
    limit = None if tier is None else TIERS[tier].limit
    results = [_run_fresh_process(folder, timeout_seconds, settings or {}, limit) for _ in range(processes)]
    peaks = [r.peak_memory_bytes for r in results if r.peak_memory_bytes is not None]
    return ColdStart(
        import_ms=statistics.median(r.import_ms for r in results),
        load_ms=statistics.median(r.load_ms for r in results),
        first_inference_ms=statistics.median(r.first_inference_ms for r in results),
        peak_memory_bytes=max(peaks) if peaks else None,
        processes=processes,
    )


def _run_fresh_process(
    folder: Path, timeout_seconds: float, settings: Mapping[str, Setting], limit: str | None
) -> ColdStart:
    package_parent = str(Path(__file__).resolve().parents[2])
    paths = [package_parent, os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in paths if p)}
    if limit is not None:
        environment[LIMIT_VARIABLE] = limit
    command = [sys.executable, "-c", _START, str(folder), json.dumps(dict(settings))]
    try:
        child = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as exc:
        raise DeviceError(
            f"a fresh process did not run {folder} within {timeout_seconds:g} s", "check the device, or allow more time"
        ) from exc
    except OSError as exc:
        raise DeviceError(
            f"cannot start a process for {folder}: {exc}", "check the folder and the memory left"
        ) from exc
    figures = _find_figures(child.stdout)
    if child.returncode != 0 or figures is None:
        how = f"was ended by signal {-child.returncode}" if child.returncode < 0 else f"exited with {child.returncode}"
        said = (child.stderr.strip() or child.stdout.strip() or "it said nothing").splitlines()
        raise DeviceError(
            f"a fresh process could not run {folder}: it {how}{format_last_lines(said)}",
            "a signal 9 is mostly too little memory; otherwise see the lines above",
        )
    return ColdStart(**figures)


def _find_figures(output: str) -> dict[str, Any] | None:
    """The last line that is a JSON object: a library may have printed around it."""
    for line in reversed(output.splitlines()):
        if line.startswith("{"):
            try:
                figures = json.loads(line)
            except ValueError:
                continue
            return figures if isinstance(figures, dict) and "load_ms" in figures else None
    return None


def read_peak_memory(status: Path = Path("/proc/self/status")) -> int | None:
    """Largest resident set of this process in bytes, ``None`` where the system does not tell.

    ``getrusage`` comes second, because on Linux its figure survives exec: a child of a large process starts with its
    parent's peak. ``VmHWM`` belongs only to the new program.
    """
    try:
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _measure_here(folder: Path, settings: Mapping[str, Setting]) -> dict[str, Any]:
    start = time.perf_counter_ns()
    import numpy as np

    is_bundle = folder.is_file() or (folder / "manifest.json").is_file()
    opened: Any
    if is_bundle:
        from edgevit.runtime import open_bundle
    else:
        from edgevit.core.engine import load_engine
        from edgevit.runtime.session import open_engine
    backend = _read_backend(folder, "manifest.json" if is_bundle else "engine.json")
    if backend is not None:
        with contextlib.suppress(MissingPackageError):  # opening says so as well
            import_library(backend)
    imported = time.perf_counter_ns()
    # the canary is answered once on a machine, which is no part of every start
    opened = (
        open_bundle(folder, settings=settings, check="never")
        if is_bundle
        else open_engine(load_engine(folder), settings)
    )
    with opened:
        loaded = time.perf_counter_ns()
        pixels = np.random.default_rng(0).integers(0, 256, (1, *_find_size(opened), 3), np.uint8)
        start_inference = time.perf_counter_ns()
        opened.run_outputs(pixels)
        end = time.perf_counter_ns()
        return {
            "import_ms": (imported - start) / 1e6,
            "load_ms": (loaded - imported) / 1e6,
            "first_inference_ms": (end - start_inference) / 1e6,
            "peak_memory_bytes": read_peak_memory(),
        }


def _read_backend(folder: Path, description: str) -> str | None:
    """The engine library to import. Opening the folder reads the description properly and says what is wrong."""
    from edgevit.runtime.packed import open_contents

    try:
        data = parse_json(open_contents(folder).read(description))
        backend = data.get("backend") or data["engine"]["backend"]
    except (OSError, ValueError, AttributeError, KeyError, TypeError, EdgevitError):
        return None
    return backend if backend in LIBRARIES else None  # which are called as the packages are


def _find_size(opened: Any) -> tuple[int, int]:
    """Height and width of the input of a session or of an opened bundle."""
    if hasattr(opened, "preprocess"):
        return opened.preprocess.height, opened.preprocess.width
    _, height, width, _ = opened.inputs[0].shape
    return height, width


def main(arguments: list[str]) -> int:
    """The fresh process."""
    try:
        print(
            json.dumps(_measure_here(Path(arguments[0]), json.loads(arguments[1]) if arguments[1:] else {})), flush=True
        )
    except EdgevitError as exc:
        print(f"error: {exc.message}\nhint: {exc.hint}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
