"""Ways to state the same multi-head attention, for :mod:`benchmarks.bench_forms`: one function, different ONNX.

The canonical form is ``packed, Split`` with the scale folded into the queries' weights. The others are how published
models state it: timm permutes five axes, torchvision calls ``scaled_dot_product_attention``, transformers has three
Linears and divides the scores, older BERT-like code flattens batch and heads to rank 3.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from torch import Tensor, nn
from torch.nn import functional as F

from edgevit.core.target import ExportForm
from edgevit.models.layers import Attention, split_heads
from edgevit.models.model import Model
from edgevit.models.pixels import copy_structure

Heads: TypeAlias = tuple[Tensor, Tensor, Tensor]
"""Queries, keys and values, ``(B, A, N, D)`` each."""


@dataclass(frozen=True)
class Form:
    """One way to state attention.

    Attributes:
        projection: Key of :data:`PROJECTIONS`, or ``separate``: three Linears.
        scale: ``folded`` into the queries' weights, or a key of :data:`SCALES`.
        product: Key of :data:`PRODUCTS`.
    """

    projection: str = "packed, Split"
    scale: str = "folded"
    product: str = "MatMul"

    @property
    def name(self) -> str:
        return f"{self.projection} | scale {self.scale} | {self.product}"

    def change(self, form: ExportForm) -> ExportForm:
        """A target's export form with what this one asks of the folds."""
        return dataclasses.replace(
            form,
            qkv="separate" if self.projection == "separate" else "packed",
            fold_attention_scale=self.scale == "folded",
        )


def _split(attn: Attention, packed: Tensor) -> Heads:
    q, k, v = split_heads(packed, 3 * attn.heads).split(attn.heads, dim=1)
    return q, k, v


def _slice(attn: Attention, packed: Tensor) -> Heads:
    heads, many = split_heads(packed, 3 * attn.heads), attn.heads
    return heads[:, :many], heads[:, many : 2 * many], heads[:, 2 * many :]


def _permute(attn: Attention, packed: Tensor) -> Tensor:
    batch, tokens, _ = packed.shape
    return packed.reshape(batch, tokens, 3, attn.heads, attn.head_width).permute(2, 0, 3, 1, 4)  # (3, B, A, N, D)


def _permute_unbind(attn: Attention, packed: Tensor) -> Heads:
    q, k, v = _permute(attn, packed).unbind(0)
    return q, k, v


def _permute_gather(attn: Attention, packed: Tensor) -> Heads:
    five = _permute(attn, packed)
    return five[0], five[1], five[2]


def _split_channels(attn: Attention, packed: Tensor) -> Heads:
    q, k, v = (split_heads(part, attn.heads) for part in packed.chunk(3, dim=-1))
    return q, k, v


PROJECTIONS: dict[str, Callable[[Attention, Tensor], Heads]] = {
    "packed, Split": _split,
    "packed, Slice": _slice,
    "packed, five axes, Split": _permute_unbind,
    "packed, five axes, Gather": _permute_gather,
    "packed, Split of channels": _split_channels,
}
"""What makes heads of a packed Linear's result ``(B, N, 3·A·D)``."""


def _plain(q: Tensor, k: Tensor, bias: Tensor | None, after: Callable[[Tensor], Tensor]) -> Tensor:
    scores = after(q @ k.transpose(-2, -1))
    return (scores if bias is None else scores + bias).softmax(dim=-1)


def _keep(scores: Tensor) -> Tensor:
    return scores


def _multiply(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, after: Callable[[Tensor], Tensor]) -> Tensor:
    return _plain(q, k, bias, after) @ v


def _multiply_flat(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, after: Callable[[Tensor], Tensor]) -> Tensor:
    """Batch and heads in one axis: ``(B·A, N, D)``."""
    if bias is not None:
        bias = bias.expand(q.shape[0], q.shape[1], -1, -1).flatten(0, 1)
    out = _plain(q.flatten(0, 1), k.flatten(0, 1), bias, after) @ v.flatten(0, 1)
    return out.unflatten(0, q.shape[:2])


def _multiply_transposed(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, after: Callable[[Tensor], Tensor]
) -> Tensor:
    """The scores of keys by queries, as some exporters turn them."""
    scores = after((k @ q.transpose(-2, -1)).transpose(-2, -1))
    return (scores if bias is None else scores + bias).softmax(dim=-1) @ v


def _attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, after: Callable[[Tensor], Tensor]) -> Tensor:
    """torch's own, which its exporter takes apart below opset 23; it then has √scale on queries and on keys."""
    del after
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=1.0)


PRODUCTS: dict[str, Callable[..., Tensor]] = {
    "MatMul": _multiply,
    "MatMul of rank 3": _multiply_flat,
    "scores turned": _multiply_transposed,
    "scaled_dot_product_attention": _attend,
}

SCALES: dict[str, Callable[[Tensor, Tensor, float], tuple[Tensor, Tensor, Callable[[Tensor], Tensor]]]] = {
    "on q": lambda q, k, s: (q * s, k, _keep),
    "on k": lambda q, k, s: (q, k * s, _keep),
    "√ on q and k": lambda q, k, s: (q * math.sqrt(s), k * math.sqrt(s), _keep),
    "on the scores": lambda q, k, s: (q, k, lambda scores: scores * s),
    "divides the scores": lambda q, k, s: (q, k, lambda scores: scores / (1 / s)),
}
"""Queries, keys and the scale to queries, keys, and what is done to the scores."""

FORMS: tuple[Form, ...] = (
    *(Form(projection) for projection in (*PROJECTIONS, "separate")),
    *(Form(projection, scale) for projection in ("packed, Split", "separate") for scale in SCALES),
    Form("packed, five axes, Split", "on q"),  # timm
    *(Form(product=product) for product in PRODUCTS if product != "MatMul"),
)


class StatedAttention(Attention):
    """An attention in one of the forms; made by :func:`restate_attention`."""

    form: Form

    def project(self, x: Tensor, queries: int | None) -> Heads:
        if self.qkv is None:
            return super().project(x, queries)
        q, k, v = PROJECTIONS[self.form.projection](self, self.qkv(x))
        return self.q_norm(q if queries is None else q[:, :, :queries]), self.k_norm(k), v

    def forward(
        self,
        x: Tensor,
        bias: Tensor | None = None,
        queries: int | None = None,
        arrange: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:
        q, k, v = self.project(x, queries)
        after: Callable[[Tensor], Tensor] = _keep
        if self.scale != 1.0:
            q, k, after = SCALES[self.form.scale](q, k, self.scale)
        out = PRODUCTS[self.form.product](q, k, v, bias, after).transpose(1, 2).flatten(2)
        out = self.proj(out if arrange is None else arrange(out))
        return out


def restate_attention(model: Model, form: Form) -> Model:
    """The model with every attention in the form; the weights are shared.

    Raises:
        ValueError: A token mask, which these forms do not have.
    """
    module = copy_structure(model.module)
    for path, attention in list(module.named_modules()):
        if not isinstance(attention, Attention):
            continue
        if attention.mask is not None:
            raise ValueError(f"{path} has padded tokens")
        stated = StatedAttention.__new__(StatedAttention)
        nn.Module.__init__(stated)
        stated.__dict__.update(attention.__dict__)
        stated.form = form
        owner, _, name = path.rpartition(".")
        setattr(module.get_submodule(owner), name, stated)
    return dataclasses.replace(model, module=module)
