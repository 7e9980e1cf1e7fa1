"""The wheel that is packed for a device from the running package."""

from __future__ import annotations

import csv
import hashlib
import io
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from edgevit.remote.wheel import make_wheel

ROOT = Path(__file__).resolve().parents[2]


def test_wheel_is_the_same_for_the_same_files(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert make_wheel(tmp_path / "a").read_bytes() == make_wheel(tmp_path / "b").read_bytes()


def test_wheel_holds_the_package_with_its_data_and_no_caches(tmp_path):
    wheel = make_wheel(tmp_path)
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        assert archive.testzip() is None
        assert archive.read("edgevit/remote/agent.py") == (ROOT / "edgevit/remote/agent.py").read_bytes()
        record = list(csv.reader(io.StringIO(archive.read(next(n for n in names if n.endswith("/RECORD"))).decode())))
        sizes = {name: archive.getinfo(name).file_size for name in names}
    assert {row[0] for row in record} == names
    assert all(sizes[name] == int(size) for name, digest, size in record if digest)
    assert not [n for n in names if "__pycache__" in n]
    sources = {f"edgevit/{p.relative_to(ROOT / 'edgevit').as_posix()}" for p in (ROOT / "edgevit").rglob("*.py")}
    assert sources <= names
    assert {f"edgevit/_data/targets/{p.name}" for p in (ROOT / "targets").glob("*.toml")} <= names
    assert not [n for n in names if n.endswith((".cpp", ".html", ".safetensors"))], "no job on a device opens them"
    assert wheel.stat().st_size < 1_200_000


def test_wheel_installs_by_pip_and_packs_the_same_wheel_again(tmp_path):
    """As a device gets it: from an installed package there is no checkout to pack from."""
    wheel = make_wheel(tmp_path)
    site = tmp_path / "site"
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--no-index",
        "--target",
        str(site),
        str(wheel),
    ]
    installed = subprocess.run(command, capture_output=True, text=True, check=False)
    if "No module named pip" in installed.stderr:
        pytest.skip("there is no pip")
    assert installed.returncode == 0, installed.stderr
    code = (
        "import sys, pathlib, edgevit.core.target as t; from edgevit.remote.wheel import make_wheel\n"
        "print(t.find_shipped('targets')); print(make_wheel(pathlib.Path(sys.argv[1])))"
    )
    (tmp_path / "again").mkdir()
    result = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "again")],
        cwd=tmp_path,
        env={"PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1"},
        check=True,
        capture_output=True,
        text=True,
    )
    targets, again = result.stdout.split()
    assert targets.startswith(str(site))
    digests = [hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in (wheel, again)]
    assert digests[0] == digests[1]
