"""Swin and Swin V2 from timm and transformers, the smallest of each at its real size."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from edgevit.core.task import TaskName
from tests.parity.case import Answer, Case, read_inputs, read_outputs
from tests.parity.timm_vit import save as save_timm
from tests.support.reference import import_timm, import_transformers

_TIMM: Mapping[TaskName, Answer] = {
    "classify": lambda module, pixels: module(pixels),
    "embed": lambda module, pixels: module.forward_head(module.forward_features(pixels), pre_logits=True),
    "features": lambda module, pixels: module.forward_intermediates(pixels, intermediates_only=True),
}


def _timm(family: str, name: str, **args: Any) -> Case:
    shown = ", ".join([name, *(f"{key}={value}" for key, value in args.items())])
    return Case(family, "timm", shown, lambda: import_timm().create_model(name, **args), save_timm, _TIMM)


def _read_stages(module: Any, pixels: Tensor) -> list[Tensor]:
    """What the last block of every stage gives, ahead of the merging and of any norm; images are square."""
    base = getattr(module, "swin", getattr(module, "swinv2", module))
    tokens = read_outputs(module, pixels, *(layer.blocks[-1] for layer in base.encoder.layers))
    return [t.transpose(1, 2).unflatten(2, (math.isqrt(t.shape[1]),) * 2) for t in tokens]


_TRANSFORMERS: Mapping[str, Mapping[TaskName, Answer]] = {
    "ForImageClassification": {
        "classify": lambda module, pixels: module(pixels).logits,
        "embed": lambda module, pixels: read_inputs(module, pixels, module.classifier)[0],
        "features": _read_stages,
    },
    "Model": {"embed": lambda module, pixels: module(pixels).pooler_output, "features": _read_stages},
    "Backbone": {"features": lambda module, pixels: module(pixels).feature_maps},
}


def _save_transformers(module: Any, folder: Path) -> Path:
    module.save_pretrained(folder)
    return folder


def _transformers(family: str, kind: str, end: str, **args: Any) -> Case:
    def build() -> Any:
        transformers = import_transformers()
        if end == "Backbone":
            args["out_features"] = ["stage1", "stage2", "stage3", "stage4"]
        return getattr(transformers, f"{kind}{end}")(getattr(transformers, f"{kind}Config")(**args))

    return Case(family, "transformers", f"{kind}{end}", build, _save_transformers, _TRANSFORMERS[end])


_V2 = {"image_size": 256, "window_size": 8}
CASES = (
    _timm("Swin", "swin_tiny_patch4_window7_224"),
    _timm("Swin V2", "swinv2_tiny_window8_256"),
    _timm("Swin V2, pre-trained with another window", "swinv2_base_window12to16_192to256", depths=(2, 2, 2, 2)),
    _transformers("Swin", "Swin", "ForImageClassification"),
    _transformers("Swin", "Swin", "Model"),
    _transformers("Swin, backbone", "Swin", "Backbone"),
    _transformers("Swin V2", "Swinv2", "ForImageClassification", **_V2),
    _transformers("Swin V2", "Swinv2", "Model", **_V2),
    _transformers("Swin V2, backbone", "Swinv2", "Backbone", **_V2),
)
