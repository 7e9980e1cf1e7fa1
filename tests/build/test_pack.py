from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from edgevit.build.lock import lock_output
from edgevit.build.pack import check_output, pack_bundle, recover_output
from edgevit.core.errors import OutputError
from edgevit.runtime.bundle import load_bundle, verify_bundle
from tests.support.tiny_bundle import make_manifest

FILES: dict[str, Path | bytes] = {"model.onnx": b"weights", "recipe.toml": b"", "deep/er.txt": b"x"}


def _pack(out: Path, **changes: Any) -> None:
    pack_bundle(out, files=FILES, manifest=make_manifest(**changes))


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_bundle_holds_the_files_and_nothing_else(tmp_path: Path) -> None:
    source = tmp_path / "large.bin"
    source.write_bytes(bytes(range(256)) * 9000)
    bundle = pack_bundle(
        tmp_path / "a" / "b" / "out", files={**FILES, "large.bin": source}, manifest=make_manifest(name="first")
    )
    assert bundle.path == tmp_path / "a" / "b" / "out"
    assert verify_bundle(bundle.path) == bundle
    assert (bundle.path / "large.bin").read_bytes() == source.read_bytes()
    assert (bundle.path / "deep" / "er.txt").read_bytes() == b"x"
    assert _names(tmp_path / "a" / "b") == {"out"}


def test_bundle_is_readable_by_others_as_the_umask_says(tmp_path: Path) -> None:
    mask = os.umask(0o022)
    try:
        _pack(tmp_path / "out")
    finally:
        os.umask(mask)
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "out" / "manifest.json").stat().st_mode & 0o777 == 0o644


def test_earlier_bundle_is_replaced(tmp_path: Path) -> None:
    _pack(tmp_path / "out", name="first")
    pack_bundle(tmp_path / "out", files={"model.onnx": b"new"}, manifest=make_manifest(name="second"))
    bundle = verify_bundle(tmp_path / "out")
    assert bundle.manifest.name == "second"
    assert _names(tmp_path) == {"out"}
    assert _names(tmp_path / "out") == {"manifest.json", "model.onnx"}


def test_empty_folder_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    _pack(tmp_path / "out")
    verify_bundle(tmp_path / "out")


def test_damaged_bundle_is_replaced(tmp_path: Path) -> None:
    _pack(tmp_path / "out")
    (tmp_path / "out" / "model.onnx").write_bytes(b"other")
    (tmp_path / "out" / "recipe.toml").unlink()
    _pack(tmp_path / "out")
    verify_bundle(tmp_path / "out")


def test_link_to_a_bundle_goes_on_pointing_to_it(tmp_path: Path) -> None:
    _pack(tmp_path / "real", name="first")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    _pack(tmp_path / "link", name="second")
    assert (tmp_path / "link").is_symlink()
    assert load_bundle(tmp_path / "real").manifest.name == "second"


@pytest.mark.parametrize(
    "content", [{"photo.jpg": b"x"}, {"manifest.json": b"{}"}, {"manifest.json": b"[1]"}, {"manifest.json": b"{"}]
)
def test_folder_that_is_not_a_bundle_is_refused_and_untouched(tmp_path: Path, content: dict[str, bytes]) -> None:
    out = tmp_path / "out"
    out.mkdir()
    for name, data in content.items():
        (out / name).write_bytes(data)
    for act in (check_output, _pack):
        with pytest.raises(OutputError, match="not an edgevit bundle"):
            act(out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == content
    assert _names(tmp_path) == {"out"}


def test_bundle_with_files_of_somebody_else_is_refused_listing_them(tmp_path: Path) -> None:
    _pack(tmp_path / "out")
    (tmp_path / "out" / "notes.txt").write_bytes(b"mine")
    (tmp_path / "out" / "photos").mkdir()
    (tmp_path / "out" / "photos" / "cat.jpg").write_bytes(b"mine")
    with pytest.raises(OutputError) as caught:
        _pack(tmp_path / "out")
    assert "notes.txt" in caught.value.message
    assert "photos/cat.jpg" in caught.value.message
    assert (tmp_path / "out" / "notes.txt").read_bytes() == b"mine"


def test_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"mine")
    with pytest.raises(OutputError, match="not a folder"):
        _pack(tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == b"mine"


def test_current_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OutputError, match="current folder"):
        check_output(".")


