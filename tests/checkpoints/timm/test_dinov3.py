"""timm's DINOv3, which is an EVA there: its arguments, sizes and pooling."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from edgevit.checkpoints import read_checkpoint
from edgevit.core.errors import CheckpointError
from tests.support.reference import build_timm, relative_error, save_timm_folder


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("vit_small_patch16_dinov3", {}),
        ("vit_small_patch16_dinov3_qkvb", {"img_size": (48, 96), "global_pool": "token"}),
        ("vit_small_plus_patch16_dinov3", {"img_size": (96, 32), "num_classes": 7, "rope_temperature": 50.0}),
        ("vit_small_patch16_dinov3", {"num_reg_tokens": 2, "use_fc_norm": True, "num_classes": 7}),
        ("vit_tiny_patch16_dinov3_qkvb", {"rope_rescale_coords": 2.0, "swiglu_mlp": True, "swiglu_align_to": 64}),
        ("vit_tiny_patch16_dinov3_qkvb", {"embed_dim": 96, "num_heads": 4, "mlp_ratio": 2.0, "rope_type": "dinov3"}),
        ("vit_tiny_patch16_dinov3_qkvb", {"rope_type": "cat"}),
        ("vit_tiny_patch16_dinov3_qkvb", {"rope_rotate_half": False, "rope_grid_indexing": "xy"}),
        ("vit_tiny_patch16_dinov3_qkvb", {"use_abs_pos_emb": True}),
    ],
    ids=str,
)
def test_dinov3_with_timms_arguments_equals_timm(name: str, args: dict[str, Any], tmp_path: Path):
    theirs = build_timm(name, **{"depth": 2, "img_size": 64, "num_classes": 0, **args})
    save_timm_folder(theirs, tmp_path / "model")
    model = read_checkpoint(tmp_path / "model")
    assert model.source.architecture == name
    pixels = torch.randn(2, 3, *model.image_size, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        assert relative_error(model.module(pixels), theirs(pixels)) <= 1e-5


@pytest.mark.parametrize(
    "args", [{"rope_grid_offset": 1.0}, {"rope_type": "mixed", "rope_rotate_half": False}], ids=str
)
def test_other_rotary_positions_are_refused(args: dict[str, Any], tmp_path: Path):
    theirs = build_timm("vit_tiny_patch16_dinov3_qkvb", depth=1, img_size=32, **args)
    save_timm_folder(theirs, tmp_path / "model")
    with pytest.raises(CheckpointError, match=next(iter(args))):
        read_checkpoint(tmp_path / "model")
