"""The models of the families benchmark: the smallest of each family at its real size, and where a graph differs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgevit.core.task import Task
from tests.parity import timm_vit, transformers_vit
from tests.support.reference import import_timm, import_torchvision, import_transformers

_DINOV2 = {"hidden_size": 384, "num_attention_heads": 6, "image_size": 224}

_AUTO = Task()


@dataclass(frozen=True)
class FamilyModel:
    """A row of the benchmark.

    Attributes:
        family: As its authors call it.
        publisher: Whose package makes and saves it.
        name: The publisher's name of the model.
        task: What is built.
        options: Of the publisher's constructor.
    """

    family: str
    publisher: str
    name: str
    task: Task = _AUTO
    options: Mapping[str, Any] | None = None

    def __str__(self) -> str:
        shown = [f"{self.publisher} {self.name}", *(f"{key}={value}" for key, value in (self.options or {}).items())]
        return ", ".join(shown) + ("" if self.task.name == "auto" else f" ({self.task.name})")


def build_timm(model: FamilyModel) -> Any:
    """timm's module; the caller gives it weights."""
    return import_timm().create_model(model.name, **(model.options or {}))


def build_transformers(model: FamilyModel) -> Any:
    """transformers' module."""
    transformers = import_transformers()
    kind = getattr(transformers, model.name)
    return kind(kind.config_class(**(model.options or {})))


def build_torchvision(model: FamilyModel) -> Any:
    """torchvision's module."""
    return getattr(import_torchvision().models, model.name)()


def _save_torchvision(module: Any, folder: Path) -> Path:
    import torch

    torch.save(module.state_dict(), folder / "model.pth")
    return folder / "model.pth"


PUBLISHERS: Mapping[str, tuple[Callable[[FamilyModel], Any], Callable[[Any, Path], Path]]] = {
    "timm": (build_timm, timm_vit.save),
    "transformers": (build_transformers, transformers_vit.save),
    "torchvision": (build_torchvision, _save_torchvision),
}
"""How a module is made, and how it is saved into a folder."""

_FEATURES = Task("features")
MODELS = (  # by the time that they take
    FamilyModel("ViT with registers, mean of tokens", "timm", "vit_wee_patch16_reg1_gap_256"),
    FamilyModel("ViT (AugReg)", "timm", "vit_tiny_patch16_224"),
    FamilyModel("DeiT, distilled", "timm", "deit_tiny_distilled_patch16_224"),
    FamilyModel("DeiT III", "timm", "deit3_small_patch16_224"),
    FamilyModel("DINO", "timm", "vit_small_patch16_224.dino", options={"num_classes": 0}),
    FamilyModel("ViT with q/k norm", "timm", "vit_small_patch16_224", options={"qk_norm": True}),
    FamilyModel("ViT, features", "timm", "vit_small_patch16_224", _FEATURES),
    FamilyModel("DINOv2, classifier", "transformers", "Dinov2ForImageClassification", options=_DINOV2),
    FamilyModel("DINOv2, SwiGLU", "transformers", "Dinov2Model", options={**_DINOV2, "use_swiglu_ffn": True}),
    FamilyModel("CLIP", "timm", "vit_base_patch32_clip_224"),
    FamilyModel("CLIP, quick GELU", "transformers", "CLIPVisionModelWithProjection"),
    FamilyModel("Swin", "timm", "swin_tiny_patch4_window7_224"),
    FamilyModel("Swin, features", "timm", "swin_tiny_patch4_window7_224", _FEATURES),
    FamilyModel("Swin V2", "timm", "swinv2_tiny_window8_256"),
    FamilyModel("Swin V2, features", "timm", "swinv2_tiny_window8_256", _FEATURES),
    FamilyModel("Swin V2, window 16", "timm", "swinv2_tiny_window16_256"),
    FamilyModel("Swin V2", "torchvision", "swin_v2_t"),
    FamilyModel("MAE", "timm", "vit_base_patch16_224.mae", options={"num_classes": 0}),
    FamilyModel("SigLIP", "timm", "vit_base_patch16_siglip_224"),
    FamilyModel("DINOv2", "timm", "vit_small_patch14_dinov2"),
    FamilyModel("DINOv2, with registers", "timm", "vit_small_patch14_reg4_dinov2"),
    FamilyModel("EVA-02", "timm", "eva02_tiny_patch14_224", options={"num_classes": 0}),
    FamilyModel("Perception Encoder", "timm", "vit_pe_core_tiny_patch16_384", options={"num_classes": 0}),
    FamilyModel("DINOv3", "timm", "vit_small_patch16_dinov3"),
    FamilyModel("DINOv3", "transformers", "DINOv3ViTModel", options={"num_register_tokens": 4}),
)
