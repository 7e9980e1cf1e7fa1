"""Whole models of transformers, from files and folders: their encoder is canonical, and their answers stay theirs."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgevit.checkpoints import read_checkpoint
from edgevit.checkpoints.onnx_file.whole import WholeModule, run_parts
from edgevit.core.errors import CheckpointError
from edgevit.core.quantization import Quantization
from edgevit.core.target import ExportForm
from edgevit.graph.graph import Graph
from edgevit.graph.held_choices import hold_choices
from edgevit.graph.passes.optimize import optimize_graph
from edgevit.models.export import export_model
from edgevit.models.model import Model
from edgevit.models.vit import ViTConfig
from edgevit.quantize.placement import PLACEMENTS
from edgevit.quantize.quantize import plan_quantization
from edgevit.quantize.site_noise import hold_graph, run_held
from edgevit.quantize.write_quantized import write_quantized
from tests.support.export_forms import EVERYTHING
from tests.support.foreign_exports import Exporter
from tests.support.quantized import fit_sites
from tests.support.reference import import_transformers, relative_error
from tests.support.small_graphs import run_graph
from tests.support.whole_transformers import ENCODER, answer_whole, export_whole, make_pixels, save_whole

SLOW = pytest.mark.slow  # what another of these shows too
FILES = [
    pytest.param("vitpose", "dynamo"),
    pytest.param("vitpose", "script", marks=SLOW),
    pytest.param("yolos", "dynamo", marks=SLOW),
    pytest.param("yolos", "script", marks=SLOW),
    pytest.param("yolos_mid", "dynamo"),
    pytest.param("yolos_mid", "script", marks=SLOW),
    pytest.param("rf_detr", "dynamo"),
    pytest.param("eomt", "dynamo"),
    pytest.param("eomt", "script"),
]
NAMES = [
    pytest.param("vitpose"),
    pytest.param("yolos", marks=SLOW),
    pytest.param("yolos_mid"),
    pytest.param("rf_detr"),
    pytest.param("eomt"),
]
TOLERANCE = 1e-4


@functools.cache
def read_file(name: str, exporter: Exporter) -> tuple[Model, WholeModule]:
    model = read_checkpoint(export_whole(name, exporter))
    assert isinstance(model.module, WholeModule)
    return model, model.module


@pytest.mark.parametrize(("name", "exporter"), FILES)
def test_outputs_of_a_file_with_its_encoder_put_back_are_the_publishers(name: str, exporter: Exporter) -> None:
    model, module = read_file(name, exporter)
    pixels = make_pixels(name)
    for ours, theirs in zip(run_parts(module, pixels.numpy()), answer_whole(name, pixels), strict=True):
        assert relative_error(torch.from_numpy(ours), theirs) <= TOLERANCE
    assert "an encoder was found whole: ViT, 4 blocks" in model.source.notes[0]
    assert isinstance(module.encoder.config, ViTConfig)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("form", [ExportForm(), EVERYTHING], ids=["default", "everything"])
def test_outputs_behind_all_folds_are_the_publishers(name: str, form: ExportForm) -> None:
    model, graph = make_graph(name, form)
    image = make_image(model)
    theirs = answer_whole(name, torch.from_numpy(normalise(model, image)))
    for ours, expected in zip(run_whole(model, graph, image), theirs, strict=True):
        assert relative_error(torch.from_numpy(ours), expected) <= TOLERANCE


@pytest.mark.parametrize("name", NAMES)
def test_outputs_from_a_folder_are_the_publishers(name: str) -> None:
    model = read_checkpoint(save_whole(name))
    assert isinstance(model.module, WholeModule)
    assert model.answer is not None
    pixels = make_pixels(name)
    for ours, theirs in zip(run_parts(model.module, pixels.numpy()), answer_whole(name, pixels), strict=True):
        assert relative_error(torch.from_numpy(ours), theirs) <= TOLERANCE


def test_folder_of_a_model_that_needs_more_than_an_image_is_refused_with_what_transformers_says(tmp_path: Path) -> None:
    transformers = import_transformers()
    backbone = transformers.VitPoseBackboneConfig(
        image_size=[64, 48], mlp_ratio=2, num_experts=2, part_features=12, out_features=["stage4"], **ENCODER
    )
    transformers.VitPoseForPoseEstimation(transformers.VitPoseConfig(backbone_config=backbone)).save_pretrained(
        tmp_path
    )
    transformers.VitPoseImageProcessor(size={"height": 64, "width": 48}).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"to an image of 64 × 48 pixels by itself: .*dataset_index"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_outputs_in_int8_are_near_those_in_float(name: str) -> None:
    model, graph = make_graph(name, EVERYTHING)
    images = [make_image(model, seed) for seed in range(8)]
    fit = plan_quantization if name == "rf_detr" else fit_sites  # what sites cost, where queries are chosen
    base, plan, record = fit(graph, images, Quantization(sqnr_db=-20), "openvino")
    encoder = ("patch_embed", "blocks.", "outlets.")
    assert {site.name.startswith("head/") for site in record.sites if not site.name.startswith(encoder)} == {True}
    assert sum(site.precision == "int8" for site in record.sites if site.name.startswith("blocks.")) == 4 * 8
    quantized = write_quantized(base, plan, record, PLACEMENTS["openvino"])
    image = make_image(model, 9)
    held = hold_graph(graph, [image])
    (found,) = run_held(dataclasses.replace(held, graph=hold_choices(quantized)))
    (wanted,) = run_held(held)
    for ours, exact in zip(found, wanted, strict=True):
        sqnr = 10 * np.log10(np.square(exact).mean() / np.square(ours - exact).mean())
        assert sqnr > 18, sqnr


@pytest.mark.parametrize("name", NAMES)
def test_detectors_that_sort_their_queries_are_known_to_choose(name: str) -> None:
    _, module = read_file(name, "dynamo")
    assert module.chooses is (name == "rf_detr")


def make_graph(name: str, form: ExportForm) -> tuple[Model, Graph]:
    model, _ = read_file(name, "dynamo")
    return model, _export(name, form).copy()


@functools.cache
def _export(name: str, form: ExportForm) -> Graph:
    return optimize_graph(export_model(read_file(name, "dynamo")[0], form)[0])[0]


def run_whole(model: Model, graph: Graph, image: Any) -> list[Any]:
    return run_graph(graph, [image], [spec.name for spec in model.outputs])


def make_image(model: Model, seed: int = 1) -> Any:
    """Blobs, as photographs have them: ``(1, H, W, 3) uint8``."""
    height, width = model.image_size
    coarse = torch.rand(1, 3, 5, 5, generator=torch.Generator().manual_seed(seed)) * 255
    image = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bicubic").clamp(0, 255)
    return image.permute(0, 2, 3, 1).to(torch.uint8).contiguous().numpy()


def normalise(model: Model, image: Any) -> Any:
    values = model.preprocess.normalize(image[0]).transpose(2, 0, 1)[None]
    return np.ascontiguousarray(values, dtype=np.float32)
