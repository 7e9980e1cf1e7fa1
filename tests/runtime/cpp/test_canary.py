"""The canary in C++: the same rule, the same file and the same memory as in Python."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgevit.core.report.place import CanaryRecord, Place
from edgevit.runtime import open_bundle
from edgevit.runtime.manifest import Manifest, dump_manifest, load_manifest
from tests.support.cpp_engine import CppEngine, CppError, find_headers


@pytest.fixture(params=["intel-cpu", "cpu"])
def bundle(request: pytest.FixtureRequest, built: dict[str, Path], tmp_path: Path) -> Path:
    """A copy that a test may change."""
    if request.param == "cpu" and find_headers() is None:
        pytest.skip("ONNX Runtime's headers are absent: python -m scripts.get_onnxruntime_headers")
    return shutil.copytree(built[request.param], tmp_path / "bundle")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGEVIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def _change(bundle: Path, change: Callable[[CanaryRecord], CanaryRecord]) -> Manifest:
    manifest = load_manifest(bundle)
    changed = dataclasses.replace(manifest, canary=change(manifest.canary))
    (bundle / "manifest.json").write_bytes(dump_manifest(changed))
    return changed


def _move(bundle: Path, **parts: Any) -> None:
    """As if it was judged elsewhere."""

    def elsewhere(record: CanaryRecord) -> CanaryRecord:
        place: Place = record.place
        return dataclasses.replace(record, place=dataclasses.replace(place, **parts))

    _change(bundle, elsewhere)


def _status(bundle: Path, **options: Any) -> str:
    with CppEngine(bundle, **options) as engine:
        return str(engine.canary.status.decode())


def test_the_place_is_pythons(bundle: Path) -> None:
    assert _status(bundle) == "same place"  # the build judged it here, in Python


def test_never_and_always(bundle: Path) -> None:
    with CppEngine(bundle, check="never") as engine:
        assert engine.canary.status == b"not checked"
        assert math.isnan(engine.canary.sqnr_db)
    with CppEngine(bundle, check="always") as ours, open_bundle(bundle, check="always") as python:
        assert ours.canary.status == b"passed"
        assert ours.canary.inferences == python.canary.inferences == 3
        assert ours.canary.least_db == python.canary.least_db
        for name in ("sqnr_db", "built_db", "against_build_db"):
            wanted = getattr(python.canary, name)
            assert getattr(ours.canary, name) == (math.inf if wanted is None else pytest.approx(wanted, abs=0.011))


def test_a_pass_elsewhere_is_remembered_by_both(bundle: Path, own_cache: Path) -> None:
    _move(bundle, device="another processor, Größe 2")
    assert _status(bundle) == "passed"
    (memory,) = (own_cache / "canary").iterdir()
    with open_bundle(bundle) as python:
        assert python.canary.status == "remembered"
    written = memory.read_bytes()
    memory.unlink()
    with open_bundle(bundle) as python:
        assert python.canary.status == "passed"
    assert [path.name for path in (own_cache / "canary").iterdir()] == [memory.name]
    assert set(json.loads(written)) == set(json.loads(memory.read_bytes())) == {"passed", "sqnr_db"}
    assert _status(bundle) == "remembered"


def test_settings_are_a_part_of_the_place(bundle: Path, own_cache: Path) -> None:
    properties: dict[str, Any] = {"ENABLE_CPU_PINNING": False, "session.set_denormal_as_zero": "1"}
    key = "ENABLE_CPU_PINNING" if load_manifest(bundle).engine.backend == "openvino" else "session.set_denormal_as_zero"
    with open_bundle(bundle, settings={key: properties[key]}) as python:
        assert python.canary.status == "passed"
    given = properties[key] if isinstance(properties[key], bool) else "1"
    found = _status(bundle, settings={key: given})
    # a text of digits is a number here, so it is another place
    assert found == ("remembered" if isinstance(properties[key], bool) else "passed")


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"[1]", b'{"passed": false, "sqnr_db": 99.0}', b'{"passed": true, "sqnr_db": 1.0}', b"\xff" * 9000],
)
def test_a_memory_that_does_not_pass_is_none(bundle: Path, own_cache: Path, content: bytes) -> None:
    _move(bundle, device="another")
    assert _status(bundle) == "passed"
    (memory,) = (own_cache / "canary").iterdir()
    memory.write_bytes(content)
    assert _status(bundle) == "passed"


def test_an_engine_that_answers_otherwise_is_refused_with_both_figures(bundle: Path, own_cache: Path) -> None:
    _move(bundle, version="1.2.3")
    _change(bundle, lambda record: dataclasses.replace(record, least_db=299.0, sqnr_db=300.0))
    with pytest.raises(CppError, match=r"at the build it was 300\.0 dB, and 299\.0 dB is the least") as caught:
        CppEngine(bundle)
    assert caught.value.code == "canary"
    assert "engine library" in caught.value.message
    assert "at the build" in caught.value.message
    assert "edgevit build" in caught.value.hint
    assert not (own_cache / "canary").exists()
    assert _status(bundle, check="never") == "not checked"


def test_a_canary_that_is_not_as_the_manifest_says_is_damaged(bundle: Path) -> None:
    (bundle / "canary.npz").write_bytes(b"\0" * (bundle / "canary.npz").stat().st_size)
    with pytest.raises(CppError) as caught:
        CppEngine(bundle, check="always", verify=False)
    assert caught.value.code == "damaged"


def test_a_folder_that_cannot_be_written_costs_the_inferences_only(bundle: Path, tmp_path: Path) -> None:
    _move(bundle, device="another")
    (tmp_path / "file").write_text("")
    assert _status(bundle, cache_folder=tmp_path / "file" / "cache") == "passed"
    assert _status(bundle, cache_folder="") == "passed"


def test_a_folder_with_other_files_gets_a_cache_of_its_own_in_it(bundle: Path, tmp_path: Path) -> None:
    _move(bundle, device="another")
    other = tmp_path / "other"
    other.mkdir()
    (other / "mine.txt").write_text("mine")
    assert _status(bundle, cache_folder=other) == "passed"
    assert sorted(path.name for path in other.iterdir()) == ["edgevit-cache", "mine.txt"]
    assert (other / "edgevit-cache" / ".edgevit-cache").is_file()
    assert _status(bundle, cache_folder=other) == "remembered"
