"""Labels as texts through the whole line: a CLIP's and a SigLIP's folder, INT8, bundle, runtime, evaluation."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from edgevit.build.build import build_model
from edgevit.core.errors import DataError, RecipeError
from edgevit.core.quantization import Quantization
from edgevit.core.recipe import Recipe
from edgevit.core.target import load_target
from edgevit.core.task import Task
from edgevit.measure.evaluate import evaluate_bundle
from edgevit.runtime import open_bundle
from tests.support.digits import write_few
from tests.support.two_towers import CONTEXT, write_clip, write_siglip

CPU = dataclasses.replace(load_target("cpu"), precisions=("fp32", "int8"))
QUICK = Recipe(
    precision="int8",
    latency_runs=2,
    latency_seconds=0.05,
    tune_settings=False,
    choice_images=40,
    quantization=Quantization(images=40),
)
NAMES = ["nought", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    return write_few(tmp_path_factory.mktemp("digits"), 5)


@pytest.fixture(scope="module", params=["clip", "siglip"])
def built(request, tmp_path_factory, digits):
    folder = tmp_path_factory.mktemp(request.param)
    module, tokenizer = (write_clip if request.param == "clip" else write_siglip)(folder / "m")
    (folder / "labels.txt").write_text("\n".join(NAMES))
    result = build_model(
        folder / "m",
        CPU,
        out=folder / "bundle",
        recipe=QUICK,
        labels=folder / "labels.txt",
        calibration=digits.calibration,
        validation=digits.validation,
        accept_chance=True,  # the weights are random
    )
    return request.param, folder, module, tokenizer, result, digits


def ask_transformers(kind, module, tokenizer, pixels):
    if kind == "clip":
        texts = tokenizer([f"a photo of a {name}." for name in NAMES], padding=True, return_tensors="pt")
        return module(**texts, pixel_values=pixels).logits_per_image.softmax(dim=-1)
    tokenizer.enable_padding(pad_id=0, length=CONTEXT)
    ids = [found.ids for found in tokenizer.encode_batch([f"this is a photo of {name}" for name in NAMES])]
    return module(input_ids=torch.tensor(ids), pixel_values=pixels).logits_per_image.sigmoid()


def test_int8_bundle_scores_as_transformers_zero_shot_pipeline(built) -> None:
    kind, _, module, tokenizer, result, digits = built
    image = next(digits.validation.glob("3/*.png"))
    with open_bundle(result.bundle) as opened:
        assert opened.manifest.labels == tuple(NAMES)
        prepared = opened.preprocess.normalize(opened.preprocess.apply(image)).transpose(2, 0, 1)
        with torch.inference_mode():
            theirs = ask_transformers(kind, module, tokenizer, torch.from_numpy(prepared)[None].float())[0].numpy()
        found = {answer.label: answer.probability for answer in opened.classify(image, len(NAMES))}
    ours = np.array([found[name] for name in NAMES])
    assert np.ptp(theirs) > 0.01
    assert 0 < np.abs(ours - theirs).max() <= 0.02


def test_bundle_and_report_say_what_the_head_was_made_of(built) -> None:
    kind, _, _, _, result, _ = built
    template = "a photo of a {}." if kind == "clip" else "This is a photo of {}."
    assert result.manifest.templates == (template,)
    odd = dataclasses.replace(result.manifest, source={**result.manifest.source, "templates": "/etc/hostname"})
    assert odd.templates == ()
    assert result.manifest.scores == ("softmax" if kind == "clip" else "sigmoid")
    assert f"the head is 10 labels as texts, put into '{template}'" in result.report.notes
    record = result.report.quantization["int8"]
    assert "label_head" in {site.name for site in record.sites}


def test_evaluation_against_the_checkpoint_makes_the_same_head_again(built) -> None:
    _, folder, _, _, result, digits = built
    found = evaluate_bundle(result.bundle, digits.validation, reference=folder / "m")
    assert found.accuracy.sqnr_db >= 20


def test_labels_change_the_answers_of_a_build_in_the_same_cache(built, tmp_path) -> None:
    _, folder, _, _, _, digits = built
    recipe = dataclasses.replace(QUICK, precision="fp32")
    made = [
        build_model(folder / "m", CPU, out=tmp_path / str(turn), recipe=recipe, labels=names, accept_chance=True).bundle
        for turn, names in enumerate((NAMES, NAMES[::-1]))
    ]
    image = next(digits.validation.glob("3/*.png"))
    scores = []
    for bundle in made:
        with open_bundle(bundle) as opened:
            scores.append({answer.label: answer.probability for answer in opened.classify(image, len(NAMES))})
    assert scores[0] == pytest.approx(scores[1], abs=1e-4)


def test_embedding_has_no_labels(tmp_path) -> None:
    write_clip(tmp_path / "m")
    recipe = dataclasses.replace(QUICK, task=Task("embed"), precision="fp32")
    with pytest.raises(RecipeError, match="labels are for the tasks classify and detect, not for embed"):
        build_model(tmp_path / "m", CPU, out=tmp_path / "b", recipe=recipe, labels=NAMES)
    with pytest.raises(DataError, match="templates and no labels"):
        build_model(tmp_path / "m", CPU, out=tmp_path / "b", recipe=QUICK, templates=["{}"])
