"""libedgevit through its C interface, by ctypes: what an app in any language calls."""

from __future__ import annotations

import ctypes
import functools
import os
import sys
from collections.abc import Mapping, Sequence
from ctypes import POINTER, byref, c_char_p, c_double, c_float, c_int32, c_int64, c_size_t, c_ssize_t, c_void_p
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from scripts.get_onnxruntime_headers import KEPT
from tests.support.cpp_build import build_cpp

OPENVINO = {"EDGEVIT_OPENVINO": "ON", "Python3_EXECUTABLE": sys.executable}
HEADERS = "EDGEVIT_ONNXRUNTIME_HEADERS"
"""Names the folder of onnxruntime_c_api.h, which the package of pip does not have."""

CHECKS = {"auto": 0, "always": 1, "never": 2}
FORMATS = {"rgb": 0, "bgr": 1, "rgba": 2, "bgra": 3, "grey": 4, "nv12": 5, "i420": 6}


class Image(ctypes.Structure):
    _fields_ = (
        ("data", c_void_p),
        ("width", c_int32),
        ("height", c_int32),
        ("stride", c_ssize_t),
        ("format", c_int32),
        ("planes", c_void_p * 2),
        ("plane_stride", c_ssize_t),
    )


class Options(ctypes.Structure):
    _fields_ = (
        ("struct_size", c_size_t),
        ("settings", POINTER(c_char_p)),
        ("setting_count", c_size_t),
        ("threads", c_int32),
        ("skip_hashes", c_int32),
        ("public_key", c_char_p),
        ("check", c_int32),
        ("cache_folder", c_char_p),
    )


class Class(ctypes.Structure):
    _fields_ = (("label", c_char_p), ("index", c_int32), ("probability", c_double), ("value", c_double))


class Buffer(ctypes.Structure):
    _fields_ = (("data", c_void_p), ("size_bytes", c_size_t), ("memory", c_int32))


_TEXTS = ("name", "task", "target", "precision", "backend", "backend_version", "device", "scores", "figures")
_SIZES = ("input_height", "input_width", "batch_least", "batch_best", "batch_largest", "classes")
_COUNTS = ("has_labels", "output_count", "setting_count", "difference_count", "streams")


class Info(ctypes.Structure):
    _fields_ = (
        ("struct_size", c_size_t),
        *((name, c_char_p) for name in _TEXTS),
        *((name, c_int32) for name in (*_SIZES, *_COUNTS)),
    )


class Output(ctypes.Structure):
    _fields_ = (
        ("struct_size", c_size_t),
        ("name", c_char_p),
        ("shape", POINTER(c_int64)),
        ("rank", c_int32),
        ("values", c_size_t),
    )


class Canary(ctypes.Structure):
    _fields_ = (
        ("struct_size", c_size_t),
        ("status", c_char_p),
        *((name, c_double) for name in ("sqnr_db", "built_db", "least_db", "against_build_db")),
        ("inferences", c_int32),
    )


class CppError(Exception):
    """What a call came to."""

    def __init__(self, code: str, message: str, hint: str) -> None:
        super().__init__(f"{code}: {message}\nhint: {hint}")
        self.code, self.message, self.hint = code, message, hint


@dataclass(frozen=True)
class Found:
    """One class of an image."""

    label: str
    index: int
    probability: float
    value: float


def find_headers() -> str | None:
    """The folder of ONNX Runtime's headers, where ``python -m scripts.get_onnxruntime_headers`` or Debian put them."""
    places = (os.environ.get(HEADERS, ""), str(KEPT / "include" / "onnxruntime"), "/usr/include/onnxruntime")
    return next((place for place in places if place and (Path(place) / "onnxruntime_c_api.h").is_file()), None)


def choose_libraries() -> dict[str, str]:
    """CMake's variables for all engine libraries that can be compiled in here."""
    headers = find_headers()
    more = {"EDGEVIT_ONNXRUNTIME": "ON", "ONNXRUNTIME_INCLUDE_DIR": headers} if headers is not None else {}
    return {**OPENVINO, **more}


def build_part(targets: Sequence[str], options: Mapping[str, str] | None = None) -> Path:
    """Build targets among the whole library's, so that nothing is compiled twice; returns the build folder.

    Where the whole library lacks something here, they are built with these options alone.
    """
    try:
        return build_cpp(targets, choose_libraries())
    except pytest.skip.Exception:
        return build_cpp(targets, options)


@functools.cache
def load_library() -> Any:
    """The library with all that :func:`choose_libraries` finds; a test is skipped where it cannot be built."""
    return bind_library(build_cpp(["edgevit"], choose_libraries()) / "src" / "api" / "libedgevit.so")


def bind_library(path: Path) -> Any:
    """A built library, whose functions know what they take and give."""
    library = ctypes.CDLL(str(path))
    texts = ("last_message", "last_hint", "status_name", "version", "backends", "label", "setting", "difference")
    for name in texts:
        getattr(library, f"edgevit_{name}").restype = c_char_p
    for name in ("label", "setting", "difference"):
        getattr(library, f"edgevit_{name}").argtypes = [c_void_p, c_int32]
    library.edgevit_close.argtypes = [c_void_p]
    return library


def make_image(pixels: npt.NDArray[np.uint8], form: str = "rgb") -> Image:
    """Of an array ``(H, W, channels)`` or ``(H, W)``, which must outlive it."""
    height, width = pixels.shape[:2]
    return Image(pixels.ctypes.data, width, height, pixels.strides[0], FORMATS[form])


