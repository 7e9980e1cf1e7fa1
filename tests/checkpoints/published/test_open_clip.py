"""open_clip's image towers against open_clip itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from edgevit.checkpoints import read_checkpoint
from edgevit.core.errors import CheckpointError
from edgevit.core.target import ExportForm
from edgevit.core.task import Task
from edgevit.models.export import export_model
from edgevit.models.select_task import select_task
from tests.support.published.open_clip import build_open_clip, import_open_clip, save_folder
from tests.support.reference import randomise, relative_error
from tests.support.small_graphs import run_graph


def compare(ours: torch.nn.Module, theirs: Any, side: int) -> float:
    pixels = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        return relative_error(ours(pixels), theirs.encode_image(pixels))


@pytest.mark.parametrize(
    ("name", "vision"),
    [
        pytest.param("ViT-B-32", {}, marks=pytest.mark.slow),
        ("ViT-B-32-quickgelu", {"layers": 2}),
        ("ViT-H-14", {"layers": 1, "image_size": 28}),
    ],
)
def test_folder_equals_open_clip(tmp_path: Path, name: str, vision: dict[str, Any]) -> None:
    theirs, config = build_open_clip(name, **vision)
    model = read_checkpoint(save_folder(theirs, config, tmp_path / "m"))
    side = config["vision_cfg"]["image_size"]
    assert (model.source.layout, model.image_size, model.classes) == ("open_clip image tower", (side, side), 0)
    assert any("the text tower" in note for note in model.source.notes)
    assert compare(model.module, theirs, side) <= 1e-4


@pytest.mark.slow  # tests/parity has this tower from this publisher
def test_folder_with_a_siglip_tower_equals_open_clip(tmp_path: Path) -> None:
    theirs, config = build_open_clip("ViT-B-16-SigLIP")
    model = read_checkpoint(save_folder(theirs, config, tmp_path / "m"))
    assert model.source.architecture == "vit_base_patch16_siglip_224"
    assert compare(model.module, theirs, 224) <= 1e-4


@pytest.mark.parametrize("name", ["PE-Core-T-16-384", pytest.param("EVA02-B-16", marks=pytest.mark.slow)])
def test_folder_with_a_tower_that_is_an_eva_equals_open_clip(tmp_path: Path, name: str) -> None:
    theirs, config = build_open_clip(name)
    model = read_checkpoint(save_folder(theirs, config, tmp_path / "m"))
    assert model.config.projection == config["embed_dim"]
    assert compare(model.module, theirs, config["vision_cfg"]["image_size"]) <= 1e-4


def test_timm_tower_without_a_projection_of_open_clips_own_projects_by_timms_head(tmp_path: Path) -> None:
    """Case 08: ``timm_proj: null``; 32 numbers that are no classes."""
    name, size = "vit_xsmall_patch16_clip_224", {"image_size": 224}
    vision = {"timm_model_name": name, "timm_model_pretrained": False, "timm_pool": "token", "timm_proj": None, **size}
    text = {"context_length": 8, "vocab_size": 100, "width": 64, "heads": 1, "layers": 1}
    config = {"embed_dim": 32, "vision_cfg": vision, "text_cfg": text}
    theirs = randomise(import_open_clip().model.CustomTextCLIP(**config))
    model = read_checkpoint(save_folder(theirs, config, tmp_path / "m"))
    assert (model.classes, model.config.projection, model.config.features) == (0, 32, 32)
    assert compare(model.module, theirs, 224) <= 1e-4
    graph, _ = export_model(select_task(model, Task()), ExportForm())
    pixels = np.random.default_rng(0).integers(0, 256, (1, 224, 224, 3), np.uint8)
    with torch.inference_mode():
        normalised = (
            torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - torch.tensor(model.preprocess.mean)[:, None, None]
        )
        wanted = theirs.encode_image(normalised / torch.tensor(model.preprocess.std)[:, None, None])
    found = torch.from_numpy(run_graph(graph, [pixels], ("embedding",))[0])
    assert relative_error(found, wanted) <= 1e-4


def test_preprocessing_equals_open_clips_transform(tmp_path: Path) -> None:
    theirs, config = build_open_clip("ViT-B-32", layers=1)
    model = read_checkpoint(save_folder(theirs, config, tmp_path / "m"))
    from open_clip.transform import PreprocessCfg, image_transform_v2

    stored = json.loads((tmp_path / "m" / "open_clip_config.json").read_text())["preprocess_cfg"]
    transform = image_transform_v2(PreprocessCfg(size=224, **stored), is_train=False)
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)).resize((640, 500))
    ours = model.preprocess.normalize(model.preprocess.apply(image)).transpose(2, 0, 1)
    assert np.abs(ours - transform(image).numpy()).max() <= 1.01 / 255 / 0.26


@pytest.mark.parametrize("arch", [None, "ViT-B-32-quickgelu"])
def test_bare_file_takes_the_activation_from_the_name(tmp_path: Path, arch: str | None) -> None:
    theirs, _ = build_open_clip("ViT-B-32" if arch is None else arch, layers=1)
    torch.save(
        {"epoch": 3, "state_dict": {f"module.{n}": t for n, t in theirs.state_dict().items()}}, tmp_path / "w.pt"
    )
    model = read_checkpoint(tmp_path / "w.pt", arch=arch)
    assert compare(model.module, theirs, 224) <= 1e-4
    assert any("GELU is assumed" in note for note in model.source.notes) == (arch is None)


def test_folder_of_a_timm_tower_with_a_projection_is_refused(tmp_path: Path) -> None:
    tower = {"visual.trunk.cls_token": torch.ones(1, 1, 8), "visual.head.proj.weight": torch.ones(8, 8)}
    torch.save(tower, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match=r"visual\.head\.proj\.weight"):
        read_checkpoint(tmp_path / "w.pt", arch="vit_base_patch16_224")


def test_bare_timm_tower_without_a_name_says_how_to_give_one(tmp_path: Path) -> None:
    torch.save({"visual.trunk.cls_token": torch.ones(1, 1, 8)}, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match="does not say which"):
        read_checkpoint(tmp_path / "w.pt")


def test_image_tower_saved_alone_equals_open_clip(tmp_path: Path) -> None:
    theirs, _ = build_open_clip("ViT-B-32", layers=1)
    torch.save(theirs.visual.state_dict(), tmp_path / "w.pt")
    assert compare(read_checkpoint(tmp_path / "w.pt").module, theirs, 224) <= 1e-4


def test_bare_siglip_tower_takes_what_open_clip_publishes_for_all_of_them(tmp_path: Path) -> None:
    theirs, _ = build_open_clip("ViT-B-16-SigLIP2")
    torch.save({"state_dict": theirs.state_dict()}, tmp_path / "w.pt")
    model = read_checkpoint(tmp_path / "w.pt", arch="vit_base_patch16_siglip_224")
    published = import_open_clip().get_pretrained_cfg("ViT-B-16-SigLIP2", "webli")
    assert (published["resize_mode"], published["interpolation"]) == (model.preprocess.resize, "bicubic")
    assert (model.preprocess.mean, model.preprocess.std) == (tuple(published["mean"]), tuple(published["std"]))
    assert compare(model.module, theirs, 224) <= 1e-4


def test_folder_with_a_tower_of_another_family_is_refused_by_its_name(tmp_path: Path) -> None:
    open_clip = import_open_clip()
    for name in ("EVA02-E-14", "convnext_base"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": open_clip.get_model_config(name)}))
        tower = {"visual.trunk.cls_token": torch.ones(1, 1, 8), "visual.head.proj.weight": torch.ones(8, 8)}
        save_file(tower, folder / "open_clip_model.safetensors")
        with pytest.raises(
            CheckpointError, match=r"architecture '(eva02_enormous_patch14_clip_224|convnext_base)' is not"
        ):
            read_checkpoint(folder)


def test_folder_that_also_has_a_transformers_configuration_is_read_by_its_weights(tmp_path: Path) -> None:
    # The hub's CLIP models are there for both; a download of safetensors may bring open_clip's alone.
    theirs, config = build_open_clip("ViT-B-32", layers=1)
    folder = save_folder(theirs, config, tmp_path / "m")
    (folder / "config.json").write_text(json.dumps({"model_type": "clip", "architectures": ["CLIPModel"]}))
    model = read_checkpoint(folder)
    assert model.source.layout == "open_clip image tower"
    assert compare(model.module, theirs, 224) <= 1e-4
