from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from edgevit.core.errors import BundleError
from edgevit.runtime import open_bundle, open_engine
from edgevit.runtime.bundle import Bundle, find_damage, load_bundle, verify_bundle
from edgevit.runtime.manifest import dump_manifest
from tests.support.tiny_bundle import make_bundle, make_portable_bundle

FILES = ("model.xml", "model.bin", "recipe.toml", "report.json")


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("bundle")
    return make_bundle(folder / "out", folder / "work", target="intel-cpu")


@pytest.fixture
def bundle(pristine: Bundle, tmp_path: Path) -> Bundle:
    return load_bundle(shutil.copytree(pristine.path, tmp_path / "copy"))


def _flip_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x80
    path.write_bytes(content)


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _append(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def _empty(path: Path) -> None:
    path.write_bytes(b"")


DAMAGES: dict[str, Callable[[Path], None]] = {
    "flipped": _flip_byte,
    "truncated": _truncate,
    "appended": _append,
    "emptied": _empty,
    "removed": Path.unlink,
}


def test_bundle_as_built_is_sound(bundle: Bundle) -> None:
    assert find_damage(bundle) == ()
    assert verify_bundle(bundle.path).manifest == bundle.manifest
    assert set(bundle.manifest.files) == set(FILES)
    assert bundle.size_bytes == sum((bundle.path / name).stat().st_size for name in FILES)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", [*FILES, "manifest.json"])
def test_each_damaged_file_in_turn_is_named(bundle: Bundle, name: str, damage: str) -> None:
    DAMAGES[damage](bundle.path / name)
    if name == "manifest.json" and damage == "truncated":
        _truncate(bundle.path / name)  # its last byte is a line's end
    for check in (verify_bundle, open_bundle):
        with pytest.raises(BundleError) as caught:
            check(bundle.path)
        assert name in caught.value.message
        assert caught.value.hint


def test_all_damaged_files_are_listed_with_both_values(bundle: Bundle) -> None:
    _truncate(bundle.path / "model.bin")
    _flip_byte(bundle.path / "report.json")
    (bundle.path / "recipe.toml").unlink()
    (bundle.path / "stray" / "deep").mkdir(parents=True)
    (bundle.path / "stray" / "deep" / "file").write_bytes(b"")
    sizes = {name: record.size_bytes for name, record in bundle.manifest.files.items()}
    with pytest.raises(BundleError) as caught:
        verify_bundle(bundle.path)
    message = caught.value.message
    assert "4 files are not as built" in message
    assert f"model.bin: {sizes['model.bin'] - 1} bytes, the manifest says {sizes['model.bin']} bytes" in message
    assert f"recipe.toml: missing; the manifest lists it with {sizes['recipe.toml']} bytes" in message
    assert f"the manifest says {bundle.manifest.files['report.json'].sha256}" in message
    assert "stray/deep/file: not in the manifest" in message


def test_folder_in_place_of_a_file_is_damage(bundle: Bundle) -> None:
    (bundle.path / "report.json").unlink()
    (bundle.path / "report.json").mkdir()
    with pytest.raises(BundleError, match=r"report\.json"):
        verify_bundle(bundle.path)


def test_without_hashing_only_presence_and_size_are_checked(bundle: Bundle) -> None:
    _flip_byte(bundle.path / "model.bin")
    assert find_damage(bundle, contents=False) == ()
    (damage,) = find_damage(bundle)
    assert (damage.name, damage.kind) == ("model.bin", "content")


def test_engine_file_that_the_manifest_does_not_list_is_refused(bundle: Bundle) -> None:
    assert bundle.manifest.engine is not None
    engine = dataclasses.replace(bundle.manifest.engine, files=("../model.xml",))
    (bundle.path / "manifest.json").write_bytes(dump_manifest(dataclasses.replace(bundle.manifest, engine=engine)))
    with pytest.raises(BundleError, match=r"does not list what its engine needs:\n  \.\./model\.xml"):
        load_bundle(bundle.path)


def test_engine_of_a_bundle_opens(bundle: Bundle) -> None:
    assert bundle.engine.path == bundle.path / "model.xml"
    with open_engine(bundle.engine) as session:
        assert session.outputs[0].shape == (1, 10)


def test_portable_bundle_has_no_engine_yet(tmp_path: Path) -> None:
    bundle = make_portable_bundle(tmp_path / "out", tmp_path / "work")
    assert verify_bundle(bundle.path).manifest.portable
    with pytest.raises(BundleError, match="portable"):
        _ = bundle.engine


@pytest.mark.parametrize("kind", ["pipe", "device", "link", "link to a folder"])
@pytest.mark.parametrize("name", ["report.json", "manifest.json"])
def test_what_is_no_regular_file_is_refused_without_reading_it(
    bundle: Bundle, tmp_path: Path, name: str, kind: str
) -> None:
    file, elsewhere = bundle.path / name, tmp_path / "elsewhere"
    file.rename(elsewhere)  # with the very content
    if kind == "pipe":
        os.mkfifo(file)
    else:
        file.symlink_to({"device": Path("/dev/zero"), "link": elsewhere}.get(kind, tmp_path))
    for check in (verify_bundle, open_bundle):
        with pytest.raises(BundleError, match=rf"{name}.* a link, a folder or a device"):
            check(bundle.path)


def test_file_below_a_link_is_refused_and_a_linked_bundle_is_not(bundle: Bundle, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(bundle.path)
    assert verify_bundle(link).manifest == bundle.manifest
    (bundle.path / "below").symlink_to(bundle.path)
    files = {**bundle.manifest.files, "below/report.json": bundle.manifest.files["report.json"]}
    (bundle.path / "manifest.json").write_bytes(dump_manifest(dataclasses.replace(bundle.manifest, files=files)))
    with pytest.raises(BundleError, match=r"below/report\.json: a link"):
        verify_bundle(bundle.path)


def test_openvino_is_given_files_of_its_own_format_only(bundle: Bundle) -> None:
    assert bundle.manifest.engine is not None
    for content in (b"\x08\x0a\x12", b"", b"TFL3", b"FROM scratch"):
        (bundle.path / "model.xml").write_bytes(content)
        with pytest.raises(BundleError, match="not a model of OpenVINO's own format"):
            open_engine(dataclasses.replace(bundle.manifest.engine, directory=bundle.path))
