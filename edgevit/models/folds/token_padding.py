"""A token or two more, where their number suits no block of a matrix product.

oneDNN's int8 kernels cut the rows of a product into equal blocks. 196 patches and a class token are 197 rows, a prime,
and the kernels then take 1.2 times as long as for 198 (measured on an AMD EPYC with AVX512-VNNI, OpenVINO 2026.4: 1.75
against 1.42 ms for six blocks' MLPs and output projections of DeiT-Tiny; likewise 257 and 258, 201 and 203). The tokens
that are put behind the others are copies of the class token. No token reads them, so nothing changes: a constant in the
scores hides them, which the fused attention adds for next to nothing, where slices of keys and values took 4 % of the
time. For INT8 :mod:`edgevit.models.folds.class_token_share` puts shares in its place.

The constant is stated for every head, and all blocks share it. OpenVINO 2026.4's fused attention adds one of as many
numbers as there are keys wrongly wherever it multiplies in bfloat16, and in int8 with AMX
(:mod:`edgevit.engines.openvino_faults`). Stated for every query as well, it would be 470 KB that each attention reads,
and DeiT-Tiny in INT8 would take 1.02 times as long.
"""

from __future__ import annotations

import torch
from torch import nn

from edgevit.core.pass_record import PassRecord, Skip
from edgevit.models.pixels import PixelModel
from edgevit.models.vit import EncoderBlock, ViT

_BLOCKS = range(16, 49)
"""Rows of a block that the kernels are fast with: 198 = 9·22, 203 = 7·29, 258 = 6·43, 145 = 5·29."""
_MOST_TOKENS = 512
"""With more of them an odd block at the end no longer counts: 577 tokens take as long a token as 578."""
_MOST_PADDING = 4
_HIDDEN = -1e4
"""A score that softmax makes zero, and float16 still holds."""


def fold_token_padding(pixels: PixelModel) -> PassRecord:
    """Pad the tokens to the next number that can be cut into equal blocks, in place; exact."""
    name, site, model = "token_padding", "patch_embed", pixels.model
    if not isinstance(model, ViT) or model.config.window_count > 1:
        return PassRecord(name, "module", skipped=(Skip(site, "windows have a fixed number of tokens"),))
    if model.prefix is None:
        reason = "no token is there to copy" if model.positions is not None else "positions are not folded"
        return PassRecord(name, "module", skipped=(Skip(site, reason),))
    if model.config.late_tokens:
        return PassRecord(name, "module", skipped=(Skip(site, "tokens join the others between the blocks"),))
    tokens = model.config.tokens
    padding = count_padding(tokens)
    if padding == 0:
        return PassRecord(name, "module", skipped=(Skip(site, f"{tokens} tokens need none"),))
    if model.config.heads == 1:
        return PassRecord(name, "module", skipped=(Skip(site, "one head: its scores' constant would be broadcast"),))
    model.suffix = model.prefix[:, :1].repeat(1, padding, 1)
    hidden = torch.zeros(tokens + padding).index_fill_(0, torch.arange(tokens, tokens + padding), _HIDDEN)
    mask = hidden.expand(1, model.config.heads, 1, -1).contiguous()
    rotation = model.make_rotation(padding) if model.config.rotates else None
    for block in model.blocks:
        assert isinstance(block, EncoderBlock)
        block.attn.mask = mask
        if (own := block.pos_embed) is not None:
            longer = torch.cat([own, own[:, :1].repeat(1, padding, 1)], dim=1)
            block.pos_embed = nn.Parameter(longer, requires_grad=False)
        block.attn.rotation = rotation
    return PassRecord(name, "module", (site,))


def count_padding(tokens: int) -> int:
    """How many tokens to add so that all can be cut into equal blocks; 0 where it is not worth it."""
    if tokens < _BLOCKS.stop or tokens > _MOST_TOKENS:
        return 0
    for padding in range(_MOST_PADDING + 1):
        if any((tokens + padding) % block == 0 for block in _BLOCKS):
            return padding
    return 0
