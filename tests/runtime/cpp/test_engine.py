from __future__ import annotations

import math
import os
import shutil
import threading
from collections.abc import Iterator
from ctypes import byref, c_int32, c_size_t, c_void_p, sizeof
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgevit.pixels.decode import decode_image
from edgevit.runtime import open_bundle
from edgevit.runtime.pack_file import pack_file
from tests.support.cpp_engine import (
    Buffer,
    Class,
    CppEngine,
    CppError,
    Info,
    Options,
    find_headers,
    load_library,
    make_image,
)
from tests.support.dense_bundle import make_dense_bundle
from tests.support.photos import make_photo
from tests.support.real_bundles import ASSETS, make_real_bundle
from tests.support.tiny_bundle import make_bundle
from tests.support.tiny_onnx import make_images


@pytest.fixture(scope="module", params=["intel-cpu", "cpu"])
def target(request: pytest.FixtureRequest) -> str:
    """OpenVINO's, and ONNX Runtime's where its headers are here."""
    if request.param == "cpu" and find_headers() is None:
        pytest.skip("ONNX Runtime's headers are absent: python -m scripts.get_onnxruntime_headers")
    return str(request.param)


@pytest.fixture(scope="module")
def tiny(built: dict[str, Path], target: str) -> Path:
    return built[target]


@pytest.fixture
def engine(tiny: Path) -> Iterator[CppEngine]:
    with CppEngine(tiny) as opened:
        yield opened


@pytest.fixture(scope="module", params=ASSETS)
def real(request: pytest.FixtureRequest, assets: Path) -> tuple[Path, list[Path]]:
    """An INT8 bundle of real weights, and its validation photos."""
    photos = assets / ASSETS[request.param] / "validation.csv"
    names = [row.partition(",")[0] for row in photos.read_text().splitlines()[1:]]
    return make_real_bundle(assets, request.param), [photos.parent / name for name in names]


def _compare(bundle: Path, photos: list[Path]) -> None:
    with CppEngine(bundle) as ours, open_bundle(bundle) as python:
        for photo in photos:
            pixels = np.ascontiguousarray(np.asarray(decode_image(photo)))
            prepared = python.preprocess.apply(pixels)
            np.testing.assert_array_equal(ours.preprocess(pixels), prepared)
            (logits,), expected = ours.run(prepared[None]), python.run(prepared[None])
            assert np.abs(logits - expected).max() <= 1e-5 * np.abs(expected).max()
            found, wanted = ours.classify(pixels), python.classify(pixels)
            assert [(f.index, f.label) for f in found] == [(w.index, w.label) for w in wanted]
            assert [f.probability for f in found] == pytest.approx([w.probability for w in wanted], rel=1e-4)
            assert ours.rank(logits[0]) == found


