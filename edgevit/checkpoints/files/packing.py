"""Linears that a publisher packs into one and the canonical model has apart, or the other way round."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

# Part of a canonical name to its parts, packed along the rows in this order. A publisher's table names either form.
_PARTS: Mapping[str, tuple[str, ...]] = {
    "attn.qkv": ("attn.q", "attn.k", "attn.v"),
    "mlp.gate_fc1": ("mlp.gate", "mlp.fc1"),
    "attn_pool.qkv": ("attn_pool.q", "attn_pool.k", "attn_pool.v"),
    "attn_pool.kv": ("attn_pool.k", "attn_pool.v"),
}
# Tokens and positions, before which publishers leave axes of length 1 out.
_TOKENS = ("cls_token", "dist_token", "reg_token", "pos_embed", "attn_pool.latent")


def match_packing(expected: Mapping[str, Tensor], found: Iterable[str]) -> dict[str, Tensor]:
    """A module's tensors as a publisher stores them.

    Args:
        expected: The module's, by canonical name.
        found: Canonical names that the publisher's were mapped to.
    """
    found = set(found)
    result = dict(expected)
    for packed, parts in _PARTS.items():
        for name in list(result):  # the module has it packed, the file apart
            if match := _split_name(name, packed):
                names = [f"{match[0]}{part}{match[1]}" for part in parts]
                if any(n in found for n in names):
                    rows = result.pop(name).chunk(len(parts))
                    result |= dict(zip(names, rows, strict=True))
        for name in found:  # the file has it packed, the module apart
            if match := _split_name(name, packed):
                names = [f"{match[0]}{part}{match[1]}" for part in parts]
                if all(n in result for n in names):
                    result[name] = torch.cat([result.pop(n) for n in names])
    return result


def match_module(tensors: Mapping[str, Tensor], wanted: Iterable[str]) -> dict[str, Tensor]:
    """What :func:`match_packing` describes, under the module's own names again.

    Args:
        tensors: By canonical name, packed as the publisher packs.
        wanted: The module's names.
    """
    wanted = set(wanted)
    result = dict(tensors)
    for packed, parts in _PARTS.items():
        for name in list(result):
            if name not in wanted and (match := _split_name(name, packed)):
                rows = result.pop(name).chunk(len(parts))
                result |= {f"{match[0]}{part}{match[1]}": r for part, r in zip(parts, rows, strict=True)}
        for name in wanted - result.keys():
            if match := _split_name(name, packed):
                result[name] = torch.cat([result.pop(f"{match[0]}{part}{match[1]}") for part in parts])
    return result


def add_leading_axes(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tokens and positions with the axes of length 1 in front that the canonical ones have."""
    result = dict(found)
    for name in _TOKENS:
        if name in result and name in expected and result[name].ndim < expected[name].ndim:
            value = result[name]
            result[name] = value.reshape((1,) * (expected[name].ndim - value.ndim) + tuple(value.shape))
    return result


def _split_name(name: str, packed: str) -> tuple[str, str] | None:
    """What stands before and behind, where a name has the packed part."""
    match = re.fullmatch(rf"(|.*\.){re.escape(packed)}(\.weight|\.bias)", name)
    return (match[1], match[2]) if match else None
