"""Name tables, read in both directions."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from edgevit.checkpoints.names import Names
from edgevit.checkpoints.timm import timm
from edgevit.checkpoints.timm import vit as timm_vit
from edgevit.checkpoints.transformers import swin as transformers_swin
from edgevit.checkpoints.transformers import vit as transformers_vit
from edgevit.models import SwinConfig, ViTConfig, build_module


def name_class(kind: str, index: int) -> Names:
    row = transformers_vit.VIT_KINDS[kind]
    return transformers_vit.make_names(row, list(row.classes.values())[index])


TABLES: dict[str, Any] = {
    "timm vit": (timm_vit.VIT_NAMES, ViTConfig(distillation_token=True, distillation_head=True)),
    "timm vit, newer": (
        timm_vit.VIT_NAMES,
        ViTConfig(register_tokens=2, layer_scale=True, qk_norm=True, norm_before_blocks=True, norm_after_pool=True),
    ),
    "timm vit, gated": (timm_vit.GATED_VIT_NAMES, ViTConfig(gated_mlp=True)),
    "timm swin": (timm.SWIN_NAMES, SwinConfig()),
    "timm swin, old": (timm.OLD_SWIN_NAMES, SwinConfig()),
    "transformers swin": (transformers_swin.SWIN_NAMES, SwinConfig()),
    "transformers vit": (name_class("deit", 1), ViTConfig(distillation_token=True, distillation_head=True)),
    "transformers dinov2": (name_class("dinov2_with_registers", 0), ViTConfig(register_tokens=2, layer_scale=True)),
    "transformers dinov2, gated": (name_class("dinov2", 0), ViTConfig(layer_scale=True, gated_mlp=True)),
    "transformers clip": (
        name_class("clip_vision_model", 0),
        ViTConfig(norm_before_blocks=True, patch_bias=False, projection=8, classes=0),
    ),
}


@pytest.mark.parametrize("table", TABLES)
def test_every_parameter_has_one_name_there_and_back(table: str) -> None:
    names, config = TABLES[table]
    with torch.device("meta"):
        ours = list(build_module(config).state_dict())
    if table.startswith("transformers"):
        ours = [n.replace("qkv", part) for n in ours for part in ("qkv" if ".qkv." in n else " ")]
    theirs = [names.to_publisher(n, []) for n in ours]
    assert len(set(theirs)) == len(ours)
    assert names.to_canonical(theirs) == dict(zip(theirs, ours, strict=True))


def test_names_that_the_table_does_not_know_are_left_out() -> None:
    names = Names({"a.{i}.*": ("b.{i-1}.c.*",)}, ("x.",), {r"mask": "not used"})
    found = names.to_canonical(["b.0.c.weight", "x.b.1.c.bias", "b.0.c.other", "b.-1.c.weight", "a.0.weight", "mask"])
    assert found == {"b.0.c.weight": "a.1.weight", "x.b.1.c.bias": "a.2.bias"}
    assert names.to_publisher("a.3.bias", ["x.b.1.c.bias"]) == "x.b.2.c.bias"
    assert names.to_publisher("unknown", []) == "unknown"
    assert names.find_dropped(["x.mask", "b.0.c.weight"]) == {"not used": ["x.mask"]}
