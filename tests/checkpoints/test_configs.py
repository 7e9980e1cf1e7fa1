"""Configurations with any values at all: read or refused, never another failure."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from edgevit.checkpoints import read_checkpoint
from edgevit.core.errors import CheckpointError
from tests.support.small_checkpoints import ARGS, CONFIG, small_tensors

SCALARS = st.none() | st.booleans() | st.integers(-3, 40) | st.integers() | st.floats() | st.text(max_size=5)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3) | st.just("0"), inner, max_size=3),
    max_leaves=6,
)
SWIN_ARGS: dict[str, Any] = {
    "img_size": 32, "patch_size": 4, "embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2], "window_size": 4,
    "mlp_ratio": 4.0, "qkv_bias": True, "always_partition": False, "in_chans": 3, "global_pool": "avg",
}  # fmt: skip
VIT_ARGS: dict[str, Any] = {
    **ARGS, "mlp_ratio": 4.0, "qkv_bias": True, "class_token": True, "no_embed_class": False, "fc_norm": None,
    "final_norm": True, "act_layer": "gelu", "norm_layer": None, "in_chans": 3, "global_pool": "token",
}  # fmt: skip
FOLDERS: dict[str, dict[str, Any]] = {
    "timm vit": {**CONFIG, "global_pool": "token", "model_args": VIT_ARGS},
    "timm swin": {**CONFIG, "architecture": "swin_tiny_patch4_window7_224", "model_args": SWIN_ARGS},
    "transformers vit": {
        "model_type": "vit", "architectures": ["ViTForImageClassification"], "hidden_size": 16, "num_hidden_layers": 2,
        "num_attention_heads": 2, "intermediate_size": 32, "image_size": 32, "patch_size": 8, "hidden_act": "gelu",
        "layer_norm_eps": 1e-12, "qkv_bias": True, "num_channels": 3, "id2label": {"0": "a"}, "problem_type": None,
        "auto_map": None, "quantization_config": None, "head_dim": None,
    },
    "transformers swin": {
        "model_type": "swin", "architectures": None, "embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2],
        "image_size": 32, "patch_size": 4, "window_size": 4, "mlp_ratio": 4.0, "hidden_act": "gelu", "qkv_bias": True,
        "layer_norm_eps": 1e-5, "use_absolute_embeddings": False, "num_channels": 3,
    },
}  # fmt: skip


@pytest.mark.parametrize("kind", FOLDERS)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_read_when_config_values_are_anything_reads_or_refuses(tmp_path: Path, kind: str, data: st.DataObject) -> None:
    config = json.loads(json.dumps(FOLDERS[kind]))
    tables = [config, *(config[key] for key in ("model_args", "pretrained_cfg") if key in config)]
    for _ in range(data.draw(st.integers(1, 2))):
        table = data.draw(st.sampled_from(tables))
        table[data.draw(st.sampled_from(sorted(table)))] = data.draw(VALUES)
    (tmp_path / "config.json").write_text(json.dumps(config))
    if not (tmp_path / "model.safetensors").exists():
        save_file(small_tensors(), tmp_path / "model.safetensors")
    with contextlib.suppress(CheckpointError):
        read_checkpoint(tmp_path)
