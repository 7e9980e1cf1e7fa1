"""transformers' DINOv3: its answers at several sizes, its backbone, and the biases and names that differ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from edgevit.checkpoints import read_checkpoint
from edgevit.core.errors import CheckpointError
from edgevit.core.task import Task
from edgevit.models.select_task import select_task
from tests.support.reference import import_transformers, randomise, relative_error

SMALL: dict[str, Any] = {
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 3,
    "intermediate_size": 96,
    "image_size": 64,
    "num_register_tokens": 4,
}


def save(folder: Path, kind: str = "Model", **changes: Any) -> Any:
    """The publisher's module with random weights, saved by its own code."""
    transformers = import_transformers()
    theirs = getattr(transformers, f"DINOv3ViT{kind}")(transformers.DINOv3ViTConfig(**{**SMALL, **changes}))
    randomise(theirs).save_pretrained(folder)
    transformers.DINOv3ViTImageProcessor(size={"height": 64, "width": 64}).save_pretrained(folder)
    return theirs


def draw(size: tuple[int, int]) -> torch.Tensor:
    return torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("size", [(64, 64), (32, 96), (80, 48), (16, 16)])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"use_gated_mlp": True, "hidden_act": "silu"},
        {"num_register_tokens": 0, "key_bias": True, "rope_theta": 10000.0},
        {"query_bias": False, "value_bias": False, "proj_bias": False, "mlp_bias": False, "layer_norm_eps": 1e-3},
    ],
    ids=["plain", "gated", "no_registers", "no_biases"],
)
def test_dinov3_answers_as_transformers_at_any_size(tmp_path: Path, changes: dict[str, Any], size: tuple[int, int]):
    theirs = save(tmp_path, **changes)
    model = read_checkpoint(tmp_path, image_size=size)
    pixels, registers = draw(size), theirs.config.num_register_tokens
    with torch.inference_mode():
        expected = theirs(pixels, output_hidden_states=True)
        embedding = select_task(model, Task("embed")).module(pixels)
        features: Any = Task("features", levels=(0, 2), layout="tokens", norm=False)
        first, last = select_task(model, features).module(pixels)
    assert relative_error(embedding, expected.pooler_output) <= 1e-5
    assert relative_error(first, expected.hidden_states[1][:, 1 + registers :]) <= 1e-5
    assert relative_error(last, expected.hidden_states[3][:, 1 + registers :]) <= 1e-5


@pytest.mark.parametrize("normed", [True, False])
def test_backbone_gives_the_maps_of_transformers(tmp_path: Path, normed: bool):
    theirs = save(tmp_path, "Backbone", out_features=["stage1", "stage3"], apply_layernorm=normed)
    model = select_task(read_checkpoint(tmp_path, image_size=(64, 32)), Task("features", levels=(0, 1)))
    with torch.inference_mode():
        ours = model.module(draw((64, 32)))
        expected = theirs(draw((64, 32))).feature_maps
    assert model.config.level_norm == normed
    assert relative_error(ours[0], expected[0]) <= 1e-5


def test_nothing_of_the_configuration_is_passed_over(tmp_path: Path):
    save(tmp_path)
    assert not any(note.startswith("passed over") for note in read_checkpoint(tmp_path).source.notes)


def test_names_of_the_module_are_known_too(tmp_path: Path):
    theirs = save(tmp_path)
    expected = read_checkpoint(tmp_path).module(draw((64, 64)))
    assert "layer.0.norm1.weight" in load_file(tmp_path / "model.safetensors")
    theirs.save_pretrained(tmp_path, save_original_format=False)
    assert "model.layer.0.norm1.weight" in load_file(tmp_path / "model.safetensors")
    assert torch.equal(read_checkpoint(tmp_path).module(draw((64, 64))), expected)


def test_the_size_is_the_processors_and_another_is_taken(tmp_path: Path):
    save(tmp_path, image_size=224)
    assert read_checkpoint(tmp_path).image_size == (64, 64)
    assert read_checkpoint(tmp_path, image_size=(48, 96)).image_size == (48, 96)


def test_a_tensor_that_is_missing_is_named(tmp_path: Path):
    save(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["layer.1.attention.k_proj.weight"]
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"layer\.1\.attention\.k_proj\.weight"):
        read_checkpoint(tmp_path)
