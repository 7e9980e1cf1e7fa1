"""An OpenVINO engine that is not compiled a second time answers bit for bit as the compiled one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgevit.runtime import compiled_file, open_bundle
from edgevit.runtime import openvino as runtime
from edgevit.runtime.bundle import Bundle
from edgevit.runtime.pack_file import pack_file
from tests.support.tiny_bundle import make_bundle
from tests.support.tiny_onnx import make_images

pytest.importorskip("openvino")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("bundle")
    return make_bundle(folder / "out", folder / "work", target="intel-cpu", batch=(1, 2, 4))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGEVIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What OpenVINO was asked for."""
    core, made = runtime.get_core(), []

    class Counting:
        def __getattr__(self, name: str) -> Any:
            if name in ("compile_model", "import_model"):
                made.append(name)
            return getattr(core, name)

    monkeypatch.setattr(runtime, "get_core", Counting)
    return made


def answer(bundle: Bundle, **options: Any) -> tuple[bytes, dict[str, Any]]:
    with open_bundle(bundle.path, **options) as predictor:
        return predictor.run(make_images(6)).tobytes(), dict(predictor.settings)


def list_kept(cache: Path) -> list[Path]:
    return sorted((cache / "compiled").glob("*")) if cache.exists() else []


def test_second_opening_compiles_nothing_and_answers_bit_for_bit(bundle: Bundle, cache: Path, calls: list[str]) -> None:
    first = answer(bundle)
    assert calls == ["compile_model"]
    second = answer(bundle)
    assert calls == ["compile_model", "import_model"]
    assert second == first
    assert len(list_kept(cache)) == 1


def test_other_settings_are_compiled_for_themselves(bundle: Bundle, cache: Path, calls: list[str]) -> None:
    for threads in (1, 2, 1, 2):
        _, settings = answer(bundle, settings={"threads": threads, "ENABLE_CPU_PINNING": False})
        assert settings["threads"] == min(threads, len(os.sched_getaffinity(0)))
    assert calls == ["compile_model"] * 2 + ["import_model"] * 2
    assert len(list_kept(cache)) == 2


def test_another_bundle_is_compiled_for_itself(bundle: Bundle, tmp_path: Path, calls: list[str]) -> None:
    other = make_bundle(tmp_path / "out", tmp_path / "work", target="intel-cpu", precision="fp16")
    answer(bundle)
    answer(other)
    assert calls == ["compile_model"] * 2


@pytest.mark.parametrize("options", [{"verify": False}, {"keep_compiled": False}])
def test_nothing_is_kept_or_taken_where_files_are_not_checked_or_nobody_wants_it(
    bundle: Bundle, cache: Path, calls: list[str], options: dict[str, Any]
) -> None:
    answer(bundle, **options)
    assert list_kept(cache) == []
    answer(bundle)
    answer(bundle, **options)
    assert "import_model" not in calls


def test_caller_with_a_cache_of_the_librarys_own_gets_no_second_one(
    bundle: Bundle, cache: Path, tmp_path: Path
) -> None:
    answer(bundle, settings={"CACHE_DIR": str(tmp_path / "own")})
    assert list_kept(cache) == []


@pytest.mark.parametrize("damage", ["flipped", "short", "foreign"])
def test_damaged_file_is_compiled_and_written_again(bundle: Bundle, cache: Path, calls: list[str], damage: str) -> None:
    first = answer(bundle)
    (file,) = list_kept(cache)
    whole = file.read_bytes()
    file.write_bytes({"flipped": whole[:-1] + b"\1", "short": whole[:5000], "foreign": b"x"}[damage])
    assert answer(bundle) == first
    assert calls == ["compile_model"] * 2
    assert file.read_bytes()[: compiled_file.HEADER_BYTES].startswith(b"edgevit compiled 1\n")
    assert answer(bundle) == first
    assert calls[-1] == "import_model"


def test_content_that_openvino_refuses_is_compiled_again(bundle: Bundle, cache: Path, calls: list[str]) -> None:
    first = answer(bundle)
    (file,) = list_kept(cache)
    key = file.read_bytes()[: compiled_file.HEADER_BYTES].split(b"content ")[0].decode()
    compiled_file.write_compiled(key, b"of a version that said it was another" * 9)
    assert answer(bundle) == first
    assert calls == ["compile_model", "import_model", "compile_model"]
    assert answer(bundle) == first
    assert calls[-1] == "import_model"


def test_nothing_is_kept_of_files_that_were_replaced_while_they_were_compiled(
    bundle: Bundle, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    core, weights = runtime.get_core(), bundle.path / "model.bin"
    content = weights.read_bytes()

    class Replacing:
        def __getattr__(self, name: str) -> Any:
            if name == "compile_model":
                weights.unlink()  # what is open keeps the old file
                weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
            return getattr(core, name)

    monkeypatch.setattr(runtime, "get_core", Replacing)
    try:
        answer(bundle)
        assert list_kept(cache) == []
    finally:
        weights.write_bytes(content)
    monkeypatch.setattr(runtime, "get_core", lambda: core)
    answer(bundle)
    assert len(list_kept(cache)) == 1


def test_packed_bundle_shares_what_was_compiled_of_its_folder(
    bundle: Bundle, cache: Path, tmp_path: Path, calls: list[str]
) -> None:
    packed = pack_file(bundle.path, tmp_path / "bundle.edgevit")
    first = answer(bundle)
    for _ in range(2):
        with open_bundle(packed) as predictor:
            assert predictor.run(make_images(6)).tobytes() == first[0]
    assert calls == ["compile_model", "import_model", "import_model"]
    assert len(list_kept(cache)) == 1


def test_file_that_lies_in_the_bundle_is_never_taken(bundle: Bundle, cache: Path, calls: list[str]) -> None:
    first = answer(bundle)
    (file,) = list_kept(cache)
    folder = bundle.path / "compiled"
    folder.mkdir()
    file.rename(folder / file.name)
    try:
        assert answer(bundle, keep_compiled=False) == first
        assert calls == ["compile_model"] * 2
    finally:
        (folder / file.name).unlink()
        folder.rmdir()


def test_cache_that_is_read_only_is_read(
    bundle: Bundle, cache: Path, calls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = answer(bundle)

    def refuse(*arguments: object) -> None:
        raise PermissionError(30, "read-only file system")

    monkeypatch.setattr(os, "utime", refuse)
    monkeypatch.setattr(os, "replace", refuse)
    assert answer(bundle) == first
    assert calls[-1] == "import_model"


def test_cache_that_cannot_be_written_costs_nothing_but_the_time(bundle: Bundle, cache: Path, calls: list[str]) -> None:
    cache.write_text("no folder")
    assert answer(bundle) == answer(bundle)
    assert calls == ["compile_model"] * 2


def test_what_was_kept_may_be_deleted_while_it_answers(bundle: Bundle, cache: Path) -> None:
    expected = answer(bundle)[0]
    with open_bundle(bundle.path) as predictor:
        (file,) = list_kept(cache)
        file.unlink()
        assert predictor.run(make_images(6)).tobytes() == expected
    with open_bundle(bundle.path) as first, open_bundle(bundle.path) as second:
        first.close()
        np.testing.assert_array_equal(second.run(make_images(6)).tobytes(), expected)


def test_the_processor_is_found_without_a_list_of_all_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> tuple[str, ...]:
        raise AssertionError("it loads the plugins of all devices")

    monkeypatch.setattr(runtime, "list_devices", refuse)
    assert runtime.has_device("CPU")
