"""Transformers' depth estimators, segmenters, detectors and pose estimators, tiny and with random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from edgevit.runtime.tasks.answers import Depth, Detections, Poses, Segmentation
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


def answer_by_transformers(model: Any, processor: Any, photo: Image.Image, task: Any) -> Any:
    """What transformers' model and processor answer to a photo; ``task`` as ``read_dense`` gives it."""
    import torch

    sizes = [(photo.height, photo.width)]
    name = type(model).__name__
    if "Pose" in name:
        boxes = [[[0.0, 0.0, float(photo.width), float(photo.height)]]]
        with torch.inference_mode():
            result = model(pixel_values=processor(photo, boxes=boxes, return_tensors="pt")["pixel_values"])
        return processor.post_process_pose_estimation(result, boxes=boxes)[0][0]
    if "RfDetr" in name:  # its processor resizes in float, and an engine takes 8 bits: half a grey level reorders boxes
        inputs = processor(Image.fromarray(task.preprocess.apply(photo)), do_resize=False, return_tensors="pt")
    else:
        inputs = processor(photo, return_tensors="pt")
    with torch.inference_mode():
        result = model(pixel_values=inputs["pixel_values"])
    if "Depth" in name:
        return processor.post_process_depth_estimation(result, target_sizes=sizes)[0]
    if "Detection" in name:
        return processor.post_process_object_detection(result, threshold=0.0, target_sizes=sizes)[0]
    if "Eomt" in name:
        result.patch_offsets = [offsets.tolist() for offsets in inputs["patch_offsets"]]
    return processor.post_process_semantic_segmentation(result, target_sizes=sizes)[0]


def check_answer(ours: Any, wanted: Any, size: tuple[int, int]) -> None:
    """Whether an answer is :func:`answer_by_transformers`'s."""
    import torch

    if isinstance(ours, Depth):
        depth = wanted["predicted_depth"].numpy()
        assert np.ptp(depth) > 0
        np.testing.assert_allclose(ours.depth, depth, atol=1e-4 * np.abs(depth).max())
    elif isinstance(ours, Segmentation):
        assert (ours.classes == wanted.numpy()).mean() > 0.9999
        assert ours.labels == tuple(_NAMES.values())
    elif isinstance(ours, Detections):
        order = torch.argsort(-wanted["scores"], stable=True)
        np.testing.assert_array_equal(ours.classes, wanted["labels"][order].numpy())
        np.testing.assert_allclose(ours.scores, wanted["scores"][order].numpy(), atol=1e-5)
        np.testing.assert_allclose(ours.boxes, wanted["boxes"][order].numpy(), atol=1e-4 * max(size))
    else:
        assert isinstance(ours, Poses)
        np.testing.assert_allclose(ours.keypoints[0, :, :2], wanted["keypoints"].numpy(), atol=1e-2)
        np.testing.assert_allclose(ours.keypoints[0, :, 2], wanted["scores"].numpy(), atol=1e-5)
        assert len(ours.edges) == 3
