"""Every precision is tried; what fails says why and the others are timed together."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from edgevit.build.bench import Bench
from edgevit.build.evidence import Evidence, Judged
from edgevit.build.order import Order
from edgevit.build.trial import GraphFile
from edgevit.build.try_engines import SearchResult, try_engines
from edgevit.core.cache import StageCache
from edgevit.core.engine import Engine
from edgevit.core.errors import DeviceError
from edgevit.core.isa import TIERS, read_tier
from edgevit.core.recipe import Recipe
from edgevit.core.report.report import DataUse
from edgevit.core.target import load_target
from edgevit.pixels.images import ImageSet
from edgevit.pixels.preprocess import Preprocess
from edgevit.runtime.session import Session, open_engine
from tests.support.photos import make_photo
from tests.support.tiny_onnx import SIZE, compute_logits, make_images, write_classifier

CPU = load_target("cpu")
QUICK = Recipe(latency_runs=2, latency_seconds=0.01, tune_settings=False)
PREPROCESS = Preprocess(SIZE, SIZE, "none", SIZE, SIZE, "bilinear", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, GraphFile]:
    """The model for ``fp32`` and ``fp16``, another model under the name of ``fp16`` in ``other``."""
    root = tmp_path_factory.mktemp("graphs")
    return {
        "model": GraphFile(write_classifier(root / "tiny.onnx"), {"weights": 0}),
        "other": GraphFile(write_classifier(root / "other.onnx", seed=1), {"weights": 1}),
    }


def search(files: dict[str, GraphFile], tmp_path: Path, *, measure: bool = True) -> SearchResult:
    pixels = make_images(4)
    evidence = Evidence(PREPROCESS, pixels, (compute_logits(pixels).astype(np.float32),))
    return try_engines(files, Order(CPU, QUICK), Bench(evidence, StageCache(tmp_path / "cache")), measure=measure)


def refuse_some(monkeypatch: pytest.MonkeyPatch, *precisions: str, after: int = 0) -> None:
    """Engines of these precisions no longer open, once as many as ``after`` engines did."""
    opened: list[Engine] = []

    def open_or_refuse(engine: Engine) -> Session:
        opened.append(engine)
        if len(opened) > after and engine.precision in precisions:
            raise DeviceError(f"no memory for {engine.precision}", "")
        return open_engine(engine)

    monkeypatch.setattr("edgevit.build.try_engines.open_engine", open_or_refuse)


def test_try_engines_times_all_and_takes_ratios_over_the_first(graphs: dict[str, GraphFile], tmp_path: Path) -> None:
    result = search({"fp32": graphs["model"], "fp16": graphs["model"]}, tmp_path)
    first, second = (trial.variant for trial in result.trials)
    assert (first.name, second.name) == ("fp32", "fp16")
    assert first.ratio is not None
    assert second.ratio is not None
    assert first.ratio.value == 1.0
    assert second.latency is not None
    assert result.comparison is not None
    assert set(result.comparison.latencies) == {"fp32", "fp16"}


@pytest.mark.parametrize("use", ["choice", "validation"])
def test_try_engines_answers_a_typical_image_of_the_set_in_every_variant(
    graphs: dict[str, GraphFile], tmp_path: Path, use: str
) -> None:
    for name, side in (("a", 4), ("b", 60), ("c", 20)):
        make_photo(side, side).save(tmp_path / f"{name}.png")
    images = ImageSet.read(tmp_path)
    pixels = np.concatenate([batch.pixels for batch in images.batches(PREPROCESS, 1)])
    logits = (compute_logits(pixels).astype(np.float32),)
    judged = Judged(images, logits, DataUse(str(tmp_path), 3, False, "0"))
    evidence = Evidence(PREPROCESS, pixels, logits, **{use: judged})  # type: ignore[arg-type]
    files = {"fp32": graphs["model"], "fp16": graphs["model"]}
    bench = Bench(evidence, StageCache(tmp_path / "cache"))
    for trial in try_engines(files, Order(CPU, QUICK), bench).trials:
        times = trial.variant.end_to_end
        assert times is not None
        assert (times.image, times.photo) == ("c.png", "20 × 20 PNG")
        assert min(times.parts_ms.values()) > 0
    assert all(t.variant.end_to_end is None for t in search(files, tmp_path / "generated").trials)
    assert all(t.variant.end_to_end is None for t in try_engines(files, Order(CPU, QUICK), bench, measure=False).trials)


def test_try_engines_when_not_measuring_checks_parity_alone(graphs: dict[str, GraphFile], tmp_path: Path) -> None:
    result = search({"fp32": graphs["model"]}, tmp_path, measure=False)
    (trial,) = result.trials
    assert trial.variant.parity is not None
    assert trial.variant.parity.passed
    assert (trial.variant.latency, result.comparison) == (None, None)


def test_try_engines_times_nothing_that_fails_parity(graphs: dict[str, GraphFile], tmp_path: Path) -> None:
    result = search({"fp32": graphs["model"], "fp16": graphs["other"]}, tmp_path)
    right, wrong = (trial.variant for trial in result.trials)
    assert right.latency is not None
    assert wrong.parity is not None
    assert not wrong.parity.passed
    assert wrong.latency is None


def test_try_engines_when_one_engine_does_not_run_goes_on_with_the_others(
    graphs: dict[str, GraphFile], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_some(monkeypatch, "fp16")
    result = search({"fp32": graphs["model"], "fp16": graphs["model"]}, tmp_path)
    sound, refused = (trial.variant for trial in result.trials)
    assert sound.latency is not None
    assert (refused.status, refused.reason) == ("NOT SUPPORTED", "no memory for fp16")


def test_try_engines_when_no_engine_runs_blames_the_device(
    graphs: dict[str, GraphFile], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_some(monkeypatch, "fp32", "fp16")
    with pytest.raises(DeviceError, match="no memory for fp32"):
        search({"fp32": graphs["model"], "fp16": graphs["model"]}, tmp_path)


def test_try_engines_when_engines_do_not_fit_in_together_times_the_last(
    graphs: dict[str, GraphFile], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_some(monkeypatch, "fp32", after=2)  # each opens alone, for its parity
    result = search({"fp32": graphs["model"], "fp16": graphs["model"]}, tmp_path)
    first, last = (trial.variant for trial in result.trials)
    assert first.latency is None
    assert first.reason == "not timed, as it does not open beside the others: no memory for fp32"
    assert last.latency is not None


def test_fp16_on_a_cpu_is_tuned_by_the_size_that_it_is_widened_to(
    graphs: dict[str, GraphFile], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A float16 Swin-L, 394 MB, was open several times at once, each time with its weights widened to twice that."""
    tuned: list[str] = []

    def tune_settings(engine: Engine, *_: object, **__: object) -> tuple[()]:
        tuned.append(engine.precision)
        return ()

    monkeypatch.setattr("edgevit.build.try_engines.tune_settings", tune_settings)
    pixels = make_images(4)
    evidence = Evidence(PREPROCESS, pixels, (compute_logits(pixels).astype(np.float32),))
    recipe = dataclasses.replace(QUICK, tune_settings=True)
    sizes = {}
    for precision in ("fp32", "fp16"):
        cache = StageCache(tmp_path / precision)
        found = try_engines({precision: graphs["model"]}, Order(CPU, recipe), Bench(evidence, cache))
        assert found.trials[0].engine is not None
        sizes[precision] = found.trials[0].engine.size_bytes
    assert tuned == ["fp32", "fp16"]
    monkeypatch.setattr("edgevit.build.try_engines._LARGEST_TUNED_BYTES", max(sizes.values()))
    for precision in sizes:
        cache = StageCache(tmp_path / precision)
        try_engines({precision: graphs["model"]}, Order(CPU, recipe), Bench(evidence, cache))
    assert tuned == ["fp32", "fp16", "fp32"]


