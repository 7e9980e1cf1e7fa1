"""``edgevit run`` with bundles of depth, classes of pixels, boxes and poses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgevit.core.task import ANSWERED_TASKS
from edgevit.runtime import open_bundle
from tests.support.dense_bundle import LABELS, QUERIES, make_dense_bundle
from tests.support.photos import make_photo

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("dense")
    return {task: make_dense_bundle(folder / task, folder / f"work-{task}", task).path for task in ANSWERED_TASKS}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("photos")
    (folder / "more").mkdir()
    files = [folder / "one.png", folder / "two.png", folder / "more" / "one.png"]
    for seed, file in enumerate(files):
        make_photo(61 + 10 * seed, 93, seed).save(file)
    return files


@pytest.mark.parametrize("task", ANSWERED_TASKS)
def test_numbers_and_pictures_are_written_for_every_image(
    run: Run, bundles: dict[str, Path], photos: list[Path], tmp_path: Path, task: str
) -> None:
    out = tmp_path / "new" / "found"
    result = run("run", bundles[task], *photos, "--save", out)
    assert result.exit_code == 0, result.output
    names = {"one", "two", "one-2"}
    assert {file.name for file in out.iterdir()} == {f"{n}{s}" for n in names for s in (".npz", ".png")}
    assert f"saved: {out}" in result.output
    with open_bundle(bundles[task]) as opened:
        for name, photo in zip(("one", "two", "one-2"), photos, strict=True):
            answer = getattr(opened, task)(photo)
            with np.load(out / f"{name}.npz") as arrays:
                for field, wanted in vars(answer).items():
                    if isinstance(wanted, np.ndarray):
                        np.testing.assert_array_equal(arrays[field], wanted)
            picture, image = Image.open(out / f"{name}.png"), Image.open(photo)
            assert picture.height == image.height
            assert picture.width >= image.width


@pytest.mark.parametrize(
    ("task", "word"), [("depth", "largest"), ("segment", "pixels"), ("detect", "left"), ("pose", "y")]
)
def test_table_has_the_answers_of_every_image(
    run: Run, bundles: dict[str, Path], photos: list[Path], task: str, word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photos[0].parent)  # a name that is not wrapped
    result = run("run", bundles[task], *(photo.relative_to(photos[0].parent) for photo in photos[:2]))
    assert result.exit_code == 0, result.output
    assert word in result.stdout.splitlines()[0] or word in result.stdout.splitlines()[1]
    assert "one.png" in result.stdout
    if task in ("segment", "detect", "pose"):
        assert "thing" in result.stdout


def test_document_has_everything(run: Run, bundles: dict[str, Path], photos: list[Path]) -> None:
    def ask(task: str, *options: str) -> dict[str, Any]:
        result = run("run", bundles[task], photos[0], "--json", *options)
        assert result.exit_code == 0, result.output
        (document,) = json.loads(result.stdout)
        assert (document["height"], document["width"]) == (61, 93)
        return dict(document)

    assert ask("depth")["metric"]
    shares = ask("segment")["classes"]
    assert sum(one["share"] for one in shares) == pytest.approx(1)
    assert all(one["label"] == LABELS[one["class"]] for one in shares)
    assert len(ask("detect", "--threshold", "0")["boxes"]) == QUERIES
    assert ask("detect", "--threshold", "1")["boxes"] == []
    people = ask("pose", "--box", "1,2,30,40", "--box", "5,5,60.5,60")["poses"]
    assert [person["box"] for person in people] == [[1, 2, 30, 40], [5, 5, 60.5, 60]]
    assert [point["name"] for point in people[0]["keypoints"]] == list(LABELS)


def test_one_images_picture_may_have_a_name(
    run: Run, bundles: dict[str, Path], photos: list[Path], tmp_path: Path
) -> None:
    for save in (tmp_path / "depth.png", tmp_path / "other.npz"):
        assert run("run", bundles["depth"], photos[0], "--save", save).exit_code == 0
        assert save.with_suffix(".png").is_file()
        assert save.with_suffix(".npz").is_file()


@pytest.mark.parametrize(
    ("task", "options", "words"),
    [
        ("depth", ["--save", "x.png"], "there are 2 images"),
        ("depth", ["--save", "x.jpg"], "neither a folder nor"),
        ("detect", ["--threshold", "nan"], "'nan' is no number from 0"),
        ("detect", ["--threshold", "-1"], "'-1' is no number from 0"),
        ("depth", ["--threshold", "0.5"], "for bundles of the task detect"),
        ("segment", ["--box", "1,2,3,4"], "for bundles of the task pose"),
        ("pose", ["--box", "1,2,3"], "not of the form"),
        ("pose", ["--box", "a,b,c,d"], "not of the form"),
        ("pose", ["--box", "9,9,3,3"], "no width or height"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    run: Run, bundles: dict[str, Path], photos: list[Path], task: str, options: list[str], words: str
) -> None:
    result = run("run", bundles[task], *photos[:2], *options)
    assert result.exit_code == 2
    assert words in " ".join(result.output.split())


def test_bad_images_are_left_out_on_request(
    run: Run, bundles: dict[str, Path], photos: list[Path], tmp_path: Path
) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"nothing")
    assert run("run", bundles["segment"], photos[0], bad).exit_code == 2
    result = run("run", bundles["segment"], photos[0], bad, "--skip-bad-images", "--json")
    assert result.exit_code == 0, result.output
    assert [set(one) >= {"error"} for one in json.loads(result.stdout)] == [False, True]


@pytest.mark.parametrize("language", ["cpp", "c", "python"])
def test_an_app_of_such_a_bundle_is_refused_with_what_to_call(
    run: Run, bundles: dict[str, Path], tmp_path: Path, language: str
) -> None:
    result = run("new-app", tmp_path / "app", "--bundle", bundles["pose"], "--language", language)
    assert result.exit_code == 2
    assert ".pose(image)" in " ".join(result.output.split())
    assert not (tmp_path / "app").exists()
