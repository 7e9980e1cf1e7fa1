"""Archives of finished stages: what was put in comes out, and nothing else does, whoever wrote them."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from edgevit.core import stage_archive
from edgevit.core.done_file import DONE, write_done
from edgevit.core.stage_archive import ArchiveError, read_archive, write_archive

NAME = f"export/{'a' * 32}"
PLENTY = 1 << 30


@pytest.fixture(scope="module", autouse=True)
def no_sync():
    """Hundreds of small files need not reach the disk."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda number: None)
        yield


def write_stage(folder: Path, files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    write_done(folder, NAME, {"a": 1})


def pack(files: Mapping[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tempfile.TemporaryDirectory() as folder:
        write_stage(Path(folder), files)
        write_archive(Path(folder), stream)
    return stream.getvalue()


def unpack(archive: bytes, folder: Path, *, most_bytes: int = PLENTY) -> dict[str, bytes]:
    """The stage's files, without its record."""
    folder.mkdir(exist_ok=True)
    read_archive(io.BytesIO(archive), folder, NAME, most_bytes=most_bytes)
    found = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert DONE in found
    return {name: content for name, content in found.items() if name != DONE}


part = st.text(st.characters(exclude_characters="/\0"), min_size=1, max_size=40).filter(lambda s: s not in (".", ".."))
names = st.lists(part, min_size=1, max_size=3).map("/".join)
stages = st.dictionaries(names, st.binary(max_size=2000), max_size=6)


@given(files=stages)
def test_any_files_come_out_as_they_went_in(files):
    with tempfile.TemporaryDirectory() as scratch:
        try:
            (Path(scratch) / "there").mkdir()
            write_stage(Path(scratch) / "there", files)
        except (OSError, ValueError):
            assume(False)  # no names of this file system, or a file and a folder
        stream = io.BytesIO()
        assume(DONE not in files)
        write_archive(Path(scratch) / "there", stream)
        assert unpack(stream.getvalue(), Path(scratch) / "here") == files


def test_names_that_are_not_text_and_files_of_many_blocks_come_out(tmp_path):
    files = {os.fsdecode(b"\xff\xfe.bin"): bytes(range(256)) * 9000, "n" * 200 + "/" + "m" * 200: b""}
    assert unpack(pack(files), tmp_path / "here") == files


def test_archive_is_a_tar_file_that_others_read(tmp_path):
    with tarfile.open(fileobj=io.BytesIO(pack({"a/b": b"one", "c": b"two"})), mode="r:") as tar:
        members = {member.name: tar.extractfile(member).read() for member in tar}
    (called,) = [name for name in members if name.endswith(DONE)]
    assert called == f"{hashlib.sha256(members[called]).hexdigest()}.{DONE}"
    record = json.loads(members.pop(called))
    assert record["stage"] == NAME
    assert record["files"] == {name: [3, hashlib.sha256(c).hexdigest()] for name, c in (("a/b", b"one"), ("c", b"two"))}
    assert members == {hashlib.sha256(c).hexdigest(): c for c in (b"one", b"two")}


WHOLE = pack({"model.onnx": b"graph" * 300, "weights/model.data": bytes(1000), "empty": b""})


@given(data=st.data())
def test_damaged_archive_is_refused_or_gives_the_same_files(data):
    content = bytearray(WHOLE)
    kind = data.draw(st.sampled_from(["flip", "cut", "insert", "zeros", "repeat"]))
    at = data.draw(st.integers(0, len(content) - 1))
    if kind == "flip":
        content[at] ^= 1 << data.draw(st.integers(0, 7))
    elif kind == "cut":
        del content[at:]
    elif kind == "insert":
        content[at:at] = data.draw(st.binary(min_size=1, max_size=600))
    elif kind == "zeros":
        content[at : at + 512] = bytes(len(content[at : at + 512]))
    else:
        content[at:at] = content[: data.draw(st.integers(512, 2048))]
    with tempfile.TemporaryDirectory() as scratch:
        try:
            found = unpack(bytes(content), Path(scratch) / "here")
        except ArchiveError:
            found = None
        assert os.listdir(scratch) == ["here"]
    assert found in (None, {"model.onnx": b"graph" * 300, "weights/model.data": bytes(1000), "empty": b""})


def test_name_of_a_file_that_was_damaged_in_the_record_is_noticed(tmp_path):
    content = bytearray(WHOLE)
    at = content.index(b'"empty"') + 1
    content[at] ^= 1
    with pytest.raises(ArchiveError, match="or that is damaged"):
        unpack(bytes(content), tmp_path / "here")
    assert list_all(tmp_path) == ["here"]


@given(content=st.binary(max_size=3000))
def test_no_bytes_are_taken_for_an_archive(content):
    with tempfile.TemporaryDirectory() as scratch, pytest.raises(ArchiveError):
        unpack(content, Path(scratch) / "here")


def forge(
    files: Mapping[str, Any],
    members: Mapping[str, bytes] | None = None,
    *,
    stage: object = NAME,
    change: Callable[[tarfile.TarInfo], None] = lambda member: None,
) -> bytes:
    """An archive with a record of somebody's own; ``change`` sees its members after the record."""
    record = json.dumps({"stage": stage, "inputs": {}, "files": files}).encode()
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT) as tar:
        called = f"{hashlib.sha256(record).hexdigest()}.{DONE}"
        for name, content in {called: record, **(members or {})}.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            if name != called:
                change(member)
            tar.addfile(member, io.BytesIO(content) if member.isreg() else None)
    return stream.getvalue()


EVIL = b"evil"
DIGEST = hashlib.sha256(EVIL).hexdigest()


def list_all(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*"))


def test_a_forged_archive_would_be_taken_if_it_did_no_harm(tmp_path):
    assert unpack(forge({"x/y": [4, DIGEST]}, {DIGEST: EVIL}), tmp_path / "here") == {"x/y": EVIL}


@pytest.mark.parametrize(
    "name",
    ["../x", "x/../../y", "/tmp/edgevit-evil", "..", ".", "", "//x", "a\0b", DONE, f"./{DONE}", f"{DONE}/x"],
)
def test_names_that_lead_elsewhere_are_refused_before_anything_is_written(tmp_path, name):
    archive = forge({"first": [4, DIGEST], name: [4, DIGEST]}, {DIGEST: EVIL})
    with pytest.raises(ArchiveError):
        unpack(archive, tmp_path / "here")
    assert list_all(tmp_path) == ["here"]


@pytest.mark.parametrize("names", [("a", "a/b"), ("a/b/c", "a/b"), ("a", "./a"), ("a/b", "a//b")])
def test_names_that_are_in_one_anothers_way_are_refused(tmp_path, names):
    archive = forge({name: [4, DIGEST] for name in names}, {DIGEST: EVIL})
    with pytest.raises(ArchiveError, match="twice, or a file and a folder"):
        unpack(archive, tmp_path / "here")
    assert list_all(tmp_path) == ["here"]


def make_link(kind: bytes) -> Callable[[tarfile.TarInfo], None]:
    def change(member: tarfile.TarInfo) -> None:
        member.type, member.linkname = kind, "/etc/passwd"

    return change


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_other_members_are_refused(tmp_path, kind):
    with pytest.raises(ArchiveError, match="where the file"):
        unpack(forge({"x": [4, DIGEST]}, {DIGEST: EVIL}, change=make_link(kind)), tmp_path / "here")
    assert list_all(tmp_path) == ["here"]


@pytest.mark.parametrize("name", ["../x", "/tmp/edgevit-evil", "x", "b" * 64, "x" * 300])
def test_members_with_other_names_are_refused(tmp_path, name):
    with pytest.raises(ArchiveError, match="where the file"):
        unpack(forge({"x": [4, DIGEST]}, {name: EVIL}), tmp_path / "here")
    assert list_all(tmp_path) == ["here"]


def test_more_than_there_is_room_for_is_refused_before_anything_is_written(tmp_path):
    archive = forge({"x": [4, DIGEST], "y": [4, DIGEST]}, {DIGEST: EVIL})
    with pytest.raises(ArchiveError, match="8 bytes, and there is room for 7"):
        unpack(archive, tmp_path / "here", most_bytes=7)
    with pytest.raises(ArchiveError, match="there is room for"):
        unpack(forge({"x": [1 << 62, DIGEST]}), tmp_path / "here")
    assert list_all(tmp_path) == ["here"]


def test_file_larger_than_the_record_says_is_refused_unread(tmp_path):
    with pytest.raises(ArchiveError, match="has 4 bytes where its record says 3"):
        unpack(forge({"x": [3, DIGEST]}, {DIGEST: EVIL}), tmp_path / "here")
    assert list_all(tmp_path) == ["here"]


def test_record_that_is_too_long_is_refused_unread(tmp_path, monkeypatch):
    monkeypatch.setattr(stage_archive, "MOST_RECORD_BYTES", 50)
    with pytest.raises(ArchiveError, match=r"done\.json has \d+ bytes"):
        unpack(forge({}), tmp_path / "here")


@pytest.mark.parametrize("file", [None, [4], [4, DIGEST, 0], ["4", DIGEST], [True, DIGEST], [-1, DIGEST], [4, "x"], 7])
def test_record_without_sizes_and_hashes_is_refused(tmp_path, file):
    with pytest.raises(ArchiveError):
        unpack(forge({"x": file}, {DIGEST: EVIL}), tmp_path / "here")
    assert list_all(tmp_path) == ["here"]


def test_archive_under_another_stages_name_is_refused(tmp_path):
    for stage in ("export/other", None, 7):
        with pytest.raises(ArchiveError, match="it is of the stage"):
            unpack(forge({"x": [4, DIGEST]}, {DIGEST: EVIL}, stage=stage), tmp_path / "here")


def test_name_that_is_too_long_here_is_a_damaged_archive_and_no_error_of_the_disk(tmp_path):
    with pytest.raises(ArchiveError, match="cannot be unpacked"):
        unpack(forge({"x" * 300: [4, DIGEST]}, {DIGEST: EVIL}), tmp_path / "here")
