"""A bundle as one file: the same answers, the same bytes each time, and what its reader refuses."""

from __future__ import annotations

import gc
import os
import shutil
import stat
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgevit.core.errors import BundleError, OutputError
from edgevit.runtime import open_bundle
from edgevit.runtime.bundle import load_bundle, verify_bundle
from edgevit.runtime.pack_file import lend_folder, pack_file, unpack_file
from edgevit.runtime.packed import END, PackedContents, open_contents
from tests.attacks.documents import put, read
from tests.support.tiny_bundle import make_bundle, make_portable_bundle
from tests.support.tiny_onnx import make_images

TARGETS = ("intel-cpu", "cpu")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("folders")
    made = {t: make_bundle(base / t, base / f"{t}-work", target=t, canary=True, batch=(1, 2, 4)).path for t in TARGETS}
    made["external"] = Path(shutil.copytree(made["cpu"], base / "external"))
    file = made["external"] / "model.onnx"
    onnx.save(onnx.load(file), file, save_as_external_data=True, location="model.data", size_threshold=256)
    for name in ("model.onnx", "model.data"):
        put(made["external"], name, (made["external"] / name).read_bytes(), engine=True)
    return made


@pytest.fixture(params=[*TARGETS, "external"])
def folder(folders: dict[str, Path], tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    return Path(shutil.copytree(folders[request.param], tmp_path / "bundle"))


@pytest.fixture
def packed(folder: Path) -> Path:
    return pack_file(folder)


def test_packed_bundle_answers_as_the_folder_does(folder: Path, packed: Path) -> None:
    images = make_images(5)
    with open_bundle(folder, check="always") as expected, open_bundle(packed, check="always") as opened:
        assert np.array_equal(opened.run(images), expected.run(images))
        assert opened.manifest == expected.manifest
        assert opened.settings == expected.settings
        assert opened.canary == expected.canary
        assert opened.canary.status == "passed"


def test_nothing_of_a_packed_bundle_is_unpacked_or_left_open(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(tmp_path / "bundle")
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    images = make_images(2)
    with open_bundle(packed) as opened:
        opened.run(images)
        assert list((tmp_path / "temporary").iterdir()) == []
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("the system does not tell what is open")
    for _ in range(3):
        with open_bundle(packed) as opened:
            opened.run(images)
    gc.collect()
    assert str(packed) not in Path("/proc/self/maps").read_text()
    links = [os.readlink(entry.path) for entry in os.scandir("/proc/self/fd") if os.path.lexists(entry.path)]
    assert [link for link in links if link.startswith(str(packed))] == []


def test_answers_stay_right_while_other_packed_bundles_come_and_go(packed: Path) -> None:
    images = make_images(3)
    with open_bundle(packed) as opened:
        before = opened.run(images)
        for _ in range(3):
            with open_bundle(packed) as other:
                assert np.array_equal(other.run(images), before)
            gc.collect()
        assert np.array_equal(opened.run(images), before)


def test_the_same_bundle_gives_the_same_file_whenever_and_wherever_it_is_packed(folder: Path, packed: Path) -> None:
    first = packed.read_bytes()
    for file in folder.iterdir():
        os.utime(file, (0, 0))
        file.chmod(0o400)
    moved = folder.rename(folder.with_name("moved"))
    assert pack_file(moved).read_bytes() == first
    assert pack_file(packed, packed.with_name("again.edgevit")).read_bytes() == first


def test_packed_file_has_the_documented_form(folder: Path, packed: Path) -> None:
    content = packed.read_bytes()
    with zipfile.ZipFile(packed) as archive:
        assert archive.testzip() is None
        assert archive.comment == b""
        names = archive.namelist()
        assert names == ["manifest.json", *sorted(read(folder)["files"])]
        for info in archive.infolist():
            assert archive.read(info) == (folder / info.filename).read_bytes()
            assert (info.compress_type, info.flag_bits, info.create_system) == (zipfile.ZIP_STORED, 0, 3)
            assert (info.date_time, info.external_attr) == ((1980, 1, 1, 0, 0, 0), 0o100644 << 16)
            assert info.extra == b""
            name, extra = struct.unpack_from("<2H", content, info.header_offset + 26)
            begin = info.header_offset + 30 + name + extra
            assert begin % 64 == 0
            if extra:
                assert struct.unpack_from("<2H", content, begin - extra) == (0xEDBE, extra - 4)


def test_unpacked_bundle_is_the_one_that_was_packed(folder: Path, packed: Path, tmp_path: Path) -> None:
    out = unpack_file(packed, tmp_path / "unpacked").path
    assert {f.name: f.read_bytes() for f in out.iterdir()} == {f.name: f.read_bytes() for f in folder.iterdir()}
    assert [f.name for f in tmp_path.iterdir() if f.name.startswith(".")] == []
    with pytest.raises(OutputError, match="is there already"):
        unpack_file(packed, out)
    with pytest.raises(BundleError, match="is a folder already") as caught:
        unpack_file(folder, tmp_path / "other")
    assert caught.value.code == "argument"


def test_lent_folder_goes_with_the_loan_and_a_folder_is_lent_as_it_is(folder: Path, packed: Path) -> None:
    with lend_folder(folder) as lent:
        assert lent == folder
    with lend_folder(packed) as lent:
        assert stat.S_IMODE(lent.parent.stat().st_mode) == 0o700
        assert verify_bundle(lent).manifest == load_bundle(packed).manifest
    assert not lent.exists()
    with lend_folder("nothing") as lent, pytest.raises(BundleError, match="is not there"):
        load_bundle(lent)


def test_damaged_or_foreign_files_are_not_packed_and_nothing_is_written(folder: Path, tmp_path: Path) -> None:
    (folder / "stray").write_bytes(b"?")
    with pytest.raises(BundleError, match="stray: not in the manifest"):
        pack_file(folder)
    (folder / "stray").unlink()
    (folder / "report.json").write_bytes(b"[]\n")
    with pytest.raises(BundleError, match=r"report\.json: SHA-256"):
        pack_file(folder)
    assert [f.name for f in tmp_path.iterdir()] == ["bundle"]


def test_only_a_packed_bundle_is_replaced_and_none_is_written_into_a_bundle(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "photos.zip"
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("photo.jpg", b"?")
    before = other.read_bytes()
    with pytest.raises(OutputError, match="is no packed bundle that can be replaced"):
        pack_file(folder, other)
    assert other.read_bytes() == before
    with pytest.raises(OutputError, match="lies inside the bundle"):
        pack_file(folder, folder / "own.edgevit")
    first = pack_file(folder)
    assert pack_file(folder) == pack_file(folder, first) == pack_file(first) == first
    named = pack_file(folder, tmp_path / "named.edgevit")
    named.touch()
    with pytest.raises(OutputError, match=r"named\.edgevit is there already") as caught:
        pack_file(folder, named)
    assert caught.value.hint == "remove it, or choose another --out"
    with pytest.raises(OutputError, match="cannot be written"):
        pack_file(folder, tmp_path / "no" / "folder.edgevit")


def test_an_open_bundle_is_kept_when_it_is_packed_anew(folder: Path, packed: Path) -> None:
    images = make_images(1)
    with open_bundle(packed) as opened:
        before = opened.run(images)
        pack_file(folder)
        assert np.array_equal(opened.run(images), before)


def test_file_cut_anywhere_is_refused(packed: Path, tmp_path: Path) -> None:
    content, cut = packed.read_bytes(), tmp_path / "cut.edgevit"
    for length in [*range(0, 200), *range(200, len(content), 97), *range(len(content) - 400, len(content))]:
        cut.write_bytes(content[:length])
        with pytest.raises(BundleError) as caught:
            load_bundle(cut)
        # the canary in it is a zip too, whose end one length may have
        inner = length >= END.size and content[length - END.size : length].startswith(b"PK\5\6")
        assert caught.value.code == ("not-a-bundle" if length < 4 else "unsafe" if inner else "damaged"), length


@pytest.mark.parametrize("more", [b"\0", b"PK\5\6" + bytes(18), b"\n" * 100])
def test_file_with_something_behind_its_end_is_refused(packed: Path, more: bytes) -> None:
    packed.write_bytes(packed.read_bytes() + more)
    with pytest.raises(BundleError) as caught:
        load_bundle(packed)
    assert caught.value.code in ("damaged", "unsafe")


def test_pipe_and_device_in_place_of_a_bundle_are_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.edgevit")
    for path in (tmp_path / "pipe.edgevit", Path("/dev/zero"), Path("/dev/null")):
        with pytest.raises(BundleError) as caught:
            open_bundle(path)
        assert caught.value.code == "not-a-bundle"


def test_sparse_file_beyond_four_gigabytes_is_refused_without_reading_it(tmp_path: Path) -> None:
    path = tmp_path / "large.edgevit"
    path.write_bytes(b"PK\3\4")
    os.truncate(path, 1 << 32)
    with pytest.raises(BundleError) as caught:
        PackedContents(path)
    assert caught.value.code == "unsafe"
    assert "ship the folder" in caught.value.hint


def test_portable_bundle_is_packed_too(tmp_path: Path) -> None:
    packed = pack_file(make_portable_bundle(tmp_path / "portable", tmp_path / "work").path)
    assert verify_bundle(packed).manifest.portable
    with pytest.raises(BundleError, match="portable") as caught:
        open_bundle(packed)
    assert caught.value.code == "portable"


def test_contents_are_the_same_in_both_forms(folder: Path, packed: Path) -> None:
    forms = [open_contents(path) for path in (folder, packed)]
    assert [form.packed for form in forms] == [False, True]
    seen: list[Any] = []
    for form in forms:
        names = form.list_names()
        seen.append([(n, form.measure(n), form.hash(n), form.read(n), bytes(form.map(n))) for n in names])
        assert not any(map(form.is_irregular, names))
        for ask in (form.measure, form.hash, form.read, form.map, form.is_irregular):
            with pytest.raises(FileNotFoundError):
                ask("nothing")
        with pytest.raises(ValueError, match=r"the most|more than"):
            form.read("manifest.json", 10)
    assert seen[0] == seen[1]


def test_what_is_written_to_a_mapped_file_changes_none(packed: Path) -> None:
    before, contents = packed.read_bytes(), open_contents(packed)
    contents.map("manifest.json")[0] = 0
    assert packed.read_bytes() == before
    assert contents.read("manifest.json")[0] == ord("{")
