from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgevit.core.engine import Engine, GpuRecord, TensorSpec
from edgevit.core.target import Target, list_targets
from edgevit.runtime.manifest import FileRecord, dump_manifest
from edgevit.runtime.onnx_references import list_references
from edgevit.runtime.pack_file import pack_file
from tests.support.cpp_bundle import CppBundle, open_in_python
from tests.support.tiny_bundle import make_manifest

MANIFEST = "manifest.json"


TARGETS = ("cpu", "intel-cpu")


@pytest.fixture
def bundle(built: dict[str, Path], tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return shutil.copytree(built["cpu"], tmp_path / "bundle")


def write_manifest(folder: Path, change: Callable[[dict[str, Any]], None], *, digest: bool = True) -> None:
    """Change a bundle's manifest, and record its digest anew unless it is to be wrong."""
    data = json.loads((folder / MANIFEST).read_bytes())
    recorded = data.pop("manifest_sha256")
    change(data)
    canonical = json.dumps(data, sort_keys=True, separators=(",", ":"))
    data["manifest_sha256"] = hashlib.sha256(canonical.encode()).hexdigest() if digest else recorded
    (folder / MANIFEST).write_text(json.dumps(data))


def check_alike(cpp: CppBundle, path: Path, code: str, **options: Any) -> None:
    """Both runtimes say this code."""
    assert open_in_python(path, **options).code == code
    answer = cpp.open(path, **options)
    assert answer.code == code, answer.text


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("verify", [False, True])
def test_bundle_is_the_same_to_both(
    cpp: CppBundle, built: dict[str, Path], tmp_path: Path, target: str, packed: bool, verify: bool
) -> None:
    path = pack_file(built[target], tmp_path / "one.edgevit") if packed else built[target]
    ours, theirs = cpp.open(path, verify=verify), open_in_python(path, verify=verify)
    assert ours.code == theirs.code == "ok", ours.text
    assert ours.data == theirs.data
    assert len(ours.data["canary_arrays"]) == 3


def test_portable_bundle_is_refused_unless_no_engine_is_needed(cpp: CppBundle, built: dict[str, Path]) -> None:
    check_alike(cpp, built["jetson"], "portable")
    ours, theirs = (read(built["jetson"], needs_engine=False) for read in (cpp.open, open_in_python))
    assert ours.code == "ok", ours.text
    assert ours.data == theirs.data


@pytest.mark.parametrize("target", list_targets(), ids=lambda target: target.name)
def test_manifest_with_everything_is_the_same_to_both(cpp: CppBundle, tmp_path: Path, target: Target) -> None:
    engine = Engine(
        backend="tensorrt",
        device="cuda:0",
        precision="fp16",
        files=("deep/model.plan",),
        inputs=(TensorSpec("image", ("batch", 16, 16, 3), "uint8"),),
        outputs=(TensorSpec("level0", ("batch", 3, 2, 2), "float32"), TensorSpec("level1", ("n", 7, 5), "float32")),
        batch=(1, 2, 4096),
        settings={"wait": "spin", "cuda_graph": True, "streams": 2},
        versions={"tensorrt": "10.3"},
        gpu=GpuRecord("8.7", "Orin", 8),
    )
    plan = b"a plan"
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/model.plan").write_bytes(plan)
    manifest = make_manifest(
        name='line\nfeed "é" \U0001f600 \x7f',
        task="features",
        target=target,
        engine=engine,
        inputs=engine.inputs,
        outputs=engine.outputs,
        batch=engine.batch,
        classes=0,
        labels=None,
        task_options={"levels": [0, 1]},
        figures={"a": 1e-7, "b": 1.5e300, "c": 12345678.9, "d": [1e16, 0.1, -0.0, 5e-324, 100.0, 123456789012345680.0]},
        files={"deep/model.plan": FileRecord(hashlib.sha256(plan).hexdigest(), len(plan))},
    )
    (tmp_path / MANIFEST).write_bytes(dump_manifest(manifest))
    ours, theirs = cpp.open(tmp_path), open_in_python(tmp_path)
    assert (ours.code, ours.data) == (theirs.code, theirs.data)
    assert ours.code == "ok"


def _replace_by_link(bundle: Path, name: str) -> None:
    (bundle / name).rename(bundle.parent / "elsewhere")
    (bundle / name).symlink_to(bundle.parent / "elsewhere")


def _replace_by_pipe(bundle: Path, name: str) -> None:
    (bundle / name).unlink()
    os.mkfifo(bundle / name)


def _replace_by_folder(bundle: Path, name: str) -> None:
    (bundle / name).unlink()
    (bundle / name).mkdir()


def _replace_by_socket(bundle: Path, name: str) -> None:
    (bundle / name).unlink()
    folder = os.getcwd()
    os.chdir(bundle)  # a socket's path is at most 108 bytes long
    try:
        socket.socket(socket.AF_UNIX).bind(name)
    finally:
        os.chdir(folder)


@pytest.mark.parametrize("replace", [_replace_by_link, _replace_by_pipe, _replace_by_folder, _replace_by_socket])
@pytest.mark.parametrize("name", ["model.onnx", MANIFEST, "canary.npz"])
def test_what_is_no_regular_file_is_unsafe(cpp: CppBundle, bundle: Path, name: str, replace: Any) -> None:
    replace(bundle, name)
    check_alike(cpp, bundle, "unsafe")
    check_alike(cpp, bundle, "unsafe", verify=False)


@pytest.mark.parametrize("inside", ["own", "linked"])
def test_file_below_a_folder_is_read_unless_that_is_a_link(cpp: CppBundle, bundle: Path, inside: str) -> None:
    (bundle / "deep").mkdir()
    (bundle / "report.json").rename(bundle / "deep/report.json")
    write_manifest(bundle, lambda data: data["files"].update({"deep/report.json": data["files"].pop("report.json")}))
    if inside == "linked":
        (bundle / "deep").rename(bundle.parent / "elsewhere")
        (bundle / "deep").symlink_to(bundle.parent / "elsewhere")
    check_alike(cpp, bundle, "ok" if inside == "own" else "unsafe")


def test_file_in_place_of_a_folder_is_damage(cpp: CppBundle, bundle: Path) -> None:
    (bundle / "deep").write_bytes(b"")
    write_manifest(bundle, lambda data: data["files"].update({"deep/er.json": data["files"]["report.json"]}))
    check_alike(cpp, bundle, "damaged")


def _truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def _flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("damage", [_truncate, _flip, Path.unlink])
@pytest.mark.parametrize("name", ["model.onnx", "report.json"])
def test_damaged_file_is_named(cpp: CppBundle, bundle: Path, name: str, damage: Any) -> None:
    damage(bundle / name)
    check_alike(cpp, bundle, "damaged")
    assert name in cpp.open(bundle).text


def test_every_damaged_file_is_named_up_to_ten(cpp: CppBundle, bundle: Path) -> None:
    record = {"sha256": "0" * 64, "size_bytes": 1}
    write_manifest(bundle, lambda data: data["files"].update({f"more{i:02}": record for i in range(12)}))
    _truncate(bundle / "report.json")
    check_alike(cpp, bundle, "damaged")
    text = cpp.open(bundle).text
    assert "13 files are not as built" in text
    assert "more09" in text
    assert "more10" not in text
    assert "and 3 more" in text


def test_other_content_of_the_same_size_is_seen_only_by_hashing(cpp: CppBundle, bundle: Path) -> None:
    (bundle / "report.json").write_bytes(b"[]\n")
    check_alike(cpp, bundle, "damaged")
    check_alike(cpp, bundle, "ok", verify=False)


def test_file_that_the_manifest_does_not_list_is_ignored(cpp: CppBundle, bundle: Path) -> None:
    (bundle / "notes.txt").write_text("mine")
    check_alike(cpp, bundle, "ok")


def test_what_was_checked_is_what_is_read_whatever_takes_its_name(cpp: CppBundle, bundle: Path, tmp_path: Path) -> None:
    content = (bundle / "recipe.toml").read_text()
    packed = pack_file(bundle, tmp_path / "one.edgevit")
    for path, name in ((bundle, "recipe.toml"), (packed, "")):
        with cpp.keep_open(path) as read:
            (tmp_path / "other").write_text("other")
            os.replace(tmp_path / "other", path / name if name else path)
            assert read("recipe.toml").data == content
            assert read("nothing").code == read("../recipe.toml").code == "unsafe"


def test_message_stays_short_and_is_text_whatever_a_file_holds(cpp: CppBundle, tmp_path: Path) -> None:
    for content in (b'"' + b"x" * (1 << 20), b'"\xff', b'{"' + b"k" * 5000 + b'": 1, "' + b"k" * 5000 + b'": 2}'):
        (tmp_path / MANIFEST).write_bytes(content)
        text = cpp.open(tmp_path).text
        assert len(text) < 1000
        assert "\ufffd" not in text  # what the test's own reading puts where bytes are no text


@pytest.mark.parametrize("part", ["manifest", "packed", "canary", "references"])
def test_seeds_of_the_fuzzing_are_what_they_are_for(cpp: CppBundle, tmp_path: Path, part: str) -> None:
    folder = Path(__file__).parents[2] / "attacks/corpus-cpp" / part
    for file in folder.iterdir():
        if part == "manifest":
            (tmp_path / MANIFEST).write_bytes(file.read_bytes())
            assert cpp.open(tmp_path).code == "damaged", file  # a whole manifest, of files that are not there
        elif part == "packed":
            assert cpp.open(file).code == "manifest", file
        elif part == "canary":
            assert sorted(np.load(file)) == ["built.logits", "float.logits", "pixels"]
        else:
            assert cpp.list_references(file.read_bytes()).data == list(list_references(file)) != []


def test_what_is_no_bundle_is_said(cpp: CppBundle, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("text")
    (tmp_path / "empty").write_text("")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name in ("text", "empty", "folder", "nothing", "text/below", "pipe"):
        check_alike(cpp, tmp_path / name, "not-a-bundle")
    assert cpp.open("").code == "argument"


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
        (b" " * (16 << 20) + b'{"schema_version": 2}', "manifest"),
        (b'{"schema_version": 2' + b" " * ((16 << 20) - 21) + b"}", "schema"),
    ],
    ids=range(23),
)
def test_text_of_a_manifest_is_read_alike(cpp: CppBundle, tmp_path: Path, content: bytes, code: str) -> None:
    (tmp_path / MANIFEST).write_bytes(content)
    check_alike(cpp, tmp_path, code)


