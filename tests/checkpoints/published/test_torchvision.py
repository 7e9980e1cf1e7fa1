"""torchvision's state dicts against torchvision's own models and transforms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.nn import functional as F

from edgevit.checkpoints import read_checkpoint, shapes
from edgevit.checkpoints.documented import document_preprocess
from edgevit.checkpoints.published.torchvision import TRANSFORMS
from edgevit.core.errors import CheckpointError
from tests.support.published.torchvision import build_swin, build_vit
from tests.support.reference import import_torchvision, randomise, relative_error


def build(name: str, **args: Any) -> torch.nn.Module:
    import_torchvision()
    from torchvision import models

    return randomise(getattr(models, name)(**args))


def save(module: torch.nn.Module, path: Path) -> Path:
    torch.save(module.state_dict(), path)
    return path


def compare(ours: torch.nn.Module, theirs: torch.nn.Module, size: tuple[int, int]) -> float:
    pixels = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        return relative_error(ours(pixels), theirs(pixels))


@pytest.mark.parametrize(
    ("name", "size"), [pytest.param("vit_b_32", 224, marks=pytest.mark.slow), ("swin_t", 224), ("swin_v2_t", 256)]
)
def test_state_dict_of_real_size_equals_torchvision(tmp_path: Path, name: str, size: int) -> None:
    theirs = build(name)
    model = read_checkpoint(save(theirs, tmp_path / "w.pth"))
    assert (model.source.architecture, model.source.layout) == (name, "torchvision state dict")
    assert (model.image_size, model.classes, model.labels) == ((size, size), 1000, None)
    assert compare(model.module, theirs, (size, size)) <= 1e-4


def test_vit_of_other_depth_is_read_with_a_note_on_its_heads(tmp_path: Path) -> None:
    theirs = build_vit(hidden_dim=192, num_heads=3)
    model = read_checkpoint(save(theirs, tmp_path / "w.pth"))
    assert any("none of torchvision's; 3 heads are assumed" in note for note in model.source.notes)
    assert compare(model.module, theirs, (32, 32)) <= 1e-4


def test_vit_of_unknown_width_is_refused_as_its_heads_are_not_stored(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="does not state its number of attention heads"):
        read_checkpoint(save(build_vit(), tmp_path / "w.pth"))


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(grid=st.integers(1, 5), layers=st.integers(1, 3), mlp=st.integers(1, 40), classes=st.integers(1, 9))
def test_vit_of_any_shape_equals_torchvision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, grid: int, layers: int, mlp: int, classes: int
) -> None:
    monkeypatch.setattr(shapes, "HEADS", {16: 2})
    theirs = build_vit(image_size=8 * grid, num_layers=layers, mlp_dim=mlp, num_classes=classes)
    model = read_checkpoint(save(theirs, tmp_path / "w.pth"))
    assert compare(model.module, theirs, (8 * grid, 8 * grid)) <= 1e-4


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(size=st.tuples(st.integers(2, 12), st.integers(2, 12)), window=st.integers(2, 5))
def test_swin_of_any_grid_and_window_equals_torchvision(tmp_path: Path, size: tuple[int, int], window: int) -> None:
    # Grids smaller than the window, and odd ones, are padded; a window that covers an axis is not shifted along it.
    pixels = (4 * size[0], 4 * size[1])
    theirs = build_swin(window_size=[window, window])
    model = read_checkpoint(save(theirs, tmp_path / "w.pth"), image_size=pixels)
    assert compare(model.module, theirs, pixels) <= 1e-4


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(size=st.tuples(st.integers(2, 10), st.integers(2, 10)), window=st.integers(2, 5))
def test_swin_v2_of_any_grid_and_window_equals_torchvision(tmp_path: Path, size: tuple[int, int], window: int) -> None:
    import_torchvision()
    from torchvision.models import swin_transformer as module

    pixels = (4 * size[0], 4 * size[1])
    theirs = build_swin(
        window_size=[window, window], block=module.SwinTransformerBlockV2, downsample_layer=module.PatchMergingV2
    )
    model = read_checkpoint(save(theirs, tmp_path / "w.pth"), image_size=pixels)
    assert compare(model.module, theirs, pixels) <= 1e-4


@pytest.mark.parametrize("size", [(48, 48), (16, 16), (24, 56)])
def test_vit_at_another_size_equals_torchvision_with_its_positions_interpolated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    import_torchvision()
    from torchvision.models.vision_transformer import interpolate_embeddings

    monkeypatch.setattr(shapes, "HEADS", {16: 2})
    theirs = build_vit()
    model = read_checkpoint(save(theirs, tmp_path / "w.pth"), image_size=size)
    if size[0] == size[1]:
        resized = build_vit(image_size=size[0])
        resized.load_state_dict(interpolate_embeddings(size[0], 8, theirs.state_dict()))
        assert compare(model.module, resized, size) <= 1e-5
    else:  # its own helper and module take only squares; the same filter, axis by axis
        grid = theirs.state_dict()["encoder.pos_embedding"][:, 1:].reshape(1, 4, 4, -1).permute(0, 3, 1, 2)
        wanted = F.interpolate(grid, size=(3, 7), mode="bicubic", align_corners=True).flatten(2).transpose(1, 2)
        assert torch.allclose(model.module.state_dict()["pos_embed"][:, 1:], wanted, atol=1e-6)


@pytest.mark.parametrize("name", list(TRANSFORMS))
def test_preprocessing_equals_the_transforms_of_the_weights_that_are_named(name: str) -> None:
    import_torchvision()
    from torchvision.models import get_model_weights

    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (301, 417, 3), np.uint8)).resize((700, 533))
    for ours in TRANSFORMS[name]:
        theirs = get_model_weights(name)[ours.weights].transforms()
        side = (ours.crop, ours.crop)
        preprocess, _ = document_preprocess("", side, side, (ours.resize,) * 2, interpolation=ours.interpolation)
        mine = preprocess.normalize(preprocess.apply(image)).transpose(2, 0, 1)
        # One grey level: Pillow's order of the two passes of a resize depends on its version.
        assert np.abs(mine - theirs(image).numpy()).max() <= 1.01 / 255 / min(preprocess.std)


def test_state_dict_of_version_0_12_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shapes, "HEADS", {16: 2})
    theirs = build_vit()
    renamed = {
        name.replace("mlp.0.", "mlp.linear_1.").replace("mlp.3.", "mlp.linear_2."): value
        for name, value in theirs.state_dict().items()
    }
    torch.save(renamed, tmp_path / "w.pth")
    assert compare(read_checkpoint(tmp_path / "w.pth").module, theirs, (32, 32)) <= 1e-4


def test_state_dict_with_a_hidden_layer_before_the_head_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="a hidden layer before the head"):
        read_checkpoint(save(build_vit(representation_size=8), tmp_path / "w.pth"))


def test_state_dict_that_is_not_whole_lists_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shapes, "HEADS", {16: 2})
    state = build_vit().state_dict()
    del state["encoder.layers.encoder_layer_1.self_attention.in_proj_bias"]
    state["encoder.ln.weight"] = torch.ones(3)
    state["extra"] = torch.ones(1)
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match="1 missing, 1 unexpected, 1 wrongly shaped") as caught:
        read_checkpoint(tmp_path / "w.pth")
    for part in ("encoder_layer_1.self_attention.in_proj_bias", "extra", r"encoder.ln.weight: (3,), expected (16,)"):
        assert part in caught.value.message


def test_state_dict_with_another_architecture_named_is_refused(tmp_path: Path) -> None:
    path = save(build_swin(), tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match="Swin of width 12, depths 2-2, not 'swin_s'"):
        read_checkpoint(path, arch="swin_s")


@pytest.mark.parametrize(("name", "dropout"), [("heads", True), ("heads", False), ("head", True)])
def test_state_dict_with_a_head_that_fine_tuning_put_in_place_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, dropout: bool
) -> None:
    monkeypatch.setattr(shapes, "HEADS", {16: 2})
    theirs, size = (build_vit(), 32) if name == "heads" else (build_swin(), 96)
    linear = randomise(torch.nn.Linear(16 if name == "heads" else 24, 7))
    setattr(theirs, name, torch.nn.Sequential(torch.nn.Dropout(0.1), linear) if dropout else linear)
    model = read_checkpoint(save(theirs.eval(), tmp_path / "w.pth"), image_size=(size, size))
    assert model.classes == 7
    assert any(f"the head is {name}{'.1' if dropout else ''};" in note for note in model.source.notes)
    assert compare(model.module, theirs, (size, size)) <= 1e-4


def test_state_dict_with_a_head_of_two_layers_is_refused_by_what_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shapes, "HEADS", {16: 2})
    theirs = build_vit()
    theirs.heads = torch.nn.Sequential(torch.nn.Linear(16, 8), torch.nn.Tanh(), torch.nn.Linear(8, 7))
    with pytest.raises(CheckpointError, match="a head of 2 layers with weights") as caught:
        read_checkpoint(save(theirs, tmp_path / "w.pth"))
    assert "heads.2.weight" in caught.value.message


def test_state_dict_of_swag_weights_names_them_by_their_size(tmp_path: Path) -> None:
    theirs = build("vit_b_16", image_size=384)
    model = read_checkpoint(save(theirs, tmp_path / "w.pth"))
    assert (model.source.architecture, model.image_size) == ("vit_b_16", (384, 384))
    assert any("vit_b_16 (IMAGENET1K_SWAG_E2E_V1)" in note for note in model.source.notes)
