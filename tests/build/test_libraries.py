"""A target with several engine libraries: each compiles the same graphs, and the faster one is packed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgevit.build import libraries
from edgevit.build import try_engines as search
from edgevit.build.bench import Bench
from edgevit.build.build import build_model
from edgevit.build.conclude import BuildResult
from edgevit.build.finish import finish_bundle
from edgevit.build.libraries import add_libraries
from edgevit.build.order import Order
from edgevit.build.portable import read_portable_evidence, read_portable_graphs
from edgevit.build.trial import GraphFile
from edgevit.cli.demo_models import MODELS
from edgevit.core.cache import StageCache
from edgevit.core.engine import Engine
from edgevit.core.errors import TargetError
from edgevit.core.isa import read_tier
from edgevit.core.quantization import Quantization
from edgevit.core.recipe import Recipe
from edgevit.core.report.report import Report
from edgevit.core.report.timings import Ratio, SettingsTrial
from edgevit.core.target import load_target, use_library
from edgevit.engines.availability import Status
from edgevit.measure.latency import LatencyComparison, measure_latency
from edgevit.runtime import open_bundle
from edgevit.runtime.bundle import verify_bundle
from edgevit.runtime.session import Session
from tests.support.digits import write_few

QUICK = Recipe(
    latency_runs=2,
    latency_seconds=0.05,
    tune_settings=False,
    choice_images=40,
    quantization=Quantization(images=40, float_share=0.0, rounding="nearest"),
)
GRAPHS = {name: GraphFile(Path(f"{name}.onnx"), {"graph": name}) for name in ("fp32", "fp16", "int8")}


@pytest.fixture(scope="module")
def portable(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, StageCache]:
    """For a device like this machine with two libraries."""
    folder = tmp_path_factory.mktemp("libraries")
    digits = write_few(folder / "digits", 6)
    cache = StageCache()
    target = dataclasses.replace(load_target("raspberry-pi-5"), architecture=None)
    result = build_model(
        MODELS["vit"],
        target,
        out=folder / "bundle",
        recipe=QUICK,
        calibration=digits.calibration,
        validation=digits.validation,
        cache=cache,
        portable=True,
    )
    assert result.bundle is not None
    return result.bundle, cache


def finish(portable: tuple[Path, StageCache], out: Path, faster: str, monkeypatch: pytest.MonkeyPatch) -> BuildResult:
    """On a device where one variant takes half of the time of the others."""

    def measure(sessions: Mapping[str, Session], *arguments: Any, **options: Any) -> LatencyComparison:
        found = measure_latency(sessions, *arguments, **options)
        taken = {name: 5.0 if name == faster else 10.0 for name in sessions}
        return dataclasses.replace(
            found,
            latencies={name: dataclasses.replace(found.latencies[name], p50_ms=ms) for name, ms in taken.items()},
            round_medians_ms={name: (ms,) * 5 for name, ms in taken.items()},
        )

    monkeypatch.setattr(search, "measure_latency", measure)
    return finish_bundle(portable[0], out=out, cache=portable[1])


@pytest.mark.parametrize(
    ("faster", "library", "file"), [("int8 openvino", "openvino", "model.xml"), ("int8", "onnxruntime", "model.onnx")]
)
def test_finish_packs_the_library_whose_engine_is_faster(
    portable: tuple[Path, StageCache],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    faster: str,
    library: str,
    file: str,
) -> None:
    finished = finish(portable, tmp_path / "bundle", faster, monkeypatch)
    variants = {v.name: v for v in finished.report.variants}
    assert {"fp32", "fp16", "int8", "fp32 openvino", "fp16 openvino", "int8 openvino"} <= variants.keys()
    for variant in variants.values():
        assert variant.parity is not None
        assert variant.parity.passed, "each library's engine computes the graph, by the answers that the build stored"
        assert variant.latency is not None
    verdict = finished.report.verdict
    assert verdict.chosen == faster
    assert "its graph in ONNX Runtime, at the build: top-1" in verdict.sentence
    assert finished.manifest is not None
    assert finished.manifest.precision == "int8"
    assert finished.manifest.engine is not None
    assert (finished.manifest.engine.backend, finished.manifest.engine.files[0]) == (library, file)
    expected = read_portable_evidence(verify_bundle(portable[0]))
    with open_bundle(tmp_path / "bundle") as predictor:
        found = np.concatenate([predictor.run(pixels[None]) for pixels in expected.pixels])
    assert np.array_equal(found.argmax(1), expected.outputs[0].argmax(1))


def test_library_that_is_not_installed_is_not_tried_and_the_verdict_says_so(
    portable: tuple[Path, StageCache], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = Status(False, False, ('openvino is not installed: pip install "edgevit[openvino]"',))
    monkeypatch.setattr(libraries, "target_status", lambda target: absent)
    finished = finish(portable, tmp_path / "bundle", "int8", monkeypatch)
    assert [v.name for v in finished.report.variants] == ["fp32", "fp16", "int8"]
    said = 'openvino was not tried beside onnxruntime: openvino is not installed: pip install "edgevit[openvino]"'
    assert said in finished.report.verdict.warnings


def test_arithmetic_of_a_further_library_is_what_the_processor_has() -> None:
    """OpenVINO's own choice on Armv8.2 is f16 for everything; a variant says what it computes in."""
    target = dataclasses.replace(load_target("raspberry-pi-5"), architecture=None)
    added, absent = add_libraries(GRAPHS, target, Recipe(), "dotprod")
    found = {name: (graph.precision, graph.floats, graph.library) for name, graph in added.items()}
    assert absent == ()
    assert found == {
        "fp32 openvino": ("fp32", "f32", "openvino"),
        "fp16 openvino": ("fp16", "f32", "openvino"),
        "fp16-f16 openvino": ("fp16", "f16", "openvino"),
        "int8 openvino": ("int8", "f32", "openvino"),
    }
    assert "fp16-f16 openvino" not in add_libraries(GRAPHS, target, Recipe(), "neon")[0]


