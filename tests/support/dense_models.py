"""Transformers' depth estimators, segmenters, detectors and pose estimators, tiny and with random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.support.reference import import_transformers

_VIT: dict[str, Any] = {"hidden_size": 48, "num_hidden_layers": 4, "num_attention_heads": 3}
_SWIN: dict[str, Any] = {
    "embed_dim": 24,
    "depths": [2, 2, 2, 2],
    "num_heads": [1, 2, 3, 6],
    "window_size": 4,
    "image_size": 128,
    "out_features": ["stage1", "stage2", "stage3", "stage4"],
}
_DPT: dict[str, Any] = {"neck_hidden_sizes": [12, 24, 48, 48], "fusion_hidden_size": 16}
_NAMES = {index: f"thing {index}" for index in range(5)}
_EDGES = [[0, 1], [1, 2], [3, 4]]

DENSE_MODELS = (
    "depth_anything",
    "depth_anything_metric",
    "dpt_vit",
    "dpt_dinov2",
    "upernet_swin",
    "mask2former_swin",
    "eomt",
    "rf_detr",
    "yolos",
    "vitpose",
)


def make_dense_model(name: str) -> tuple[Any, Any]:
    """One of :data:`DENSE_MODELS` in evaluation mode, and its processor of a fixed size."""
    import torch

    t = import_transformers()
    torch.manual_seed(0)
    dinov2 = t.Dinov2Config(**_VIT, image_size=70, patch_size=14, out_indices=[1, 2, 3, 4], reshape_hidden_states=False)
    swin = t.SwinConfig(**_SWIN)
    model: Any
    processor: Any
    if name.startswith("depth_anything"):
        kind = {"depth_estimation_type": "metric", "max_depth": 20} if name.endswith("metric") else {}
        config = t.DepthAnythingConfig(
            backbone_config=dinov2, reassemble_hidden_size=48, patch_size=14, head_hidden_size=8, **_DPT, **kind
        )
        model = t.DepthAnythingForDepthEstimation(config)
        processor = t.DPTImageProcessor(size={"height": 70, "width": 84}, ensure_multiple_of=14)
    elif name == "dpt_vit":
        config = t.DPTConfig(
            **_VIT, intermediate_size=96, image_size=64, patch_size=16, backbone_out_indices=[0, 1, 2, 3], **_DPT
        )
        model, processor = t.DPTForDepthEstimation(config), t.DPTImageProcessor(size={"height": 64, "width": 64})
    elif name == "dpt_dinov2":
        config = t.DPTConfig(
            backbone_config=dinov2, patch_size=14, hidden_size=48, reassemble_factors=[4, 2, 1, 0.5], **_DPT
        )
        model, processor = t.DPTForDepthEstimation(config), t.DPTImageProcessor(size={"height": 70, "width": 70})
    elif name == "upernet_swin":
        config = t.UperNetConfig(backbone_config=swin, hidden_size=32, use_auxiliary_head=False, id2label=_NAMES)
        model = t.UperNetForSemanticSegmentation(config)
        processor = t.SegformerImageProcessor(size={"height": 128, "width": 128})
    elif name == "mask2former_swin":
        config = t.Mask2FormerConfig(
            backbone_config=swin,
            feature_size=32,
            mask_feature_size=32,
            hidden_dim=32,
            encoder_feedforward_dim=48,
            dim_feedforward=48,
            encoder_layers=2,
            decoder_layers=3,
            num_attention_heads=4,
            num_queries=12,
            id2label=_NAMES,
        )
        model = t.Mask2FormerForUniversalSegmentation(config)
        processor = t.Mask2FormerImageProcessor(size={"height": 128, "width": 128})
    elif name == "eomt":
        config = t.EomtConfig(**_VIT, image_size=64, num_blocks=2, num_queries=12, id2label=_NAMES)
        model = t.EomtForUniversalSegmentation(config)
        processor = t.EomtImageProcessor(size={"shortest_edge": 64, "longest_edge": None}, do_split_image=True)
    elif name == "rf_detr":
        backbone = t.RfDetrDinov2Config(**_VIT, image_size=112, patch_size=14, out_indices=[2, 4], num_windows=2)
        config = t.RfDetrConfig(
            backbone_config=backbone,
            d_model=32,
            decoder_ffn_dim=48,
            decoder_layers=2,
            decoder_self_attention_heads=4,
            decoder_cross_attention_heads=4,
            num_queries=20,
            id2label=_NAMES,
        )
        model = t.RfDetrForObjectDetection(config)
        processor = t.RfDetrImageProcessor(size={"height": 112, "width": 112})
    elif name == "yolos":
        config = t.YolosConfig(
            **_VIT, intermediate_size=96, image_size=[64, 96], num_detection_tokens=12, id2label=_NAMES
        )
        model, processor = t.YolosForObjectDetection(config), t.YolosImageProcessor(size={"height": 64, "width": 96})
    else:
        backbone = t.VitPoseBackboneConfig(**_VIT, image_size=[64, 48], patch_size=[16, 16], out_indices=[4])
        config = t.VitPoseConfig(backbone_config=backbone, id2label=_NAMES, edges=_EDGES)
        model = t.VitPoseForPoseEstimation(config)
        processor = t.VitPoseImageProcessor(size={"height": 64, "width": 48})
    _spread(model)
    return model.eval(), processor


def _spread(model: Any) -> None:
    """Let answers differ from place to place, as trained ones do: fresh weights give nearly constant maps."""
    import torch

    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() > 1 and "norm" not in name:
                weight.mul_(2.0)


def write_dense_model(name: str, folder: Path) -> tuple[Any, Any]:
    """As :func:`make_dense_model`, saved in a folder too."""
    model, processor = make_dense_model(name)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return model, processor
