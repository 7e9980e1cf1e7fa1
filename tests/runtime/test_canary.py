"""A bundle's canary: the rule by hand, what is answered when, and files that lie."""

from __future__ import annotations

import copy
import dataclasses
import io
import json
import math
import os
import re
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgevit.core.errors import BundleError, DeviceError, EdgevitError
from edgevit.core.report.place import CANARY_FILE, CanaryRecord, Place, choose_least_db, compare_places
from edgevit.core.schema import FieldError
from edgevit.runtime import open_bundle
from edgevit.runtime.bundle import Bundle, load_bundle
from edgevit.runtime.canary import Check, locate_bundle, measure_sqnr, try_canary
from edgevit.runtime.canary_file import Canary, dump_canary, read_canary
from edgevit.runtime.manifest import dump_manifest, hash_file
from edgevit.runtime.onnxruntime import OnnxRuntimeExecutor
from edgevit.runtime.session import open_engine
from tests.support.tiny_bundle import make_bundle
from tests.support.tiny_onnx import CLASSES, SIZE

SETTINGS = {"session.set_denormal_as_zero": "1"}
"""One of ONNX Runtime's own, which may change answers."""


@pytest.fixture(autouse=True)
def own_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """What one test's place has passed is not remembered in another."""
    monkeypatch.setenv("EDGEVIT_CACHE", str(tmp_path / "memory"))
    return tmp_path / "memory"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("canary")
    return make_bundle(folder / "out", folder / "work", canary=True)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Images of every inference of ONNX Runtime."""
    seen: list[int] = []
    execute = OnnxRuntimeExecutor.execute

    def count(self: OnnxRuntimeExecutor, batch: Any) -> Any:
        seen.append(len(batch))
        return execute(self, batch)

    monkeypatch.setattr(OnnxRuntimeExecutor, "execute", count)
    return seen


def rewrite(bundle: Bundle, folder: Path, content: bytes | None = None, **record: Any) -> Bundle:
    """A copy with another canary file or record, whose manifest is whole."""
    folder.mkdir()
    for name in bundle.manifest.files:
        (folder / name).write_bytes((bundle.path / name).read_bytes())
    if content is not None:
        (folder / CANARY_FILE).write_bytes(content)
    assert bundle.manifest.canary is not None
    canary = dataclasses.replace(bundle.manifest.canary, **record)
    files = {**bundle.manifest.files, CANARY_FILE: hash_file(folder / CANARY_FILE)}
    manifest = dataclasses.replace(bundle.manifest, canary=canary, files=files)
    (folder / "manifest.json").write_bytes(dump_manifest(manifest))
    return load_bundle(folder)


def place_of(bundle: Bundle) -> Place:
    assert bundle.manifest.canary is not None
    assert bundle.manifest.canary.place is not None
    return bundle.manifest.canary.place


def elsewhere(bundle: Bundle, folder: Path, **record: Any) -> Bundle:
    """A copy that was judged with another version of the library."""
    return rewrite(bundle, folder, place=dataclasses.replace(place_of(bundle), version="0.0.1"), **record)


# --- the rule ---


def test_sqnr_is_the_formulas_over_all_images_of_an_output() -> None:
    reference = np.array([[3.0, 4.0], [0.0, 5.0]], np.float32)  # signal 50
    answers = np.array([[3.5, 4.0], [0.0, 5.5]], np.float32)  # noise 0.5
    assert measure_sqnr([reference], [answers]) == pytest.approx(20.0)


def test_the_output_with_most_noise_counts_however_small_its_values() -> None:
    large, small = np.full((1, 4), 1000.0, np.float32), np.full((1, 4), 0.001, np.float32)
    assert measure_sqnr([large, small], [large, 1.1 * small]) == pytest.approx(20.0, abs=1e-3)


def test_equal_answers_have_no_noise_and_answers_that_are_no_numbers_no_sqnr() -> None:
    one = np.ones((1, 2), np.float32)
    assert measure_sqnr([one], [one]) == math.inf
    for bad in (np.nan, np.inf, -np.inf):
        assert math.isnan(measure_sqnr([one], [np.array([[1, bad]], np.float32)]))


@pytest.mark.parametrize(
    ("seen", "least"), [(28.0, 23.0), (54.9, 49.9), (55.0, 50.0), (110.0, 50.0), (None, 50.0), (-1.0, -6.0)]
)
def test_five_db_below_what_the_build_saw_are_asked_and_never_more_than_fifty(seen: float | None, least: float) -> None:
    assert choose_least_db(seen) == least


def test_places_differ_by_each_of_their_parts_and_by_nothing_else() -> None:
    built = Place("openvino", "2026.4.1", "AMD EPYC", "avx512_vnni", None, {"inference_precision": "f32"})
    assert compare_places(built, built) == {}
    changes: list[dict[str, Any]] = [
        {"backend": "onnxruntime"}, {"version": "2026.4.2"}, {"device": "Intel N100"}, {"instruction_set": "avx2"},
        {"driver": "24.1"}, {"settings": {"inference_precision": "bf16"}}, {"settings": {}},
    ]  # fmt: skip
    parts = [list(compare_places(dataclasses.replace(built, **change), built)) for change in changes]
    assert parts == [
        ["engine library"], ["engine library"], ["device"], ["instruction set"], ["driver"], ["inference_precision"],
        ["inference_precision"],
    ]  # fmt: skip
    assert compare_places(dataclasses.replace(built, settings={}), built) == {"inference_precision": ("not set", "f32")}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"images": 0}, "images = 0"),
        ({"images": 4}, "images = 4"),
        ({"least_db": math.nan}, "least_db = nan"),
        ({"sqnr_db": math.inf}, "sqnr_db = inf"),
        ({"place": None}, "place"),
        ({"answers": "graph"}, "place"),
    ],
)
def test_record_that_contradicts_itself_is_refused(change: dict[str, Any], said: str) -> None:
    record = CanaryRecord(images=3, least_db=25.0, sqnr_db=28.0, place=Place("openvino", "1"))
    with pytest.raises(FieldError, match=re.escape(said)):
        dataclasses.replace(record, **change)


# --- what is answered when ---


def test_where_it_was_judged_nothing_is_answered(made: Bundle, calls: list[int], own_memory: Path) -> None:
    with open_bundle(made.path) as predictor:
        assert predictor.canary.status == "same place"
    assert calls == []
    assert not own_memory.exists(), "nothing is written where there is nothing to remember"


def test_another_version_of_the_library_costs_three_inferences_once(
    made: Bundle, calls: list[int], tmp_path: Path
) -> None:
    bundle = elsewhere(made, tmp_path / "copy")
    with open_bundle(bundle.path) as predictor:
        found = predictor.canary
    assert (found.status, found.inferences, calls) == ("passed", 3, [1, 1, 1])
    assert found.sqnr_db is not None
    assert found.sqnr_db > 80
    here = place_of(made).version
    assert found.differences == {"engine library": (f"onnxruntime {here}", "onnxruntime 0.0.1")}
    for _ in range(2):
        with open_bundle(bundle.path) as predictor:
            assert (predictor.canary.status, predictor.canary.sqnr_db) == ("remembered", found.sqnr_db)
    assert calls == [1, 1, 1]


def test_one_call_answers_where_a_batch_holds_the_images(calls: list[int], tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "out", tmp_path / "work", batch=(1, 2, 4), canary=True)
    calls.clear()
    with open_bundle(bundle.path, check="always") as predictor:
        assert predictor.canary.inferences == 1
    assert calls == [3]


@pytest.mark.parametrize(("check", "status", "count"), [("always", "passed", 3), ("never", "not checked", 0)])
def test_always_answers_what_is_remembered_too_and_never_answers_nothing(
    made: Bundle, calls: list[int], tmp_path: Path, check: Check, status: str, count: int
) -> None:
    bundle = elsewhere(made, tmp_path / "copy")
    open_bundle(bundle.path).close()
    calls.clear()
    with open_bundle(bundle.path, check=check) as predictor:
        assert predictor.canary.status == status
    assert sum(calls) == count


def test_a_word_that_is_no_check_is_refused(made: Bundle) -> None:
    with pytest.raises(EdgevitError, match="auto, always, never"):
        open_bundle(made.path, check="sometimes")  # type: ignore[arg-type]


def test_settings_that_change_answers_are_another_place_and_threads_are_not(made: Bundle, calls: list[int]) -> None:
    with open_bundle(made.path, settings={"threads": 1, "hint": "throughput"}) as predictor:
        assert predictor.canary.status == "same place"
    assert calls == []
    with open_bundle(made.path, settings=SETTINGS) as predictor:
        assert predictor.canary.status == "passed"
        assert list(predictor.canary.differences) == list(SETTINGS)
    assert calls == [1, 1, 1]
    with open_bundle(made.path) as predictor:
        assert predictor.canary.status == "same place"


def test_a_failure_is_refused_with_both_figures_both_places_and_what_to_do_and_is_not_remembered(
    made: Bundle, calls: list[int], tmp_path: Path
) -> None:
    bundle = elsewhere(made, tmp_path / "copy", least_db=500.0, sqnr_db=503.0)
    for _ in range(2):
        calls.clear()
        with pytest.raises(DeviceError) as caught:
            open_bundle(bundle.path)
        assert calls == [1, 1, 1]
    with open_bundle(made.path, check="always") as predictor:
        found = predictor.canary.sqnr_db
    assert f"{found:.1f} dB" in caught.value.message
    assert "at the build it was 503.0 dB, and 500.0 dB is the least" in caught.value.message
    here = place_of(made).version
    assert f"engine library onnxruntime {here}, at the build onnxruntime 0.0.1" in caught.value.message
    assert "\n" not in caught.value.message, "one sentence, wherever it is shown"
    assert f"edgevit build checkpoints/tiny --target cpu --precision fp32 --out {bundle.path}" in caught.value.hint
    assert "check='never'" in caught.value.hint
    with open_bundle(bundle.path, check="never") as predictor:
        assert predictor.canary.status == "not checked"


def test_a_failure_under_the_callers_own_settings_blames_these(made: Bundle, tmp_path: Path) -> None:
    strict = rewrite(made, tmp_path / "copy", least_db=500.0)
    open_bundle(strict.path).close()
    with pytest.raises(DeviceError, match=r"session\.set_denormal_as_zero 1, at the build not set") as caught:
        open_bundle(strict.path, settings=SETTINGS)
    assert "without the settings that differ" in caught.value.hint
    assert "edgevit build" not in caught.value.hint


def test_answers_that_are_no_numbers_fail(made: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = (np.full((1, CLASSES), np.nan, np.float32),)
    monkeypatch.setattr(OnnxRuntimeExecutor, "execute", lambda self, batch: nothing)
    with pytest.raises(DeviceError, match="are not finite numbers"):
        open_bundle(elsewhere(made, tmp_path / "copy", least_db=-1e9).path)


def test_the_session_of_a_refused_bundle_is_closed(
    made: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[bool] = []
    monkeypatch.setattr(OnnxRuntimeExecutor, "close", lambda self: closed.append(True))
    with pytest.raises(DeviceError):
        open_bundle(elsewhere(made, tmp_path / "copy", least_db=500.0).path)
    assert closed == [True]


def test_an_engine_that_was_not_run_at_the_build_answers_at_its_first_opening(
    made: Bundle, calls: list[int], tmp_path: Path
) -> None:
    bundle = rewrite(made, tmp_path / "copy", place=None, answers="graph")
    statuses = []
    for _ in range(2):
        with open_bundle(bundle.path) as predictor:
            statuses.append(predictor.canary.status)
    assert statuses == ["passed", "remembered"]
    assert len(calls) == 3
    assert locate_bundle(bundle) is None


def test_a_bundle_of_an_earlier_version_opens_and_says_that_it_has_none(calls: list[int], tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "out", tmp_path / "work")
    assert "canary" not in json.loads((bundle.path / "manifest.json").read_text())
    with open_bundle(bundle.path, check="always") as predictor:
        assert predictor.canary.status == "none"
    assert calls == []


# --- what is remembered ---


@pytest.mark.parametrize("folder", ["file/below", "read only"])
def test_a_folder_that_cannot_be_written_costs_every_opening_its_inferences_alone(
    made: Bundle, calls: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("EDGEVIT_CACHE", "/proc/edgevit" if folder == "read only" else str(tmp_path / folder))
    bundle = elsewhere(made, tmp_path / "copy")
    for _ in range(2):
        calls.clear()
        with open_bundle(bundle.path) as predictor:
            assert predictor.canary.status == "passed"
        assert calls == [1, 1, 1]


def test_a_user_without_a_home_gets_the_same(made: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("EDGEVIT_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    with open_bundle(elsewhere(made, tmp_path / "copy").path) as predictor:
        assert predictor.canary.status == "passed"


@pytest.mark.parametrize(
    "content",
    [b"", b"\x00\xff", b"null", b"[" * 100_000, b"{}", b'{"passed": 1}', b'{"passed": true, "sqnr_db": "99"}',
     b'{"passed": true, "sqnr_db": 3.0}', b'{"passed": true, "sqnr_db": NaN}'],
)  # fmt: skip
def test_a_memory_that_is_damaged_or_would_not_pass_is_answered_anew(
    made: Bundle, calls: list[int], tmp_path: Path, own_memory: Path, content: bytes
) -> None:
    bundle = elsewhere(made, tmp_path / "copy")
    open_bundle(bundle.path).close()
    (memory,) = (own_memory / "canary").iterdir()
    memory.write_bytes(content)
    calls.clear()
    with open_bundle(bundle.path) as predictor:
        assert predictor.canary.status == "passed"
    assert calls == [1, 1, 1]


def test_another_bundle_and_another_place_have_memories_of_their_own(
    made: Bundle, calls: list[int], tmp_path: Path, own_memory: Path
) -> None:
    for name, version in (("a", "0.0.1"), ("b", "0.0.2")):
        place = dataclasses.replace(place_of(made), version=version)
        open_bundle(rewrite(made, tmp_path / name, place=place).path).close()
    open_bundle(tmp_path / "a", settings=SETTINGS).close()
    assert len(calls) == 9
    assert len(list((own_memory / "canary").iterdir())) == 3


# --- the file ---


def pack(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


GOOD: dict[str, Any] = {
    "pixels": np.zeros((3, SIZE, SIZE, 3), np.uint8),
    "float.logits": np.ones((3, CLASSES), np.float32),
    "built.logits": np.ones((3, CLASSES), np.float32),
}


def compress() -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **GOOD)
    return buffer.getvalue()


def add_twice() -> bytes:
    buffer = io.BytesIO(pack(**GOOD))
    with zipfile.ZipFile(buffer, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("pixels.npy", b"")
    return buffer.getvalue()


def claim(size: int) -> bytes:
    """A header of the right shape in front of other data than it says."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, array in GOOD.items():
            stream = io.BytesIO()
            np.save(stream, array)
            archive.writestr(f"{name}.npy", stream.getvalue()[:size])
    return buffer.getvalue()


