"""Whole models of transformers at the sizes that are published, with random weights: what bench_tasks measures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgevit.checkpoints.transformers.open_vocabulary import TEMPLATE
from tests.support.reference import import_transformers, randomise
from tests.support.two_towers import write_clip_tokenizer

_SMALL: dict[str, Any] = {"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6}
_SWIN_TINY: dict[str, Any] = {"window_size": 7, "out_features": ["stage1", "stage2", "stage3", "stage4"]}
_NECK = [48, 96, 192, 384]
_LONGEST = 16  # tokens of OWL-ViT's texts
_DPT_BIAS = 1.5  # 0 in 0.5 % of its places then, as of the random Depth Anything; noise of zeros says nothing


@dataclass(frozen=True)
class TaskModel:
    """A row of the table.

    Attributes:
        name: Key of the results.
        title: For people.
        kind: transformers' class.
        blocks: Attention modules of the encoder.
        size: Height and width of the input.
        make: Config and processor, from the module ``transformers``.
        note: Where the size is not the published one.
        labels: Of a detector that is given them as texts.
    """

    name: str
    title: str
    kind: str
    blocks: int
    size: tuple[int, int]
    make: Callable[[Any, dict[str, int]], tuple[Any, Any]]
    note: str = ""
    labels: tuple[str, ...] = ()

    def save(self, folder: Path) -> Any:
        """Write a folder as transformers does, with its processor; gives the module."""
        transformers = import_transformers()
        config, processor = self.make(transformers, {"height": self.size[0], "width": self.size[1]})
        module = randomise(getattr(transformers, self.kind)(config), seed=1).requires_grad_(False)
        module.set_attn_implementation("eager")
        if hasattr(module, "attn_mask_probs"):  # how often EoMT masks attention in training, which anneals it to never
            module.attn_mask_probs.zero_()
        if self.kind == "DPTForDepthEstimation":  # this seed's last ReLU leaves 0 in 9,999 of 10,000 places
            module.head.head[4].bias += _DPT_BIAS
        module.save_pretrained(folder)
        processor.save_pretrained(folder)
        if self.labels:
            write_clip_tokenizer(folder)
        return module

    def list_inputs(self, folder: Path) -> dict[str, Any]:
        """What the module reads beside the image: the labels' texts as tokens, as transformers fills them up."""
        if not self.labels:
            return {}
        tokenizer = import_transformers().CLIPTokenizer.from_pretrained(folder)
        texts = [TEMPLATE.replace("{}", label) for label in self.labels]
        return dict(tokenizer(texts, padding="max_length", max_length=_LONGEST, return_tensors="pt"))


def _vitpose(t: Any, size: dict[str, int]) -> tuple[Any, Any]:
    backbone = t.VitPoseBackboneConfig(
        **_SMALL | {"num_attention_heads": 12}, image_size=[256, 192], patch_size=[16, 16], out_features=["stage12"]
    )
    return t.VitPoseConfig(backbone_config=backbone, num_labels=17), t.VitPoseImageProcessor(size=size)


def _yolos(t: Any, size: dict[str, int]) -> tuple[Any, Any]:
    config = t.YolosConfig(
        hidden_size=192, num_attention_heads=3, intermediate_size=768, image_size=[800, 1333],
        use_mid_position_embeddings=False, num_labels=91,
    )  # fmt: skip
    return config, t.YolosImageProcessor(size=size)


def _dinov2(t: Any) -> Any:
    return t.Dinov2Config(
        **_SMALL, image_size=518, patch_size=14, out_indices=[3, 6, 9, 12], reshape_hidden_states=False
    )


def _depth_anything(t: Any, size: dict[str, int]) -> tuple[Any, Any]:
    config = t.DepthAnythingConfig(
        backbone_config=_dinov2(t), reassemble_hidden_size=384, patch_size=14, neck_hidden_sizes=_NECK,
        fusion_hidden_size=64, head_hidden_size=32,
    )  # fmt: skip
    return config, t.DPTImageProcessor(size=size, ensure_multiple_of=14)


def _dpt(t: Any, size: dict[str, int]) -> tuple[Any, Any]:
    config = t.DPTConfig(
        backbone_config=_dinov2(t), patch_size=14, hidden_size=384, neck_hidden_sizes=_NECK,
        reassemble_factors=[4, 2, 1, 0.5],
    )  # fmt: skip
    return config, t.DPTImageProcessor(size=size, ensure_multiple_of=14)


def _rf_detr(t: Any, size: dict[str, int]) -> tuple[Any, Any]:
    backbone = t.RfDetrDinov2Config(**_SMALL, image_size=384, patch_size=16, num_windows=2, out_indices=[3, 6, 9, 12])
    config = t.RfDetrConfig(backbone_config=backbone, decoder_layers=2, num_queries=300, num_labels=91)
    return config, t.RfDetrImageProcessor(size=size)


def _upernet(t: Any, size: dict[str, int]) -> tuple[Any, Any]:
    config = t.UperNetConfig(
        backbone_config=t.SwinConfig(**_SWIN_TINY), hidden_size=512, num_labels=150, use_auxiliary_head=False
    )
    return config, t.SegformerImageProcessor(size=size)


def _eomt(t: Any, size: dict[str, int]) -> tuple[Any, Any]:
    config = t.EomtConfig(**_SMALL, image_size=size["height"], num_blocks=3, num_queries=100, num_labels=150)
    return config, t.EomtImageProcessor(
        size={"shortest_edge": size["height"], "longest_edge": None}, do_split_image=True
    )


def _mask2former(t: Any, size: dict[str, int]) -> tuple[Any, Any]:
    config = t.Mask2FormerConfig(backbone_config=t.SwinConfig(**_SWIN_TINY), num_labels=150)
    return config, t.Mask2FormerImageProcessor(size=size)


def _owl_vit(t: Any, size: dict[str, int]) -> tuple[Any, Any]:
    config = t.OwlViTConfig()  # of owlvit-base-patch32
    return config, t.OwlViTImageProcessor(size=size)


MODELS = (
    TaskModel("vitpose_small", "ViTPose small", "VitPoseForPoseEstimation", 12, (256, 192), _vitpose),
    TaskModel(
        "yolos_tiny", "YOLOS tiny", "YolosForObjectDetection", 12, (512, 512), _yolos,
        "published at 800 × 1333; its positions are interpolated",
    ),
    TaskModel(
        "depth_anything_small", "Depth Anything V2 small", "DepthAnythingForDepthEstimation", 12, (308, 308),
        _depth_anything, "published at 518",
    ),
    TaskModel("rf_detr_nano", "RF-DETR nano", "RfDetrForObjectDetection", 12, (384, 384), _rf_detr),
    TaskModel(
        "upernet_swin_tiny", "UperNet on Swin tiny", "UperNetForSemanticSegmentation", 12, (224, 224), _upernet,
        "published at 512",
    ),
    TaskModel(
        "dpt_dinov2_small", "DPT on DINOv2 small", "DPTForDepthEstimation", 12, (224, 224), _dpt, "published at 518"
    ),
    TaskModel("eomt_small", "EoMT small", "EomtForUniversalSegmentation", 12, (512, 512), _eomt),
    TaskModel(
        "mask2former_swin_tiny", "Mask2Former on Swin tiny", "Mask2FormerForUniversalSegmentation", 12, (384, 384),
        _mask2former,
    ),
    TaskModel(
        "owl_vit_base", "OWL-ViT base", "OwlViTForObjectDetection", 12, (768, 768), _owl_vit,
        labels=("tench", "chain saw", "church", "gas pump", "parachute"),
    ),
)  # fmt: skip
"""In the order in which they are measured."""
