"""Attention is one function in two forms: torch's fused one, and the operators that engines fuse."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgevit.models.layers import Attention, attend
from tests.support.reference import randomise, relative_error


class _Attend(nn.Module):
    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
        return attend(q, k, v, self.scale, bias)


@pytest.mark.parametrize("scale", [1.0, 0.3])
@pytest.mark.parametrize("bias", [None, (1, 2, 5, 7), (3, 1, 5, 7), (1, 1, 1, 7)], ids=str)
def test_attend_is_the_same_in_torch_and_in_an_export(scale: float, bias: tuple[int, ...] | None) -> None:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(3, 2, tokens, 4, generator=generator) for tokens in (5, 7, 7))
    added = None if bias is None else 3 * torch.randn(bias, generator=generator)
    program = torch.export.export(_Attend(scale), (q, k, v, added))
    called = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert any("softmax" in name for name in called)
    assert not any("scaled_dot_product" in name for name in called)
    expected = functional.scaled_dot_product_attention(q, k, v, attn_mask=added, scale=scale)
    assert relative_error(attend(q, k, v, scale, added), expected) <= 1e-6
    assert relative_error(program.module()(q, k, v, added), expected) <= 1e-6


def test_padded_tokens_are_hidden_with_and_without_a_bias() -> None:
    attention = randomise(Attention(8, 2))
    x = torch.randn(2, 7, 8, generator=torch.Generator().manual_seed(0))
    bias = torch.randn(1, 2, 7, 7, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        for added in (None, bias):
            shorter = attention(x[:, :5], None if added is None else added[..., :5, :5])
            attention.mask = torch.tensor([0.0] * 5 + [-1e4] * 2)
            assert relative_error(attention(x, added)[:, :5], shorter) <= 1e-6
            attention.mask = None
