"""What is built from an exported file is what is built from its checkpoint: INT8 sites, kernels, fused attention."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

from edgevit.build.build import build_model
from edgevit.build.rehearsal import list_fusion_warnings, rehearse_fusion
from edgevit.build.trial import GraphFile
from edgevit.checkpoints import read_checkpoint
from edgevit.core.cache import StageCache
from edgevit.core.quantization import Quantization
from edgevit.core.recipe import Recipe
from edgevit.core.report.fusion_record import FusionRecord
from edgevit.core.report.report import Report
from edgevit.core.target import load_target
from edgevit.graph.graph import Graph
from edgevit.graph.passes.optimize import optimize_graph
from edgevit.measure.reference import generate_images
from edgevit.models.export import export_model
from edgevit.runtime import open_bundle
from tests.support.foreign_exports import Exporter, build, export, export_asset
from tests.support.quantized import quantize_all
from tests.support.reference import save_timm_folder

BLOCKS = {"timm_vit": 2, "timm_swin": 4}
QUICK = Recipe(
    precision="int8",
    latency_runs=2,
    latency_seconds=0.01,
    tune_settings=False,
    choice_images=8,
    parity_images=4,
    quantization=Quantization(images=8),
)


# INT8 of both, twice each, takes a minute and a half; that of the Swin waits behind slow.
@pytest.fixture(scope="module", params=["timm_vit", pytest.param("timm_swin", marks=pytest.mark.slow)])
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    folder = tmp_path_factory.mktemp("checkpoint") / "folder"
    save_timm_folder(build(request.param), folder)
    return request.param, folder


def put_beside(name: str, checkpoint: Path, folder: Path) -> Path:
    """The exported file in a folder with its checkpoint's preprocessing."""
    folder.mkdir()
    shutil.copy(export(name, "script").path, folder / "model.onnx")
    shutil.copy(checkpoint / "config.json", folder)
    return folder / "model.onnx"


def build_int8(source: Path, folder: Path) -> Report:
    target = load_target("intel-cpu")
    cache = StageCache(folder / "cache")
    result = build_model(source, target, out=folder / "bundle", recipe=QUICK, calibration="random", cache=cache)
    assert result.bundle is not None
    return result.report


def test_int8_for_openvino_has_the_sites_and_operators_of_the_checkpoints(
    checkpoint: tuple[str, Path], tmp_path: Path
) -> None:
    name, folder = checkpoint
    wanted = build_int8(folder, tmp_path / "checkpoint")
    found = build_int8(put_beside(name, folder, tmp_path / "export"), tmp_path / "file")
    sites = [{site.name: site.precision for site in report.quantization["int8"].sites} for report in (wanted, found)]
    assert sites[0] == sites[1]
    assert "int8" in sites[0].values()
    assert found.op_counts == wanted.op_counts
    pixels = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), np.uint8)
    answers = []
    for name in ("checkpoint", "file"):
        with open_bundle(tmp_path / name / "bundle") as predictor:
            answers.append(predictor.run(pixels))
    # Codes at ties go either way: the last bit of a weight decides, and a step of the grid is what that costs.
    assert np.abs(answers[1] - answers[0]).max() <= 0.02 * np.abs(answers[0]).max()


def count_fused(source: Path, precision: str, folder: Path) -> FusionRecord:
    """What TensorRT-RTX makes of a source for SM86, every site quantised for INT8."""
    pytest.importorskip("tensorrt_rtx")
    target = load_target("rtx-30")
    model = read_checkpoint(source)
    form = dataclasses.replace(target.export, fold_residual_rotation=precision == "int8")
    graph: Graph = optimize_graph(export_model(model, form)[0])[0]
    if precision == "int8":
        pixels = generate_images(2, *model.image_size, 0)[:, None]
        quantization = Quantization(float_share=0.0, rounding="nearest")
        graph = quantize_all(graph, pixels, quantization, target.backend)
    folder.mkdir()
    graph.save(folder / "graph.onnx")
    files = {precision: GraphFile(folder / "graph.onnx", {"source": str(source)})}
    found = rehearse_fusion(files, target, (1, 1, 1), StageCache(folder / "cache"))
    assert list_fusion_warnings(found) == ()
    return found.fusion[precision]


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_tensorrt_fuses_of_a_file_what_it_fuses_of_its_checkpoint(
    checkpoint: tuple[str, Path], precision: str, tmp_path: Path
) -> None:
    name, folder = checkpoint
    wanted = count_fused(folder, precision, tmp_path / "checkpoint")
    found = count_fused(put_beside(name, folder, tmp_path / "export"), precision, tmp_path / "file")
    assert len(found.attention) == BLOCKS[name]
    assert found == wanted


@pytest.mark.slow
@pytest.mark.parametrize("exporter", ["dynamo", "script"])
@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_tensorrt_fuses_all_attention_of_an_exported_deit(
    precision: str, exporter: Exporter, assets: Path, tmp_path: Path
) -> None:
    asset = assets / "deit_tiny_imagenet"
    wanted = count_fused(asset, precision, tmp_path / "checkpoint")
    found = count_fused(export_asset(asset, tmp_path, exporter), precision, tmp_path / "file")
    assert len(found.attention) == 12
    assert found == wanted


@pytest.mark.slow
def test_int8_of_an_exported_deit_has_the_sites_of_the_checkpoints(assets: Path, tmp_path: Path) -> None:
    asset = assets / "deit_tiny_imagenet"
    recipe = dataclasses.replace(QUICK, choice_images=32, quantization=Quantization(images=32))
    sources = {"checkpoint": asset, "file": export_asset(asset, tmp_path, "script")}
    reports = {}
    for name, source in sources.items():
        reports[name] = build_model(
            source,
            load_target("intel-cpu"),
            out=tmp_path / name,
            recipe=recipe,
            calibration=assets / "imagenet" / "calibration.csv",
            cache=StageCache(tmp_path / f"{name}-cache"),
        ).report
    sites = []
    for report in reports.values():
        sites.append([site.name for site in report.quantization["int8"].sites])
    assert sites[0] == sites[1]
    assert reports["file"].op_counts.keys() == reports["checkpoint"].op_counts.keys()
    accuracy = reports["file"].variants[0].choice_accuracy
    assert accuracy is not None
    assert accuracy.sqnr_db is not None
    assert accuracy.sqnr_db > 22
