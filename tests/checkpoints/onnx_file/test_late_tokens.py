"""Constants that join a ViT's tokens between its blocks: found wherever they stand, and what is left alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgevit.checkpoints import read_checkpoint
from edgevit.checkpoints.onnx_file.whole import WholeModule, run_parts
from edgevit.core.target import ExportForm
from edgevit.core.task import Task
from edgevit.graph.passes.optimize import optimize_graph
from edgevit.models.export import export_model
from edgevit.models.model import Model
from edgevit.models.select_task import select_task
from edgevit.models.vit import ViTConfig
from tests.support.dense_models import write_dense_model
from tests.support.export_forms import EVERYTHING
from tests.support.foreign_exports import silence
from tests.support.reference import import_timm, randomise, relative_error
from tests.support.small_graphs import run_graph

SIZE, WIDTH, LATE = 32, 48, 5
Join = Callable[[Tensor, Tensor, Tensor], Tensor]

# From the stream, the tokens that join it and a constant for all of those before.
JOINS: dict[str, Join] = {
    "front": lambda x, late, _: torch.cat([late, x], dim=1),
    "behind": lambda x, late, _: torch.cat([x, late], dim=1),
    "between": lambda x, late, _: torch.cat([x[:, 1:], late, x[:, :1]], dim=1),
    "on_both_sides": lambda x, late, _: torch.cat([late[:, :2], x, late[:, 2:]], dim=1),
    "with_positions": lambda x, late, positions: torch.cat([late, x + positions], dim=1),
}


class Joined(nn.Module):
    """Four blocks of timm with something between, and a map of what stands behind each of the last three."""

    def __init__(self, joins: dict[int, Join]) -> None:
        super().__init__()
        self.vit = import_timm().create_model(
            "vit_tiny_patch16_224", img_size=SIZE, patch_size=8, embed_dim=WIDTH, depth=4, num_heads=3, num_classes=0
        )
        self.late = nn.Parameter(torch.zeros(1, LATE, WIDTH))
        self.positions = nn.Parameter(torch.zeros(1, 17, WIDTH))
        self.joins = joins
        self.read = nn.Linear(WIDTH, 3)

    def run(self, pixels: Tensor) -> list[Tensor]:
        x = self.vit.norm_pre(self.vit._pos_embed(self.vit.patch_embed(pixels)))
        found = []
        for number, block in enumerate(self.vit.blocks):
            x = block(self.joins[number](x, self.late, self.positions)) if number in self.joins else block(x)
            found.append(x)
        return found

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.read(self.vit.norm(x)) for x in self.run(pixels)[1:])


@cache
def make(*joins: tuple[int, Join]) -> nn.Module:
    torch.manual_seed(0)
    module: nn.Module = randomise(Joined(dict(joins)), seed=3)
    return module.requires_grad_(False)


def read(module: nn.Module, folder: Path) -> Model:
    path = folder / "joined.onnx"
    with silence(), torch.no_grad():
        torch.onnx.export(
            module, (torch.zeros(1, 3, SIZE, SIZE),), str(path), input_names=["pixels"],
            output_names=["first", "second", "third"], dynamo=False, opset_version=17,
        )  # fmt: skip
    return read_checkpoint(path)


def find_config(model: Model) -> ViTConfig:
    assert isinstance(model.module, WholeModule)
    config = model.module.encoder.config
    assert isinstance(config, ViTConfig)
    return config


def compare(module: nn.Module, ours: list[Any], pixels: Tensor) -> float:
    with torch.inference_mode():
        theirs = module(pixels)
    return max(relative_error(torch.from_numpy(found), wanted) for found, wanted in zip(ours, theirs, strict=True))


@pytest.mark.parametrize(
    "name",
    [
        "front",
        pytest.param("behind", marks=pytest.mark.slow),
        "between",
        pytest.param("on_both_sides", marks=pytest.mark.slow),
        "with_positions",
    ],
)
def test_tokens_that_join_are_found_wherever_they_stand(name: str, tmp_path: Path) -> None:
    module = make((2, JOINS[name]))
    model = read(module, tmp_path)
    config = find_config(model)
    assert (config.depth, config.late_block, config.late_tokens) == (4, 2, LATE)
    assert config.block_positions == (name == "with_positions")
    assert isinstance(model.module, WholeModule)
    assert [tap.level for tap in model.module.taps] == [1, 2, 3]
    pixels = torch.randn(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    assert compare(module, run_parts(model.module, pixels.numpy()), pixels) <= 1e-5
    image = np.random.default_rng(0).integers(0, 256, (1, SIZE, SIZE, 3), np.uint8)
    normal = torch.from_numpy(model.preprocess.normalize(image).transpose(0, 3, 1, 2).astype(np.float32))
    for form in (ExportForm(), EVERYTHING):
        graph = optimize_graph(export_model(model, form)[0])[0]
        found = run_graph(graph, [image], [spec.name for spec in model.outputs])
        assert compare(module, found, normal) <= 1e-4


def test_features_of_an_encoder_with_tokens_that_join_are_of_its_patches(tmp_path: Path) -> None:
    module: Any = make((2, JOINS["front"]))
    features = select_task(read(module, tmp_path), Task("features", levels=(3,), norm=False, layout="tokens"))
    pixels = torch.randn(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        (found,) = features.module(pixels)
        x = module.vit.norm_pre(module.vit._pos_embed(module.vit.patch_embed(pixels)))
        x = torch.cat([module.late, module.vit.blocks[:2](x)], dim=1)
        wanted = module.vit.blocks[2:](x)[:, LATE + 1 :]
    assert relative_error(found, wanted) <= 1e-5


def test_encoder_ends_in_front_of_tokens_that_join_a_second_time(tmp_path: Path) -> None:
    module = make((2, JOINS["front"]), (3, JOINS["behind"]))
    model = read(module, tmp_path)
    config = find_config(model)
    assert (config.depth, config.late_block, config.late_tokens) == (3, 2, LATE)
    record = next(r for r in model.passes if r.name == "recover_encoder")
    assert [skip.reason for skip in record.skipped] == ["tokens join the stream in front of more than one block"]


def test_encoder_ends_where_others_are_left_out_as_tokens_join(tmp_path: Path) -> None:
    model = read(make((2, lambda x, late, _: torch.cat([late, x[:, 1:]], dim=1))), tmp_path)
    config = find_config(model)
    assert (config.depth, config.late_tokens) == (2, 0)


def test_encoder_ends_in_front_of_a_block_whose_attention_the_model_masks_and_says_so(tmp_path: Path) -> None:
    """A fresh EoMT has the masks that it predicts between its last blocks on; a trained one has annealed them away."""
    write_dense_model("eomt", tmp_path)
    model = read_checkpoint(tmp_path)
    config = find_config(model)
    assert (config.depth, config.late_tokens) == (2, 0)
    record = next(r for r in model.passes if r.name == "recover_encoder")
    assert record.skipped[0].reason == "a mask or bias that the model computes is added to its scores"
    assert "layers.2/attention" in record.skipped[0].site


def test_classifier_with_tokens_that_join_is_a_whole_model(tmp_path: Path) -> None:
    class Classifier(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner: Any = make((2, JOINS["behind"]))

        def forward(self, pixels: Tensor) -> Tensor:
            return self.inner.read(self.inner.vit.norm(self.inner.run(pixels)[-1][:, 0]))

    module = Classifier().eval()
    path = tmp_path / "classifier.onnx"
    with silence(), torch.no_grad():
        torch.onnx.export(module, (torch.zeros(1, 3, SIZE, SIZE),), str(path), dynamo=False, opset_version=17)
    model = read_checkpoint(path)
    assert (model.task.name, model.classes, find_config(model).late_tokens) == ("classify", 3, LATE)
    assert "tokens join the others between its blocks" in model.source.notes[0]
