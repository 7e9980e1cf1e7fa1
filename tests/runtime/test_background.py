"""submit, map, batches and warm_up of an opened bundle."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgevit.core.engine import Setting
from edgevit.core.errors import BundleError, DataError, DeviceError
from edgevit.runtime import Predictor, QueueFullError, open_bundle
from edgevit.runtime.bundle import Bundle
from edgevit.runtime.session import Outputs, Session
from tests.support.photos import make_photo
from tests.support.tiny_bundle import make_bundle
from tests.support.tiny_onnx import make_images

LONG = 30


@pytest.fixture(scope="module", params=["cpu", "intel-cpu"])
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("bundle")
    return make_bundle(folder / "out", folder / "work", target=request.param, batch=(1, 2, 3))


def make_files(folder: Path) -> list[Any]:
    """Eight images of different sizes and forms."""
    photos = [make_photo(20 + 7 * i, 60 - 5 * i) for i in range(8)]
    for i in (0, 1):
        photos[i].save(folder / f"{i}.png")
    stream = io.BytesIO()
    photos[2].save(stream, "JPEG")
    arrays = [np.asarray(photo) for photo in photos]
    forms = [folder / "0.png", str(folder / "1.png"), stream.getvalue(), photos[3], arrays[4], arrays[5][..., 0]]
    return [*forms, np.dstack([arrays[6], arrays[6][..., :1]]), photos[7]]


def test_batch_of_any_sizes_and_length_answers_as_one_by_one(bundle: Bundle, tmp_path: Path) -> None:
    images = make_files(tmp_path)
    with open_bundle(bundle.path) as predictor:
        singly = [predictor.classify(image, 3) for image in images]
        for many in (images, tuple(images), iter(images)):
            answers = predictor.classify_batch(many, 3)
            assert [[p.index for p in a] for a in answers] == [[p.index for p in a] for a in singly]
            values = [[p.value for p in a] for a in answers]
            np.testing.assert_allclose(values, [[p.value for p in a] for a in singly], rtol=1e-5, atol=1e-5)
        assert predictor.classify_batch([]) == []


def test_batch_is_cut_and_only_as_much_is_prepared_as_the_engine_takes(bundle: Bundle) -> None:
    taken: list[int] = []
    sizes: list[tuple[int, int]] = []

    class Watching:
        def run_outputs(self, batch: np.ndarray) -> Outputs:
            sizes.append((len(batch), len(taken)))
            return (np.zeros((len(batch), 10), np.float32),)

    def take() -> Iterator[np.ndarray]:
        for i, image in enumerate(make_images(8)):
            taken.append(i)
            yield image

    predictor = Predictor(bundle, Watching(), ())  # type: ignore[arg-type]
    assert len(predictor.classify_batch(take())) == 8
    assert sizes == [(3, 3), (3, 6), (2, 8)]


def test_bad_image_of_a_batch_is_named_by_its_place(bundle: Bundle, tmp_path: Path) -> None:
    good = make_images(1)[0]
    with open_bundle(bundle.path) as predictor:
        with pytest.raises(DataError, match="image 4 of the list: not a JPEG"):
            predictor.classify_batch([good, good, good, good, b"no image"])
        with pytest.raises(DataError, match=r"none\.jpg: No such file"):
            predictor.classify_batch([good, tmp_path / "none.jpg"])
        with pytest.raises(DataError, match=r"^the image: not a JPEG"):
            predictor.classify(b"no image")
        assert len(predictor.classify_batch([good])) == 1


@pytest.mark.parametrize("one", ["photo.jpg", Path("photo.jpg"), b"bytes", make_images(1)[0], make_photo(9, 9), 3])
def test_one_image_in_place_of_a_list_is_refused(bundle: Bundle, one: Any) -> None:
    with open_bundle(bundle.path) as predictor:
        for answer in (predictor.classify_batch, lambda image: list(predictor.map(image))):
            with pytest.raises(DataError, match="is not a list of images") as caught:
                answer(one)
            assert "[image]" in caught.value.hint
            assert caught.value.code == "argument"


def test_opencvs_order_is_the_callers_word(bundle: Bundle) -> None:
    rgb = np.asarray(make_photo(30, 40))
    with open_bundle(bundle.path) as predictor:
        expected = predictor.classify(rgb)
        assert predictor.classify(rgb[..., ::-1]) != expected
        assert predictor.classify(rgb[..., ::-1], bgr=True) == expected
        assert predictor.classify_batch([rgb[..., ::-1]], bgr=True) == [expected]
        assert predictor.submit(rgb[..., ::-1], bgr=True).result(LONG) == expected
        np.testing.assert_array_equal(
            predictor.preprocess.apply(rgb[..., ::-1], bgr=True), predictor.preprocess.apply(rgb)
        )


def test_submitted_images_answer_as_waited_for(bundle: Bundle, tmp_path: Path) -> None:
    images = make_files(tmp_path)
    with open_bundle(bundle.path) as predictor:
        expected = [predictor.classify(image, 2) for image in images]
        futures = [predictor.submit(image, top_k=2) for image in images]
        assert [future.result(LONG) for future in futures] == expected
        assert list(predictor.map(images, top_k=2)) == expected
        assert list(predictor.map([])) == []
        with pytest.raises(DataError, match="not a JPEG"):
            predictor.submit(b"no image").result(LONG)
        with pytest.raises(DataError, match="top_k"):
            predictor.submit(images[0], top_k=0).result(LONG)


def test_map_takes_no_more_than_the_queue_and_stops_at_the_first_error(bundle: Bundle) -> None:
    taken: list[int] = []

    def take() -> Iterator[Any]:
        for i in range(50):
            taken.append(i)
            yield b"no image" if i == 10 else make_images(1)[0]

    with open_bundle(bundle.path, queue_size=3) as predictor:
        answers = predictor.map(take())
        next(answers)
        assert len(taken) <= 3 + 1
        for _ in range(9):
            next(answers)
        with pytest.raises(DataError):
            next(answers)
        assert len(taken) <= 14


class Slow:
    """An executor whose calls wait until they are let through; it counts those under way."""

    def __init__(self, streams: int = 1) -> None:
        self.streams = streams
        self.settings: Mapping[str, Setting] = {}
        self.open, self.begun, self.closed = threading.Event(), threading.Semaphore(0), False

    def execute(self, batch: np.ndarray) -> Outputs:
        assert not self.closed
        self.begun.release()
        assert self.open.wait(LONG)
        return (np.full((len(batch), 10), batch[0, 0, 0, 0], np.float32),)

    def close(self) -> None:
        self.closed = True


def test_closing_waits_for_answers_under_way_and_refuses_the_others(bundle: Bundle) -> None:
    executor = Slow()
    session = Session(bundle.engine, executor, queue_size=4)
    predictor = Predictor(bundle, session, ())
    futures = [predictor.submit(image) for image in make_images(4)]
    with pytest.raises(QueueFullError):
        predictor.submit(make_images(1)[0], block=False)
    for _ in range(2):  # one thread more than streams
        assert executor.begun.acquire(timeout=LONG)
    closer = threading.Thread(target=predictor.close)
    closer.start()
    executor.open.set()
    closer.join(LONG)
    assert executor.closed
    ended = [future.exception(0) for future in futures]
    assert ended[:2] == [None, None]
    assert all(isinstance(exc, DeviceError) for exc in ended[2:])
    for refused in (lambda: predictor.submit(make_images(1)[0]), lambda: session.submit(make_images(1))):
        with pytest.raises(DeviceError, match="closed"):
            refused()
    predictor.close()


def test_session_answers_batches_in_the_background(bundle: Bundle) -> None:
    images = make_images(7)
    with open_bundle(bundle.path) as predictor:
        session = predictor.session
        expected = session.run_outputs(images)
        for future in [session.submit(images) for _ in range(5)]:
            np.testing.assert_array_equal(future.result(LONG)[0], expected[0])
        with pytest.raises(DataError, match="takes an array of shape"):
            session.submit(images[0]).result(LONG)


@pytest.mark.parametrize("size", [0, -1, "3", 2.5])
def test_queue_of_no_images_is_refused(bundle: Bundle, size: Any) -> None:
    with pytest.raises(DataError, match="queue_size") as caught:
        open_bundle(bundle.path, queue_size=size)
    assert caught.value.code == "argument"


def test_warm_up_runs_every_stream_and_changes_no_answer(bundle: Bundle) -> None:
    executor = Slow(streams=2)
    executor.open.set()
    Predictor(bundle, Session(bundle.engine, executor), ()).warm_up(n=5)
    assert [executor.begun.acquire(blocking=False) for _ in range(11)] == [True] * 10 + [False]
    with open_bundle(bundle.path) as predictor:
        expected = predictor.classify(make_images(1)[0])
        predictor.warm_up()
        predictor.warm_up(n=1)
        assert predictor.classify(make_images(1)[0]) == expected
        for n in (0, -1, 1.5, "3", True):
            with pytest.raises(DataError, match="n = ") as caught:
                predictor.warm_up(n)  # type: ignore[arg-type]
            assert caught.value.code == "argument"
    with pytest.raises(DeviceError, match="closed"):
        predictor.warm_up()


def test_other_tasks_have_the_same(tmp_path: Path) -> None:
    import dataclasses

    made = make_bundle(tmp_path / "out", tmp_path / "work", batch=(1, 2, 3))
    images = [np.asarray(make_photo(20 + i, 30)) for i in range(5)]
    with open_bundle(made.path) as classifier:
        logits = classifier.run(np.stack([classifier.preprocess.apply(image) for image in images]))
        for task in ("embed", "features"):
            manifest = dataclasses.replace(made.manifest, task=task, classes=0, labels=None)
            predictor = Predictor(dataclasses.replace(made, manifest=manifest), classifier.session, ())
            with pytest.raises(BundleError, match=f"for the task {task}, not classify"):
                predictor.classify_batch(images)
            with pytest.raises(BundleError):
                getattr(predictor, {"embed": "features_batch", "features": "embed_batch"}[task])(images)
            if task == "embed":
                np.testing.assert_allclose(predictor.embed_batch(images), logits, rtol=1e-5, atol=1e-5)
                np.testing.assert_allclose(predictor.embed(images[1]), logits[1], rtol=1e-5, atol=1e-5)
                assert predictor.embed_batch([]).shape == (0, 10)
            else:
                maps = predictor.features_batch(images)
                assert list(maps) == ["logits"]
                np.testing.assert_allclose(maps["logits"], logits, rtol=1e-5, atol=1e-5)
                np.testing.assert_allclose(predictor.features(images[1])["logits"], logits[1], rtol=1e-5, atol=1e-5)
            answers = list(predictor.map(images))
            np.testing.assert_allclose(
                answers if task == "embed" else [answer["logits"] for answer in answers], logits, rtol=1e-5, atol=1e-5
            )


def test_pillow_image_and_array_are_left_as_they_are(bundle: Bundle) -> None:
    picture = make_photo(30, 40).convert("RGBA")
    array = np.asarray(picture).copy()
    with open_bundle(bundle.path) as predictor:
        predictor.classify_batch([picture, array])
        predictor.classify(array, bgr=True)
    assert picture.mode == "RGBA"
    np.testing.assert_array_equal(array, np.asarray(Image.fromarray(array)))
    np.testing.assert_array_equal(array, np.asarray(picture))
