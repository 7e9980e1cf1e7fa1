"""Outputs that are no plain ``(batch, classes)``: read where that is exact, else called what they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from torch import Tensor, nn

from edgevit.checkpoints import read_checkpoint
from edgevit.core.errors import CheckpointError
from edgevit.core.target import ExportForm
from edgevit.core.task import Task
from edgevit.graph.passes.optimize import optimize_graph
from edgevit.models.export import export_model
from edgevit.models.select_task import select_task
from edgevit.models.vit import ViTConfig
from tests.support.foreign_exports import HF_DINO, SWIN, VIT, silence
from tests.support.reference import import_timm, import_transformers, randomise, relative_error
from tests.support.small_graphs import run_graph


class Changed(nn.Module):
    """A module whose output is changed."""

    def __init__(self, module: nn.Module, change: Callable[[Any], Tensor]) -> None:
        super().__init__()
        self.module, self.change = module, change

    def forward(self, pixels: Tensor) -> Tensor:
        return self.change(self.module(pixels))


def make_vit(**changes: Any) -> nn.Module:
    return randomise(import_timm().create_model("vit_tiny_patch16_224", **{**VIT, **changes}))


def make_dino() -> nn.Module:
    transformers = import_transformers()
    return randomise(transformers.Dinov2Model(transformers.Dinov2Config(**HF_DINO)))


def write(module: nn.Module, path: Path, output: str = "output", batch: int | None = None) -> Path:
    axes = None if batch else {"image": {0: "n"}, output: {0: "n"}}
    with silence():
        torch.onnx.export(
            module.eval(), (torch.randn(batch or 2, 3, 32, 32),), path, dynamo=False, opset_version=17,
            input_names=["image"], output_names=[output], dynamic_axes=axes,
        )  # fmt: skip
    return path


def compare(found: nn.Module, wanted: nn.Module) -> float:
    pixels = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        return relative_error(found(pixels), wanted(pixels))


def test_one_number_an_image_without_its_axis_is_one_output(tmp_path: Path) -> None:
    """Case 11: ``model(x).squeeze(-1)``."""
    theirs = make_vit(num_classes=1)
    model = read_checkpoint(write(Changed(theirs, lambda out: out.squeeze(-1)), tmp_path / "m.onnx"))
    assert (model.classes, model.float_only) == (1, "")
    assert compare(model.module, theirs) <= 1e-4
    assert any("lacks an axis" in note for note in model.source.notes)
    assert any("--scores sigmoid" in note for note in select_task(model, Task()).source.notes)


@pytest.mark.parametrize(
    ("batch", "classes", "change"),
    [
        (1, 7, lambda out: out[0]),
        (1, 1, lambda out: out.squeeze()),
        (3, 1, lambda out: out[:, 0]),
    ],
    ids=["logits of one image", "one number of one image", "one number of each of three"],
)
def test_file_for_a_fixed_number_of_images_that_lacks_an_axis_is_read(
    batch: int, classes: int, change: Callable[[Tensor], Tensor], tmp_path: Path
) -> None:
    theirs = make_vit(num_classes=classes)
    model = read_checkpoint(write(Changed(theirs, change), tmp_path / "m.onnx", batch=batch))
    assert (model.classes, model.float_only) == (classes, "")
    assert compare(model.module, theirs) <= 1e-4


def test_graph_that_is_recognised_in_part_gives_one_number_with_both_axes(tmp_path: Path) -> None:
    theirs = make_vit(num_classes=1)
    theirs.head = nn.Sequential(nn.Linear(48, 8), nn.Tanh(), nn.Linear(8, 1))
    randomise(theirs)
    model = read_checkpoint(write(Changed(theirs, lambda out: out.squeeze(-1)), tmp_path / "m.onnx"))
    assert "recognised in part" in model.float_only
    assert model.classes == 1
    graph, _ = export_model(select_task(model, Task()), ExportForm())
    pixels = torch.randint(0, 256, (1, 32, 32, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    mean, std = (torch.tensor(numbers)[:, None, None] for numbers in (model.preprocess.mean, model.preprocess.std))
    with torch.inference_mode():
        wanted = theirs((pixels.permute(0, 3, 1, 2) / 255 - mean) / std)
    (found,) = run_graph(graph, [pixels.numpy()])
    assert found.shape == (1, 1)
    assert relative_error(torch.from_numpy(found), wanted) <= 1e-4


HEADLESS: dict[str, Callable[[], nn.Module]] = {
    "class token": lambda: make_vit(num_classes=0),
    "mean and its norm": lambda: make_vit(num_classes=0, global_pool="avg", class_token=False, fc_norm=True),
    "Swin": lambda: randomise(import_timm().create_model("swin_tiny_patch4_window7_224", **{**SWIN, "num_classes": 0})),
    "DINOv2": lambda: Changed(make_dino(), lambda out: out.pooler_output),
}


@pytest.mark.parametrize("kind", HEADLESS)
def test_pooled_features_are_an_embedding(kind: str, tmp_path: Path) -> None:
    """Case 12: they were taken for classes."""
    theirs = HEADLESS[kind]()
    model = read_checkpoint(write(theirs, tmp_path / "m.onnx"))
    assert (model.classes, model.float_only) == (0, "")
    chosen = select_task(model, Task())
    assert chosen.task.name == "embed"
    assert compare(chosen.module, theirs) <= 1e-4
    with pytest.raises(CheckpointError, match="has no classification head") as caught:
        select_task(model, Task("classify"))
    assert "--task embed" in caught.value.hint


def test_output_that_is_called_an_embedding_is_projected_and_no_classes(tmp_path: Path) -> None:
    """As CLIP's ``image_embeds``: the features in front of the projection are another space."""
    theirs = make_vit(num_classes=6)
    model = read_checkpoint(write(theirs, tmp_path / "m.onnx", output="image_embeds"))
    chosen = select_task(model, Task("embed"))
    assert (model.classes, chosen.config.features, chosen.config.projection) == (0, 6, 6)
    assert compare(chosen.module, theirs) <= 1e-4
    assert read_checkpoint(write(theirs, tmp_path / "n.onnx")).classes == 6


