"""A build of a whole model judged by labels of its task and by the float model, and eval, which counts them again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgevit.build.build import build_model
from edgevit.core.errors import DataError
from edgevit.core.recipe import Recipe
from edgevit.core.target import load_target
from edgevit.measure.evaluate import evaluate_bundle
from tests.support.dense_models import write_dense_model
from tests.support.photos import make_photo

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
QUICK = Recipe(precision="fp32", latency_runs=2, latency_seconds=0.05, tune_settings=False)


def write_truth(model: Any, processor: Any, root: Path, factor: float) -> None:
    """Images, and what transformers says of each, ``factor`` times as far, as their measured distances."""
    for name in ("images", "maps"):
        (root / name).mkdir(parents=True)
    for number in range(3):
        photo = make_photo(60 + number, 90, seed=number)
        photo.save(root / "images" / f"{number}.png")
        with torch.inference_mode():
            result = model(**processor(photo, return_tensors="pt"))
        (found,) = processor.post_process_depth_estimation(result, target_sizes=[(photo.height, photo.width)])
        np.save(root / "maps" / f"{number}.npy", factor * found["predicted_depth"].numpy())


def test_depth_is_judged_by_measured_distances_and_by_the_float_model(tmp_path: Path) -> None:
    model, processor = write_dense_model("depth_anything_metric", tmp_path / "model")
    write_truth(model, processor, tmp_path / "data", factor=1.25**0.5)
    data = tmp_path / "data"
    result = build_model(tmp_path / "model", load_target("cpu"), out=tmp_path / "b", recipe=QUICK, validation=data)
    (variant,) = result.report.variants
    figures = variant.accuracy.task_figures
    for beginning in ("", "reference_"):
        assert figures[f"{beginning}abs_rel"] == pytest.approx(1 - 0.8**0.5, abs=1e-3)
        assert figures[f"{beginning}delta1_percent"] == 100
        assert figures[f"{beginning}aligned_delta1_percent"] == 100
    assert variant.accuracy.kept == ("kept_delta1_percent", 100)
    assert "; δ1 100 %, the float model's 100 %, AbsRel 0.10" in result.report.verdict.sentence
    assert result.report.data["validation"].labelled
    assert result.manifest.figures["kept_percent"] == 100

    again = evaluate_bundle(tmp_path / "b", data, reference=tmp_path / "model")
    assert again.task_figures == pytest.approx(figures, abs=1e-4)
    alone = evaluate_bundle(tmp_path / "b", data)
    assert {key for key in figures if not key.startswith(("kept", "reference"))} == set(alone.task_figures)

    (data / "maps" / "1.npy").unlink()
    np.save(data / "maps" / "2.npy", np.ones((5, 5)))
    with pytest.raises(DataError) as caught:
        build_model(tmp_path / "model", load_target("cpu"), out=tmp_path / "c", recipe=QUICK, validation=data)
    assert "has 2 faults" in caught.value.message
    assert "1.png: has no map" in caught.value.message
    assert "2.png: its map 2.npy is 5 × 5, and the image 90 × 62" in caught.value.message
