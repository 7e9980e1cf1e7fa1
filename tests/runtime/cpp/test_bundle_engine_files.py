from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.support.cpp_bundle import CppBundle, open_in_python
from tests.support.spoiled_bundle import check_alike, write_manifest


@pytest.mark.parametrize("name", ["model.bin", "model.xml"])
def test_ir_that_reads_other_files_is_unsafe(cpp: CppBundle, built: dict[str, Path], tmp_path: Path, name: str) -> None:
    bundle = shutil.copytree(built["intel-cpu"], tmp_path / "bundle")

    def change(data: dict[str, Any]) -> None:
        if name == "model.bin":
            data["engine"]["files"].remove(name)
        else:
            model = b"\x08\x07:\x00"
            (bundle / name).write_bytes(model)
            data["files"][name] = {"sha256": hashlib.sha256(model).hexdigest(), "size_bytes": len(model)}

    write_manifest(bundle, change)
    check_alike(cpp, bundle, "unsafe")


# graph { initializer { external_data { key: "location" value: … } } }, in the wire format of protobuf
def _refer(location: bytes) -> bytes:
    entry = b"\x0a\x08location\x12" + bytes([len(location)]) + location
    tensor = b"\x6a" + bytes([len(entry)]) + entry
    graph = b"\x2a" + bytes([len(tensor)]) + tensor
    return b"\x08\x0a\x3a" + bytes([len(graph)]) + graph


@pytest.mark.parametrize(
    ("model", "code"),
    [
        (_refer(b"report.json"), "unsafe"),
        (_refer(b"/etc/hostname"), "unsafe"),
        (_refer(b"../x"), "unsafe"),
        (_refer(b"./model.onnx"), "ok"),
        (_refer(b"model.onnx"), "ok"),
        (b"", "unsafe"),
        (b"ORTM", "unsafe"),
    ],
)
def test_onnx_that_reads_other_files_is_unsafe(cpp: CppBundle, bundle: Path, model: bytes, code: str) -> None:
    (bundle / "model.onnx").write_bytes(model)
    record = {"sha256": hashlib.sha256(model).hexdigest(), "size_bytes": len(model)}
    write_manifest(bundle, lambda data: data["files"].update({"model.onnx": record}))
    answer = cpp.open(bundle)
    assert answer.code == code, answer.text
    if model:  # Python's mmap takes no empty file
        assert open_in_python(bundle).code == code