def test_changed_manifest_is_refused(cpp: CppBundle, bundle: Path) -> None:
    write_manifest(bundle, lambda data: data["labels"].reverse(), digest=False)
    check_alike(cpp, bundle, "manifest")


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


def _write_canary(bundle: Path, **arrays: Any) -> None:
    np.savez(bundle / "canary.npz", **arrays)
    content = (bundle / "canary.npz").read_bytes()
    record = {"sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}
    write_manifest(bundle, lambda data: data["files"].update({"canary.npz": record}))


_ANSWERS = np.linspace(-1, 1, 30, dtype="<f4").reshape(3, 10)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, "ok"),
        ({"more": np.zeros(1)}, "damaged"),
        ({"built.logits": None}, "damaged"),
        ({"built.logits": _ANSWERS[:2]}, "damaged"),
        ({"built.logits": _ANSWERS.astype("<f8")}, "damaged"),
        ({"built.logits": _ANSWERS.astype(">f4")}, "damaged"),
        ({"built.logits": np.asfortranarray(_ANSWERS)}, "damaged"),
        ({"built.logits": np.full((3, 10), np.nan, "<f4")}, "damaged"),
        ({"built.logits": np.full((3, 10), -np.inf, "<f4")}, "damaged"),
        ({"built.logits": np.zeros((3, 10), "<f4")}, "ok"),
        ({"float.logits": np.zeros((3, 10), "<f4")}, "damaged"),
        ({"float.logits": np.full((3, 10), -0.0, "<f4")}, "damaged"),
        ({"pixels": np.zeros((3, 16, 16, 3), "i1")}, "damaged"),
        ({"pixels": np.zeros((3, 16, 16, 300), "u1")}, "damaged"),
    ],
)
def test_canary_is_read_as_in_python(cpp: CppBundle, bundle: Path, changes: dict[str, Any], code: str) -> None:
    pixels = np.zeros((3, 16, 16, 3), "u1")
    arrays = {"pixels": pixels, "float.logits": _ANSWERS, "built.logits": _ANSWERS, **changes}
    _write_canary(bundle, **{name: array for name, array in arrays.items() if array is not None})
    check_alike(cpp, bundle, code)