@pytest.mark.parametrize("norm", ["pre_layrnorm", ""])
def test_image_tower_of_clip_has_its_norm_before_the_blocks(norm: str, tmp_path: Path) -> None:
    transformers = import_transformers()
    sizes = {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 3}
    config = transformers.CLIPVisionConfig(**sizes, image_size=32, patch_size=8, projection_dim=24)
    theirs = randomise(transformers.CLIPVisionModelWithProjection(config))
    if not norm:
        theirs.vision_model.pre_layrnorm = nn.Identity()
    tower = Changed(theirs, lambda out: out.image_embeds)
    model = read_checkpoint(write(tower, tmp_path / "m.onnx", output="image_embeds"))
    assert model.source.notes[0].startswith("the whole graph was recognised: ViT, 2 blocks")
    found = model.config
    assert isinstance(found, ViTConfig)
    assert (found.norm_before_blocks, found.activation, found.features) == (bool(norm), "quick_gelu", 24)
    assert compare(select_task(model, Task("embed")).module, tower) <= 1e-4


@pytest.mark.parametrize("change", ["scaled", "turned", "epsilon"])
def test_norm_before_the_blocks_that_the_canonical_one_is_not_is_left_alone(change: str, tmp_path: Path) -> None:
    theirs: Any = make_vit()
    norm = randomise(nn.LayerNorm(48, eps=1e-3 if change == "epsilon" else 1e-6))
    changes: dict[str, Callable[[Tensor], Tensor]] = {
        "scaled": lambda x: x * 2 + 1,
        "turned": lambda x: x.flip(1),
        "epsilon": lambda x: x,
    }
    theirs.norm_pre = Changed(norm, changes[change])
    model = read_checkpoint(write(theirs, tmp_path / "m.onnx"))
    assert not isinstance(model.config, ViTConfig)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Changed(make_dino(), lambda out: out.last_hidden_state),
        lambda: Changed(make_dino(), lambda out: out.last_hidden_state[:, 1:].reshape(-1, 4, 4, 48)),
    ],
    ids=["tokens", "maps"],
)
def test_output_of_more_axes_is_that_of_a_whole_model(make: Callable[[], nn.Module], tmp_path: Path) -> None:
    theirs = make()
    model = select_task(read_checkpoint(write(theirs, tmp_path / "m.onnx")), Task())
    assert model.task.name == "map"
    pixels = torch.randint(0, 256, (1, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    normal = torch.from_numpy(model.preprocess.normalize(pixels.numpy())).permute(0, 3, 1, 2).float()
    graph, _ = optimize_graph(export_model(model, ExportForm())[0])
    with torch.inference_mode():
        wanted = theirs(normal)
    assert (
        relative_error(torch.from_numpy(run_graph(graph, [pixels.numpy()], [model.outputs[0].name])[0]), wanted) <= 1e-4
    )


def test_output_of_one_axis_that_the_file_does_not_state_is_refused_by_what_it_is(tmp_path: Path) -> None:
    path = write(Changed(make_vit(num_classes=1), lambda out: out.squeeze(-1)), tmp_path / "m.onnx")
    proto = onnx.load(str(path))
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    onnx.save(proto, str(path))
    with pytest.raises(CheckpointError, match="one number an image, whose axis of classes was taken away") as caught:
        read_checkpoint(path)
    assert "(batch, 1)" in caught.value.hint
