"""Flax's names and axes, of random parameters and of a timm module's."""

from __future__ import annotations

from typing import Any

import numpy as np

Arrays = dict[str, Any]


def make_arrays(
    width: int, depth: int, heads: int, mlp: int, patch: int, grid: int, classes: int, seed: int = 0
) -> Arrays:
    """Random parameters as Flax names and lays out those of ``vit_jax/models_vit.py``."""
    generator = np.random.default_rng(seed)

    def draw(*shape: int, fan_in: int = 0) -> np.ndarray[Any, Any]:
        scale = 1 / np.sqrt(fan_in) if fan_in else 0.2
        return (scale * generator.standard_normal(shape)).astype(np.float32)

    head = width // heads
    arrays = {
        "cls": draw(1, 1, width),
        "embedding/kernel": draw(patch, patch, 3, width, fan_in=3 * patch * patch),
        "embedding/bias": draw(width),
        "Transformer/posembed_input/pos_embedding": draw(1, 1 + grid * grid, width),
        "Transformer/encoder_norm/scale": 1 + draw(width),
        "Transformer/encoder_norm/bias": draw(width),
        "head/kernel": draw(width, classes, fan_in=width),
        "head/bias": draw(classes),
    }
    for i in range(depth):
        block = f"Transformer/encoderblock_{i}"
        attention = f"{block}/MultiHeadDotProductAttention_1"
        for norm in ("LayerNorm_0", "LayerNorm_2"):
            arrays |= {f"{block}/{norm}/scale": 1 + draw(width), f"{block}/{norm}/bias": draw(width)}
        for part in ("query", "key", "value"):
            arrays[f"{attention}/{part}/kernel"] = draw(width, heads, head, fan_in=width)
            arrays[f"{attention}/{part}/bias"] = draw(heads, head)
        arrays |= {
            f"{attention}/out/kernel": draw(heads, head, width, fan_in=width),
            f"{attention}/out/bias": draw(width),
        }
        arrays[f"{block}/MlpBlock_3/Dense_0/kernel"] = draw(width, mlp, fan_in=width)
        arrays[f"{block}/MlpBlock_3/Dense_0/bias"] = draw(mlp)
        arrays[f"{block}/MlpBlock_3/Dense_1/kernel"] = draw(mlp, width, fan_in=mlp)
        arrays[f"{block}/MlpBlock_3/Dense_1/bias"] = draw(width)
    return arrays


def name_as_jax(module: Any) -> Arrays:
    """A timm ViT's parameters with Flax's names and axes."""
    state = {name: value.numpy() for name, value in module.state_dict().items()}
    heads, width = module.blocks[0].attn.num_heads, module.embed_dim
    arrays = {
        "cls": state["cls_token"],
        "Transformer/posembed_input/pos_embedding": state["pos_embed"],
        "embedding/kernel": state["patch_embed.proj.weight"].transpose(2, 3, 1, 0),
        "embedding/bias": state["patch_embed.proj.bias"],
        "Transformer/encoder_norm/scale": state["norm.weight"],
        "Transformer/encoder_norm/bias": state["norm.bias"],
        "head/kernel": state["head.weight"].T,
        "head/bias": state["head.bias"],
    }
    for i in range(len(module.blocks)):
        block, ours = f"Transformer/encoderblock_{i}", f"blocks.{i}"
        attention = f"{block}/MultiHeadDotProductAttention_1"
        for theirs, norm in (("LayerNorm_0", "norm1"), ("LayerNorm_2", "norm2")):
            arrays[f"{block}/{theirs}/scale"] = state[f"{ours}.{norm}.weight"]
            arrays[f"{block}/{theirs}/bias"] = state[f"{ours}.{norm}.bias"]
        weights, biases = (np.split(state[f"{ours}.attn.qkv.{part}"], 3) for part in ("weight", "bias"))
        for part, weight, bias in zip(("query", "key", "value"), weights, biases, strict=True):
            arrays[f"{attention}/{part}/kernel"] = weight.T.reshape(width, heads, -1)
            arrays[f"{attention}/{part}/bias"] = bias.reshape(heads, -1)
        arrays[f"{attention}/out/kernel"] = state[f"{ours}.attn.proj.weight"].T.reshape(heads, -1, width)
        arrays[f"{attention}/out/bias"] = state[f"{ours}.attn.proj.bias"]
        for theirs, linear in (("Dense_0", "fc1"), ("Dense_1", "fc2")):
            arrays[f"{block}/MlpBlock_3/{theirs}/kernel"] = state[f"{ours}.mlp.{linear}.weight"].T
            arrays[f"{block}/MlpBlock_3/{theirs}/bias"] = state[f"{ours}.mlp.{linear}.bias"]
    return arrays


SMALL: dict[str, int] = {"width": 12, "depth": 2, "heads": 3, "mlp": 20, "patch": 4, "grid": 3, "classes": 5}