def test_an_engine_that_does_not_compute_in_the_type_asked_for_is_refused(
    graphs: dict[str, GraphFile], tmp_path: Path
) -> None:
    asked = dataclasses.replace(graphs["model"], precision="fp16", floats="f16")
    result = search_openvino({"fp32": graphs["model"], "fp16-f16": asked}, tmp_path)
    used = result.trials[1].variant
    if has_float16():
        assert used.status == "NOT MEASURED"
    else:
        assert used.status == "NOT SUPPORTED"
        assert "f16" in used.reason


def test_variants_of_one_precision_share_their_files_and_are_opened_in_their_own_type(
    graphs: dict[str, GraphFile], tmp_path: Path
) -> None:
    files = {name: dataclasses.replace(graphs["model"], precision="fp32", floats="f32") for name in ("fp32", "again")}
    first, second = search_openvino(files, tmp_path).trials
    assert first.engine is not None
    assert second.engine is not None
    assert first.engine.directory == second.engine.directory
    assert (second.variant.name, second.variant.precision) == ("again", "fp32")
    assert second.engine.settings["inference_precision"] == "f32"


def search_openvino(files: dict[str, GraphFile], tmp_path: Path) -> SearchResult:
    pixels = make_images(4)
    evidence = Evidence(PREPROCESS, pixels, (compute_logits(pixels).astype(np.float32),))
    order = Order(load_target("intel-cpu"), QUICK)
    return try_engines(files, order, Bench(evidence, StageCache(tmp_path / "cache")), measure=False)


def has_float16() -> bool:
    tier = read_tier()
    return tier is not None and TIERS[tier].f16


def test_a_variant_many_times_slower_than_another_is_not_judged_on_all_images(
    graphs: dict[str, GraphFile], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = iter([0.001, 0.3])
    monkeypatch.setattr("edgevit.build.try_engines._time_answer", lambda session, batch: next(seconds))
    first, second = search({"fp32": graphs["model"], "fp16": graphs["model"]}, tmp_path).trials
    assert first.variant.latency is not None
    assert second.variant.status == "NOT SUPPORTED"
    assert "0.3 s" in second.variant.reason
