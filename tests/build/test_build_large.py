"""Checkpoints and graphs above 2 GiB, which no protobuf holds: weights lie in files beside the graphs."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from benchmarks.bench_memory import write_checkpoint
from edgevit.build.build import build_model
from edgevit.checkpoints import read_checkpoint
from edgevit.core.cache import StageCache
from edgevit.core.recipe import Recipe
from edgevit.core.target import load_target
from edgevit.measure.reference import generate_images, run_module
from edgevit.runtime import open_bundle

TWO_GIB = 2**31


@pytest.mark.slow
def test_vit_g_is_built_with_external_data_above_two_gib(tmp_path: Path) -> None:
    """1.0 billion random weights, 4 GB in float32: six minutes on two cores, and 16 GB of storage."""
    source = tmp_path / "checkpoint"
    assert write_checkpoint("vit_giant_patch14_224", source) > TWO_GIB
    result = build_model(
        source,
        load_target("cpu"),
        out=tmp_path / "bundle",
        recipe=dataclasses.replace(
            Recipe(), precision="fp32", latency_runs=3, latency_seconds=1.0, parity_images=2, tune_settings=False
        ),
        cache=StageCache(tmp_path / "cache"),
    )
    assert result.bundle is not None
    files = {path.name: path.stat().st_size for path in result.bundle.rglob("*") if path.is_file()}
    assert sum(files.values()) > TWO_GIB, files
    assert all(size < TWO_GIB for name, size in files.items() if name.endswith(".onnx")), files
    pixels = generate_images(2, 224, 224, 0)
    expected = run_module(read_checkpoint(source))(pixels)
    with open_bundle(result.bundle) as app:
        actual = app.run(pixels[:1])
    assert np.abs(actual - expected[:1]).max() <= 1e-4 * np.abs(expected).max()
