from __future__ import annotations

import hashlib
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from edgevit.core.engine import Engine, GpuRecord, TensorSpec
from edgevit.core.target import Target, list_targets
from edgevit.runtime.manifest import FileRecord, dump_manifest
from edgevit.runtime.pack_file import pack_file
from tests.support.cpp_bundle import CppBundle, open_in_python
from tests.support.spoiled_bundle import MANIFEST, check_alike, write_manifest
from tests.support.tiny_bundle import make_manifest

TARGETS = ("cpu", "intel-cpu")


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


def test_what_is_no_bundle_is_said(cpp: CppBundle, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("text")
    (tmp_path / "empty").write_text("")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name in ("text", "empty", "folder", "nothing", "text/below", "pipe"):
        check_alike(cpp, tmp_path / name, "not-a-bundle")
    assert cpp.open("").code == "argument"


def test_hint_names_what_to_do(cpp: CppBundle, bundle: Path) -> None:
    (bundle / "model.onnx").unlink()
    assert "\nhint: copy the bundle again" in cpp.open(bundle).text
