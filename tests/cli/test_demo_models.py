"""The models and images that ship with the package are what their README says."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from edgevit.cli import demo_models as demo
from edgevit.cli.demo_models import LABELS, MODELS, TRAINING, draw_digit, load_digits, write_digits
from edgevit.pixels.images import ImageSet
from tests.support.reference import import_timm

MODEL_NAMES = list(MODELS)


def read_config(name):
    return json.loads((MODELS[name] / "config.json").read_text(encoding="utf-8"))


def test_digits_are_scikit_learns():
    datasets = pytest.importorskip("sklearn.datasets")
    origin = datasets.load_digits()
    images, labels = load_digits()
    assert images.shape == (1797, 8, 8)
    assert images.dtype == np.uint8
    np.testing.assert_array_equal(labels, origin.target)
    np.testing.assert_allclose(images, origin.images * 255 / 16, atol=0.5)


def test_write_digits_writes_the_split_as_png_files(tmp_path):
    files = write_digits(tmp_path)
    images, labels = load_digits()
    calibration, validation = ImageSet.read(files.calibration), ImageSet.read(files.validation)
    assert len(calibration) == 200
    assert np.bincount(calibration.labels).tolist() == [20] * 10
    assert len(validation) == 597
    indices = [int(file.split("/")[1].removesuffix(".png")) for file in (*calibration.files, *validation.files)]
    assert len(set(indices)) == len(indices)
    assert max(indices[:200]) < TRAINING <= min(indices[200:])
    assert list(calibration.labels + validation.labels) == labels[indices].tolist()
    for image_set in (calibration, validation):
        file = image_set.files[7]
        index = int(file.split("/")[1].removesuffix(".png"))
        np.testing.assert_array_equal(np.asarray(Image.open(image_set.root / file)), images[index])


def test_write_digits_twice_gives_the_same_files(tmp_path):
    first = ImageSet.read(write_digits(tmp_path / "a").validation).sha256()
    assert ImageSet.read(write_digits(tmp_path / "a").validation).sha256() == first
    assert ImageSet.read(write_digits(tmp_path / "b").validation).sha256() == first


def test_draw_digit_shows_two_rows_a_line():
    image = np.array([[255, 0, 255, 0], [255, 255, 0, 0]], np.uint8)
    assert draw_digit(image) == ["█▄▀ "]


@pytest.mark.parametrize("name", MODEL_NAMES)
def test_model_is_small_and_records_its_training(name):
    assert (MODELS[name] / "model.safetensors").stat().st_size < 1_000_000
    training = read_config(name)["training"]
    assert training["training_images"] == TRAINING
    assert training["held_out_images"] == 1797 - TRAINING
    assert training["held_out_top1_percent"] > 97
    readme = (demo.FOLDER / "README.md").read_text(encoding="utf-8")
    assert f"{training['held_out_top1_percent']} % ({training['held_out_correct']} of 597)" in readme


@pytest.mark.parametrize("name", MODEL_NAMES)
def test_timm_reads_the_model_and_reaches_the_recorded_accuracy(name):
    torch = pytest.importorskip("torch")
    timm = import_timm()
    config = read_config(name)
    model = timm.create_model(f"local-dir:{MODELS[name]}", pretrained=True).eval()
    images, labels = load_digits()
    held_out = [Image.fromarray(image).convert("RGB") for image in images[TRAINING:]]
    size = tuple(config["pretrained_cfg"]["input_size"][1:])
    pixels = np.stack([np.asarray(image.resize(size, Image.Resampling.BICUBIC), np.float32) for image in held_out])
    with torch.inference_mode():
        logits = model(torch.from_numpy(pixels / 127.5 - 1).permute(0, 3, 1, 2))
    correct = int((logits.argmax(1).numpy() == labels[TRAINING:]).sum())
    # Another processor rounds differently, and one image may lie on the edge.
    assert abs(correct - config["training"]["held_out_correct"]) <= 1


@pytest.mark.parametrize("name", MODEL_NAMES)
def test_edgevit_reads_the_model_without_assuming_anything(name):
    from edgevit.checkpoints import read_checkpoint

    model = read_checkpoint(MODELS[name])
    assert model.family == name
    assert model.labels == LABELS
    assert model.source.notes == ()


def test_swin_shifts_its_windows_in_every_stage():
    from edgevit.checkpoints import read_checkpoint

    config = read_checkpoint(MODELS["swin"]).config
    for stage in range(len(config.depths)):
        shifts = [config.block_window(stage, block)[1] for block in range(config.depths[stage])]
        assert shifts == [(0, 0), (2, 2)]