@pytest.mark.parametrize("name", ["../x", "/x", "manifest.json", "a\\b"])
def test_file_name_that_a_bundle_cannot_hold_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(OutputError, match="cannot hold"):
        pack_bundle(tmp_path / "out", files={name: b""}, manifest=make_manifest())
    assert not (tmp_path / "out").exists()


def test_path_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for act in (check_output, _pack):
        with pytest.raises(OutputError, match="cannot be written"):
            act(tmp_path / "file" / "out")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_folder_without_permission_is_refused(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o555)
    with pytest.raises(OutputError, match="Permission denied"):
        check_output(tmp_path / "closed" / "out")


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs Linux's /proc")
def test_file_system_that_takes_no_folders_is_refused() -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        check_output("/proc/self/out")


def test_missing_source_file_is_named_and_the_earlier_bundle_stays(tmp_path: Path) -> None:
    _pack(tmp_path / "out", name="first")
    with pytest.raises(OutputError, match=r"gone\.bin"):
        pack_bundle(tmp_path / "out", files={"a": tmp_path / "gone.bin"}, manifest=make_manifest())
    assert verify_bundle(tmp_path / "out").manifest.name == "first"
    assert _names(tmp_path) == {"out"}


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("after", [0, 1, 2, 3])
def test_disk_that_fills_up_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, after: int
) -> None:
    _pack(tmp_path / "out", name="first")
    calls = 0

    def fsync(handle: int) -> None:
        nonlocal calls
        calls += 1
        if calls > after:
            raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OutputError, match="the disk is full") as caught:
        _pack(tmp_path / "out", name="second")
    assert "free some space" in caught.value.hint
    monkeypatch.undo()
    assert verify_bundle(tmp_path / "out").manifest.name == "first"
    assert _names(tmp_path) == {"out"}


def test_disk_without_room_is_refused_before_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=3))
    with pytest.raises(OutputError, match="has 3 bytes free, and the bundle needs 8"):
        _pack(tmp_path / "out")
    assert _names(tmp_path) == set()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
def test_real_full_device_is_reported_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real_open = Path.open

    def open_full(self: Path, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        if self.name == "model.onnx" and "x" in mode:
            return real_open(Path("/dev/full"), "wb")
        return real_open(self, mode, *args, **kwargs)

    monkeypatch.setattr(Path, "open", open_full)
    with pytest.raises(OutputError, match="the disk is full"):
        _pack(tmp_path / "out")
    assert _names(tmp_path) == set()


def test_figure_that_json_cannot_hold_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="JSON"):
        _pack(tmp_path / "out", figures={"a": float("inf")})
    assert _names(tmp_path) == set()


def test_interruption_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(handle: int) -> None:
        raise KeyboardInterrupt

    _pack(tmp_path / "out", name="first")
    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        _pack(tmp_path / "out", name="second")
    monkeypatch.undo()
    assert verify_bundle(tmp_path / "out").manifest.name == "first"
    assert _names(tmp_path) == {"out"}


