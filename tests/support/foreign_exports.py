"""ONNX files as publishers' own code and torch's two exporters write them; small models with random weights."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tests.support.exports_folder import export_once
from tests.support.reference import import_timm, import_torchvision, import_transformers, randomise

if TYPE_CHECKING:
    from edgevit.models.model import Model

Exporter = Literal["dynamo", "script"]
VIT = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 2, "num_heads": 3, "num_classes": 10}
SWIN = {"img_size": 32, "window_size": 4, "embed_dim": 32, "depths": (2, 2), "num_heads": (2, 4), "num_classes": 10}
HF_VIT: dict[str, Any] = {
    "image_size": 32, "patch_size": 8, "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3,
    "intermediate_size": 96, "num_labels": 10, "layer_norm_eps": 1e-6,
}  # fmt: skip
HF_DINO: dict[str, Any] = {**{k: v for k, v in HF_VIT.items() if k != "intermediate_size"}, "mlp_ratio": 2}


def _timm(name: str, **arguments: Any) -> Any:
    return import_timm().create_model(name, **arguments)


def _torchvision_vit() -> Any:
    import_torchvision()
    from torchvision.models.vision_transformer import VisionTransformer

    return VisionTransformer(32, 8, num_layers=2, num_heads=3, hidden_dim=48, mlp_dim=96, num_classes=10)


def _torchvision_swin() -> Any:
    import_torchvision()
    from torchvision.models.swin_transformer import SwinTransformer

    return SwinTransformer([4, 4], 32, [2, 2], [2, 4], [4, 4], num_classes=10)


def _transformers(kind: str, config: str, attention: str = "sdpa", **arguments: Any) -> Any:
    transformers = import_transformers()
    settings = getattr(transformers, config)(attn_implementation=attention, **arguments)
    return getattr(transformers, kind)(settings)


def _pooled(model: Any) -> Any:
    """With only the features of an image as output."""
    import torch

    class Pooled(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, pixels: Any) -> Any:
            return self.model(pixels).pooler_output

    return Pooled()


MODELS: dict[str, Callable[[], Any]] = {
    "timm_vit": lambda: _timm("vit_tiny_patch16_224", **VIT),
    "timm_vit_mean": lambda: _timm(
        "vit_tiny_patch16_224", **VIT, global_pool="avg", class_token=False, init_values=0.1
    ),
    "timm_vit_registers": lambda: _timm("vit_small_patch14_reg4_dinov2", **VIT, mlp_ratio=2),
    "timm_deit_distilled": lambda: _timm("deit_tiny_distilled_patch16_224", **VIT),
    "timm_swin": lambda: _timm("swin_tiny_patch4_window7_224", **SWIN),
    "timm_swin_padded": lambda: _timm("swin_tiny_patch4_window7_224", **{**SWIN, "img_size": 40, "window_size": 3}),
    "torchvision_vit": _torchvision_vit,
    "torchvision_swin": _torchvision_swin,
    "transformers_vit": lambda: _transformers("ViTForImageClassification", "ViTConfig", **HF_VIT),
    "transformers_vit_eager": lambda: _transformers("ViTForImageClassification", "ViTConfig", "eager", **HF_VIT),
    "transformers_vit_quick_gelu": lambda: _transformers(
        "ViTForImageClassification", "ViTConfig", hidden_act="quick_gelu", **HF_VIT
    ),
    "transformers_vit_tanh": lambda: _transformers(
        "ViTForImageClassification", "ViTConfig", hidden_act="gelu_pytorch_tanh", qkv_bias=False, **HF_VIT
    ),
    "transformers_dinov2": lambda: _transformers("Dinov2ForImageClassification", "Dinov2Config", **HF_DINO),
    "transformers_deit_alone": lambda: _transformers("DeiTForImageClassification", "DeiTConfig", **HF_VIT),
    "transformers_deit": lambda: _transformers("DeiTForImageClassificationWithTeacher", "DeiTConfig", **HF_VIT),
    "transformers_swin": lambda: _transformers(
        "SwinForImageClassification", "SwinConfig", image_size=32, patch_size=4, embed_dim=32, depths=[2, 2],
        num_heads=[2, 4], window_size=4, num_labels=10,
    ),
}  # fmt: skip


ROTARY: dict[str, Any] = {**VIT, "img_size": 40}
HF_DINO_3: dict[str, Any] = {
    **{k: v for k, v in HF_VIT.items() if k != "num_labels"}, "image_size": 40, "num_register_tokens": 2,
}  # fmt: skip
TURNED: dict[str, Callable[[], Any]] = {
    "timm_dinov3": lambda: _timm("vit_small_patch16_dinov3", **ROTARY),
    "timm_dinov3_token": lambda: _timm("vit_small_patch16_dinov3_qkvb", **ROTARY, global_pool="token"),
    "timm_rope": lambda: _timm("vit_small_patch16_rope_ape_224", **ROTARY),
    "timm_rope_gap": lambda: _timm("vit_medium_patch16_rope_reg1_gap_256", **ROTARY),
    "transformers_dinov3": lambda: _pooled(_transformers("DINOv3ViTModel", "DINOv3ViTConfig", **HF_DINO_3)),
}
"""Models with rotary positions, of 40 pixels; TorchScript's exporter cannot write timm's."""


@dataclass(frozen=True)
class Export:
    """A file, and the module that it was exported from."""

    path: Path
    module: Any
    size: int


@cache
def build(name: str) -> Any:
    """The publisher's module, with random weights for every parameter."""
    import torch

    torch.manual_seed(0)
    return randomise({**MODELS, **TURNED}[name](), seed=1)


