"""Accuracy is judged on images that calibration has not seen, whatever their files are called."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgevit.build import evidence
from edgevit.build.evidence import ImageSets, gather_evidence, read_image_sets
from edgevit.build.order import Inputs
from edgevit.core.cache import StageCache
from edgevit.core.errors import DataError
from edgevit.core.recipe import Recipe
from edgevit.measure.reference import run_module
from tests.support.small_models import VIT, make_model

SHADES = {"0": range(0, 120, 10), "1": range(120, 240, 10)}


def write(folder: Path) -> Path:
    """Two classes of twelve images, all different."""
    for name, shades in SHADES.items():
        (folder / name).mkdir(parents=True)
        for shade in shades:
            Image.new("RGB", (32, 32), (shade, 0, 0)).save(folder / name / f"{shade}.png")
    return folder


def copy(source: Path, folder: Path, shades: list[int]) -> Path:
    """Some of these images under other names."""
    for name, known in SHADES.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for shade in set(shades) & set(known):
            shutil.copy(source / name / f"{shade}.png", folder / name / f"copy-{shade}.png")
    return folder


def add(folder: Path, count: int) -> Path:
    """Images of their own in both classes."""
    for number in range(count):
        name = str(number % 2)
        (folder / name).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32), (0, number, 9)).save(folder / name / f"new-{number}.png")
    return folder


def read(calibration: Path, validation: Path) -> ImageSets:
    inputs = Inputs("model", calibration=calibration, validation=validation)
    return read_image_sets(make_model(VIT), Recipe(), inputs, lambda *_: None, lambda _: None)


@pytest.mark.parametrize("copied", [False, True])
def test_same_images_for_both_are_called_that(tmp_path: Path, copied: bool) -> None:
    calibration = write(tmp_path / "train")
    validation = write(tmp_path / "copies") if copied else calibration
    with pytest.raises(DataError, match="calibration and validation are the same 24 images") as caught:
        read(calibration, validation)
    assert "images that the choice has not seen" in caught.value.hint


def test_validation_images_that_are_all_among_the_others_are_refused(tmp_path: Path) -> None:
    calibration = write(tmp_path / "train")
    validation = copy(calibration, tmp_path / "val", [0, 10, 120])
    with pytest.raises(DataError, match="all 3 validation images are among the calibration images"):
        read(calibration, validation)


def test_every_file_in_both_sets_is_listed(tmp_path: Path) -> None:
    calibration, validation = write(tmp_path / "train"), add(tmp_path / "val", 4)
    links = [(calibration / "0" / "10.png"), (calibration / "1" / "130.png")]
    for link in links:
        (validation / link.parent.name / link.name).symlink_to(link)
    with pytest.raises(DataError, match="2 of 6 validation images are in both") as caught:
        read(calibration, validation)
    assert caught.value.message.splitlines()[1:] == ["  0/10.png", "  1/130.png"]


def test_a_few_copies_are_a_warning_of_the_verdict(tmp_path: Path) -> None:
    calibration = write(tmp_path / "train")
    validation = add(copy(calibration, tmp_path / "val", [10, 130]), 6)
    assert read(calibration, validation).doubts == (
        "2 of 8 validation images have copies among the calibration images: 0/copy-10.png, 1/copy-130.png",
    )


def test_sets_without_common_images_are_taken_without_a_word(tmp_path: Path) -> None:
    assert read(write(tmp_path / "train"), add(tmp_path / "val", 6)).doubts == ()


def test_report_names_the_table_that_was_given_and_not_the_folder_around_it(tmp_path: Path) -> None:
    write(tmp_path / "train")
    table = tmp_path / "some.csv"
    table.write_text("file,label\ntrain/0/10.png,0\ntrain/1/130.png,1\n")
    sets = read(table, add(tmp_path / "val", 2))
    assert sets.calibration is not None
    assert sets.validation is not None
    assert (sets.calibration.source, sets.validation.source) == (str(table), str(tmp_path / "val"))


def test_answers_to_the_few_images_are_computed_once_for_all_builds(tmp_path: Path, monkeypatch) -> None:
    images = read(write(tmp_path / "calibration"), add(tmp_path / "validation", 4))
    model, cache, recipe = make_model(VIT), StageCache(tmp_path / "cache"), Recipe(parity_images=3)
    first = gather_evidence(model, recipe, images, cache, lambda *_: None)
    expected = run_module(model)(first.pixels)
    assert len(first.pixels) == 3
    assert np.abs(first.outputs[0] - expected).max() <= 1e-5 * np.abs(expected).max()
    monkeypatch.setattr(evidence, "compute_reference", lambda *given: pytest.fail("computed again"))
    again = gather_evidence(model, recipe, images, cache, lambda *_: None)
    assert np.array_equal(again.outputs[0], first.outputs[0])
    monkeypatch.undo()
    other = gather_evidence(model, Recipe(parity_images=3, seed=5), images, cache, lambda *_: None)
    assert not np.array_equal(other.outputs[0], first.outputs[0])  # other images