def encrypt() -> bytes:
    """The flag alone, in every header of the zip."""
    content = bytearray(pack(**GOOD))
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = -1
        while (at := content.find(mark, at + 1)) >= 0:
            content[at + offset] |= 1
    return bytes(content)


LIES: dict[str, Callable[[], bytes]] = {
    "empty": lambda: b"",
    "no zip": lambda: b"PK\x03\x04" + bytes(200),
    "cut off": lambda: pack(**GOOD)[:-40],
    "compressed": compress,
    "encrypted": encrypt,
    "one array missing": lambda: pack(**{k: v for k, v in GOOD.items() if k != "built.logits"}),
    "one too many": lambda: pack(**GOOD, more=np.zeros(1)),
    "one twice": add_twice,
    "another shape": lambda: pack(**{**GOOD, "float.logits": np.ones((CLASSES, 3), np.float32)}),
    "fewer images": lambda: pack(**{k: v[:2] for k, v in GOOD.items()}),
    "another type": lambda: pack(**{**GOOD, "float.logits": np.ones((3, CLASSES), np.int32)}),
    "double": lambda: pack(**{**GOOD, "float.logits": np.ones((3, CLASSES // 2), np.float64)}),
    "big endian": lambda: pack(**{**GOOD, "float.logits": np.ones((3, CLASSES), ">f4")}),
    "columns first": lambda: pack(**{**GOOD, "float.logits": np.asfortranarray(np.ones((3, CLASSES), np.float32))}),
    "objects": lambda: pack(**{**GOOD, "float.logits": np.array([[{}] * CLASSES] * 3, object)}),
    "not a number": lambda: pack(**{**GOOD, "built.logits": np.full((3, CLASSES), np.nan, np.float32)}),
    "nothing to compare": lambda: pack(**{**GOOD, "float.logits": np.zeros((3, CLASSES), np.float32)}),
    "large": lambda: pack(**{**GOOD, "pixels": np.zeros((3, 8 * SIZE, SIZE, 3), np.uint8)}),
    "short of data": lambda: claim(140),
    "short of a header": lambda: claim(20),
}


def test_what_the_lies_are_made_of_is_read(made: Bundle, tmp_path: Path) -> None:
    bundle = rewrite(made, tmp_path / "copy", pack(**GOOD))
    assert bundle.manifest.canary is not None
    found = read_canary(bundle, bundle.manifest.canary)
    np.testing.assert_array_equal(found.reference[0], GOOD["float.logits"])


@pytest.mark.parametrize("lie", LIES)
def test_a_file_that_is_not_what_the_manifest_says_is_refused(made: Bundle, tmp_path: Path, lie: str) -> None:
    bundle = rewrite(made, tmp_path / "copy", LIES[lie]())
    with pytest.raises(BundleError, match=r"canary\.npz cannot be read: .") as caught:
        open_bundle(bundle.path, check="always")
    assert caught.value.hint == "build the bundle again"


@pytest.mark.parametrize("kind", ["pipe", "link", "folder", "missing"])
def test_what_is_no_regular_file_is_refused_without_opening_it(made: Bundle, tmp_path: Path, kind: str) -> None:
    bundle = rewrite(made, tmp_path / "copy")
    file = bundle.path / CANARY_FILE
    file.unlink()
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "link":
        file.symlink_to(made.path / CANARY_FILE)
    elif kind == "folder":
        file.mkdir()
    assert bundle.manifest.canary is not None
    with pytest.raises(BundleError, match=r"canary\.npz cannot be read"):
        read_canary(bundle, bundle.manifest.canary)


def test_a_file_of_flipped_bits_is_refused_or_answered_and_never_a_crash(made: Bundle, tmp_path: Path) -> None:
    whole = (made.path / CANARY_FILE).read_bytes()
    bundle = rewrite(made, tmp_path / "copy")
    rng, refused = np.random.default_rng(0), 0
    with open_engine(bundle.engine) as session:
        for _ in range(300):
            content = bytearray(whole)
            for at in rng.integers(0, len(content), 4):
                content[at] ^= 1 << rng.integers(0, 8)
            (bundle.path / CANARY_FILE).write_bytes(content)
            try:
                try_canary(bundle, session, "always")
            except BundleError:
                refused += 1
    assert refused > 250, "a zip's own checksums see what is flipped in its data"


def test_a_shape_that_the_manifest_makes_up_allocates_nothing(made: Bundle, tmp_path: Path) -> None:
    bundle = rewrite(made, tmp_path / "copy")
    huge = dataclasses.replace(bundle.manifest.inputs[0], shape=(1, 1 << 40, 1 << 40, 3))
    manifest = copy.copy(bundle.manifest)
    object.__setattr__(manifest, "inputs", (huge,))  # past the manifest's own rules, which refuse it
    lying = dataclasses.replace(bundle, manifest=manifest)
    assert bundle.manifest.canary is not None
    with pytest.raises(BundleError, match="cannot be read"):
        read_canary(lying, bundle.manifest.canary)


def test_what_was_written_is_read_for_several_outputs(made: Bundle, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (2, SIZE, SIZE, 3), np.uint8)
    shapes = ((2, 8, 4, 4), (2, 16, 2, 2))
    first, second = (tuple(rng.standard_normal(s).astype(np.float32) for s in shapes) for _ in range(2))
    content = dump_canary(Canary(pixels, first, second), ("level0", "level1"))
    outputs = tuple(
        dataclasses.replace(made.manifest.outputs[0], name=f"level{i}", shape=(1, *s[1:])) for i, s in enumerate(shapes)
    )
    bundle = rewrite(made, tmp_path / "copy", content, images=2)
    assert bundle.manifest.engine is not None
    engine = dataclasses.replace(bundle.manifest.engine, outputs=outputs)
    changes: dict[str, Any] = {"task": "features", "classes": 0, "labels": None, "outputs": outputs, "engine": engine}
    bundle = dataclasses.replace(bundle, manifest=dataclasses.replace(bundle.manifest, **changes))
    assert bundle.manifest.canary is not None
    found = read_canary(bundle, bundle.manifest.canary)
    np.testing.assert_array_equal(found.pixels, pixels)
    for ours, theirs in zip((*found.reference, *found.answers), (*first, *second), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_reader_and_a_rule_written_from_the_documentation_alone_agree(made: Bundle) -> None:
    """docs/bundle.md, "The rule", as a C++ runtime would do it: no zipfile, no numpy format."""
    content = (made.path / CANARY_FILE).read_bytes()
    end = content.rindex(b"PK\x05\x06")
    count, _, at = struct.unpack_from("<HII", content, end + 10)
    arrays: dict[str, list[float]] = {}
    for _ in range(count):
        method, packed, size = (
            *struct.unpack_from("<H", content, at + 10),
            *struct.unpack_from("<II", content, at + 20),
        )
        name_size, extra_size, comment_size = struct.unpack_from("<HHH", content, at + 28)
        (local,) = struct.unpack_from("<I", content, at + 42)
        name = content[at + 46 : at + 46 + name_size].decode()
        at += 46 + name_size + extra_size + comment_size
        assert (method, packed) == (0, size), "stored"
        begin = local + 30 + sum(struct.unpack_from("<HH", content, local + 26))
        assert content[begin : begin + 8] == b"\x93NUMPY\x01\x00"
        data = begin + 10 + struct.unpack_from("<H", content, begin + 8)[0]
        kind = "B" if name == "pixels.npy" else "f"
        arrays[name] = list(
            struct.unpack_from(f"<{(begin + size - data) // struct.calcsize(kind)}{kind}", content, data)
        )
    assert sorted(arrays) == ["built.logits.npy", "float.logits.npy", "pixels.npy"]
    record = made.manifest.canary
    assert record is not None
    assert len(arrays["pixels.npy"]) == record.images * SIZE * SIZE * 3
    wanted, found = arrays["float.logits.npy"], arrays["built.logits.npy"]
    assert len(wanted) == len(found) == record.images * CLASSES
    noise = sum((w - f) ** 2 for w, f in zip(wanted, found, strict=True))
    assert 10 * math.log10(sum(w * w for w in wanted) / noise) == pytest.approx(record.sqnr_db, abs=0.006)


def test_a_record_without_its_file_is_refused_before_anything_is_opened(made: Bundle, tmp_path: Path) -> None:
    files = {name: record for name, record in made.manifest.files.items() if name != CANARY_FILE}
    bundle = rewrite(made, tmp_path / "copy")
    (bundle.path / "manifest.json").write_bytes(dump_manifest(dataclasses.replace(bundle.manifest, files=files)))
    with pytest.raises(BundleError, match=r"does not list what its engine needs:\n  canary\.npz"):
        load_bundle(bundle.path)