@cache
def export(
    name: str, exporter: Exporter, *, opset: int | None = None, batch: int | None = None, optimize: bool = True
) -> Export:
    """Write a file, once in a run of the tests.

    Args:
        name: Of ``MODELS`` or ``TURNED``.
        exporter: torch's ``dynamo``, or the older one on TorchScript.
        opset: ``None`` for 20 of ``dynamo``, 17 of the older one.
        batch: Images a call; ``None`` leaves it open.
        optimize: Whether ``dynamo``'s exporter folds constants and fuses behind itself.
    """
    module = build(name)
    size = 40 if name in ("timm_swin_padded", *TURNED) else 32
    write = partial(_export, module, size, exporter, opset, batch, optimize)
    return Export(export_once(f"{name}-{exporter}-{opset}-{batch}-{optimize}.onnx", write), module, size)


def _export(
    module: Any, size: int, exporter: Exporter, opset: int | None, batch: int | None, optimize: bool, path: Path
) -> None:
    import torch

    image = torch.randn(batch or 2, 3, size, size)
    # torchvision's attention goes through a kernel that neither exporter knows, unless told not to.
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with silence():
            if exporter == "dynamo":
                shapes = ({0: torch.export.Dim("batch", min=1, max=64)},) if batch is None else None
                torch.onnx.export(
                    module, (image,), path, dynamo=True, external_data=False, dynamic_shapes=shapes, verbose=False,
                    input_names=["image"], opset_version=opset, optimize=optimize,
                )  # fmt: skip
            else:
                axes = {"image": {0: "batch"}, "logits": {0: "batch"}} if batch is None else None
                torch.onnx.export(
                    module, (image,), path, dynamo=False, opset_version=opset or 17, dynamic_axes=axes,
                    input_names=["image"], output_names=["logits"],
                )  # fmt: skip
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


@cache
def read(name: str, exporter: Exporter, *, batch: int | None = None) -> Model:
    """What the reader makes of a file; for tests that change nothing of it."""
    from edgevit.checkpoints import read_checkpoint

    return read_checkpoint(export(name, exporter, batch=batch).path)


OPTIMUM_AXES = {
    "pixel_values": {0: "batch_size", 1: "num_channels", 2: "height", 3: "width"},
    "logits": {0: "batch_size"},
}


@cache
def export_as_optimum(name: str) -> Export:
    """Write a file as Optimum 2.1 does: TorchScript, opset 18, and everything but the logits' length is open.

    ``optimum/exporters/onnx/convert.py`` calls torch's exporter so for ViT, DeiT, Swin and DINOv2; its optimiser runs
    only on request.
    """
    import torch

    module = build(name)

    def write(path: Path) -> None:
        with silence():
            torch.onnx.export(
                module, ({"pixel_values": torch.randn(2, 3, 32, 32)},), str(path), dynamo=False, opset_version=18,
                do_constant_folding=True, dynamic_axes=OPTIMUM_AXES, input_names=["pixel_values"],
                output_names=["logits"],
            )  # fmt: skip

    return Export(export_once(f"{name}-optimum.onnx", write), module, 32)


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """What exporters print and warn."""
    level = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def export_asset(folder: Path, out: Path, exporter: Exporter) -> Path:
    """Write a timm folder's model with its weights, and its preprocessing beside it, into ``out``."""
    import torch

    module = import_timm().create_model(f"local-dir:{folder}", pretrained=True).eval()
    image = torch.randn(1, *module.pretrained_cfg["input_size"])
    path = out / f"{folder.name}.onnx"
    with silence():
        if exporter == "dynamo":
            torch.onnx.export(module, (image,), path, dynamo=True, verbose=False)  # weights in a file beside it
        else:
            torch.onnx.export(module, (image,), path, dynamo=False, opset_version=17)
    (out / "config.json").write_text((folder / "config.json").read_text())
    return path


def export_transformers(folder: Path, out: Path, exporter: Exporter) -> Path:
    """Write a transformers folder's classifier with its weights, and its configurations beside it, into ``out``."""
    import torch

    module = import_transformers().AutoModelForImageClassification.from_pretrained(folder).eval()
    size = module.config.image_size
    image = torch.randn(1, 3, size, size)
    out.mkdir()
    path = out / "model.onnx"
    with silence():
        if exporter == "dynamo":
            torch.onnx.export(module, (image,), path, dynamo=True, verbose=False)
        else:
            torch.onnx.export(
                module, (image,), str(path), dynamo=False, opset_version=17, input_names=["pixel_values"],
                output_names=["logits"],
            )  # fmt: skip
    for name in ("config.json", "preprocessor_config.json"):
        (out / name).write_text((folder / name).read_text())
    return path
