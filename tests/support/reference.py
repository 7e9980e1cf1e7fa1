"""The independent references that tests compare with: timm and transformers, imported so that they load."""

from __future__ import annotations

import contextlib
import functools
import json
import math
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any
from unittest import mock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor, nn
    from torch.utils.flop_counter import FlopCounterMode


_TOKENS = (
    *("token", "tokens", "pos_embed", "pos_embedding", "position_embeddings", "position_embedding.weight"),
    *("class_embedding", "latent", "probe"),
)
_KEPT_FROM = 200_000


def import_torchvision() -> ModuleType:
    """Import torchvision beside torch's CPU build, whose operators its registry wheel does not match."""
    import torch

    original = torch.library.register_fake
    ignore: Any = lambda *args, **kwargs: lambda function: function  # noqa: E731
    torch.library.register_fake = ignore
    try:
        import torchvision
    finally:
        torch.library.register_fake = original
    module: ModuleType = torchvision
    return module


def import_timm() -> ModuleType:
    """Import timm, which imports torchvision."""
    import_torchvision()
    import timm

    module: ModuleType = timm
    return module


def build_timm(name: str, seed: int = 0, **args: Any) -> Any:
    """timm's module of that name with random values in every parameter."""
    with leave_undrawn():
        theirs = import_timm().create_model(name, **args)
    return randomise(theirs, seed)


def import_transformers() -> ModuleType:
    """Import transformers; its image processors import torchvision."""
    import_torchvision()
    import transformers

    module: ModuleType = transformers
    return module


def import_torchmetrics() -> ModuleType:
    """Import torchmetrics, which imports torchvision where it is there."""
    import_torchvision()
    import torchmetrics

    module: ModuleType = torchmetrics
    return module


@contextlib.contextmanager
def leave_undrawn() -> Iterator[None]:
    """A publisher's initial values are zeros: random ones take their place, in every parameter."""
    from torch import Tensor

    with contextlib.ExitStack() as stack:
        for name in ("normal_", "uniform_"):
            stack.enter_context(mock.patch.object(Tensor, name, lambda tensor, *args, **kwargs: tensor.zero_()))
        # of a normal distribution that is cut off
        stack.enter_context(mock.patch.object(Tensor, "erfinv_", lambda tensor: tensor))
        yield


