"""What OpenVINO compiled is kept by C++ as by Python, and taken by either from the other."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgevit.core.isa import list_tiers, read_tier
from edgevit.runtime import open_bundle
from tests.support.cpp_engine import CppEngine
from tests.support.tiny_onnx import make_images
from tests.support.under_tier import run_under_tier


@pytest.fixture
def bundle(built: dict[str, Path]) -> Path:
    return built["intel-cpu"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGEVIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "compiled"


def _answer(bundle: Path, **options: object) -> np.ndarray:
    with CppEngine(bundle, **options) as engine:  # type: ignore[arg-type]
        return engine.run(make_images(3))[0]


def _list(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_ino for path in folder.iterdir()} if folder.exists() else {}


def test_a_second_start_takes_what_the_first_compiled(bundle: Path, folder: Path) -> None:
    first = _answer(bundle)
    kept = _list(folder)
    (path,) = folder.iterdir()
    assert path.suffix == ".blob"
    assert (path.stat().st_mode & 0o777, folder.stat().st_mode & 0o777) == (0o600, 0o700)
    header = path.read_bytes()[:4096]
    assert header.startswith(b"edgevit compiled 1\nbackend openvino\nversion ")
    np.testing.assert_array_equal(_answer(bundle), first)
    assert _list(folder) == kept  # nothing was written anew


def answer_in_three_ways(bundle: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of C++ that compiles, of C++ that takes what was kept, and of Python that does."""
    compiled, kept = _answer(bundle, check="always"), _answer(bundle, check="always")
    with open_bundle(bundle, check="always") as predictor:
        return compiled, kept, predictor.run(make_images(3))


@pytest.mark.parametrize("tier", ["avx2", "avx512", "avx512_vnni"])
def test_another_instruction_set_compiles_for_itself(bundle: Path, folder: Path, tier: Any) -> None:
    if tier not in list_tiers():
        pytest.skip(f"no {tier} on this machine")
    _answer(bundle)
    here = _list(folder)
    compiled, kept, python = run_under_tier(tier, answer_in_three_ways, bundle)
    np.testing.assert_array_equal(kept, compiled)
    np.testing.assert_array_equal(python, compiled)
    both = _list(folder)
    assert here.items() <= both.items()
    assert len(both) == (1 if tier == read_tier() else 2)


def test_nothing_is_kept_where_nobody_verified_or_no_cache_is_wanted(bundle: Path, folder: Path) -> None:
    _answer(bundle, verify=False)
    _answer(bundle, cache_folder="")
    assert _list(folder) == {}


@pytest.mark.parametrize("fault", ["content", "header", "short", "mode", "link", "folder"])
def test_a_file_that_is_not_as_it_was_written_is_not_taken(
    bundle: Path, folder: Path, tmp_path: Path, fault: str
) -> None:
    first = _answer(bundle)
    (path,) = folder.iterdir()
    data = bytearray(path.read_bytes())
    if fault == "content":
        data[-1] ^= 1
    if fault == "header":
        data[30] ^= 1
    if fault in ("content", "header", "short"):
        path.write_bytes(data[: len(data) - (fault == "short")])
    if fault == "mode":
        path.chmod(0o666)
    if fault == "link":
        path.rename(tmp_path / "elsewhere.blob")
        path.symlink_to(tmp_path / "elsewhere.blob")
    if fault == "folder":
        folder.chmod(0o777)
    before = _list(folder)
    np.testing.assert_array_equal(_answer(bundle), first)
    assert (_list(folder) == before) == (fault == "folder")  # compiled and written again, if not in such a folder
    assert os.path.lexists(path)


def test_python_takes_what_cpp_kept_and_the_reverse(bundle: Path, folder: Path) -> None:
    module = pytest.importorskip("edgevit.runtime.compiled_file")
    from edgevit.runtime import open_bundle

    _answer(bundle)
    kept = _list(folder)
    with open_bundle(bundle) as python:
        assert python.run(make_images(3)).shape == (3, 10)
    assert _list(folder) == kept
    (path,) = folder.iterdir()
    path.unlink()
    with open_bundle(bundle):
        pass
    written = _list(folder)
    assert list(written) == list(kept)
    _answer(bundle)
    assert _list(folder) == written
    assert module.FOLDER == "compiled"
