"""Whole models of transformers with random weights, small, and their files: ONNX by both exporters, and folders."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support.exports_folder import export_once, find_folder
from tests.support.foreign_exports import Exporter, silence
from tests.support.reference import import_transformers, randomise

if TYPE_CHECKING:
    from torch import Tensor

ENCODER: dict[str, Any] = {"hidden_size": 48, "num_hidden_layers": 4, "num_attention_heads": 3}


@dataclass(frozen=True)
class Family:
    """How a model is made.

    Attributes:
        make: The module of transformers.
        size: Height and width in pixels.
        outputs: What its task reads.
        processor: Name of the image processor.
        options: Its arguments.
    """

    make: Callable[[], Any]
    size: tuple[int, int]
    outputs: tuple[str, ...]
    processor: str
    options: dict[str, Any]


def _vitpose() -> Any:
    transformers = import_transformers()
    backbone = transformers.VitPoseBackboneConfig(
        image_size=[64, 48], patch_size=[16, 16], mlp_ratio=2, out_features=["stage4"], **ENCODER
    )
    return transformers.VitPoseForPoseEstimation(transformers.VitPoseConfig(backbone_config=backbone, num_labels=5))


def _yolos(*, mid: bool) -> Any:
    transformers = import_transformers()
    config = transformers.YolosConfig(
        image_size=[64, 96], patch_size=16, intermediate_size=96, num_detection_tokens=9, num_labels=5,
        use_mid_position_embeddings=mid, **ENCODER,
    )  # fmt: skip
    return transformers.YolosForObjectDetection(config)


def _rf_detr() -> Any:
    transformers = import_transformers()
    from transformers.models.rf_detr import configuration_rf_detr

    configs: Any = configuration_rf_detr
    backbone = configs.RfDetrDinov2Config(
        image_size=64, patch_size=16, num_windows=2, mlp_ratio=2, out_features=["stage2", "stage4"], **ENCODER
    )
    config = configs.RfDetrConfig(
        backbone_config=backbone, d_model=32, decoder_layers=2, num_queries=9, num_labels=5, decoder_ffn_dim=64,
        group_detr=2, decoder_self_attention_heads=4, decoder_cross_attention_heads=4, decoder_n_points=2,
    )  # fmt: skip
    return transformers.RfDetrForObjectDetection(config)


def _eomt() -> Any:
    transformers = import_transformers()
    config = transformers.EomtConfig(
        image_size=64, mlp_ratio=2, num_blocks=2, num_queries=7, num_labels=5, num_upscale_blocks=1, **ENCODER
    )
    module = transformers.EomtForUniversalSegmentation(config)
    module.attn_mask_probs.zero_()  # as trained ones have it: nothing masks attention then
    return module


def _fixed(height: int, width: int) -> dict[str, Any]:
    return {"size": {"height": height, "width": width}}


FAMILIES = {
    "vitpose": Family(_vitpose, (64, 48), ("heatmaps",), "VitPoseImageProcessor", _fixed(64, 48)),
    "rf_detr": Family(_rf_detr, (64, 64), ("logits", "pred_boxes"), "RfDetrImageProcessor", _fixed(64, 64)),
    "eomt": Family(
        _eomt,
        (64, 64),
        ("class_queries_logits", "masks_queries_logits"),
        "EomtImageProcessor",
        {"size": {"shortest_edge": 64, "longest_edge": None}, "do_split_image": True},
    ),
    "yolos": Family(
        lambda: _yolos(mid=False), (64, 96), ("logits", "pred_boxes"), "YolosImageProcessor", _fixed(64, 96)
    ),
    "yolos_mid": Family(
        lambda: _yolos(mid=True), (64, 96), ("logits", "pred_boxes"), "YolosImageProcessor", _fixed(64, 96)
    ),
}


@cache
def build_whole(name: str) -> Any:
    """The publisher's module, with random weights for every parameter."""
    import torch

    torch.manual_seed(0)
    module = randomise(FAMILIES[name].make(), seed=1)
    module.set_attn_implementation("eager")
    return module.requires_grad_(False)


def answer_whole(name: str, pixels: Tensor) -> tuple[Tensor, ...]:
    """The publisher's answers to ``(1, 3, H, W) float32``."""
    import torch

    with torch.inference_mode():
        result = build_whole(name)(pixel_values=pixels, return_dict=True)
    return tuple(result[key] for key in FAMILIES[name].outputs)


def make_pixels(name: str, seed: int = 2) -> Tensor:
    """``(1, 3, H, W) float32``."""
    import torch

    return torch.randn(1, 3, *FAMILIES[name].size, generator=torch.Generator().manual_seed(seed))


def export_whole(name: str, exporter: Exporter) -> Path:
    """Write a file, once in a run of the tests."""
    return export_once(f"whole-{name}-{exporter}.onnx", lambda path: _export(name, exporter, path))


def save_whole(name: str) -> Path:
    """The folder that transformers saves it as, with its processor, made once in a run of the tests."""
    family, folder = FAMILIES[name], find_folder() / f"whole-{name}"
    if not (folder / "preprocessor_config.json").exists():
        build_whole(name).save_pretrained(folder)
        getattr(import_transformers(), family.processor)(**family.options).save_pretrained(folder)
    return folder


def _export(name: str, exporter: Exporter, path: Path) -> None:
    import torch
    from torch import nn

    module, outputs = copy.deepcopy(build_whole(name)), FAMILIES[name].outputs
    if name == "eomt" and exporter == "dynamo":  # it branches on these, which this exporter takes only of plain numbers
        probabilities = module.attn_mask_probs.tolist()
        del module.attn_mask_probs
        module.attn_mask_probs = probabilities

    class Outputs(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = module

        def forward(self, pixel_values: Tensor) -> tuple[Tensor, ...]:
            result = self.model(pixel_values=pixel_values, return_dict=True)
            return tuple(result[key] for key in outputs)

    dynamo: dict[str, Any] = {"dynamo": True, "external_data": False, "verbose": False, "opset_version": 20}
    more = dynamo if exporter == "dynamo" else {"dynamo": False, "opset_version": 17}
    with silence(), torch.no_grad():
        torch.onnx.export(
            Outputs().eval(), (make_pixels(name),), str(path), input_names=["pixel_values"], output_names=list(outputs),
            **more,
        )  # fmt: skip
