"""Real weights: what is built from an exported file is what is built from the checkpoint."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from edgevit.checkpoints import read_checkpoint
from edgevit.core.target import ExportForm
from edgevit.graph.passes.optimize import optimize_graph
from edgevit.measure.reference import run_module
from edgevit.models.export import export_model
from edgevit.pixels.images import ImageSet
from tests.support.foreign_exports import Exporter, export_asset, export_transformers
from tests.support.reference import save_deit_as_transformers, save_swin_as_transformers

ASSETS = {"deit_tiny_imagenet": "imagenet", "swin_imagenette": "imagenette"}


@pytest.mark.slow
@pytest.mark.parametrize("exporter", ["dynamo", "script"])
@pytest.mark.parametrize("asset", ASSETS)
def test_exported_asset_is_built_as_its_checkpoint_is(
    asset: str, exporter: Exporter, assets: Path, tmp_path: Path
) -> None:
    compare(assets / asset, export_asset(assets / asset, tmp_path, exporter), assets / ASSETS[asset])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("asset", "exporter"),
    [("deit_tiny_imagenet", "dynamo"), ("deit_tiny_imagenet", "script"), ("swin_imagenette", "script")],
)
def test_asset_in_transformers_layout_and_exported_is_built_as_its_checkpoint_is(
    asset: str, exporter: Exporter, assets: Path, tmp_path: Path
) -> None:
    save = save_deit_as_transformers if asset == "deit_tiny_imagenet" else save_swin_as_transformers
    save(assets / asset, tmp_path / "checkpoint")
    path = export_transformers(tmp_path / "checkpoint", tmp_path / "export", exporter)
    compare(tmp_path / "checkpoint", path, assets / ASSETS[asset])


def compare(folder: Path, exported: Path, data: Path) -> None:
    """The same operators, and the same answers to a hundred images."""
    checkpoint, foreign = read_checkpoint(folder), read_checkpoint(exported)
    assert foreign.preprocess == checkpoint.preprocess
    assert foreign.assumed == ()
    counts = []
    for model in (checkpoint, foreign):
        graph, _ = export_model(model, ExportForm())
        counts.append(optimize_graph(graph)[0].op_counts())
    assert counts[0] == counts[1]
    images = ImageSet.read(data / "validation.csv").subset(100, 0)
    for batch in images.batches(foreign.preprocess, 20):
        expected = run_module(foreign)(batch.pixels)  # the file itself, by ONNX Runtime
        pixels = foreign.preprocess.normalize(batch.pixels).transpose(0, 3, 1, 2)
        with torch.inference_mode():
            for module in (foreign.module, checkpoint.module):
                actual = module(torch.from_numpy(np.ascontiguousarray(pixels))).numpy()
                assert np.array_equal(actual.argmax(1), expected.argmax(1))
                assert np.abs(actual - expected).max() <= 1e-4 * np.abs(expected).max()