def test_compressed_canary_is_damaged(cpp: CppBundle, bundle: Path) -> None:
    with zipfile.ZipFile(bundle / "canary.npz") as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(bundle / "canary.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    content = (bundle / "canary.npz").read_bytes()
    record = {"sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}
    write_manifest(bundle, lambda data: data["files"].update({"canary.npz": record}))
    check_alike(cpp, bundle, "damaged")


class Key:
    """An Ed25519 key that openssl made."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._file = folder / "key.pem"
        _call("genpkey", "-algorithm", "ed25519", "-out", self._file)
        self.private = self._file.read_bytes()
        self.public = _call("pkey", "-in", self._file, "-pubout")
        self.raw = _call("pkey", "-in", self._file, "-pubout", "-outform", "DER")[-32:].hex()

    def sign(self, bundle: Path, **changes: str) -> None:
        message = self._file.with_name("message")
        message.write_bytes(b"edgevit bundle v1\n" + (bundle / MANIFEST).read_bytes())
        signature = _call("pkeyutl", "-sign", "-rawin", "-inkey", self._file, "-in", message).hex()
        data = {"algorithm": "ed25519", "public_key": self.raw, "signature": signature, **changes}
        (bundle / "signature.json").write_text(json.dumps(data))


def _call(*words: object) -> bytes:
    return subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True).stdout


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Key, Key]:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is absent")
    return Key(tmp_path_factory.mktemp("keys") / "ours"), Key(tmp_path_factory.mktemp("keys") / "theirs")


@pytest.mark.parametrize("packed", [False, True])
def test_signed_bundle_opens_with_its_key(
    cpp: CppBundle, bundle: Path, keys: tuple[Key, Key], tmp_path: Path, packed: bool
) -> None:
    keys[0].sign(bundle)
    path = pack_file(bundle, tmp_path / "one.edgevit") if packed else bundle
    assert cpp.open(path, public_key=keys[0].public).code == "ok"
    assert cpp.open(path).code == "ok"
    other = cpp.open(path, public_key=keys[1].public)
    assert other.code == "signature"
    assert "another key" in other.text


def test_signature_that_is_missing_or_does_not_fit_is_refused(
    cpp: CppBundle, bundle: Path, keys: tuple[Key, Key]
) -> None:
    ours, theirs = keys
    assert cpp.open(bundle, public_key=ours.public).code == "signature"
    ours.sign(bundle)
    write_manifest(bundle, lambda data: data["labels"].reverse())
    altered = cpp.open(bundle, public_key=ours.public)
    assert altered.code == "signature"
    assert "altered" in altered.text
    theirs.sign(bundle, public_key=ours.raw)
    assert cpp.open(bundle, public_key=ours.public).code == "signature"
    for changes in ({"algorithm": "none"}, {"signature": "00"}, {"signature": "g" * 128}, {"more": "x"}):
        ours.sign(bundle, **changes)
        assert cpp.open(bundle, public_key=ours.public).code == "signature", changes
    (bundle / "signature.json").write_text(" " * 5000)
    assert cpp.open(bundle, public_key=ours.public).code == "signature"
    (bundle / "signature.json").unlink()
    (bundle / "signature.json").symlink_to(bundle / "report.json")
    assert cpp.open(bundle, public_key=ours.public).code == "unsafe"


def test_signature_is_checked_before_the_manifest_is_parsed_and_files_are_hashed_in_any_case(
    cpp: CppBundle, bundle: Path, keys: tuple[Key, Key]
) -> None:
    (bundle / "report.json").write_bytes(b"[]\n")
    keys[0].sign(bundle)
    assert cpp.open(bundle, public_key=keys[0].public, verify=False).code == "damaged"
    (bundle / MANIFEST).write_text("{")
    assert cpp.open(bundle, public_key=keys[0].public).code == "signature"


def test_key_that_is_none_is_the_callers_mistake(cpp: CppBundle, bundle: Path, keys: tuple[Key, Key]) -> None:
    keys[0].sign(bundle)
    for text in (b"", b"text", keys[0].private, keys[0].public[:60]):
        assert cpp.open(bundle, public_key=text).code == "argument"


def test_hint_names_what_to_do(cpp: CppBundle, bundle: Path) -> None:
    (bundle / "model.onnx").unlink()
    assert "\nhint: copy the bundle again" in cpp.open(bundle).text
