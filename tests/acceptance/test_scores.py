"""Multi-label, regression and one-output checkpoints of transformers give its own numbers from ``edgevit run``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from edgevit.cli import main
from tests.support.photos import make_photo
from tests.support.reference import import_transformers, randomise


@pytest.mark.parametrize(
    ("problem", "labels"),
    [
        ("multi_label_classification", ["effusion", "nodule", "mass"]),
        ("regression", ["age"]),
        pytest.param("regression", ["width", "height"], marks=pytest.mark.slow),
        (None, ["defect"]),
    ],
    ids=["multi-label", "regression", "several-numbers", "one-output"],
)
def test_run_gives_transformers_own_numbers(problem: str | None, labels: list[str], tmp_path: Path) -> None:
    transformers = import_transformers()
    config = transformers.ViTConfig(
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        image_size=32,
        id2label=dict(enumerate(labels)),
        label2id={label: index for index, label in enumerate(labels)},
        problem_type=problem,
    )
    theirs = randomise(transformers.ViTForImageClassification(config))
    processor = transformers.ViTImageProcessor(size={"height": 32, "width": 32})
    theirs.save_pretrained(tmp_path / "model")
    processor.save_pretrained(tmp_path / "model")
    make_photo(32, 32, 1).save(tmp_path / "photo.png")
    with torch.inference_mode():
        picture = Image.open(tmp_path / "photo.png").convert("RGB")
        logits = theirs(**processor(images=picture, return_tensors="pt")).logits[0]
    runner = CliRunner()
    bundle = str(tmp_path / "bundle")
    quick = tmp_path / "quick.toml"
    quick.write_text("latency_runs = 2\nlatency_seconds = 0.05\ntune_settings = false\n")
    command = ["build", str(tmp_path / "model"), "--target", "cpu", "--precision", "fp32", "--recipe", str(quick)]
    built = runner.invoke(main, [*command, "--out", bundle])
    assert built.exit_code == 0, built.output
    said = runner.invoke(main, ["run", bundle, str(tmp_path / "photo.png"), "--json"])
    assert said.exit_code == 0, said.output
    answers = {answer["label"]: answer for answer in json.loads(said.stdout)[0]["predictions"]}
    for label, value, probability in zip(labels, logits.tolist(), logits.sigmoid().tolist(), strict=True):
        assert answers[label]["value"] == pytest.approx(value, rel=1e-3, abs=1e-4)
        if problem == "regression":
            assert answers[label].get("probability") is None
        else:
            assert answers[label]["probability"] == pytest.approx(probability, abs=1e-4)
    table = runner.invoke(main, ["run", bundle, str(tmp_path / "photo.png")]).output
    assert ("value" if problem == "regression" else "probability") in table
    if len(labels) > 1 or problem == "regression":
        for number, name in enumerate(("0", "1")):
            (tmp_path / "data" / name).mkdir(parents=True)
            make_photo(32, 32, number).save(tmp_path / "data" / name / "photo.png")
        refused = runner.invoke(main, ["eval", bundle, "--data", str(tmp_path / "data")])
        assert refused.exit_code == 2
        assert "which a class an image does not judge" in " ".join(refused.output.split())
        compared = ["eval", bundle, "--data", str(tmp_path / "data"), "--reference", str(tmp_path / "model")]
        assert runner.invoke(main, compared).exit_code == 0
