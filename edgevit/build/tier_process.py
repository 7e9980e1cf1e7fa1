"""run_under: call a function in a process of its own that computes with older instructions.

oneDNN reads its limit once, when a process first uses it, so a tier below this process's own needs another process. The
function, its arguments and its result travel as pickles through pipes between the two, which are one program.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, BinaryIO, TypeVar

from edgevit.core.errors import DeviceError
from edgevit.core.isa import LIMIT_VARIABLE, TIERS, TierName, list_tiers, read_tier
from edgevit.core.progress import Progress, ignore_progress

Result = TypeVar("Result")

# `-m` would put the working folder before the library, where a numpy.py may lie.
_START = (
    "import sys; sys.path[:1] = [p for p in sys.path[:1] if p]; from edgevit.build.tier_process import main; main()"
)


def run_under(
    tier: TierName | None,
    function: Callable[..., Result],
    *arguments: Any,
    progress: Progress = ignore_progress,
    **options: Any,
) -> Result:
    """``function(*arguments, progress=…, **options)`` where nothing newer than ``tier`` is computed with.

    Args:
        tier: One that this process computes in; its newest, or ``None``, needs no other process.
        function: At the top of a module; it takes ``progress``.
        arguments: What can be pickled.
        progress: Told what the function tells.
        options: As ``arguments``.

    Raises:
        DeviceError: The tier is not on this machine, or the process ended without an answer.
        EdgevitError: What the function raised.
    """
    if tier is None or tier == read_tier():
        return function(*arguments, progress=progress, **options)
    limit = TIERS[tier].limit
    if tier not in list_tiers() or limit is None:
        raise DeviceError(f"this process does not compute with {TIERS[tier].title}", "run it on a machine that does")
    child = _start(limit)
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        try:
            pickle.dump((function, arguments, options), child.stdin, pickle.HIGHEST_PROTOCOL)
            child.stdin.close()
        except BrokenPipeError:
            pass  # how it ended says more
        while (message := _receive(child.stdout)) is not None:
            kind, content = message
            if kind == "progress":
                progress(*content)
            elif kind == "result":
                result: Result = content
                return result
            else:
                raise content
    finally:
        if child.poll() is None:
            child.kill()
        child.wait()
        child.stdout.close()
    how = f"was ended by signal {-child.returncode}" if child.returncode < 0 else f"exited with {child.returncode}"
    raise DeviceError(
        f"the process limited to {TIERS[tier].title} {how} without an answer",
        "a signal 9 is mostly too little memory; otherwise report the model",
    )


def _start(limit: str) -> subprocess.Popen[bytes]:
    package_parent = str(Path(__file__).resolve().parents[2])
    paths = [package_parent, *sys.path]  # what the function's module was found by
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in paths if p), LIMIT_VARIABLE: limit}
    try:
        return subprocess.Popen(
            [sys.executable, "-c", _START], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
    except OSError as exc:
        raise DeviceError(f"cannot start a process: {exc}", "check the memory left") from exc


def _receive(stream: IO[bytes]) -> tuple[str, Any] | None:
    try:
        message: tuple[str, Any] = pickle.load(stream)
    except (EOFError, pickle.UnpicklingError):
        return None
    return message


def _serve(source: BinaryIO, answers: BinaryIO) -> None:
    """The other process: one call."""

    def send(kind: str, content: Any) -> None:
        pickle.dump((kind, content), answers, pickle.HIGHEST_PROTOCOL)
        answers.flush()

    def tell(stage: str, done: int, total: int) -> None:
        send("progress", (stage, done, total))

    function, arguments, options = pickle.load(source)
    try:
        result = function(*arguments, progress=tell, **options)
    except Exception as exc:
        exc.__traceback__, exc.__cause__, exc.__context__ = None, None, None
        try:
            pickle.loads(pickle.dumps(exc))
        except Exception:  # a class whose __init__ or __reduce__ does not fit: its words travel without it
            exc = RuntimeError(f"{type(exc).__name__}: {exc}")
        send("error", exc)
    else:
        send("result", result)


def main() -> None:
    """The other process."""
    # What a library prints must not mix with the answers.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    try:
        _serve(sys.stdin.buffer, answers)
    except BrokenPipeError:
        sys.exit(1)  # nobody listens any more
    except KeyboardInterrupt:
        sys.exit(130)
