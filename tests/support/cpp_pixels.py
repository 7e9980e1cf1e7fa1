"""The C++ runtime's preprocessing, called from Python; and images in the layouts that it takes."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from edgevit.pixels.preprocess import INTERPOLATIONS, Preprocess, Resize

KERNELS = ("scalar", "sse4.1", "avx2", "avx512-vnni", "neon")
FORMATS = ("rgb", "bgr", "rgba", "bgra", "grey", "nv12", "i420")
STATUSES = {0: "ok", 2: "argument", 13: "image"}
RESAMPLINGS: tuple[Literal["pillow", "torch"], ...] = ("pillow", "torch")
RESIZES = tuple(kind for kind in get_args(Resize) if kind != "warp")
"""But that of poses, whose pixels only Python makes."""
ONLY_PIXELS = {"EDGEVIT_ONLY_PIXELS": "ON"}

Bytes = npt.NDArray[np.uint8]

_ANY = Preprocess(1, 1, "none", 1, 1, "box", (0, 0, 0), (1, 1, 1))


class _Image(ctypes.Structure):
    """``edgevit_image`` of ``edgevit.h``."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("width", ctypes.c_int32),
        ("height", ctypes.c_int32),
        ("stride", ctypes.c_ssize_t),
        ("format", ctypes.c_int),
        ("planes", ctypes.c_void_p * 2),
        ("plane_stride", ctypes.c_ssize_t),
    )


@dataclass(frozen=True)
class Frame:
    """An image in memory; offsets are from the first of the bytes, None where the pointer is null."""

    pixels: Bytes = field(repr=False)
    width: int
    height: int
    format: str = "rgb"
    stride: int = 0
    plane_stride: int = 0
    offset: int | None = 0
    planes: tuple[int | None, int | None] = (None, None)

    def numbers(self) -> list[int]:
        """As ``pixels_cases.cpp`` reads them."""
        places = [-1 if place is None else place for place in (self.offset, *self.planes)]
        layout = [self.width, self.height, self.stride, FORMATS.index(self.format), self.plane_stride]
        return [*layout, *places, self.pixels.size]

    def in_memory(self) -> _Image:
        """Valid while the frame lives."""
        start = self.pixels.ctypes.data
        data, *planes = (None if place is None else start + place for place in (self.offset, *self.planes))
        number = FORMATS.index(self.format) if self.format in FORMATS else int(self.format)
        return _Image(
            data, self.width, self.height, self.stride, number, (ctypes.c_void_p * 2)(*planes), self.plane_stride
        )


def pack_frame(rgb: Bytes, format: str, *, gap: int = 0, upside_down: bool = False) -> Frame:
    """RGB pixels ``(H, W, 3)`` as a packed layout; grey takes the green ones.

    Args:
        rgb: The pixels.
        format: Not one of planes.
        gap: Bytes between rows.
        upside_down: The last row comes first in memory, and the stride is negative.
    """
    height, width, _ = rgb.shape
    alpha = np.full((height, width, 1), 77, np.uint8)
    channels = {"rgb": rgb, "bgr": rgb[..., ::-1], "grey": rgb[..., 1:2]}
    channels |= {"rgba": np.concatenate([rgb, alpha], 2), "bgra": np.concatenate([rgb[..., ::-1], alpha], 2)}
    rows = channels[format].reshape(height, -1)
    row = rows.shape[1]
    stride = row + gap
    memory = np.full(stride * (height - 1) + row, 211, np.uint8)
    for i, line in enumerate(rows[::-1] if upside_down else rows):
        memory[i * stride : i * stride + row] = line
    if upside_down:
        return Frame(memory, width, height, format, -stride, offset=stride * (height - 1))
    return Frame(memory, width, height, format, stride if gap else 0)


def pack_planes(
    y: Bytes, u: Bytes, v: Bytes, format: str, *, gap: int = 0, plane_gap: int = 0, apart: int = 0
) -> Frame:
    """Luma ``(H, W)`` and chroma ``(⌈H/2⌉, ⌈W/2⌉)`` as NV12 or I420.

    Args:
        y: Luma.
        u: Chroma.
        v: Chroma.
        format: ``nv12`` or ``i420``.
        gap: Bytes between rows of luma.
        plane_gap: Bytes between rows of chroma.
        apart: Bytes before each plane of chroma, whose pointers are then given.
    """
    planes = [np.stack([u, v], 2).reshape(len(u), -1)] if format == "nv12" else [u, v]
    parts = [np.pad(y, ((0, 0), (0, gap)), constant_values=9).ravel()]
    places: list[int | None] = [None, None]
    at = parts[0].size
    for i, plane in enumerate(planes):
        lines = np.pad(plane, ((0, 0), (0, plane_gap)), constant_values=9).ravel()
        parts += [np.full(apart, 7, np.uint8), lines]
        places[i] = at + apart if apart else None
        at += apart + lines.size
    stride = y.shape[1] + gap
    plane_stride = planes[0].shape[1] + plane_gap
    return Frame(
        np.concatenate(parts),
        y.shape[1],
        y.shape[0],
        format,
        stride if gap else 0,
        plane_stride if plane_gap else 0,
        planes=(places[0], places[1]),
    )


