from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevit.core.engine import Engine, TensorSpec
from edgevit.core.errors import BundleError
from edgevit.core.schema import FieldError
from edgevit.core.target import load_target
from edgevit.runtime.folder import is_safe_name
from edgevit.runtime.manifest import FileRecord, dump_manifest, hash_file, load_manifest
from tests.support.tiny_bundle import PREPROCESS, make_manifest

ENGINE = Engine(
    backend="openvino",
    device="CPU",
    precision="fp16",
    files=("model.xml",),
    inputs=(TensorSpec("image", ("batch", 16, 16, 3), "uint8"),),
    outputs=(TensorSpec("logits", ("batch", 10), "float32"),),
    batch=(1, 2, 4),
    settings={"hint": "latency"},
    versions={"openvino": "2026.4"},
)


def _write(folder: Path, content: bytes) -> Path:
    (folder / "manifest.json").write_bytes(content)
    return folder


@pytest.mark.parametrize("engine", [None, ENGINE])
@pytest.mark.parametrize("target", ["cpu", "jetson-thor", "rtx-40", "intel-npu"])
def test_manifest_is_read_as_it_was_written(tmp_path: Path, engine: Engine | None, target: str) -> None:
    files = {"model.xml": FileRecord("ab" * 32, 7), "deep/er.txt": FileRecord("cd" * 32, 0)}
    manifest = make_manifest(engine=engine, target=load_target(target), files=files, labels=None)
    assert load_manifest(_write(tmp_path, dump_manifest(manifest))) == manifest
    assert manifest.portable is (engine is None)


@given(st.lists(st.text(), min_size=10, max_size=10), st.floats(allow_nan=False, allow_infinity=False), st.text())
def test_any_labels_and_figures_come_back(labels: list[str], figure: float, text: str) -> None:
    manifest = make_manifest(labels=tuple(labels), figures={"a": figure, "b": [text, None, True]})
    data = json.loads(dump_manifest(manifest))
    assert tuple(data["labels"]) == tuple(labels)
    assert data["figures"] == {"a": figure, "b": [text, None, True]}


def test_path_that_is_not_utf_8_is_written_for_every_reader(tmp_path: Path) -> None:
    path = os.fsdecode(b"mod\xe8le")  # Latin-1, as in old archives
    content = dump_manifest(make_manifest(source={"path": path, "notes": [path]}))
    content.decode().encode("ascii")
    assert load_manifest(_write(tmp_path, content)).source == {"path": r"mod\udce8le", "notes": [r"mod\udce8le"]}


def test_digest_is_the_hash_of_the_canonical_content() -> None:
    data = json.loads(dump_manifest(make_manifest()))
    recorded = data.pop("manifest_sha256")
    canonical = json.dumps(data, sort_keys=True, separators=(",", ":"))
    assert recorded == hashlib.sha256(canonical.encode()).hexdigest()


def _change(path: tuple[str, ...], value: Any) -> Any:
    def change(data: dict[str, Any]) -> None:
        for key in path[:-1]:
            data = data[key]
        data[path[-1]] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        _change(("classes",), 11),
        _change(("figures", "top1_percent"), 99.9),
        _change(("labels",), ["x"] * 10),
        _change(("preprocess", "mean"), [0.5, 0.5, 0.4]),
        _change(("extra",), 1),
        lambda data: data.pop("manifest_sha256"),
        lambda data: data.pop("labels"),
        _change(("manifest_sha256",), "0" * 64),
    ],
)
def test_changed_manifest_is_refused_with_both_hashes(tmp_path: Path, change: Any) -> None:
    data = json.loads(dump_manifest(make_manifest()))
    change(data)
    with pytest.raises(BundleError, match=r"was changed: its content has the SHA-256 \w{64}, it records"):
        load_manifest(_write(tmp_path, json.dumps(data).encode()))


