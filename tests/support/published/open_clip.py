"""open_clip's own models, and folders as it saves them."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tests.support.reference import import_torchvision, leave_undrawn, randomise


def import_open_clip() -> Any:
    """Import open_clip, or skip."""
    import_torchvision()
    return pytest.importorskip("open_clip", reason="open_clip_torch is not installed")


def build_open_clip(name: str, **vision: Any) -> tuple[Any, dict[str, Any]]:
    """A model of open_clip's configurations, its text tower cut down, and that configuration."""
    open_clip = import_open_clip()
    config = open_clip.get_model_config(name)
    config["vision_cfg"] |= vision
    config["text_cfg"] |= {"layers": 1, "width": 64, "heads": 1, "vocab_size": 100}
    config["text_cfg"].pop("hf_tokenizer_name", None)
    custom = "timm_model_name" in config["vision_cfg"]
    kind = open_clip.model.CustomTextCLIP if custom else open_clip.CLIP
    args = {k: v for k, v in config.items() if k not in ("custom_text",)}
    with leave_undrawn():
        module = kind(**args)
    randomise(module)
    with torch.no_grad():
        if not custom:  # their ends in the tests' names do not say that they are tokens and positions
            module.visual.class_embedding.mul_(2)
            module.visual.positional_embedding.copy_(torch.randn(module.visual.positional_embedding.shape) / 2)
    return module, config


def save_folder(module: Any, config: dict[str, Any], folder: Path) -> Path:
    """As open_clip's ``save_for_hf`` does, less the tokenizer."""
    from open_clip.model import set_model_preprocess_cfg
    from open_clip.push_to_hf_hub import save_config_for_hf
    from open_clip.transform import PreprocessCfg

    siglip = "timm_model_name" in config["vision_cfg"]
    pixels: dict[str, Any] = {"mean": (0.5,) * 3, "std": (0.5,) * 3, "resize_mode": "squash"} if siglip else {}
    set_model_preprocess_cfg(module, asdict(PreprocessCfg(**pixels)))
    folder.mkdir(exist_ok=True)
    save_file({n: t.contiguous() for n, t in module.state_dict().items()}, folder / "open_clip_model.safetensors")
    save_config_for_hf(module, folder / "open_clip_config.json", config)
    return folder
