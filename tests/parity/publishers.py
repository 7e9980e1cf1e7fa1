"""The files of publishers who keep to themselves: state dicts, training checkpoints, archives. The module is the
publisher's own where a package has it, and otherwise timm's, saved with the publisher's names and containers."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edgevit.core.task import TaskName
from tests.parity.case import Answer, Case, read_inputs, read_outputs
from tests.parity.timm_vit import read_tokens
from tests.support.published.dino import dino_checkpoint, name_as_dinov2, name_as_dinov3
from tests.support.published.jax import name_as_jax
from tests.support.published.mindspore import write_parameter
from tests.support.published.open_clip import build_open_clip, save_folder
from tests.support.published.swin import save_swin as save_swin_file
from tests.support.reference import import_timm, import_torchvision


def _save(content: Any, folder: Path) -> Path:
    torch.save(content, folder / "weights.pth")
    return folder / "weights.pth"


def _read_head(module: Any, pixels: Tensor) -> Tensor:
    """What torchvision's head reads."""
    return read_inputs(module, pixels, module.heads if hasattr(module, "heads") else module.head)[0]


def _read_blocks(module: Any, pixels: Tensor) -> Tensor:
    """What torchvision's middle and last block give, without the class token."""
    layers = module.encoder.layers
    return torch.cat(read_outputs(module, pixels, layers[len(layers) // 2 - 1], layers[-1]), dim=-1)[:, 1:]


def _read_stages(module: Any, pixels: Tensor) -> list[Tensor]:
    """What torchvision's stages give, ``(B, h, w, C)`` there; every second of its parts leads to the next stage."""
    return [out.permute(0, 3, 1, 2) for out in read_outputs(module, pixels, *module.features[1::2])]


def _torchvision(family: str, name: str) -> Case:
    def build() -> Any:
        import_torchvision()
        from torchvision import models

        return getattr(models, name)()

    answers: Mapping[TaskName, Answer] = {
        "classify": lambda module, pixels: module(pixels),
        "embed": _read_head,
        "features": _read_stages if "swin" in name else _read_blocks,
    }
    return Case(family, "torchvision", name, build, lambda module, folder: _save(module.state_dict(), folder), answers)


_TOKENS: Mapping[TaskName, Answer] = {"features": read_tokens}
_LEVELS: Mapping[TaskName, Answer] = {
    "features": lambda module, pixels: module.forward_intermediates(pixels, intermediates_only=True)
}
_CLASSIFY: Mapping[TaskName, Answer] = {
    "classify": lambda module, pixels: module(pixels),
    "embed": lambda module, pixels: module.forward_head(module.forward_features(pixels), pre_logits=True),
}
_EMBED: Mapping[TaskName, Answer] = {"embed": _CLASSIFY["classify"]}


def _timm(
    family: str,
    publisher: str,
    name: str,
    save: Callable[[Any, Path], Path],
    answers: Mapping[TaskName, Answer] = _CLASSIFY,
    change: Callable[[Any], None] | None = None,
    **args: Any,
) -> Case:
    def build() -> Any:
        module: Any = import_timm().create_model(name, **args)
        if change is not None:
            change(module)
        return module

    shown = ", ".join([name, *(f"{key}={value}" for key, value in args.items())])
    features = _LEVELS if "swin" in name else _TOKENS
    return Case(family, publisher, shown, build, save, {**answers, **features})


def _save_model(module: Any, folder: Path) -> Path:
    return _save({"model": module.state_dict(), "epoch": 299, "optimizer": {"state": {}}}, folder)


def _save_deit3(module: Any, folder: Path) -> Path:
    names = {n: n.replace(".ls1.gamma", ".gamma_1").replace(".ls2.gamma", ".gamma_2") for n in module.state_dict()}
    return _save({"model": {names[n]: t for n, t in module.state_dict().items()}}, folder)


def _save_dino(module: Any, folder: Path) -> Path:
    return _save(dino_checkpoint(module, module), folder)


def _save_dinov2(module: Any, folder: Path) -> Path:
    return _save(name_as_dinov2(module.state_dict()), folder)


def _save_dinov3(module: Any, folder: Path) -> Path:
    return _save(name_as_dinov3(module), folder)


def _save_swin(module: Any, folder: Path) -> Path:
    save_swin_file(module, folder / "weights.pth")
    return folder / "weights.pth"


def _save_jax(module: Any, folder: Path) -> Path:
    np.savez(folder / "weights.npz", **name_as_jax(module))
    return folder / "weights.npz"


def _compute_as_mindspore(module: Any) -> None:
    """MindCV's arithmetic: GELU in its tanh form; the epsilon of norms that it leaves to MindSpore."""
    is_swin = hasattr(module, "layers")
    for name, part in list(module.named_modules()):
        if name.endswith("mlp.act"):
            module.set_submodule(name, nn.GELU(approximate="tanh"))
        elif isinstance(part, nn.LayerNorm) and (not is_swin or "downsample" in name):
            part.eps = 1e-7


def _name_as_mindcv(name: str, *, is_swin: bool) -> str:
    for norm in ("norm", "norm1", "norm2"):
        name = name.replace(f"{norm}.weight", f"{norm}.gamma").replace(f"{norm}.bias", f"{norm}.beta")
    if not is_swin:
        return name
    name = name.replace("head.fc.", "classifier.").replace(".relative_position", ".relative_bias.relative_position")
    if not name.startswith("layers."):
        return name
    _, stage, rest = name.split(".", 2)
    number = int(stage) - rest.startswith("downsample")
    return f"0.blocks.{number}.{rest}" if number else f"0.{rest}"


def _save_mindspore(module: Any, folder: Path) -> Path:
    """MindSpore's container with MindCV's names: stages count from the first, whose merging leads to the next."""
    state: dict[str, Tensor] = {}
    for timms, tensor in module.state_dict().items():
        name = _name_as_mindcv(timms, is_swin=hasattr(module, "layers"))
        if "attn.qkv" in name and hasattr(module, "layers"):
            parts = tensor.chunk(3)
            state |= {name.replace("qkv", letter): part for letter, part in zip("qkv", parts, strict=True)}
        else:
            state[name] = tensor
    content = [write_parameter(n, tuple(t.shape), "Float32", t.numpy().tobytes()) for n, t in state.items()]
    (folder / "weights.ckpt").write_bytes(b"".join(content))
    return folder / "weights.ckpt"


def _name_as_keras(name: str, *, kind: str) -> str:
    """KerasHub's path of a timm parameter's layer; the number of its variable follows."""
    if kind == "swin":
        stages = re.sub(r"layers\.(\d+)\.downsample", lambda m: f"layers.{int(m[1]) - 1}.downsample", name)
        path = re.sub(r"layers\.(\d+)", r"layers/swin_transformer_stage_\1", stages)
        path = re.sub(r"blocks\.(\d+)", r"blocks/swin_transformer_block_\1", path)
        path = path.replace("patch_embed", "layers/patch_embedding").replace("head.fc", "layers/dense")
        path = re.sub(r"^norm\.", "layers/layer_normalization.", path)
    else:
        path = re.sub(r"blocks\.(\d+)", rf"layers/{kind}_encoder/encoder_layers/{kind}_encoder_block_\1", name)
        first, second = ("mlp/dense_1", "mlp/dense_2") if kind == "vi_t" else ("mlp/dense", "output_layer/dense")
        path = path.replace("mlp.fc1", first).replace("mlp.fc2", second).replace("attn.proj", "mha/output_dense")
        path = re.sub(r"\.norm([12])", r"/layer_norm_\1", path)
        path = re.sub(r"^norm\.", f"layers/{kind}_encoder/layer_norm.", path).replace("head.", "layers/dense.")
        embedding = "layers/vi_t_patching_and_embedding" if kind == "vi_t" else "layers/dei_t_embeddings"
        path = path.replace("patch_embed.proj", f"{embedding}/patch_embedding")
    return re.sub(r"_0(?=[/.])", "", path).replace(".", "/")


def _save_keras(module: Any, folder: Path) -> Path:
    """Keras' container with KerasHub's names and order of axes."""
    import h5py

    state = module.state_dict()
    kind = "swin" if hasattr(module, "layers") else "dei_t" if "dist_token" in state else "vi_t"
    tokens = {
        "cls_token": "layers/vi_t_patching_and_embedding/vars/0",
        "pos_embed": "layers/vi_t_patching_and_embedding/position_embedding/vars/0",
    }
    if kind == "dei_t":
        tokens = {
            t: f"layers/dei_t_embeddings/vars/{i}" for i, t in enumerate(("cls_token", "dist_token", "pos_embed"))
        }
    with h5py.File(folder / "model.weights.h5", "w") as file:
        for name, tensor in state.items():
            layer, _, what = name.rpartition(".")
            number = int(what == "bias")
            value = tensor.permute(2, 3, 1, 0) if tensor.ndim == 4 else tensor
            if name in tokens:
                file[tokens[name]] = (tensor[0] if kind == "vi_t" and name == "pos_embed" else tensor).numpy()
            elif name.endswith("relative_position_bias_table"):
                file[f"{_name_as_keras(layer, kind=kind)}/vars/0"] = tensor.numpy()
            elif ".qkv." in name and kind != "swin":
                heads = module.blocks[0].attn.num_heads
                for part, letter in zip(tensor.chunk(3), ("query", "key", "value"), strict=True):
                    apart = part.T.unflatten(-1, (heads, -1)) if number == 0 else part.unflatten(0, (heads, -1))
                    block = _name_as_keras(layer.removesuffix(".attn.qkv") + ".x", kind=kind).removesuffix("/x")
                    file[f"{block}/mha/{letter}_dense/vars/{number}"] = apart.numpy()
            elif not name.startswith("head_dist"):
                value = value.T if value.ndim == 2 else value
                if ".attn.proj." in name and kind != "swin" and number == 0:
                    value = value.unflatten(0, (module.blocks[0].attn.num_heads, -1))
                path = _name_as_keras(f"{layer}.x", kind=kind).removesuffix("/x")
                file[f"{path}/vars/{number}"] = value.numpy()
    return folder / "model.weights.h5"


_KERAS_DEIT: Mapping[TaskName, Answer] = {
    "classify": lambda module, pixels: module.head(module.forward_features(pixels)[:, 0]),
    "embed": lambda module, pixels: module.forward_features(pixels)[:, 0],
}


def _read_tower(module: Any, pixels: Tensor) -> Tensor:
    """What the middle and the last block of an open_clip tower give; some towers are timm's."""
    if hasattr(module.visual, "trunk"):
        return read_tokens(module.visual.trunk, pixels)
    blocks = module.visual.transformer.resblocks
    return torch.cat(read_outputs(module.visual, pixels, blocks[len(blocks) // 2 - 1], blocks[-1]), dim=-1)[:, 1:]


def _open_clip(family: str, name: str) -> Case:
    configs: dict[str, Any] = {}

    def build() -> Any:
        module, configs[name] = build_open_clip(name)
        return module

    return Case(
        family,
        "open_clip",
        name,
        build,
        lambda module, folder: save_folder(module, configs[name], folder / "model"),
        {"embed": lambda module, pixels: module.encode_image(pixels), "features": _read_tower},
    )


CASES = (
    _torchvision("ViT", "vit_b_16"),
    _torchvision("ViT", "vit_b_32"),
    _torchvision("ViT", "vit_l_32"),
    *(_torchvision("Swin", f"swin_{size}") for size in "tsb"),
    *(_torchvision("Swin V2", f"swin_v2_{size}") for size in "tsb"),
    _timm("ViT (AugReg)", "JAX (.npz)", "vit_tiny_patch16_224", _save_jax, act_layer="gelu_tanh"),
    _timm("DeiT", "DeiT (.pth)", "deit_tiny_patch16_224", _save_model),
    _timm("DeiT, distilled", "DeiT (.pth)", "deit_tiny_distilled_patch16_224", _save_model),
    _timm("DeiT III", "DeiT (.pth)", "deit3_small_patch16_224", _save_deit3),
    _timm("MAE, fine-tuned", "MAE (.pth)", "vit_base_patch16_224", _save_model, global_pool="avg"),
    _timm("DINO", "DINO (.pth)", "vit_small_patch16_224", _save_dino, _EMBED, num_classes=0),
    _timm("DINOv2", "DINOv2 (.pth)", "vit_small_patch14_dinov2", _save_dinov2, _EMBED, img_size=224),
    _timm(
        "DINOv2, with registers", "DINOv2 (.pth)", "vit_small_patch14_reg4_dinov2", _save_dinov2, _EMBED, img_size=224
    ),
    _timm("DINOv3", "DINOv3 (.pth)", "vit_small_patch16_dinov3_qkvb", _save_dinov3, _EMBED, global_pool="token"),
    _timm(
        "DINOv3, plus (SwiGLU)",
        "DINOv3 (.pth)",
        "vit_small_plus_patch16_dinov3_qkvb",
        _save_dinov3,
        _EMBED,
        global_pool="token",
        depth=4,
    ),
    _timm("Swin", "Swin (.pth)", "swin_tiny_patch4_window7_224", _save_swin),
    _timm("Swin V2", "Swin (.pth)", "swinv2_tiny_window8_256", _save_swin),
    _timm("ViT", "MindSpore (.ckpt)", "vit_base_patch16_224", _save_mindspore, change=_compute_as_mindspore),
    _timm("Swin", "MindSpore (.ckpt)", "swin_tiny_patch4_window7_224", _save_mindspore, change=_compute_as_mindspore),
    _timm("ViT", "Keras (KerasHub)", "vit_tiny_patch16_224", _save_keras),
    _timm("DeiT", "Keras (KerasHub)", "deit_tiny_distilled_patch16_224", _save_keras, _KERAS_DEIT),
    _timm("Swin", "Keras (KerasHub)", "swin_tiny_patch4_window7_224", _save_keras),
    _open_clip("CLIP", "ViT-B-32"),
    _open_clip("CLIP (quick GELU)", "ViT-B-32-quickgelu"),
    _open_clip("SigLIP", "ViT-B-16-SigLIP"),
)