def randomise(module: nn.Module, seed: int = 0) -> Any:
    """Random values for every parameter, so that no term is zero and none drowns the others; evaluation mode."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in module.named_parameters():
            noise = _draw(value.numel(), generator).view(value.shape)
            if name.endswith(_TOKENS):
                value.copy_(0.5 * noise)
            elif "bias_table" in name:
                value.copy_(noise)
            elif value.ndim > 1:
                value.copy_(noise / math.sqrt(value[0].numel()))
            else:  # LayerNorm's gain and layer scale are near 1; LayerNorm's offset and the biases are near 0
                value.copy_(0.2 * noise + float(name.endswith(("weight", "gamma", "lambda1"))))
    return module.eval()


def _draw(count: int, generator: Any) -> Any:
    """Normal values; of large tensors from a few that are drawn once, as drawing takes most of a model's making."""
    import torch

    if count < _KEPT_FROM:
        return torch.randn(count, generator=generator)
    kept = _keep_drawn()
    start = int(torch.randint(len(kept), (), generator=generator))
    return torch.cat([kept[start:], kept.repeat((count + start) // len(kept))])[:count]


@functools.cache
def _keep_drawn() -> Any:
    """A prime number of values: rows of a matrix do not come again."""
    import torch

    return torch.randn(2_097_143, generator=torch.Generator().manual_seed(0))


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    """Largest absolute difference over the reference's largest absolute value."""
    assert ours.shape == theirs.shape
    return float((ours - theirs).abs().max() / theirs.abs().max())


@contextlib.contextmanager
def count_flops() -> Iterator[FlopCounterMode]:
    """torch's own counter, which knows only the fused attention of GPUs: here it is taken apart."""
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        yield counter


def save_deit_as_transformers(asset_dir: Path, out: Path) -> None:
    """``assets/deit_tiny_imagenet`` as a folder that transformers wrote; its processor resizes to 248 and crops 224."""
    transformers = import_transformers()
    from safetensors.torch import load_file

    tensors = load_file(asset_dir / "model.safetensors")
    labels = (asset_dir.parent / "imagenet" / "labels.txt").read_text().splitlines()
    config = transformers.ViTConfig(
        hidden_size=192,
        num_hidden_layers=12,
        num_attention_heads=3,
        intermediate_size=768,
        layer_norm_eps=1e-6,
        id2label=dict(enumerate(labels)),
    )
    renames = {
        "^norm.": "vit.layernorm.",
        "cls_token": "vit.embeddings.cls_token",
        "pos_embed": "vit.embeddings.position_embeddings",
        "patch_embed.proj": "vit.embeddings.patch_embeddings.projection",
        "blocks": "vit.encoder.layer",
        "norm1": "layernorm_before",
        "norm2": "layernorm_after",
        "attn.proj": "attention.output.dense",
        "mlp.fc1": "intermediate.dense",
        "mlp.fc2": "output.dense",
        "^head.": "classifier.",
    }
    converted = {_rename(name, renames): value for name, value in _split_qkv(tensors, "attention.attention").items()}
    _save_as_transformers(transformers.ViTForImageClassification, config, converted, out)
    _save_processor({"shortest_edge": 248}, 224, out)


def save_swin_as_transformers(asset_dir: Path, out: Path) -> None:
    """``assets/swin_imagenette`` as a folder that transformers wrote; its processor squashes to 144 and crops 128."""
    transformers = import_transformers()
    from safetensors.torch import load_file

    tensors = load_file(asset_dir / "model.safetensors")
    labels = json.loads((asset_dir / "config.json").read_text())["label_names"]
    config = transformers.SwinConfig(
        image_size=128,
        window_size=4,
        embed_dim=32,
        depths=[2, 2, 6, 2],
        num_heads=[1, 2, 4, 8],
        id2label=dict(enumerate(labels)),
    )
    renames = {
        "^norm.": "swin.layernorm.",
        "patch_embed.proj": "swin.embeddings.patch_embeddings.projection",
        "patch_embed.norm.": "swin.embeddings.norm.",
        "norm1": "layernorm_before",
        "norm2": "layernorm_after",
        "attn.proj": "attention.output.dense",
        "attn.relative_position_bias_table": "attention.self.relative_position_bias_table",
        "mlp.fc1": "intermediate.dense",
        "mlp.fc2": "output.dense",
        "head.fc.": "classifier.",
    }
    # A stage of timm begins with its merging, one of transformers ends with it.
    renames |= {f"layers.{stage}.downsample": f"layers.{stage - 1}.downsample" for stage in (1, 2, 3)}
    renames["^layers."] = "swin.encoder.layers."
    converted = {_rename(name, renames): value for name, value in _split_qkv(tensors, "attention.self").items()}
    _save_as_transformers(transformers.SwinForImageClassification, config, converted, out)
    _save_processor({"height": 144, "width": 144}, 128, out)


def _rename(name: str, renames: dict[str, str]) -> str:
    """Each rule once: anywhere in the name, or with ``^`` at its beginning."""
    for ours, theirs in renames.items():
        if not ours.startswith("^"):
            name = name.replace(ours, theirs, 1)
        elif name.startswith(ours[1:]):
            name = theirs + name.removeprefix(ours[1:])
    return name


def _split_qkv(tensors: dict[str, Tensor], where: str) -> dict[str, Tensor]:
    apart = {}
    for name, value in tensors.items():
        if "attn.qkv" in name:
            for part, rows in zip(("query", "key", "value"), value.chunk(3), strict=True):
                apart[name.replace("attn.qkv", f"{where}.{part}")] = rows.contiguous()
        else:
            apart[name] = value
    return apart


def _save_as_transformers(kind: Any, config: Any, tensors: dict[str, Tensor], out: Path) -> None:
    """Load version 4's names through transformers' own loader, then let it save."""
    import torch

    out.mkdir(parents=True, exist_ok=True)
    config.save_pretrained(out)
    torch.save(tensors, out / "pytorch_model.bin")
    model, found = kind.from_pretrained(out, output_loading_info=True)
    assert not found["missing_keys"]
    assert not found["unexpected_keys"]
    (out / "pytorch_model.bin").unlink()
    model.save_pretrained(out)


def _save_processor(size: dict[str, int], crop: int, out: Path) -> None:
    transformers = import_transformers()
    processor = transformers.BitImageProcessor(
        size=size,
        crop_size={"height": crop, "width": crop},
        do_center_crop=True,
        resample=3,
        image_mean=[0.485, 0.456, 0.406],
        image_std=[0.229, 0.224, 0.225],
    )
    processor.save_pretrained(out)


def save_timm_folder(module: nn.Module, out: Path) -> None:
    """A hub folder as timm's own code writes it."""
    from timm.models import save_for_hf

    out.mkdir(parents=True)
    save_for_hf(module, str(out), safe_serialization=True)
