"""Compute the last encoder block for the tokens that the head reads.

A class-token head reads one token, and registers stand behind it. Keys and values of the last block are needed for all
tokens; its queries, output projection and MLP are not. That is 10/12 of the block's multiplications where the MLP is
four times as wide.
"""

from __future__ import annotations

from edgevit.core.pass_record import PassRecord, Skip
from edgevit.models.pixels import PixelModel
from edgevit.models.vit import EncoderBlock, ViT

_READERS = {
    "mean": "the head reads the mean of all tokens",
    "token_mean": "the head reads the mean of all tokens beside the class token",
    "map": "the head's attention reads all tokens",
}


def fold_last_block(pixels: PixelModel) -> PassRecord:
    """Limit the last block's queries, in place; exact."""
    name, model = "last_block", pixels.model
    if not isinstance(model, ViT):
        return PassRecord(name, "module", skipped=(Skip("head", "the head reads every token"),))
    site = f"blocks.{model.config.depth - 1}"
    if len(model.outlets):
        return PassRecord(name, "module", skipped=(Skip(site, "features are read from every token"),))
    if model.config.pool != "token":
        return PassRecord(name, "module", skipped=(Skip(site, _READERS[model.config.pool]),))
    last = model.blocks[-1]
    assert isinstance(last, EncoderBlock)
    if last.windows > 1:
        return PassRecord(name, "module", skipped=(Skip(site, "its attention is within windows"),))
    last.queries = 2 if model.head_dist is not None else 1
    return PassRecord(name, "module", (site,))
