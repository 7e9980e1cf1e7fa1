"""From an image file to the answer, by a clock that the parts themselves move."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from PIL import Image

from edgevit.core.errors import DataError
from edgevit.core.report.timings import SYNTHETIC, EndToEnd
from edgevit.core.schema import from_data, to_data
from edgevit.measure import end_to_end
from edgevit.measure.end_to_end import App, measure_end_to_end
from edgevit.measure.photo import draw_photo, pick_photo, read_photo
from edgevit.pixels.decode import decode_image
from edgevit.pixels.images import ImageSet
from edgevit.pixels.preprocess import Preprocess
from tests.support.fake_session import Clock, FakeSession
from tests.support.photos import make_photo

PREPROCESS = Preprocess(4, 4, "squash", 4, 4, "bilinear", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@pytest.fixture
def photo(tmp_path):
    make_photo(40, 60).save(tmp_path / "dog.jpg")
    return read_photo(tmp_path / "dog.jpg")


def move(monkeypatch, clock: Clock, **milliseconds: float) -> None:
    """Let the parts besides the engine take these times."""

    def wrap(owner, name, ms):
        original = getattr(owner, name)

        def slow(*arguments, **options):
            clock.now += round(ms * 1e6)
            return original(*arguments, **options)

        monkeypatch.setattr(owner, name, slow)

    wrap(end_to_end, "decode_image", milliseconds["decode"])
    wrap(Preprocess, "fit", milliseconds["resize"])
    wrap(end_to_end, "_read_answer", milliseconds["answer"])


def test_every_part_is_given_its_own_time(photo, monkeypatch):
    clock = Clock()
    move(monkeypatch, clock, decode=1, resize=2, answer=0.25)
    apps = {name: App(FakeSession(clock, name, ms), PREPROCESS) for name, ms in (("a", 20), ("b", 5))}
    found = measure_end_to_end(apps, photo, seconds=10, clock=clock)
    assert {name: times.parts_ms for name, times in found.items()} == {
        "a": {"decode": 1, "resize": 2, "engine": 20, "answer": 0.25},
        "b": {"decode": 1, "resize": 2, "engine": 5, "answer": 0.25},
    }
    a = found["a"]
    assert (a.total_ms, a.whole.p50_ms, a.runs) == (23.25, 23.25, 50)
    assert sum(a.shares.values()) == pytest.approx(1)
    assert a.shares["engine"] == pytest.approx(20 / 23.25)
    assert (a.image, a.format, a.width, a.height, a.photo) == ("dog.jpg", "JPEG", 60, 40, "60 × 40 JPEG")
    assert "2 engines in turns" in a.method
    assert from_data(EndToEnd, json.loads(json.dumps(to_data(a))), "report", DataError) == a


def test_medians_have_their_quartiles(photo):
    clock = Clock()
    app = App(FakeSession(clock, "a", *range(1, 61)), PREPROCESS)
    engine = measure_end_to_end({"a": app}, photo, seconds=10, clock=clock)["a"].engine
    # Two calls of warm-up, then of each six the last five.
    timed = [ms for ms in (*range(3, 61), 1, 2) if ms % 6 != 3]
    expected = np.percentile(timed, [25, 50, 75])
    assert [engine.p25_ms, engine.p50_ms, engine.p75_ms] == pytest.approx(expected)


def test_turns_alternate_and_begin_with_an_answer_that_is_not_timed(photo):
    clock = Clock()
    apps = {name: App(FakeSession(clock, name, 10), PREPROCESS) for name in "ab"}
    measure_end_to_end(apps, photo, seconds=10, clock=clock)
    turns = ["".join(group) for _, group in itertools.groupby(clock.calls)]
    assert turns == ["aa", "bb", "a" * 6, *["b" * 12, "a" * 12] * 4, "b" * 12, "a" * 6]


@pytest.mark.parametrize(("ms", "runs", "calls"), [(1, 50, 62), (40, 10, 12), (500, 4, 6), (5000, 2, 4)])
def test_slow_engines_answer_fewer_times(photo, ms, runs, calls):
    clock = Clock()
    found = measure_end_to_end({"a": App(FakeSession(clock, "a", ms), PREPROCESS)}, photo, clock=clock)
    assert (found["a"].runs, len(clock.calls)) == (runs, calls)


def test_progress_ends_at_its_total(photo):
    told = []
    clock = Clock()
    apps = {name: App(FakeSession(clock, name, 1), PREPROCESS) for name in "ab"}
    measure_end_to_end(apps, photo, clock=clock, progress=lambda *step: told.append(step))
    assert told == [("end to end", done, 20) for done in range(1, 21)]


def test_photo_of_median_size_stands_for_the_set(tmp_path):
    for name, side in (("a", 8), ("b", 300), ("c", 60), ("d", 40)):
        make_photo(side, side).save(tmp_path / f"{name}.png")
    images = ImageSet.read(tmp_path)
    picked = pick_photo(images)
    assert (picked.name, picked.width, picked.format) == ("d.png", 40, "PNG")
    assert picked == pick_photo(ImageSet(images.root, images.files[::-1]))
    assert picked.data == (tmp_path / "d.png").read_bytes()


def test_photo_that_stands_upright_by_its_tag_has_its_upright_size(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    make_photo(20, 30).save(tmp_path / "turned.jpg", exif=exif)
    photo = read_photo(tmp_path / "turned.jpg")
    assert (photo.width, photo.height) == (20, 30)


def test_photo_that_is_none_is_refused_by_its_path(tmp_path):
    (tmp_path / "text.jpg").write_text("no image")
    for path in (tmp_path / "missing.jpg", tmp_path, tmp_path / "text.jpg"):
        with pytest.raises(DataError, match=path.name):
            read_photo(path)


def test_drawn_photo_says_that_it_is_one():
    photo = draw_photo()
    assert (photo.name, photo.format) == (SYNTHETIC, "JPEG")
    assert decode_image(photo.data).size == (640, 480)
    assert 50_000 < len(photo.data) < 250_000  # as a camera's JPEG of that size
    assert draw_photo() == photo