@pytest.mark.parametrize(("classes", "letters", "what"), [(131_072, 1, "values"), (100_000, 60, "bytes")])
def test_manifest_that_nobody_would_read_is_not_written(classes: int, letters: int, what: str) -> None:
    outputs = (TensorSpec("logits", (1, classes), "float32"),)
    manifest = dataclasses.replace(
        make_manifest(), classes=classes, labels=("x" * letters,) * classes, outputs=outputs, engine=None, canary=None
    )
    with pytest.raises(BundleError, match=f"would have [0-9]+ {what}, and [0-9]+ are the most") as caught:
        dump_manifest(manifest)
    assert "fewer or shorter labels" in caught.value.hint


def test_manifest_of_a_hundred_thousand_labels_is_read(tmp_path: Path) -> None:
    outputs = (TensorSpec("logits", (1, 100_000), "float32"),)
    labels = tuple(f"label {i}, of many" for i in range(100_000))
    manifest = dataclasses.replace(
        make_manifest(), classes=len(labels), labels=labels, outputs=outputs, engine=None, canary=None
    )
    assert load_manifest(_write(tmp_path, dump_manifest(manifest))) == manifest


def test_reformatted_manifest_is_the_same(tmp_path: Path) -> None:
    manifest = make_manifest()
    data = dict(reversed(json.loads(dump_manifest(manifest)).items()))
    assert load_manifest(_write(tmp_path, json.dumps(data, indent=7).encode())) == manifest


@pytest.mark.parametrize("position", range(0, 2000, 97))
def test_every_flipped_byte_is_noticed(tmp_path: Path, position: int) -> None:
    manifest = make_manifest()
    content = bytearray(dump_manifest(manifest))
    position %= len(content)
    content[position] ^= 0x01
    try:
        read = load_manifest(_write(tmp_path, bytes(content)))
    except BundleError:
        return
    assert read == manifest  # a blank between two tokens that became another


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b'{"schema_version": NaN}', "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"schema_version": 1, "source": {"a": 1e999}}', "not JSON .*too large"),
        (b'{"schema_version": 1, "source": ' + b"[" * 400 + b"]" * 400 + b"}", "not JSON .*nested"),
        (b"[]", "no schema_version"),
        (b"null", "no schema_version"),
        (b'{"schema_version": "1"}', "no schema_version"),
        (b'{"schema_version": 2, "edgevit_version": "9"}', "schema version 2; this edgevit reads 1"),
        (b'{"schema_version": 0}', "schema version 0; the first was 1"),
    ],
)
def test_other_content_is_refused_saying_what_it_is(tmp_path: Path, content: bytes, words: str) -> None:
    with pytest.raises(BundleError, match=words):
        load_manifest(_write(tmp_path, content))


def test_folder_without_manifest_missing_path_and_file_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(BundleError, match=r"not a bundle: it has no manifest\.json"):
        load_manifest(tmp_path)
    with pytest.raises(BundleError, match="is not there"):
        load_manifest(tmp_path / "nothing")
    with pytest.raises(BundleError, match="is neither a bundle's folder nor a packed bundle"):
        load_manifest(tmp_path / "file")


def test_values_of_a_wrong_type_are_listed(tmp_path: Path) -> None:
    data = json.loads(dump_manifest(make_manifest()))
    del data["manifest_sha256"]
    data["classes"], data["name"] = "ten", 7
    canonical = json.dumps(data, sort_keys=True, separators=(",", ":"))
    data["manifest_sha256"] = hashlib.sha256(canonical.encode()).hexdigest()
    with pytest.raises(BundleError) as caught:
        load_manifest(_write(tmp_path, json.dumps(data).encode()))
    assert "classes" in caught.value.message
    assert "name" in caught.value.message


