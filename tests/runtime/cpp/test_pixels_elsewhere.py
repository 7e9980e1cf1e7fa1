"""Preprocessing in C++ where no Python runs: under sanitizers, and on an emulated Arm processor."""

from __future__ import annotations

import itertools
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgevit.pixels.preprocess import INTERPOLATIONS, Preprocess
from tests.support.cpp_build import FOR_ARM, build_cpp
from tests.support.cpp_pixels import (
    ONLY_PIXELS,
    RESAMPLINGS,
    RESIZES,
    Bytes,
    CppPixels,
    Frame,
    pack_frame,
    pack_planes,
    read_results,
    write_cases,
)
from tests.support.photos import make_photo

NORMAL: dict[str, Any] = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
ARM_LIBRARIES = Path("/usr/aarch64-linux-gnu")


def list_cases() -> list[tuple[Preprocess, Frame]]:
    """Every filter, mode, layout and kind of stride with one another, though not each with each; and errors."""
    generator = np.random.default_rng(0)
    packed = itertools.cycle(("rgb", "bgr", "rgba", "bgra", "grey"))
    gaps = itertools.cycle((0, 3, 70, 0, 0, 1))
    found: list[tuple[Preprocess, Frame]] = []
    for interpolation, resize, resampling in itertools.product(INTERPOLATIONS, RESIZES, RESAMPLINGS):
        for turned in (False, True):
            height, width = (int(side) for side in generator.integers(1, (500, 90) if turned else (90, 260)))
            rows, columns, high, wide = (int(side) for side in generator.integers(1, 70, 4))
            preprocess = Preprocess(
                rows,
                columns,
                resize,
                high,
                wide,
                interpolation,
                **NORMAL,
                resampling=resampling,
                antialias=interpolation != "bilinear" or not turned,
            )
            rgb = np.asarray(make_photo(height, width, len(found) % 5))
            frame = pack_frame(rgb, next(packed), gap=next(gaps), upside_down=len(found) % 3 == 0)
            found.append((preprocess, frame))
            half = (height + 1) // 2, (width + 1) // 2
            y, u, v = (generator.integers(0, 256, size, np.uint8) for size in ((height, width), half, half))
            layout = "nv12" if turned else "i420"
            found.append((preprocess, pack_planes(y, u, v, layout, gap=next(gaps), plane_gap=next(gaps))))
    squash = Preprocess(9, 9, "squash", 9, 9, "bicubic", **NORMAL)
    bytes_: Bytes = np.zeros(60, np.uint8)
    strides = (2**31 - 1, -(2**31), 14, -14, 0)
    found += [(squash, Frame(bytes_, 5, 4, stride=stride)) for stride in strides]
    sizes = ((0, 4), (5, -1), (2**31 - 1, 2**31 - 1), (1, 2**31 - 1))
    found += [(squash, Frame(bytes_, *size, "nv12")) for size in sizes]
    return found


def compute(cases: Sequence[tuple[Preprocess, Frame]], pixels: CppPixels) -> list[tuple[str, Bytes | None]]:
    """By this processor's best kernels."""
    found: list[tuple[str, Bytes | None]] = []
    for preprocess, frame in cases:
        status, out = pixels.open(preprocess).apply(frame)
        found.append((status, out if status == "ok" else None))
    return found


def run_cases(command: Sequence[str], kernels: str, folder: Path, expected: Sequence[tuple[str, Bytes | None]]) -> None:
    """Assert that the program computes the same, and says nothing."""
    cases = list_cases()
    write_cases(folder / "cases", cases)
    words = [*command, str(folder / "cases"), str(folder / "results"), kernels]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    for case, found, wanted in zip(cases, read_results(folder / "results", cases), expected, strict=True):
        assert found[0] == wanted[0], case
        assert wanted[1] is None or np.array_equal(found[1], wanted[1]), case


@pytest.mark.slow
def test_nothing_is_read_or_written_beyond_what_is_given_and_nothing_undefined(pixels, tmp_path):
    folder = build_cpp(["edgevit_pixels_cases"], {**ONLY_PIXELS, "EDGEVIT_SANITIZE": "address,undefined"})
    (program,) = folder.rglob("edgevit_pixels_cases")
    expected = compute(list_cases(), pixels)
    for kernels in pixels.list_kernels():
        run_cases([str(program)], kernels, tmp_path, expected)


@pytest.mark.slow
def test_pixels_on_arm_are_those_of_x86(pixels, tmp_path):
    emulator = shutil.which("qemu-aarch64") or shutil.which("qemu-aarch64-static")
    if emulator is None or not ARM_LIBRARIES.is_dir():
        pytest.skip("qemu-aarch64 or the libraries that Arm programs need are absent")
    folder = build_cpp(["edgevit_pixels_cases"], {**ONLY_PIXELS, **FOR_ARM})
    (program,) = folder.rglob("edgevit_pixels_cases")
    expected = compute(list_cases(), pixels)
    for kernels in ("scalar", "neon"):
        run_cases([emulator, "-L", str(ARM_LIBRARIES), str(program)], kernels, tmp_path, expected)
