"""Every image of a set is answered once, in order, and counted by its task's meter."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from edgevit.core.engine import TensorSpec
from edgevit.core.errors import DataError
from edgevit.core.task import Task
from edgevit.measure.answers import Run, measure_answers
from edgevit.pixels.images import ImageSet
from edgevit.pixels.preprocess import Preprocess
from edgevit.runtime.session import Outputs


@pytest.fixture
def images(tmp_path: Path) -> ImageSet:
    """Five grey images, whose mean is their number, in two classes."""
    lines = ["file,label"]
    for i in range(5):
        Image.new("RGB", (8, 8), (i, i, i)).save(tmp_path / f"{i}.png")
        lines.append(f"{i}.png,{i % 2}")
    (tmp_path / "list.csv").write_text("\n".join(lines))
    return ImageSet.read(tmp_path / "list.csv")


CLASSIFY = Task("classify")
LOGITS = [TensorSpec("logits", ("batch", 2), "float32")]
PREPROCESS = Preprocess(8, 8, "none", 8, 8, "bilinear", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def run_parity_model(pixels: npt.NDArray[np.uint8]) -> Outputs:
    """Says 1 for odd pixels and 0 for even ones."""
    odd = pixels[:, 0, 0, 0] % 2
    return (np.stack([1 - odd, odd], axis=1).astype(np.float32),)


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_images_with_another_answer_are_listed_with_both_and_the_hash_of_the_file(
    images: ImageSet, batch_size: int
) -> None:
    def run_zero(pixels: npt.NDArray[np.uint8]) -> Outputs:
        return (np.tile(np.array([1, 0], np.float32), (len(pixels), 1)),)

    def measure(run: Run, reference: Run, images: ImageSet) -> list[tuple[str, int, int, int | None]]:
        found = measure_answers(
            run, images, PREPROCESS, CLASSIFY, LOGITS, reference=reference, batch_size=batch_size
        ).changed_images
        for change in found:
            assert change.sha256 == hashlib.sha256((images.root / change.file).read_bytes()).hexdigest()
        return [(change.file, change.reference, change.answer, change.label) for change in found]

    assert measure(run_zero, run_parity_model, images) == [("1.png", 1, 0, 1), ("3.png", 1, 0, 1)]
    assert measure(run_parity_model, run_zero, images) == [("1.png", 0, 1, 1), ("3.png", 0, 1, 1)]
    unlabelled = dataclasses.replace(images, labels=None)
    assert measure(run_parity_model, run_zero, unlabelled) == [("1.png", 0, 1, None), ("3.png", 0, 1, None)]
    many = dataclasses.replace(images, files=("1.png", "2.png") * 20, labels=(1, 0) * 20)
    assert len(measure(run_zero, run_parity_model, many)) == 12


@pytest.mark.parametrize("batch_size", [1, 2, 5, 8])
def test_measure_answers_streams_every_image_once(images: ImageSet, batch_size: int) -> None:
    calls: list[tuple[str, int, int]] = []
    found = measure_answers(
        run_parity_model,
        images,
        PREPROCESS,
        Task("classify"),
        LOGITS,
        reference=lambda pixels: (-run_parity_model(pixels)[0],),
        batch_size=batch_size,
        progress=lambda *call: calls.append(call),
        stage="judging",
    )
    assert (found.images, found.top1, found.reference_top1, found.gained, found.agreement) == (5, 5, 0, 5, 0)
    assert calls[0] == ("judging", 0, 5)
    assert calls[-1] == ("judging", 5, 5)


def test_measure_answers_takes_reference_logits_in_the_sets_order(images: ImageSet) -> None:
    reference = np.asarray([[1, 0], [0, 1], [1, 0], [0, 1], [0, 1]], np.float32)
    found = measure_answers(
        run_parity_model, images, PREPROCESS, CLASSIFY, LOGITS, reference=(reference,), batch_size=2
    )
    assert (found.agreement, found.reference_top1, found.lost) == (4, 4, 0)
    with pytest.raises(ValueError, match="4 reference answers for 5 images"):
        measure_answers(run_parity_model, images, PREPROCESS, CLASSIFY, LOGITS, reference=(reference[:4],))


def test_answers_without_a_reference_are_held_against_themselves_and_labels_count(images: ImageSet) -> None:
    found = measure_answers(run_parity_model, images, PREPROCESS, CLASSIFY, LOGITS, reference=None, batch_size=2)
    assert (found.images, found.top1, found.reference_top1, found.agreement) == (5, 5, 5, 5)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_embeddings_of_a_float_model_that_is_called_are_those_that_it_gave_before(
    images: ImageSet, batch_size: int
) -> None:
    def embed(pixels: npt.NDArray[np.uint8]) -> Outputs:
        level = pixels[:, 0, 0, 0].astype(np.float32)
        return (np.stack([np.cos(level), np.sin(level)], axis=1),)

    def measure(reference: Any) -> Any:
        specs = [TensorSpec("embedding", ("batch", 2), "float32")]
        return measure_answers(
            lambda pixels: (embed(pixels)[0] + np.float32(0.01),),
            images,
            PREPROCESS,
            Task("embed"),
            specs,
            reference=reference,
            batch_size=batch_size,
        )

    stored = (np.concatenate([embed(batch.pixels)[0] for batch in images.batches(PREPROCESS, 1)]),)
    assert measure(embed) == measure(stored)
    assert 0.999 < measure(embed).cosine_mean < 1


def test_features_of_every_level_are_compared_with_the_stored_ones(images: ImageSet) -> None:
    def run(pixels: npt.NDArray[np.uint8]) -> Outputs:
        maps = pixels.transpose(0, 3, 1, 2).astype(np.float32)
        return maps + 1, maps[:, :, ::2, ::2]

    specs = [TensorSpec("level0", ("batch", 3, 8, 8), "float32"), TensorSpec("level1", ("batch", 3, 4, 4), "float32")]
    maps = np.concatenate([batch.pixels for batch in images.batches(PREPROCESS, 1)]).transpose(0, 3, 1, 2)
    stored = (maps.astype(np.float32), maps[:, :, ::2, ::2].astype(np.float32))
    found = measure_answers(run, images, PREPROCESS, Task("features"), specs, reference=stored, batch_size=2)
    assert found.level_sqnr_db == {"level0": pytest.approx(10 * np.log10(np.square(stored[0]).mean())), "level1": None}


def test_no_images_are_no_measurement() -> None:
    with pytest.raises(DataError, match="no images"):
        measure_answers(run_parity_model, ImageSet(Path(), ()), PREPROCESS, CLASSIFY, LOGITS, reference=None)
