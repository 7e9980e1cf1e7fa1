"""What a process under a tier does for the tests: compile engines and answer images with them. It loads no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from edgevit.core.errors import CompileError
from edgevit.core.isa import TIERS, list_tiers
from edgevit.core.target import load_target
from edgevit.engines.compile import compile_engine
from edgevit.runtime.session import open_engine

Answers: TypeAlias = tuple[npt.NDArray[Any], ...]

HERE = [tier for tier in list_tiers() if TIERS[tier].limit is not None]
REFUSED = {"sse4.1": "bad combination"}
"""Tiers for which OpenVINO 2026.4.1 compiles no LayerNorm, with its last words: engines are refused there, or right."""


Stored: TypeAlias = Literal["fp32", "int8"]
Floats: TypeAlias = Literal["f32", "bf16"]


@dataclass(frozen=True)
class Job:
    """An engine to be compiled and asked.

    Attributes:
        name: Unique.
        graph: ONNX file, batch 1.
        precision: ``fp32`` or ``int8``.
        floats: The type of what is not quantised.
        pixels: ``(N, H, W, 3) uint8`` in NumPy's format.
    """

    name: str
    graph: Path
    precision: Stored
    floats: Floats
    pixels: Path


def answer_jobs(jobs: Sequence[Job], folder: Path) -> dict[str, Answers | str]:
    """Of every job its outputs ``(N, …) float32``, or why it was refused; engines are written into ``folder``."""
    return {job.name: _answer(job, folder / job.name) for job in jobs}


def _answer(job: Job, folder: Path) -> Answers | str:
    settings = {"inference_precision": job.floats, "threads": 1}
    try:
        engine = compile_engine(job.graph, load_target("intel-cpu"), job.precision, folder, settings=settings)
    except CompileError as exc:
        return str(exc)
    with open_engine(engine) as session:
        parts = [session.run_outputs(pixels[None]) for pixels in np.load(job.pixels)]
    return tuple(np.concatenate(values) for values in zip(*parts, strict=True))


def measure_sqnr(found: Answers, expected: Answers) -> float:
    """Of all outputs together, in decibels; −inf where a number is not finite."""
    assert [a.shape for a in found] == [a.shape for a in expected]
    ours, theirs = (np.concatenate([a.astype(np.float64).ravel() for a in part]) for part in (found, expected))
    if not np.isfinite(ours).all():
        return -np.inf
    return 10 * float(np.log10((theirs**2).sum() / max(((ours - theirs) ** 2).sum(), 1e-30)))
