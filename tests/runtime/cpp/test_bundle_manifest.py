from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.cpp_bundle import CppBundle
from tests.support.spoiled_bundle import MANIFEST, check_alike, write_manifest


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda data: data.update(schema_version=2), "schema"),
        (lambda data: data.update(schema_version=0), "manifest"),
        (lambda data: data.update(schema_version=True), "manifest"),
        (lambda data: data.update(schema_version=1.0), "manifest"),
        (lambda data: data.pop("name"), "manifest"),
        (lambda data: data.update(more=1), "manifest"),
        (lambda data: data["preprocess"].update(height=1 << 40), "manifest"),
        (lambda data: data["preprocess"].update(width=0), "manifest"),
        (lambda data: data["preprocess"].update(std=[1, 1, 0]), "manifest"),
        (lambda data: data["preprocess"].update(fill=[0, 0, 256]), "manifest"),
        (lambda data: data["preprocess"].update(antialias=False), "manifest"),
        (lambda data: data["engine"].update(batch=[1, 1, 4097]), "manifest"),
        (lambda data: data["engine"].update(files=[]), "manifest"),
        (lambda data: data["engine"]["outputs"][0].update(shape=[1, 11]), "manifest"),
        (lambda data: data.update(classes=11), "manifest"),
        (lambda data: data["target"].update(isa=["avx2", "avx2"]), "manifest"),
        (lambda data: data["target"].update(opset=16), "manifest"),
        (lambda data: data["canary"].update(images=4), "manifest"),
        (lambda data: data["canary"].update(place=None), "manifest"),
        (lambda data: data["files"]["report.json"].update(sha256="A" * 64), "manifest"),
        (lambda data: data["files"]["report.json"].update(size_bytes=-1), "manifest"),
        (
            lambda data: data["files"].update({f"f{i}": {"sha256": "0" * 64, "size_bytes": 0} for i in range(70)}),
            "manifest",
        ),
        (lambda data: data["files"]["report.json"].update(size_bytes=(1 << 63) - 1), "damaged"),
        (lambda data: data["files"].pop("model.onnx"), "unsafe"),
        (lambda data: data["files"].pop("canary.npz"), "unsafe"),
        (lambda data: data["engine"].update(files=["../model.onnx"]), "unsafe"),
        (lambda data: data["engine"]["settings"].update({"session.collect_node_memory_stats_to_file": "x"}), "unsafe"),
        (lambda data: data["engine"]["settings"].update(threads=1025), "unsafe"),
        (lambda data: data["target"]["settings"].update(hint="fast"), "unsafe"),
    ],
)
def test_manifest_that_cannot_be_meant_has_the_same_code(cpp: CppBundle, bundle: Path, change: Any, code: str) -> None:
    write_manifest(bundle, change)
    check_alike(cpp, bundle, code)


UNSAFE = [
    "../up",
    "/etc/passwd",
    "a/../../b",
    "a\\b",
    "C:x",
    ".",
    "./a",
    "a//b",
    "a/",
    "nul\0",
    MANIFEST,
    "signature.json",
    "",
]


@pytest.mark.parametrize("name", UNSAFE)
def test_name_that_leads_out_is_unsafe(cpp: CppBundle, bundle: Path, name: str) -> None:
    write_manifest(bundle, lambda data: data["files"].update({name: {"sha256": "0" * 64, "size_bytes": 0}}))
    check_alike(cpp, bundle, "unsafe")


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "manifest"),
        (b"{}", "manifest"),
        (b"[" * 100_000, "manifest"),
        (b'{"schema_version": 2, "a": ' + b"[" * 31 + b"]" * 31 + b"}", "schema"),
        (b'{"schema_version": 2, "a": ' + b"[" * 32 + b"]" * 32 + b"}", "manifest"),
        (b'{"schema_version": 2, "a": NaN}', "manifest"),
        (b'{"schema_version": 2, "a": 1e999}', "manifest"),
        (b'{"schema_version": 2, "a": 9223372036854775807}', "schema"),
        (b'{"schema_version": 2, "a": 9223372036854775808}', "manifest"),
        (b'{"schema_version": 2, "a": -9223372036854775808}', "schema"),
        (b'{"schema_version": 2, "a": -9223372036854775809}', "manifest"),
        (b'{"schema_version": 2, "a": ' + b"1" * 5000 + b"}", "manifest"),
        (b'{"schema_version": 1, "schema_version": 2}', "unsafe"),
        (b'{"schema_version": 2, "a": {"b": 1, "b": 1}}', "unsafe"),
        (b'\xef\xbb\xbf{"schema_version": 2}', "manifest"),
        ('{"schema_version": 2}'.encode("utf-16"), "manifest"),
        (b'{"schema_version": 2}\0', "manifest"),
        (b'{"schema_version": 2} x', "manifest"),
        (b'{"schema_version": 2, "a": "\xff"}', "manifest"),
        (b'{"schema_version": 2, "a": "\xed\xa0\x80"}', "manifest"),
        (b'{"schema_version": 2,}', "manifest"),
        (b" " * (4 << 20) + b'{"schema_version": 2}', "manifest"),
        (b'{"schema_version": 2' + b" " * ((4 << 20) - 21) + b"}", "schema"),
        (b'{"schema_version": 2, "a": [' + b"0, " * 131_068 + b"0]}", "schema"),
        (b'{"schema_version": 2, "a": [' + b"0, " * 131_069 + b"0]}", "manifest"),
        (b'{"schema_version": 2, "a": [' + b"[ ], " * 131_068 + b"[]]}", "schema"),
        (b'{"schema_version": 2, "a": [' + b"[ ], " * 131_069 + b"[]]}", "manifest"),
        (b'{"schema_version": 2, "a": "' + b'[,\\\\\\"' * 200_000 + b'"}', "schema"),
    ],
    ids=range(28),
)
def test_text_of_a_manifest_is_read_alike(cpp: CppBundle, tmp_path: Path, content: bytes, code: str) -> None:
    (tmp_path / MANIFEST).write_bytes(content)
    check_alike(cpp, tmp_path, code)


def test_changed_manifest_is_refused(cpp: CppBundle, bundle: Path) -> None:
    write_manifest(bundle, lambda data: data["labels"].reverse(), digest=False)
    check_alike(cpp, bundle, "manifest")


def test_message_stays_short_and_is_text_whatever_a_file_holds(cpp: CppBundle, tmp_path: Path) -> None:
    for content in (b'"' + b"x" * (1 << 20), b'"\xff', b'{"' + b"k" * 5000 + b'": 1, "' + b"k" * 5000 + b'": 2}'):
        (tmp_path / MANIFEST).write_bytes(content)
        text = cpp.open(tmp_path).text
        assert len(text) < 1000
        assert "\ufffd" not in text  # what the test's own reading puts where bytes are no text
