"""A build for an execution provider of ONNX Runtime, which is pretended: what falls back stands in the verdict."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgevit.build import here
from edgevit.build.build import build_model
from edgevit.build.conclude import BuildResult
from edgevit.cli.demo_models import MODELS
from edgevit.core.cache import StageCache
from edgevit.core.errors import DeviceError
from edgevit.core.recipe import Recipe
from edgevit.core.report.timings import ColdStart
from edgevit.core.target import Target
from edgevit.runtime import open_bundle
from edgevit.runtime.providers import PRODUCTS
from tests.support.provider_double import make_target, pretend_provider

QUICK = Recipe(latency_runs=2, latency_seconds=0.05, tune_settings=False)


def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: Target) -> BuildResult:
    # a fresh process would look for the provider itself
    monkeypatch.setattr(here, "measure_cold_start", lambda *arguments, **options: ColdStart(1.0, 1.0, 1.0, 1))
    return build_model(
        MODELS["vit"], target, out=tmp_path / "bundle", recipe=QUICK, cache=StageCache(tmp_path / "cache")
    )


def test_nodes_that_fell_back_are_listed_in_the_report_and_counted_in_the_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_provider(monkeypatch, "cuda", (*PRODUCTS, "Gelu"))
    result = build(tmp_path, monkeypatch, make_target("cuda"))
    record = result.report.fusion["fp32"]
    assert record.assignment is not None
    assert record.device == "CUDAExecutionProvider"
    softmax = [node for node in record.assignment.left if node.startswith("Softmax ")]
    assert len(softmax) == 4, "one for each block, as the double takes none"
    total = record.assignment.taken + len(record.assignment.left)
    (risk,) = [w for w in result.report.verdict.warnings if "fell back" in w]
    assert risk.startswith(
        f"fp32: {len(record.assignment.left)} of {total} nodes fell back from CUDAExecutionProvider to the CPU: "
    )
    assert "4 Softmax" in risk
    assert result.report.variants[0].parity is not None
    assert result.bundle is not None
    assert result.manifest is not None
    assert result.manifest.engine is not None
    assert result.manifest.engine.device == "cuda"
    open_bundle(result.bundle).close()


def test_provider_that_takes_nothing_gives_no_bundle_and_the_cause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_provider(monkeypatch, "cuda", ())
    result = build(tmp_path, monkeypatch, make_target("cuda"))
    assert result.bundle is None
    assert not result.report.verdict.passed
    (variant,) = result.report.variants
    assert variant.status == "NOT SUPPORTED"
    assert "CUDAExecutionProvider computes none of the" in variant.reason
    assert variant.reason in result.report.verdict.sentence


def test_provider_that_stops_starting_after_the_build_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as sound:
        pretend_provider(sound, "cuda", PRODUCTS)
        bundle = build(tmp_path, sound, make_target("cuda")).bundle
    assert bundle is not None
    pretend_provider(monkeypatch, "cuda", PRODUCTS, starts=False)
    with pytest.raises(DeviceError, match="did not start"):
        open_bundle(bundle)