def test_settings_are_tuned_for_each_library(
    portable: tuple[Path, StageCache], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tune(engine: Engine, *arguments: Any, **options: Any) -> tuple[SettingsTrial, ...]:
        chosen = {"threads": 1} if engine.backend == "openvino" else {"threads": 2}
        return (SettingsTrial(chosen, Ratio(0.5, 0.5, 0.5, rounds=5), True, engine.backend),)

    monkeypatch.setattr(search, "tune_settings", tune)
    bundle = verify_bundle(portable[0])
    report, target = Report.load(bundle.path / "report.json"), bundle.manifest.target
    graphs = read_portable_graphs(bundle, report, ("fp32", "int8"))
    added, _ = add_libraries(graphs, target, QUICK, read_tier())
    recipe = dataclasses.replace(QUICK, tune_settings=True)
    bench = Bench(read_portable_evidence(bundle), portable[1])
    found = search.try_engines({**graphs, **added}, Order(target, recipe), bench)
    threads = {t.variant.name: t.engine.settings["threads"] for t in found.trials if t.engine is not None}
    assert [trial.library for trial in found.settings_tried] == ["onnxruntime", "openvino"]
    assert {name: count for name, count in threads.items() if name in ("fp32", "int8")} == {"fp32": 2, "int8": 2}
    assert {count for name, count in threads.items() if name.endswith(" openvino")} == {1}


@pytest.mark.parametrize(
    "line", ['also = ["onnxruntime"]', 'also = ["tensorrt"]', 'also = ["openvino"]\ndevice = "GPU"']
)
def test_further_library_that_cannot_stand_beside_the_first_is_refused(tmp_path: Path, line: str) -> None:
    path = tmp_path / "board.toml"
    device = "" if "device" in line else 'device = "CPU"\n'
    path.write_text(
        f'title = "A board"\nbackend = "onnxruntime"\nbuild_on = "device"\nprecisions = ["fp32"]\n{device}{line}'
    )
    with pytest.raises(TargetError, match="a CPU may have openvino beside its backend"):
        load_target(path)


def test_target_with_a_further_library_keeps_the_device_and_no_version() -> None:
    target = load_target("raspberry-pi-5")
    other = use_library(target, "openvino")
    assert (other.backend, other.device, other.architecture) == ("openvino", "CPU", "aarch64")
    assert (other.also, other.runtime_version) == ((), None)
    assert use_library(target, "onnxruntime") == target
