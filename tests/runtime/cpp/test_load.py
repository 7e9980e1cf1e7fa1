"""The C++ runtime under load and in trouble: side by side, under sanitizers, with files that go and memory refused."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from benchmarks import bench_soak
from tests.support.attack_list import write_attack_list
from tests.support.cpp_build import SOURCES, build_cpp
from tests.support.cpp_engine import choose_libraries, find_headers

_PROGRAMS = ["edgevit_everything", "edgevit_soak", "edgevit_trouble"]


@pytest.fixture(scope="module")
def programs() -> Path:
    return build_cpp(_PROGRAMS, choose_libraries()) / "src" / "api"


@pytest.fixture(scope="module", params=["intel-cpu", "cpu"])
def tiny(request: pytest.FixtureRequest, built: dict[str, Path]) -> Path:
    """OpenVINO's, and ONNX Runtime's where its headers are here."""
    if request.param == "cpu" and find_headers() is None:
        pytest.skip("ONNX Runtime's headers are absent: python -m scripts.get_onnxruntime_headers")
    return built[request.param]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEVIT_CACHE", str(tmp_path / "cache"))


def _run(*command: object, **variables: str) -> list[str]:
    """Lines of its output; it has to succeed."""
    environment = {**os.environ, **variables}
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, f"{done.returncode}\n{done.stdout[-6000:]}{done.stderr[-12000:]}"
    return done.stdout.splitlines()


def _run_short(*command: object) -> list[str]:
    """The same of a process that is refused memory, which libraries below ours may end; ours never does."""
    try:
        return _run(*command)
    except AssertionError as exc:
        if "Fatal glibc error" not in str(exc):
            raise
        pytest.skip("the C library had no memory for itself, and ended the process")


def test_everything_at_once_is_answered_as_one_by_one(programs: Path, tiny: Path, tmp_path: Path) -> None:
    attacks = write_attack_list(tmp_path)
    assert _run(programs / "edgevit_everything", tiny, 3, attacks) == ["0 faults"]


@pytest.mark.slow
@pytest.mark.parametrize("sanitizer", ["address,undefined", "thread"])
def test_everything_at_once_is_clean_under_sanitizers(tiny: Path, tmp_path: Path, sanitizer: str) -> None:
    build = build_cpp(["edgevit_everything"], {**choose_libraries(), "EDGEVIT_SANITIZE": sanitizer})
    suppressions = SOURCES / "tests" / "suppressions"
    options = {
        "ASAN_OPTIONS": "detect_stack_use_after_return=1",
        "LSAN_OPTIONS": f"suppressions={suppressions / 'leak.txt'}:print_suppressions=0",
        # the engine libraries are not compiled for it: what only they read and write is left out, their locks are not
        "TSAN_OPTIONS": "ignore_noninstrumented_modules=1:halt_on_error=1",
    }
    attacks = write_attack_list(tmp_path)
    assert _run(build / "src/api/edgevit_everything", tiny, 2, attacks, **options) == ["0 faults"]


def test_soak_of_the_program_finds_no_other_answer(programs: Path, tiny: Path) -> None:
    pictures = bench_soak.draw_pictures(12)
    found = bench_soak.ask_command(str(programs / "edgevit_soak"), tiny, pictures, 200, 4, 40)
    assert (found.images, found.wrong, len(found.resident_bytes)) == (200, 0, 2)
    assert min(found.resident_bytes) > 1 << 20


def test_a_bundle_that_is_removed_goes_on_answering(programs: Path, tiny: Path, tmp_path: Path) -> None:
    bundle = shutil.copytree(tiny, tmp_path / "bundle")
    assert _run(programs / "edgevit_trouble", "removed", bundle) == [f"not-a-bundle: {bundle} is not there"]
    assert not bundle.exists()


@pytest.mark.slow  # where the limit falls is chance: the C library or OpenVINO may end the process by themselves
@pytest.mark.parametrize("kib", [0, 3072])
def test_refused_memory_is_told_and_leaves_the_process_usable(programs: Path, built: dict[str, Path], kib: int) -> None:
    """OpenVINO's only: with ONNX Runtime so little did not always end in an error."""
    status, hint, message, *_ = _run_short(programs / "edgevit_trouble", "memory", built["intel-cpu"], kib)
    assert status in ("error", "device")
    assert "memory" in hint
    assert message


def test_enough_memory_is_enough(programs: Path, tiny: Path) -> None:
    assert _run(programs / "edgevit_trouble", "memory", tiny, 4 << 20)[0] == "ok"


@pytest.mark.slow
def test_threads_that_get_no_memory_for_a_request_get_an_answer_later(programs: Path, built: dict[str, Path]) -> None:
    """OpenVINO's only: ONNX Runtime ends a process that has no memory for a thread's first call."""
    (said,) = _run_short(programs / "edgevit_trouble", "requests", built["intel-cpu"], 0)
    assert said.endswith(" of 6 failed, 0 wrong later")