def option_numbers(preprocess: Preprocess) -> list[int]:
    """As ``pixels_numbers.hpp`` reads them."""
    own = preprocess
    return [
        own.height,
        own.width,
        get_args(Resize).index(own.resize),
        own.resize_height,
        own.resize_width,
        INTERPOLATIONS.index(own.interpolation),
        RESAMPLINGS.index(own.resampling),
        ("round", "floor").index(own.crop_rounding),
        *own.fill,
        int(own.antialias),
    ]


class CppPixels:
    """The library that ``edgevit_pixels_test`` builds."""

    def __init__(self, folder: Path) -> None:
        (path,) = folder.rglob("libedgevit_pixels_test.*")
        self._library = ctypes.CDLL(str(path))
        self._library.pixels_open.restype = ctypes.c_void_p
        self._library.pixels_open.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
        self._library.pixels_apply.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p]
        self._library.pixels_close.argtypes = [ctypes.c_void_p]
        self._library.pixels_close.restype = None
        self._library.pixels_message.argtypes = [ctypes.c_void_p]
        self._library.pixels_message.restype = ctypes.c_char_p
        self._library.pixels_allocations.restype = ctypes.c_int64

    def allocations(self) -> int:
        """How often the library has asked for memory."""
        return int(self._library.pixels_allocations())

    def open(self, preprocess: Preprocess, kernels: str = "") -> CppPreprocess | None:
        """None where this processor does not have the kernels."""
        numbers = np.array(option_numbers(preprocess), np.int32)
        handle = self._library.pixels_open(numbers.ctypes.data, kernels.encode())
        return None if handle is None else CppPreprocess(self._library, handle, preprocess)

    def list_kernels(self) -> list[str]:
        """What this processor has."""
        return [name for name in KERNELS if self.open(_ANY, name) is not None]


class CppPreprocess:
    """One preprocessing with its workspace."""

    def __init__(self, library: Any, handle: int, preprocess: Preprocess) -> None:
        self._library, self._handle = library, handle
        self._shape = preprocess.height, preprocess.width, 3

    def __del__(self) -> None:
        self._library.pixels_close(self._handle)

    def apply(self, frame: Frame) -> tuple[str, Bytes]:
        """Status and pixels; those around ``out`` are looked after, and an assertion fails where one was written."""
        guard = 128
        memory = np.full(int(np.prod(self._shape)) + 2 * guard, 173, np.uint8)
        out = memory[guard:-guard]
        status = self.call(frame.in_memory(), out)
        assert (memory[:guard] == 173).all(), "written before the result"
        assert (memory[-guard:] == 173).all(), "written behind the result"
        return status, out.reshape(self._shape)

    def call(self, image: _Image, out: Bytes) -> str:
        """The bare call."""
        return STATUSES[self._library.pixels_apply(self._handle, ctypes.byref(image), out.ctypes.data)]

    def message(self) -> str:
        """Of the last refusal."""
        text: bytes = self._library.pixels_message(self._handle)
        return text.decode()


def write_cases(path: Path, cases: Sequence[tuple[Preprocess, Frame]]) -> None:
    """For ``edgevit_pixels_cases``."""
    with path.open("wb") as file:
        for preprocess, frame in cases:
            file.write(np.array(option_numbers(preprocess) + frame.numbers(), "<i4").tobytes())
            file.write(frame.pixels.tobytes())


def read_results(path: Path, cases: Sequence[tuple[Preprocess, Frame]]) -> list[tuple[str, Bytes | None]]:
    """What that program wrote."""
    data = path.read_bytes()
    found: list[tuple[str, Bytes | None]] = []
    at = 0
    for preprocess, _ in cases:
        status = STATUSES[int(np.frombuffer(data, "<i4", 1, at)[0])]
        at += 4
        shape = preprocess.height, preprocess.width, 3
        count = int(np.prod(shape)) if status == "ok" else 0
        found.append((status, np.frombuffer(data, np.uint8, count, at).reshape(shape) if count else None))
        at += count
    assert at == len(data)
    return found