def test_real_photos_get_pythons_answers(real: tuple[Path, list[Path]]) -> None:
    bundle, photos = real
    _compare(bundle, photos[:: max(1, len(photos) // 32)][:32])


@pytest.mark.slow
def test_two_hundred_photos_get_pythons_answers(real: tuple[Path, list[Path]]) -> None:
    bundle, photos = real
    _compare(bundle, photos[:: max(1, len(photos) // 200)][:200])


def test_info_is_the_manifests(tiny: Path, engine: CppEngine) -> None:
    info = engine.info
    with open_bundle(tiny) as python:
        manifest = python.manifest
        assert (info.name.decode(), info.task.decode()) == (manifest.name, manifest.task)
        assert (info.target.decode(), info.precision.decode()) == (manifest.target.name, manifest.precision)
        assert (info.input_height, info.input_width) == (manifest.preprocess.height, manifest.preprocess.width)
        assert (info.batch_least, info.batch_best, info.batch_largest) == manifest.batch
        assert (info.classes, info.has_labels, info.output_count) == (10, 1, 1)
        assert engine.shapes == [tuple(manifest.outputs[0].shape[1:])]
        spelled = {
            key: str(value).lower() if isinstance(value, bool) else value for key, value in python.settings.items()
        }
        assert sorted(engine.settings()) == sorted(f"{key}={value}" for key, value in spelled.items())
        assert engine.differences() == list(python.differences)
        assert engine.library.edgevit_label(engine.handle, 3).decode() == python.labels[3]
    assert engine.library.edgevit_label(engine.handle, 10) is None
    assert engine.library.edgevit_label(engine.handle, -1) is None


def test_images_of_several_sizes_are_one_call(engine: CppEngine) -> None:
    random = np.random.default_rng(0)
    images = [random.integers(0, 256, (20 + 7 * i, 50 - 3 * i, 3), dtype=np.uint8) for i in range(9)]
    assert engine.classify_batch(images, 3) == [engine.classify(image, 3) for image in images]


def test_more_classes_than_there_are_give_all(engine: CppEngine) -> None:
    found = engine.classify(make_images(1)[0], 1000)
    assert sorted(f.index for f in found) == list(range(10))
    assert sum(f.probability for f in found) == pytest.approx(1, abs=1e-12)


def test_equal_logits_come_in_order(engine: CppEngine) -> None:
    logits = np.array([1, 2, 1, 2, 0, 0, 0, 3, 0, 2], np.float32)
    assert [f.index for f in engine.rank(logits, 10)] == [7, 1, 3, 9, 0, 2, 4, 5, 6, 8]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_answers_that_are_no_numbers_are_refused(engine: CppEngine, bad: float) -> None:
    logits = np.zeros(10, np.float32)
    logits[7] = bad
    with pytest.raises(CppError, match="finite") as caught:
        engine.rank(logits)
    assert caught.value.code == "device"


@pytest.mark.parametrize("scores", ["sigmoid", "identity"])
def test_scores_are_as_the_manifest_says(tmp_path: Path, target: str, scores: str) -> None:
    bundle = make_bundle(tmp_path / "b", tmp_path / "w", target=target, task_options={"scores": scores}).path
    image = make_images(1)[0]
    with CppEngine(bundle) as ours, open_bundle(bundle) as python:
        found, wanted = ours.classify(image, 10), python.classify(image, 10)
    assert [f.index for f in found] == [w.index for w in wanted]
    assert [f.value for f in found] == pytest.approx([w.value for w in wanted], rel=1e-6)
    if scores == "identity":
        assert all(math.isnan(f.probability) for f in found)
    else:
        assert [f.probability for f in found] == pytest.approx([w.probability for w in wanted], rel=1e-6)


def test_embeddings_are_pythons(tmp_path: Path, target: str) -> None:
    changes: dict[str, Any] = {"task": "embed", "classes": 0, "labels": None}
    bundle = make_bundle(tmp_path / "b", tmp_path / "w", target=target, **changes).path
    image = make_images(1)[0]
    with CppEngine(bundle) as ours, open_bundle(bundle) as python:
        np.testing.assert_allclose(ours.embed(image), python.embed(image), rtol=1e-6)
        with pytest.raises(CppError, match="for the task embed, not classify") as caught:
            ours.classify(image)
    assert caught.value.code == "argument"


def test_features_are_pythons(tmp_path: Path, target: str) -> None:
    changes: dict[str, Any] = {"task": "features", "classes": 0, "labels": None}
    bundle = make_bundle(tmp_path / "b", tmp_path / "w", target=target, **changes).path
    image = make_images(1)[0]
    with CppEngine(bundle) as ours, open_bundle(bundle) as python:
        found, wanted = ours.features(image), python.features(image)
    assert list(found) == list(wanted)
    for name, values in wanted.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-6)


@pytest.mark.parametrize("batch", [(1, 2, 4), (3, 3, 3), (2, 3, 5)])
def test_any_number_of_images_is_taken(tmp_path: Path, target: str, batch: tuple[int, int, int]) -> None:
    bundle = make_bundle(tmp_path / "b", tmp_path / "w", target=target, batch=batch).path
    images = make_images(11)
    with CppEngine(bundle) as ours, open_bundle(bundle) as python:
        for count in (1, 4, 11, 2):
            np.testing.assert_allclose(ours.run(images[:count])[0], python.run(images[:count]), rtol=1e-5, atol=1e-6)
        for several, (best, second, *_) in zip(
            ours.classify_batch(list(images), 2), map(ours.classify, images), strict=True
        ):
            assert [found.index for found in several] == [best.index, second.index]
            assert [found.value for found in several] == pytest.approx([best.value, second.value], rel=1e-5)


def test_several_threads_get_the_answers_of_one(engine: CppEngine) -> None:
    images = list(make_images(16))
    expected, wrong = [engine.classify(image) for image in images], []

    def answer(offset: int) -> None:
        for i in range(40):
            at = (i * 5 + offset) % len(images)
            if engine.classify(images[at]) != expected[at]:
                wrong.append(at)

    threads = [threading.Thread(target=answer, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_several_engines_live_in_one_process(tiny: Path, tmp_path: Path) -> None:
    other = make_bundle(tmp_path / "b", tmp_path / "w", target="intel-cpu", batch=(1, 2, 4)).path
    images = make_images(4)
    with CppEngine(tiny) as first, CppEngine(other) as second, CppEngine(tiny, threads=1) as third:
        answers = [engine.run(images)[0] for engine in (first, second, third)]
        second.close()
        answers.append(first.run(images)[0])
    for found in answers[1:]:
        np.testing.assert_allclose(found, answers[0], rtol=1e-5, atol=1e-6)


def test_settings_of_the_opener_override_the_bundles(built: dict[str, Path]) -> None:
    tiny = built["intel-cpu"]
    with CppEngine(
        tiny, settings={"hint": "throughput", "threads": 2, "streams": 2, "ENABLE_CPU_PINNING": False}
    ) as ours:
        used = ours.settings()
        assert ours.info.streams == min(2, len(os.sched_getaffinity(0)))
    assert {"hint=throughput", f"streams={ours.info.streams}", "ENABLE_CPU_PINNING=false"} <= set(used)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"hint": "fast"}, "hint = fast is not one of latency, throughput"),
        ({"threads": 0}, "threads = 0 is not a whole number from 1 to 1024"),
        ({"wait": "spin"}, "wait is a setting of engines for an NVIDIA GPU"),
        ({"speed": 3}, "unknown setting speed"),
    ],
)
def test_settings_that_are_not_valid_are_told(tiny: Path, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(CppError, match=said) as caught:
        CppEngine(tiny, settings=settings)
    assert caught.value.code == "argument"


def test_a_property_that_openvino_refuses_is_an_error_of_the_device(built: dict[str, Path]) -> None:
    tiny = built["intel-cpu"]
    with pytest.raises(CppError, match="OpenVINO cannot open") as caught:
        CppEngine(tiny, settings={"NO_SUCH_PROPERTY": 1})
    assert caught.value.code == "device"
    with CppEngine(tiny) as after:  # the process goes on
        assert after.classify(make_images(1)[0])


def test_a_portable_bundle_has_no_engine(built: dict[str, Path]) -> None:
    with pytest.raises(CppError) as caught:
        CppEngine(built["jetson"])
    assert caught.value.code == "portable"


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("data", 0, "argument"),
        ("width", 0, "image"),
        ("height", -5, "image"),
        ("stride", 10, "argument"),
        ("format", 99, "argument"),
    ],
)
def test_images_that_cannot_be_are_refused(engine: CppEngine, name: str, value: int, code: str) -> None:
    pixels = np.zeros((20, 30, 3), np.uint8)
    image = make_image(pixels)
    setattr(image, name, value)
    status = engine.library.edgevit_classify(engine.handle, byref(image), 5, (Class * 5)(), byref(c_int32()))
    assert engine.library.edgevit_status_name(status).decode() == code
    assert engine.library.edgevit_last_hint()


def test_calls_that_make_no_sense_are_refused(engine: CppEngine) -> None:
    library, handle, pixels = engine.library, engine.handle, np.zeros((20, 30, 3), np.uint8)
    image, classes, count = byref(make_image(pixels)), (Class * 5)(), byref(c_int32())
    batch, logits = np.zeros((1, 16, 16, 3), np.uint8), np.zeros(10, np.float32)
    out = Buffer(logits.ctypes.data, logits.nbytes, 0)
    short, wrong = Buffer(logits.ctypes.data, 8, 0), Buffer(logits.ctypes.data, logits.nbytes, 1)
    given = Buffer(batch.ctypes.data, batch.nbytes, 0)
    opened = c_void_p(5)
    calls = [
        lambda: library.edgevit_classify(None, image, 5, classes, count),
        lambda: library.edgevit_classify(handle, None, 5, classes, count),
        lambda: library.edgevit_classify(handle, image, 0, classes, count),
        lambda: library.edgevit_classify(handle, image, 5, None, count),
        lambda: library.edgevit_classify_batch(handle, image, 0, 5, classes, count),
        lambda: library.edgevit_embed(handle, image, c_void_p(logits.ctypes.data), c_size_t(10)),
        lambda: library.edgevit_preprocess(handle, image, c_void_p(batch.ctypes.data), c_size_t(3)),
        lambda: library.edgevit_run(handle, byref(given), 0, byref(out), 1),
        lambda: library.edgevit_run(handle, byref(given), 2, byref(out), 1),
        lambda: library.edgevit_run(handle, byref(given), 1, byref(short), 1),
        lambda: library.edgevit_run(handle, byref(given), 1, byref(out), 2),
        lambda: library.edgevit_run(handle, byref(given), 1, byref(wrong), 1),
        lambda: library.edgevit_get_info(handle, byref(Info(0))),
        lambda: library.edgevit_get_output(handle, 1, byref(Info(64))),
        lambda: library.edgevit_open(None, None, byref(opened)),
        lambda: library.edgevit_open(b"x", byref(Options(0)), byref(opened)),
        lambda: library.edgevit_open(b"x", None, None),
    ]
    names = [library.edgevit_status_name(call()).decode() for call in calls]
    assert names == ["argument"] * len(calls)
    assert library.edgevit_last_message()
    assert library.edgevit_last_hint()
    assert opened.value is None
    assert library.edgevit_classify(handle, image, 5, classes, count) == 0
    assert library.edgevit_last_status() == 0
    assert library.edgevit_last_message() == b""


def test_structs_of_an_older_header_are_filled_as_far_as_they_go(engine: CppEngine) -> None:
    info = Info(sizeof(Info))
    info.struct_size = Info.task.offset
    info.task = b"untouched"
    assert engine.library.edgevit_get_info(engine.handle, byref(info)) == 0
    assert info.name == b"tiny"
    assert info.task == b"untouched"


def test_every_status_has_the_name_that_python_gives_it() -> None:
    library = load_library()
    names = [library.edgevit_status_name(i).decode() for i in range(15)]
    assert names[:7] == ["ok", "error", "argument", "not-a-bundle", "manifest", "schema", "unsafe"]
    assert names[7:] == ["damaged", "signature", "portable", "library", "device", "canary", "image", "error"]


def test_a_packed_bundle_is_opened_from_its_one_file(tiny: Path, tmp_path: Path) -> None:
    packed = pack_file(tiny, tmp_path / "tiny.edgevit") or tmp_path / "tiny.edgevit"
    images = make_images(3)
    with CppEngine(packed) as ours, CppEngine(tiny) as folder:
        np.testing.assert_array_equal(ours.run(images)[0], folder.run(images)[0])


def test_a_damaged_file_is_found_unless_nobody_looks(tiny: Path, tmp_path: Path) -> None:
    bundle = shutil.copytree(tiny, tmp_path / "b")
    report = bundle / "report.json"
    report.write_bytes(b"{ }")
    with pytest.raises(CppError) as caught:
        CppEngine(bundle)
    assert caught.value.code == "damaged"
    with CppEngine(bundle, verify=False) as ours:
        assert ours.classify(make_images(1)[0])


@pytest.mark.parametrize("task", ["depth", "segment", "detect", "pose"])
def test_outputs_of_whole_models_are_pythons(tmp_path: Path, target: str, task: str) -> None:
    bundle = make_dense_bundle(tmp_path / "b", tmp_path / "w", task, target=target).path
    photo = np.asarray(make_photo(61, 93))
    with CppEngine(bundle) as ours, open_bundle(bundle) as python:
        pixels = python.preprocess.apply(photo)
        for found, wanted in zip(ours.run(pixels[None]), python.run_outputs(pixels[None]), strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
        with pytest.raises(CppError, match=f"for the task {task}, not classify") as caught:
            ours.classify(photo)
        assert "edgevit_run" in caught.value.hint
        if task == "pose":  # its inputs are sampled around boxes
            with pytest.raises(CppError, match="around boxes"):
                ours.preprocess(photo)
        else:
            np.testing.assert_array_equal(ours.preprocess(photo), pixels)
