"""Labels as texts through the whole line: an OWL-ViT's and an OWLv2's folder, INT8, bundle, runtime, evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgevit.build.build import build_model
from edgevit.build.conclude import BuildResult
from edgevit.core.recipe import Recipe
from edgevit.core.target import load_target
from edgevit.measure.evaluate import evaluate_bundle
from edgevit.runtime import open_bundle
from edgevit.runtime.predictor import Predictor
from tests.support.owl_models import NAMES, OWLS, OwlKind, ask_owl, find_by_transformers, save_owl
from tests.support.photos import make_photo, write_photos

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folders = tmp_path_factory.mktemp("calibration"), tmp_path_factory.mktemp("validation")
    return write_photos(folders, 16, 60, 50)


def build(kind: OwlKind, precision: str, images: tuple[Path, Path], out: Path) -> BuildResult:
    batch = (1, 1, 2) if kind == "OwlViT" else (1, 1, 1)
    recipe = Recipe(
        precision=precision,  # type: ignore[arg-type]
        latency_runs=2,
        latency_seconds=0.05,
        tune_settings=False,
        batch=batch,
    )
    labels = out.parent / f"{out.name}.txt"
    labels.write_text("\n".join(NAMES))
    calibration, validation = images
    return build_model(
        save_owl(kind)[0],
        load_target("intel-cpu"),
        out=out,
        recipe=recipe,
        labels=labels,
        calibration=calibration,
        validation=validation,
    )


@pytest.fixture(scope="module", params=["OwlViT", pytest.param("Owlv2", marks=pytest.mark.slow)])
def built(
    request: pytest.FixtureRequest, images: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[OwlKind, BuildResult]:
    return request.param, build(request.param, "int8", images, tmp_path_factory.mktemp(request.param) / "bundle")


def test_int8_of_the_encoder_is_built_and_keeps_the_outputs(built: tuple[OwlKind, BuildResult]) -> None:
    _, result = built
    assert result.report.verdict.chosen.startswith("int8")
    sites = result.report.quantization["int8"].sites
    assert sum(site.precision == "int8" for site in sites if site.name.startswith("blocks.")) > 3
    (chosen,) = [one for one in result.report.variants if one.name == result.report.verdict.chosen]
    assert chosen.parity is not None
    assert chosen.parity.passed, chosen.parity.reason


def test_bundle_says_its_labels_and_what_they_were_put_into(built: tuple[OwlKind, BuildResult]) -> None:
    _, result = built
    manifest = result.manifest
    assert (manifest.task, manifest.labels) == ("detect", NAMES)
    assert manifest.templates == ("a photo of a {}",)
    assert manifest.answer is not None
    assert (manifest.answer.scores, manifest.answer.threshold) == ("best_sigmoid", 0.1)


def test_int8_bundle_says_of_every_patch_nearly_what_transformers_says(built: tuple[OwlKind, BuildResult]) -> None:
    kind, result = built
    same = []
    for seed in range(90, 94):
        photo = make_photo(61, 50, seed=seed)
        with open_bundle(result.bundle) as opened:
            found = opened.outputs(photo)
            wanted = ask(kind, opened, photo)
        logits, exact = found["logits"].reshape(16, -1), wanted.logits[0].numpy()
        same.extend(logits.argmax(axis=1) == exact.argmax(axis=1))
        np.testing.assert_allclose(sigmoid(logits.max(axis=1)), sigmoid(exact.max(axis=1)), atol=0.1)
        np.testing.assert_allclose(found["pred_boxes"].reshape(16, 4), wanted.pred_boxes[0].numpy(), atol=0.07)
    assert np.mean(same) > 0.9


@pytest.mark.parametrize("kind", OWLS)
def test_float_bundle_finds_what_transformers_finds(kind: OwlKind, images: tuple[Path, Path], tmp_path: Path) -> None:
    result = build(kind, "fp32", images, tmp_path / "bundle")
    photo = make_photo(61, 50, seed=90)
    with open_bundle(result.bundle) as opened:
        found = opened.detect(photo)
        answer = ask(kind, opened, photo)
    wanted = find_by_transformers(save_owl(kind)[2], answer, photo, list(NAMES), threshold=0.1)
    assert found.labels == NAMES
    assert len(found.boxes) > 3
    np.testing.assert_array_equal(found.classes, wanted["labels"])
    np.testing.assert_allclose(found.scores, wanted["scores"], atol=1e-4)
    np.testing.assert_allclose(found.boxes, wanted["boxes"], atol=1e-4 * 61)


def ask(kind: OwlKind, opened: Predictor, photo: Image.Image) -> Any:
    """transformers' answer to the pixels that the bundle shows its engine."""
    _, theirs, processor = save_owl(kind)
    pixels = opened.preprocess.normalize(opened.preprocess.apply(photo)).transpose(2, 0, 1)[None]
    texts = [f"a photo of a {name}" for name in NAMES]
    return ask_owl(theirs, processor, np.ascontiguousarray(pixels, np.float32), texts)


def sigmoid(values: Any) -> Any:
    return 1 / (1 + np.exp(-values))


def test_evaluation_against_the_folder_makes_the_same_head_again(
    built: tuple[OwlKind, BuildResult], images: tuple[Path, Path]
) -> None:
    kind, result = built
    found = evaluate_bundle(result.bundle, images[1], reference=save_owl(kind)[0])
    assert found.accuracy.sqnr_db >= 15