def test_labels_that_do_not_fit_the_classes_are_refused() -> None:
    with pytest.raises(ValueError, match="9 labels for 10 classes"):
        make_manifest(labels=("x",) * 9)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"preprocess": dataclasses.replace(PREPROCESS, width=32768, height=32768)}, r"\(32768, 32768, 3\)"),
        ({"inputs": ()}, "0 inputs and 1 outputs"),
        ({"outputs": ()}, "1 inputs and 0 outputs"),
        ({"classes": 1 << 62, "labels": None}, "4611686018427387904 classes, and the outputs have"),
        ({"batch": (1, 1, 10**9)}, r"batch = \[1, 1, 1000000000\]"),
        ({"batch": (4, 2, 8)}, r"batch = \[4, 2, 8\]"),
        ({"engine": dataclasses.replace(ENGINE, outputs=())}, "the engine has"),
    ],
    ids=["preprocess", "no-input", "no-output", "classes", "huge-batch", "falling-batch", "engine"],
)
def test_fields_that_contradict_one_another_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(FieldError, match=words):
        make_manifest(**changes)


@pytest.mark.parametrize(
    "name", ["../x", "/etc/passwd", "a/../../b", "C:\\x", "a\\b", "", "a\0b", "x:y", ".", "./a", "a//b", "a/", "\ud800"]
)
def test_name_that_leads_out_of_the_bundle_is_refused(name: str) -> None:
    assert not is_safe_name(name)
    with pytest.raises(ValueError, match="lead out of the bundle"):
        dataclasses.replace(make_manifest(), files={name: FileRecord("ab" * 32, 0)})


@pytest.mark.parametrize("name", ["model.xml", "a/b.txt", ".hidden", "with blank", "é.json", "..name"])
def test_plain_name_is_taken(name: str) -> None:
    assert is_safe_name(name)


def test_file_is_hashed_in_blocks(tmp_path: Path) -> None:
    content = bytes(range(256)) * 10_000
    (tmp_path / "file").write_bytes(content)
    assert hash_file(tmp_path / "file") == FileRecord(hashlib.sha256(content).hexdigest(), len(content))


def test_figure_that_json_cannot_hold_is_refused() -> None:
    with pytest.raises(ValueError):
        dump_manifest(make_manifest(figures={"a": float("nan")}))


@pytest.mark.parametrize(("version", "code"), [(1, None), (2, None), (3, None), (4, "schema"), (0, "manifest")])
def test_older_schema_versions_open_and_newer_ones_are_refused_with_both_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: int, code: str | None
) -> None:
    content = dump_manifest(make_manifest(schema_version=version))
    monkeypatch.setattr("edgevit.runtime.manifest.SCHEMA_VERSION", 3)
    if code is None:
        assert load_manifest(_write(tmp_path, content)).schema_version == version
        return
    with pytest.raises(BundleError, match=rf"schema version {version}") as caught:
        load_manifest(_write(tmp_path, content))
    assert caught.value.code == code
    assert version == 0 or "this edgevit reads 3" in caught.value.message


@pytest.mark.parametrize(
    "changes",
    [
        {"labels": [[]] * 100_000},
        {"files": {f"file-{i}": {} for i in range(100_000)}},
        {"inputs": [{"name": "image", "dtype": "uint8", "shape": [1 << 62] * 100_000}]},
        {"inputs": [{"name": 1, "dtype": 2}] * 10_000},
        {"schema_version": 2, "edgevit_version": "9" * 100_000},
        {f"key {i}": 1 for i in range(100_000)},
        {"k" * 100_000: 1},
    ],
    ids=lambda changes: next(iter(changes))[:20],
)
def test_document_of_very_many_faults_is_refused_in_few_words(tmp_path: Path, changes: dict[str, Any]) -> None:
    data = {**json.loads(dump_manifest(make_manifest())), **changes}
    del data["manifest_sha256"]
    canonical = json.dumps(data, sort_keys=True, separators=(",", ":"))
    data["manifest_sha256"] = hashlib.sha256(canonical.encode()).hexdigest()
    with pytest.raises(BundleError) as caught:
        load_manifest(_write(tmp_path, json.dumps(data).encode()))
    assert len(str(caught.value)) < 12_000
