"""Bundles spoiled at random: both runtimes give the same code, or the same content."""

from __future__ import annotations

import hashlib
import json
import re
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from edgevit.runtime.onnx_references import list_references
from edgevit.runtime.pack_file import pack_file
from tests.support.cpp_bundle import CppBundle, open_in_python
from tests.support.mutations import mutate

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 63) - 1)
    | st.integers(-2, 40)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["", "x", "CPU", "cpu", "int8", "avx2", "neon", "8.7", "10.3", "a" * 64, "model.onnx", "../x"])
    | st.text(max_size=5)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=4,
)
QUIET = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def folder(built: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose files are links to another's, of which only the manifest is written."""
    made = tmp_path_factory.mktemp("mutated")
    for file in built["cpu"].iterdir():
        (made / file.name).hardlink_to(file)
    return made


@pytest.fixture(scope="module")
def packed(built: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return pack_file(built["cpu"], tmp_path_factory.mktemp("packed") / "whole.edgevit").read_bytes()


def _check_alike(cpp: CppBundle, path: Path) -> str:
    theirs, ours = (
        open_in_python(path, verify=False, needs_engine=False),
        cpp.open(path, verify=False, needs_engine=False),
    )
    assert (ours.code, ours.data) == (theirs.code, theirs.data), f"{ours.text}\n{theirs.text}"
    return ours.code


@QUIET
@given(st.data())
def test_mutated_manifest_is_judged_alike(
    cpp: CppBundle, built: dict[str, Path], folder: Path, data: st.DataObject
) -> None:
    manifest = json.loads((built["cpu"] / "manifest.json").read_bytes())
    del manifest["manifest_sha256"]
    manifest = data.draw(mutate(manifest))
    assume(re.search("[\ud800-\udfff]", json.dumps(manifest, ensure_ascii=False)) is None)  # C++ reads no halves
    canonical = json.dumps(manifest, sort_keys=True, separators=(",", ":"))
    manifest["manifest_sha256"] = hashlib.sha256(canonical.encode()).hexdigest()
    text = json.dumps(manifest, ensure_ascii=data.draw(st.booleans()), indent=data.draw(st.sampled_from([None, 1])))
    (folder / "manifest.json").unlink(missing_ok=True)
    (folder / "manifest.json").write_text(text, encoding="utf-8")
    _check_alike(cpp, folder)


@QUIET
@given(st.data())
def test_mutated_text_is_judged_alike(
    cpp: CppBundle, built: dict[str, Path], folder: Path, data: st.DataObject
) -> None:
    text = bytearray((built["cpu"] / "manifest.json").read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text)))
        text[at : at + data.draw(st.integers(0, 3))] = data.draw(
            st.sampled_from([b"", b" ", b"\n", b'"', b"{", b"]", b"0", b"e", b"\\u0041", b"\xc3\xa9"])
            | st.binary(max_size=3)
        )
    (folder / "manifest.json").unlink(missing_ok=True)
    (folder / "manifest.json").write_bytes(text)
    _check_alike(cpp, folder)


@QUIET
@given(VALUES, st.booleans(), st.sampled_from([None, 3]))
def test_any_document_is_written_as_python_writes_it(
    cpp: CppBundle, value: Any, ascii_only: bool, indent: int | None
) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    assert cpp.dump_json(text.encode()).data == json.dumps(value, sort_keys=True, separators=(",", ":"))


@QUIET
@given(st.from_regex(r"-?(0|[1-9][0-9]{0,25})(\.[0-9]{1,25})?([eE][+-]?[0-9]{1,3})?", fullmatch=True))
def test_any_number_is_written_as_python_writes_it(cpp: CppBundle, text: str) -> None:
    try:
        value = json.loads(text)
    except ValueError:
        return
    fits = abs(value) < float("inf") if isinstance(value, float) else -(1 << 63) <= value < 1 << 63
    answer = cpp.dump_json(text.encode())
    assert answer.data == (json.dumps(value) if fits else None)


@QUIET
@given(st.data())
def test_mutated_packed_file_is_judged_alike(
    cpp: CppBundle, packed: bytes, tmp_path: Path, data: st.DataObject
) -> None:
    content = bytearray(packed)
    directory = struct.unpack_from("<I", content, len(content) - 6)[0]
    headers = [at for at in range(len(content) - 4) if content[at : at + 4] == b"PK\3\4"]
    for _ in range(data.draw(st.integers(1, 2))):
        place = data.draw(st.sampled_from([*headers, directory, len(content) - 22]))
        at = min(place + data.draw(st.integers(0, 120)), len(content) - 1)
        content[at] = data.draw(st.integers(0, 255) | st.sampled_from([content[at] ^ 1, (content[at] + 64) % 256]))
    if data.draw(st.integers(0, 9)) == 0:
        del content[data.draw(st.integers(0, len(content))) :]
    path = tmp_path / "mutated.edgevit"
    path.unlink(missing_ok=True)
    path.write_bytes(content)
    _check_alike(cpp, path)


@QUIET
@given(st.data())
def test_mutated_onnx_file_refers_to_the_same_files(cpp: CppBundle, data: st.DataObject) -> None:
    content = bytearray(next((Path(__file__).parents[2] / "attacks/corpus-cpp/references").iterdir()).read_bytes())
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
    content += data.draw(st.sampled_from([b"", bytes(content)]))
    try:
        theirs: list[str] | None = list(list_references(memoryview(bytes(content))))
    except ValueError:
        theirs = None
    ours = cpp.list_references(bytes(content))
    assert ours.code == ("error" if theirs is None else "ok")
    if theirs is not None and all(name.isprintable() and "\ufffd" not in name for name in theirs):
        assert ours.data == theirs