class CppEngine:
    """A bundle that the C++ runtime has open; a context manager."""

    def __init__(
        self,
        path: Path | str,
        *,
        library: Any = None,
        settings: Mapping[str, Any] | None = None,
        threads: int = 0,
        verify: bool = True,
        public_key: str | None = None,
        check: str = "auto",
        cache_folder: Path | str | None = None,
    ) -> None:
        self.library = library or load_library()
        texts = [f"{key}={_spell(value)}".encode() for key, value in (settings or {}).items()]
        options = Options(
            ctypes.sizeof(Options),
            (c_char_p * len(texts))(*texts),
            len(texts),
            threads,
            int(not verify),
            public_key.encode() if public_key is not None else None,
            CHECKS[check],
            str(cache_folder).encode() if cache_folder is not None else None,
        )
        self.handle: c_void_p = c_void_p()
        self._call("open", str(path).encode(), byref(options), byref(self.handle))
        self.info, self.canary = self._fill(Info, "get_info"), self._fill(Canary, "get_canary")
        self.outputs = [self._fill(Output, "get_output", i) for i in range(self.info.output_count)]
        self.shapes = [tuple(output.shape[i] for i in range(output.rank)) for output in self.outputs]

    def _call(self, name: str, *arguments: Any) -> None:
        check_status(self.library, getattr(self.library, f"edgevit_{name}")(*arguments))

    def _fill(self, kind: Any, name: str, *arguments: int) -> Any:
        found = kind(ctypes.sizeof(kind))
        self._call(name, self.handle, *arguments, byref(found))
        return found

    def settings(self) -> list[str]:
        """As used."""
        return [self.library.edgevit_setting(self.handle, i).decode() for i in range(self.info.setting_count)]

    def differences(self) -> list[str]:
        """Of this machine."""
        count = self.info.difference_count
        return [self.library.edgevit_difference(self.handle, i).decode() for i in range(count)]

    def classify(self, pixels: npt.NDArray[np.uint8], k: int = 5, form: str = "rgb") -> list[Found]:
        """Of one image."""
        classes, count = (Class * max(k, 1))(), c_int32()
        self._call("classify", self.handle, byref(make_image(pixels, form)), k, classes, byref(count))
        return [_read_class(found) for found in classes[: count.value]]

    def classify_batch(self, images: Sequence[npt.NDArray[np.uint8]], k: int = 5) -> list[list[Found]]:
        """Of images of any sizes."""
        given = (Image * len(images))(*map(make_image, images))
        classes, count = (Class * (k * len(images)))(), c_int32()
        self._call("classify_batch", self.handle, given, len(images), k, classes, byref(count))
        return [[_read_class(classes[i * k + j]) for j in range(count.value)] for i in range(len(images))]

    def rank(self, logits: npt.NDArray[np.float32], k: int = 5) -> list[Found]:
        """Of one image's logits."""
        classes, count = (Class * k)(), c_int32()
        self._call("rank", self.handle, logits.ctypes.data_as(POINTER(c_float)), k, classes, byref(count))
        return [_read_class(found) for found in classes[: count.value]]

    def preprocess(self, pixels: npt.NDArray[np.uint8], form: str = "rgb") -> npt.NDArray[np.uint8]:
        """The engine's input."""
        out = np.zeros((self.info.input_height, self.info.input_width, 3), np.uint8)
        image = make_image(pixels, form)
        self._call("preprocess", self.handle, byref(image), c_void_p(out.ctypes.data), c_size_t(out.nbytes))
        return out

    def embed(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Of one image."""
        out = np.zeros(self.outputs[0].values, np.float32)
        image = make_image(pixels)
        self._call("embed", self.handle, byref(image), c_void_p(out.ctypes.data), c_size_t(out.size))
        return out

    def features(self, pixels: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[np.float32]]:
        """Of one image."""
        arrays = [np.zeros(shape, np.float32) for shape in self.shapes]
        self._call("features", self.handle, byref(make_image(pixels)), _make_buffers(arrays), len(arrays))
        return {output.name.decode(): values for output, values in zip(self.outputs, arrays, strict=True)}

    def run(self, batch: npt.NDArray[np.uint8]) -> list[npt.NDArray[np.float32]]:
        """All outputs of prepared images."""
        arrays = [np.zeros((len(batch), *shape), np.float32) for shape in self.shapes]
        given = Buffer(batch.ctypes.data, batch.nbytes, 0)
        self._call("run", self.handle, byref(given), len(batch), _make_buffers(arrays), len(arrays))
        return arrays

    def close(self) -> None:
        """Free the engine; closing twice is allowed."""
        self.library.edgevit_close(self.handle)
        self.handle = c_void_p()

    def __enter__(self) -> CppEngine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def check_status(library: Any, status: int) -> None:
    """Raise what a call came to, unless it succeeded."""
    if status:
        texts = library.edgevit_status_name(status), library.edgevit_last_message(), library.edgevit_last_hint()
        raise CppError(*(text.decode() for text in texts))


def _make_buffers(arrays: Sequence[npt.NDArray[Any]]) -> Any:
    return (Buffer * len(arrays))(*(Buffer(values.ctypes.data, values.nbytes, 0) for values in arrays))


def _read_class(found: Any) -> Found:
    return Found(found.label.decode(), found.index, found.probability, found.value)


def _spell(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
