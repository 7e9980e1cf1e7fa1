"""A function of a test module, run in a process of its own that is limited to a tier of instructions.

OpenVINO reads its limit once, when its CPU plugin is first used, so a process knows one tier.
"""

from __future__ import annotations

import importlib
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

from edgevit.core.isa import LIMIT_VARIABLE, TIERS, TierName, list_tiers, read_tier

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

ROOT = Path(__file__).resolve().parents[2]
ALL_CORES = "EDGEVIT_TEST_CORES"
"""Variable with the cores of the whole run, where a test's own process has only some of them."""


def run_under_tier(
    tier: TierName, function: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs
) -> Result:
    """What the function returns there.

    Args:
        tier: One of this machine's.
        function: Of a module's top level; it, its arguments and its result can be pickled.
        args: For it.
        kwargs: For it.

    Raises:
        AssertionError: It raised, or its process died; with what the process wrote last.
    """
    assert tier in list_tiers(), f"{TIERS[tier].title} is not on this machine"
    limit = TIERS[tier].limit
    assert limit is not None, f"{TIERS[tier].title} cannot be a limit"
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    variables = {**os.environ, LIMIT_VARIABLE: limit, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    with tempfile.TemporaryDirectory() as folder:
        call, result = Path(folder, "call"), Path(folder, "result")
        call.write_bytes(pickle.dumps((function.__module__, function.__qualname__, args, kwargs)))
        command = [sys.executable, "-m", "tests.support.under_tier", tier, str(call), str(result)]
        done = subprocess.run(command, env=variables, cwd=ROOT, capture_output=True, text=True, check=False)
        last = "\n".join((done.stdout + done.stderr).splitlines()[-30:])
        assert done.returncode == 0, f"under {TIERS[tier].title}, status {done.returncode}:\n{last}"
        answer: Result = pickle.loads(result.read_bytes())
        return answer


def main() -> None:
    """Answer the call of a file into another."""
    tier, call, result = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    if cores := os.environ.get(ALL_CORES):  # users' engines have several threads, and kernels split work by them
        os.sched_setaffinity(0, {int(core) for core in cores.split(",")})
    assert read_tier() == tier, f"computing with {read_tier()}, not {tier}"
    module, name, args, kwargs = pickle.loads(call.read_bytes())
    answer = getattr(importlib.import_module(module), name)(*args, **kwargs)
    result.write_bytes(pickle.dumps(answer))


if __name__ == "__main__":
    main()
