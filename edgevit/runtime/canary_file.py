"""canary.npz: images with the float model's answers and those of the build, read without trusting the file.

Every array's name, shape and type follow from the manifest. A file of another size than these need is not read at all,
and nothing in it is compressed, so that what is read is what is allocated.
"""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from edgevit.core.engine import TensorSpec
from edgevit.core.errors import BundleError
from edgevit.core.report.place import CANARY_FILE, CanaryRecord
from edgevit.runtime.bundle import Bundle
from edgevit.runtime.session import Outputs

PIXELS = "pixels"
_OVERHEAD_BYTES = 4096
"""Most that a zip and its arrays' headers add for one array."""


@dataclass(frozen=True)
class Canary:
    """Images and answers, one array for each output of the engine.

    Attributes:
        pixels: ``(C, H, W, 3) uint8``.
        reference: The float model's answers, ``(C, …) float32`` each.
        answers: Those of the build's engine, or of its graph.
    """

    pixels: npt.NDArray[np.uint8]
    reference: Outputs
    answers: Outputs


def dump_canary(canary: Canary, names: tuple[str, ...]) -> bytes:
    """The bytes of ``canary.npz``: ``pixels``, and for each output ``float.NAME`` and ``built.NAME``."""
    arrays: dict[str, npt.NDArray[np.uint8] | npt.NDArray[np.float32]] = {PIXELS: canary.pixels}
    for name, reference, answers in zip(names, canary.reference, canary.answers, strict=True):
        arrays[f"float.{name}"] = np.ascontiguousarray(reference, "<f4")
        arrays[f"built.{name}"] = np.ascontiguousarray(answers, "<f4")
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def read_canary(bundle: Bundle, record: CanaryRecord) -> Canary:
    """The bundle's canary.

    Raises:
        BundleError: It cannot be read, or does not hold what the manifest says.
    """
    path, names = bundle.path / CANARY_FILE, [spec.name for spec in bundle.manifest.outputs]
    try:
        wanted = _list_arrays(bundle, record)
        most = sum(prod(shape) * kind.itemsize + _OVERHEAD_BYTES for shape, kind in wanted.values())
        if bundle.contents.is_irregular(CANARY_FILE):
            raise ValueError("it is no regular file")
        content = bundle.contents.read(CANARY_FILE, most)
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            found = {name.removesuffix(".npy") for name in archive.namelist()}
            if found != set(wanted) or len(archive.namelist()) != len(wanted):
                raise ValueError(f"it holds {', '.join(sorted(found))}, not {', '.join(wanted)}")
            arrays = {name: _read_array(archive, name, *form) for name, form in wanted.items()}
    except Exception as exc:  # zipfile and numpy raise whatever their parts do
        message = f"{path} cannot be read: {exc or type(exc).__name__}"
        raise BundleError(message, "build the bundle again", code="damaged") from exc
    reference, answers = (tuple(arrays[f"{kind}.{name}"] for name in names) for kind in ("float", "built"))
    return Canary(arrays[PIXELS], reference, answers)


def _list_arrays(bundle: Bundle, record: CanaryRecord) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
    """Shape and type of every array that the file must hold."""
    byte, single = np.dtype("|u1"), np.dtype("<f4")
    arrays: dict[str, tuple[tuple[int, ...], np.dtype[Any]]] = {
        PIXELS: (_shape(bundle.manifest.inputs[0], record.images), byte)
    }
    for spec in bundle.manifest.outputs:
        for kind in ("float", "built"):
            arrays[f"{kind}.{spec.name}"] = (_shape(spec, record.images), single)
    return arrays


def _shape(spec: TensorSpec, images: int) -> tuple[int, ...]:
    sides = spec.shape[1:]
    if not all(isinstance(side, int) and side > 0 for side in sides):
        raise ValueError(f"the manifest gives {spec.name} the shape {spec.shape}")
    return (images, *(int(side) for side in sides))


def _read_array(archive: zipfile.ZipFile, name: str, shape: tuple[int, ...], kind: np.dtype[Any]) -> npt.NDArray[Any]:
    info, size = archive.getinfo(f"{name}.npy"), prod(shape) * kind.itemsize
    if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
        raise ValueError(f"{name} is compressed")
    if not size < info.file_size <= size + _OVERHEAD_BYTES:
        raise ValueError(f"{name} has {info.file_size} bytes, and {shape} of {kind} needs {size}")
    stream = io.BytesIO(archive.read(info))
    version = np.lib.format.read_magic(stream)
    if version != (1, 0):
        raise ValueError(f"{name} has version {version} of numpy's format, not (1, 0)")
    found, fortran, found_kind = np.lib.format.read_array_header_1_0(stream)
    if found != shape or found_kind != kind or (fortran and len(shape) > 1):
        raise ValueError(f"{name} is {found} of {found_kind}, not {shape} of {kind}")
    array = np.frombuffer(stream.read(), kind).reshape(shape)
    if kind.kind == "f" and not np.isfinite(array).all():
        raise ValueError(f"{name} has values that are not finite numbers")
    if name.startswith("float.") and not array.any():
        raise ValueError(f"{name} is zero everywhere, and nothing can be compared with it")
    return array
