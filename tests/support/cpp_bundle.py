"""What either runtime says of a bundle, in one form: everything that it holds, or the error's code."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgevit.core.engine import Engine, TensorSpec
from edgevit.core.errors import CODES, EdgevitError
from edgevit.core.report.place import CanaryRecord
from edgevit.core.schema import to_data
from edgevit.pixels.preprocess import INTERPOLATIONS, Preprocess
from edgevit.runtime.bundle import load_bundle, verify_bundle
from edgevit.runtime.canary_file import read_canary
from edgevit.runtime.manifest import Manifest
from edgevit.runtime.onnxruntime import _list_own_files
from edgevit.runtime.openvino import _refuse_other_files
from tests.support.cpp_engine import build_part

_NAMES = ("ok", "error", *(code for code in CODES if code != "error"))
"""In the order of ``edgevit_status``."""


@dataclass(frozen=True)
class Answer:
    """``code`` is ``ok``, and ``data`` what was read; or the error's, and ``text`` its sentence and hint."""

    code: str
    data: Any = None
    text: str = ""


class CppBundle:
    """The C++ runtime's reader, with its tests' interface."""

    def __init__(self, library: Path) -> None:
        self._library = ctypes.CDLL(str(library))
        self._buffer = ctypes.create_string_buffer(8 << 20)

    def open(
        self, path: str | Path, *, verify: bool = True, public_key: bytes | None = None, needs_engine: bool = True
    ) -> Answer:
        """A bundle, with all its files mapped and its canary read."""
        return self._call("test_open_bundle", str(path).encode(), int(verify), public_key, int(needs_engine))

    @contextlib.contextmanager
    def keep_open(self, path: Path) -> Iterator[Callable[[str], Answer]]:
        """A bundle that stays open; gives what maps one of its files."""
        self._library.test_keep_bundle.restype = ctypes.c_void_p
        kept = ctypes.c_void_p(self._library.test_keep_bundle(str(path).encode()))
        assert kept
        try:
            yield lambda name: self._call("test_map_file", kept, name.encode(), plain=True)
        finally:
            self._library.test_close_bundle(kept)

    def dump_json(self, text: bytes) -> Answer:
        """A JSON text as the digest of a manifest takes it."""
        return self._call("test_dump_json", text, ctypes.c_size_t(len(text)), plain=True)

    def list_references(self, data: bytes) -> Answer:
        """Locations in an ONNX file."""
        answer = self._call("test_list_references", data, ctypes.c_size_t(len(data)), plain=True)
        return Answer(answer.code, answer.data.splitlines() if answer.code == "ok" else None, answer.text)

    def _call(self, name: str, *arguments: Any, plain: bool = False) -> Answer:
        status = getattr(self._library, name)(*arguments, self._buffer, ctypes.c_size_t(len(self._buffer)))
        text = self._buffer.value.decode("utf-8", "replace")
        if status:
            return Answer(_NAMES[status], None, text)
        return Answer("ok", text if plain else json.loads(text))


def build_cpp_bundle() -> CppBundle:
    """The reader, compiled where it has not been yet; skips where the compiler or a library is absent."""
    return CppBundle(build_part(["edgevit_bundle_test"]) / "src/bundle/libedgevit_bundle_test.so")


def open_in_python(path: Path, *, verify: bool = True, needs_engine: bool = True) -> Answer:
    """The same, by the Python runtime, without its engine library."""
    try:
        bundle = load_bundle(path)
        engine = bundle.engine if needs_engine or bundle.manifest.engine is not None else None
        verify_bundle(bundle, contents=verify, extra=False)
        if engine is not None and engine.backend == "openvino":
            _refuse_other_files(engine)
        if engine is not None and engine.backend == "onnxruntime":
            _list_own_files(engine)
        manifest = bundle.manifest
        data = _show_manifest(manifest, hashlib.sha256(bundle.contents.read("manifest.json")).hexdigest())
        data["mapped"] = {name: _hash(bytes(bundle.contents.map(name))) for name in manifest.files}
        data["paths"] = {name: None if bundle.contents.packed else f"{path}/{name}" for name in manifest.files}
        if manifest.canary is not None:
            canary = read_canary(bundle, manifest.canary)
            arrays: list[Any] = [canary.pixels, *canary.reference, *canary.answers]
            data["canary_arrays"] = [_hash(array.tobytes()) for array in arrays]
        return Answer("ok", data)
    except EdgevitError as exc:
        return Answer(exc.code, None, str(exc))


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _show_manifest(manifest: Manifest, sha256: str) -> dict[str, Any]:
    target = manifest.target
    alike = (
        "name",
        "task",
        "created",
        "edgevit_version",
        "classes",
        "batch",
        "precision",
        "labels",
        "scores",
        "figures",
    )
    data = {
        **{key: to_data(getattr(manifest, key)) for key in (*alike, "schema_version")},
        "target": [target.name, target.title, target.backend, target.architecture],
        "inputs": _show_specs(manifest.inputs),
        "outputs": _show_specs(manifest.outputs),
        "preprocess": _show_preprocess(manifest.preprocess),
        "engine": None if manifest.engine is None else _show_engine(manifest.engine),
        "canary": None if manifest.canary is None else _show_canary(manifest.canary),
        "files": {name: [record.sha256, record.size_bytes] for name, record in manifest.files.items()},
        "sha256": sha256,
    }
    plain: dict[str, Any] = json.loads(json.dumps(data))
    return plain


def _show_canary(canary: CanaryRecord) -> dict[str, Any]:
    shown: dict[str, Any] = {key: getattr(canary, key) for key in ("images", "least_db", "sqnr_db", "answers")}
    if canary.place is None:
        return {**shown, "place": None}
    parts = ("backend", "version", "device", "instruction_set", "driver", "settings")
    return {**shown, "place": [to_data(getattr(canary.place, part)) for part in parts]}


def _show_specs(specs: tuple[TensorSpec, ...]) -> list[Any]:
    return [[spec.name, [-1 if isinstance(side, str) else side for side in spec.shape], spec.dtype] for spec in specs]


def _show_engine(engine: Engine) -> dict[str, Any]:
    gpu = engine.gpu
    data: Mapping[str, Any] = {
        **{key: getattr(engine, key) for key in ("backend", "device", "precision", "files", "batch")},
        "inputs": _show_specs(engine.inputs),
        "outputs": _show_specs(engine.outputs),
        "settings": to_data(engine.settings),
        "versions": to_data(engine.versions),
        "gpu": None if gpu is None else [gpu.compute_capability, gpu.name, gpu.multiprocessors],
    }
    return dict(data)


def _show_preprocess(preprocess: Preprocess) -> list[Any]:
    """Choices by their place, as C++ counts them."""
    resizes = ("shortest", "longest", "squash", "crop", "pad", "none")
    return [
        preprocess.height,
        preprocess.width,
        resizes.index(preprocess.resize),
        preprocess.resize_height,
        preprocess.resize_width,
        INTERPOLATIONS.index(preprocess.interpolation),
        ("pillow", "torch").index(preprocess.resampling),
        ("round", "floor").index(preprocess.crop_rounding),
        list(preprocess.fill),
        preprocess.antialias,
    ]
