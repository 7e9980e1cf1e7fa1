"""A bundle's answers here and under qemu's user mode, and how far they are from one another."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

REPOSITORY = Path(__file__).resolve().parents[2]
_LONGEST = 3600  # seconds; a process that the emulator has hung does not hang the tests


@dataclass(frozen=True)
class Answers:
    """What one process said.

    Attributes:
        pixels: ``(N, H, W, 3) uint8``, as the bundle's preprocessing gave them there.
        logits: ``(N, K) float32``.
        machine: The architecture that Python saw.
    """

    pixels: npt.NDArray[np.uint8]
    logits: npt.NDArray[np.float32]
    machine: str


def answer(bundle: Path, images: Sequence[Path], interpreter: Sequence[str], wheels: Path | None = None) -> Answers:
    """Ask a bundle in a process of its own.

    Args:
        bundle: A finished bundle of the task ``classify``.
        images: At least one.
        interpreter: The command that starts Python.
        wheels: The packages of a Python of another architecture.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "answers.npz"
        run([*interpreter, str(Path(__file__).with_name("answer.py")), bundle, out, *images], wheels)
        with np.load(out) as found:
            return Answers(found["pixels"], found["logits"], str(found["machine"]))


def run(command: Sequence[str | Path], wheels: Path | None = None) -> str:
    """Standard output of a process that imports edgevit from this checkout.

    Args:
        command: Begins with the interpreter.
        wheels: The packages of a Python of another architecture.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join(str(path) for path in (REPOSITORY, wheels) if path)
    done = run_to_end(command, environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_to_end(command: Sequence[str | Path], environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """A process with all that it said, whether it succeeded or not."""
    words = list(map(str, command))
    return subprocess.run(words, check=False, env=environment, capture_output=True, text=True, timeout=_LONGEST)


def answer_here(bundle: Path, images: Sequence[Path]) -> Answers:
    """By this machine's own processor."""
    return answer(bundle, images, [sys.executable])


def answer_on_arm(root: Path, cpu: str, bundle: Path, images: Sequence[Path]) -> Answers:
    """By the aarch64 root that ``scripts/make_arm_root.py`` made, on an emulated processor."""
    return answer(bundle, images, start_on_arm(root, cpu), root / "wheels")


def start_on_arm(root: Path, cpu: str, *options: str) -> list[str]:
    """The command that starts the root's Python, with further options of the emulator's."""
    return [*emulate_arm(root, cpu, *options), str(root / "usr/bin/python3.11")]


def emulate_arm(root: Path, cpu: str, *options: str) -> list[str]:
    """What stands before a command of aarch64: the libraries of Debian that it needs are the root's."""
    return [str(root / "qemu/qemu-aarch64-static"), "-cpu", cpu, *options, "-L", str(root)]


def answer_on_x86(root: Path, cpu: str, bundle: Path, images: Sequence[Path]) -> Answers:
    """By this machine's Python and packages, on an emulated processor with fewer instructions."""
    return answer(bundle, images, [str(root / "qemu/qemu-x86_64-static"), "-cpu", cpu, sys.executable])


def compare(expected: Answers, found: Answers) -> tuple[int, float]:
    """Images with the same top-1, and the SQNR in dB of all logits."""
    noise = found.logits.astype(np.float64) - expected.logits
    same = int((found.logits.argmax(1) == expected.logits.argmax(1)).sum())
    with np.errstate(divide="ignore"):
        return same, float(10 * np.log10((expected.logits.astype(np.float64) ** 2).sum() / (noise**2).sum()))