def test_new_name_that_fails_gives_the_earlier_bundle_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _pack(tmp_path / "out", name="first")
    real, calls = os.rename, 0

    def rename(source: Any, target: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise OSError(errno.EIO, "Input/output error")
        real(source, target)

    monkeypatch.setattr(os, "rename", rename)
    with pytest.raises(OutputError, match="Input/output error"):
        _pack(tmp_path / "out", name="second")
    assert verify_bundle(tmp_path / "out").manifest.name == "first"
    assert _names(tmp_path) == {"out"}


_KILLED = """
import os, sys, signal
from pathlib import Path
from edgevit.build import pack
from tests.support.tiny_bundle import make_manifest
step, calls = int(sys.argv[2]), 0
def die(real):
    def call(*arguments, **options):
        global calls
        calls += 1
        if calls == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **options)
    return call
pack.os.fsync, pack.os.rename, pack.shutil.rmtree = die(os.fsync), die(os.rename), die(pack.shutil.rmtree)
pack.pack_bundle(sys.argv[1], files={"model.onnx": b"new"}, manifest=make_manifest(name="second"))
"""


@pytest.mark.parametrize("step", range(1, 7))
def test_build_killed_at_any_step_leaves_the_old_or_the_new_bundle(tmp_path: Path, step: int) -> None:
    # the steps: two files through to the disk, old aside, new in place, folder through to the disk, old deleted
    _pack(tmp_path / "out", name="first")
    done = subprocess.run(
        [sys.executable, "-c", _KILLED, str(tmp_path / "out"), str(step)], check=False, cwd=Path(__file__).parents[2]
    )
    assert done.returncode == -signal.SIGKILL
    recover_output(tmp_path / "out")
    name = verify_bundle(tmp_path / "out").manifest.name
    assert name == ("first" if step <= 4 else "second")
    assert {n for n in _names(tmp_path) if not n.endswith("-lock")} == {"out"}
    _pack(tmp_path / "out", name="third")
    assert verify_bundle(tmp_path / "out").manifest.name == "third"
    assert _names(tmp_path) == {"out"}


def test_second_build_at_the_same_time_is_refused(tmp_path: Path) -> None:
    with lock_output(tmp_path / "out"), pytest.raises(OutputError, match=f"process {os.getpid()}"):
        _pack(tmp_path / "out")


def test_build_that_holds_the_lock_packs_under_it(tmp_path: Path) -> None:
    with lock_output(tmp_path / "out") as lock:
        bundle = pack_bundle(tmp_path / "out", files=FILES, manifest=make_manifest(), lock=lock)
    verify_bundle(bundle.path)


def test_reader_never_sees_half_a_bundle(tmp_path: Path) -> None:
    _pack(tmp_path / "out", name="0")
    code = (
        "import sys\nfrom pathlib import Path\nfrom tests.support.tiny_bundle import make_manifest\n"
        "from edgevit.build.pack import pack_bundle\n"
        "for i in range(30): pack_bundle(sys.argv[1], files={'model.onnx': str(i).encode() * 1000}, "
        "manifest=make_manifest(name=str(i)))"
    )
    writer = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "out")], cwd=Path(__file__).parents[2])
    seen = 0
    while writer.poll() is None:
        try:
            content = (tmp_path / "out" / "manifest.json").read_bytes()
        except FileNotFoundError:  # between the two renames
            continue
        assert content.endswith(b"}\n")
        seen += 1
        time.sleep(0.001)
    assert writer.returncode == 0
    assert seen > 0
    verify_bundle(tmp_path / "out")


def test_names_beside_the_bundle_that_this_package_does_not_make_stay(tmp_path: Path) -> None:
    for name in (".out.edgevit-new-mine", "elsewhere", ".out.edgevit-new-4711"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("precious")
    (tmp_path / ".out.edgevit-new-1").symlink_to(tmp_path / "elsewhere")
    recover_output(tmp_path / "out")
    assert _names(tmp_path) == {".out.edgevit-new-mine", ".out.edgevit-new-1", "elsewhere"}
    assert (tmp_path / "elsewhere" / "file").read_text() == "precious"


def test_probe_of_the_output_writes_over_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "precious").write_text("precious")
    probe = tmp_path / ".out.edgevit-probe-taken"
    probe.symlink_to(tmp_path / "precious")
    monkeypatch.setattr("secrets.token_hex", lambda size: "taken")
    with pytest.raises(OutputError, match="cannot be written"):
        check_output(tmp_path / "out")
    assert (probe.is_symlink(), (tmp_path / "precious").read_text()) == (True, "precious")
