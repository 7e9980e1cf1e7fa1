"""Compute the class token's MLP apart from the patches', in the blocks whose errors reach the head most directly.

A class-token head reads one token, and what is wrong with that token in the last blocks stands in the logits as it is,
while errors of single patches average out in attention. In INT8 one grid serves all tokens, and is as wide as the
patches ask for: quantising the class token's row of the second MLP Linears' input made 42 % of all noise at DeiT-Tiny's
logits. Apart, that row has weights and grids of its own, or stays float, which costs little as it is a single row.

The copies of the class token that :mod:`edgevit.models.folds.token_padding` puts behind the patches get its result.
"""

from __future__ import annotations

import copy

from edgevit.core.pass_record import PassRecord, Skip
from edgevit.models.pixels import PixelModel
from edgevit.models.vit import EncoderBlock, ViT


def fold_class_token_mlp(pixels: PixelModel) -> PassRecord:
    """Split the MLPs of the second half of the blocks, in place; exact.

    The last block is left out, as it is computed only for the class token (:mod:`edgevit.models.folds.last_block`); so
    is the first half, where the same costs as much and wins a tenth as many decibels.
    """
    name, model = "class_token_mlp", pixels.model
    if not isinstance(model, ViT) or model.config.pool != "token":
        return PassRecord(name, "module", skipped=(Skip("head", "the head reads more than the class token"),))
    last = model.blocks[-1]
    assert isinstance(last, EncoderBlock)
    if last.queries is None:
        return PassRecord(name, "module", skipped=(Skip("head", "the last block is not limited to what is read"),))
    first = model.config.depth // 2
    applied = []
    for index, block in enumerate(model.blocks[first:-1], first):
        assert isinstance(block, EncoderBlock)
        block.apart, block.tokens = last.queries, model.config.count_tokens(index)
        # New parameters, so that constants of the two have names of their own in the graph.
        block.token_norm2, block.token_mlp, block.token_ls2 = (
            copy.deepcopy(part) for part in (block.norm2, block.mlp, block.ls2)
        )
        applied.append(f"blocks.{index}.token_mlp")
    return PassRecord(name, "module", tuple(applied))
