"""Vision Transformer (Dosovitskiy et al., 2021, arXiv:2010.11929) and what was made of it.

That is DeiT and DeiT III (Touvron et al., arXiv:2012.12877 and 2204.07118), DINO and DINOv2 (arXiv:2104.14294,
2304.07193, with registers 2309.16588), DINOv3, EVA-02 and the Perception Encoder (:mod:`edgevit.models.rotary`), MAE
(arXiv:2111.06377), and the image towers of CLIP (arXiv:2103.00020) and SigLIP (arXiv:2303.15343).

Stated once, in the form that exports best; :mod:`edgevit.checkpoints` maps every publisher's weights onto it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgevit.models.attention_pool import AttentionPool
from edgevit.models.layers import Attention, GatedMlp, LayerScale, Mlp, PatchEmbedding, sincos_positions, to_unit_length
from edgevit.models.rotary import make_rotation_table
from edgevit.models.vit_config import ViTConfig
from edgevit.models.vit_windows import MergedWindows, split_windows

__all__ = ["EncoderBlock", "ViT", "ViTConfig"]


class EncoderBlock(nn.Module):
    """Pre-norm encoder block: ``(B, N, C) → (B, N, C)``, or ``(B, queries, C)`` where ``queries`` is set.

    In front of a block that tokens join it is ``(B, N − Q, C)``.

    ``queries`` is set only on the last block, by :mod:`edgevit.models.folds.last_block`; ``apart``, ``tokens`` and the
    parts whose names begin with ``token_`` by :mod:`edgevit.models.folds.class_token_mlp`.
    """

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        width = config.width
        self.norm1 = nn.LayerNorm(width, eps=config.norm_eps)
        eps, inner_eps, mlp_eps = (
            config.norm_eps if wanted else None for wanted in (config.qk_norm, config.attention_norm, config.mlp_norm)
        )
        self.attn = Attention(width, config.heads, config.qkv_bias, qk_norm_eps=eps, norm_eps=inner_eps)
        self.ls1 = LayerScale(width) if config.layer_scale else nn.Identity()
        self.norm2 = nn.LayerNorm(width, eps=config.norm_eps)
        mlp = GatedMlp if config.gated_mlp else Mlp
        self.mlp: nn.Module = mlp(width, config.mlp_width, config.activation, mlp_eps)
        self.ls2 = LayerScale(width) if config.layer_scale else nn.Identity()
        # (1, N, C), added to all tokens first; set by the model whose blocks have positions of their own.
        self.pos_embed: nn.Parameter | None = None
        # (1, Q, C), put behind the tokens before that; set by the model in front of whose block they join.
        self.late_token: nn.Parameter | None = None
        self.windows = 1  # that attention is within
        self.queries: int | None = None
        self.apart: int | None = None
        self.tokens = 0
        self.token_norm2: nn.Module = nn.Identity()
        self.token_mlp: nn.Module = nn.Identity()
        self.token_ls2: nn.Module = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        if self.late_token is not None:
            x = torch.cat([x, self.late_token.expand(x.shape[0], -1, -1)], dim=1)
        if self.pos_embed is not None:
            x = x + self.pos_embed
        stream = x if self.queries is None else x[:, : self.queries]
        if self.windows == 1:
            attended = self.attn(self.norm1(x), queries=self.queries)
        else:
            inner = x.reshape(-1, x.shape[1] // self.windows, x.shape[2])
            attended = self.attn(self.norm1(inner)).reshape(-1, x.shape[1], x.shape[2])
        x = stream + self.ls1(attended)
        if self.apart is not None:
            return self._split_mlp(x, self.apart)
        x = x + self.ls2(self.mlp(self.norm2(x)))
        return x

    def _split_mlp(self, x: Tensor, apart: int) -> Tensor:
        first, rest, padding = x[:, :apart], x[:, apart : self.tokens], x.shape[1] - self.tokens
        first = first + self.token_ls2(self.token_mlp(self.token_norm2(first)))
        rest = rest + self.ls2(self.mlp(self.norm2(rest)))
        return torch.cat([first, rest, *[first[:, :1]] * padding], dim=1)


class ViT(nn.Module):
    """Vision Transformer: normalised pixels ``(B, 3, H, W) float32 → (B, classes) float32`` logits.

    Without classes the output is what :meth:`readout` gives, ``(B, features)``; with outlets a tuple of what leaves
    there.
    """

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.config = config
        width, classes = config.width, config.classes
        # nn.Module: edgevit.models.folds.patch_linear puts another form of it in its place.
        self.patch_embed: nn.Module = PatchEmbedding(
            config.patch_size, config.in_channels, width, config.patch_bias, pad=False, padding=config.patch_padding
        )
        self.cls_token = _make_tokens(int(config.class_token), width)
        self.dist_token = _make_tokens(int(config.distillation_token), width)
        self.reg_token = _make_tokens(config.register_tokens, width)
        covered = config.position_prefix_tokens
        self.pos_embed: nn.Parameter | None
        if config.position == "rotary":
            self.pos_embed = None
        elif config.position == "sincos":
            self.pos_embed = nn.Parameter(sincos_positions(config.grid, width, covered), requires_grad=False)
        else:
            self.pos_embed = nn.Parameter(torch.zeros(1, covered + config.grid[0] * config.grid[1], width))
        # Set by edgevit.models.folds.position_embedding, which then empties the four above.
        self.register_buffer("prefix", None)
        self.register_buffer("positions", None)
        self.register_buffer("suffix", None)  # set by edgevit.models.folds.token_padding
        self.prefix: Tensor | None
        self.positions: Tensor | None
        self.suffix: Tensor | None
        self.norm_pre = _make_norm(config.norm_before_blocks, width, config.norm_eps)
        self.blocks = nn.ModuleList(EncoderBlock(config) for _ in range(config.depth))
        for index, block in enumerate(self.blocks):
            assert isinstance(block, EncoderBlock)
            if config.block_positions and index:
                block.pos_embed = nn.Parameter(torch.zeros(1, config.count_tokens(index), width))
            if config.late_tokens and index == config.late_block:
                block.late_token = _make_tokens(config.late_tokens, width)
        for index in config.window_blocks:
            windowed = self.blocks[index]
            assert isinstance(windowed, EncoderBlock)
            windowed.windows = config.window_count
        self.norm = _make_norm(config.norm_before_pool, width, config.norm_eps)
        self.attn_pool: AttentionPool | None = None
        if config.pool == "map":
            heads, hidden = config.pool_heads or config.heads, config.pool_mlp_width or config.mlp_width
            self.attn_pool = AttentionPool(width, heads, hidden, config.activation, config.norm_eps)
        self.fc_norm = _make_norm(config.norm_after_pool, config.pooled, config.norm_eps)
        self.projection = (
            nn.Linear(config.pooled, config.projection, bias=config.projection_bias) if config.projection else None
        )
        plain = classes and not config.compares
        self.head: nn.Module = nn.Linear(config.features, classes) if plain else nn.Identity()
        # Apart from the head, which folds take for a reader of what stands in front of it; this one reads directions.
        self.label_head: nn.Linear | None = nn.Linear(config.features, classes) if config.compares else None
        self.head_dist: nn.Module | None = None
        if config.distillation_head:
            self.head_dist = nn.Linear(width, classes) if classes else nn.Identity()
        if config.rotates:
            rotation = self.make_rotation(config.late_tokens)
            for block in self.blocks:
                assert isinstance(block, EncoderBlock)
                block.attn.rotation = rotation
        # By block, where features leave the model instead of logits; filled by edgevit.models.select_task.
        self.outlets = nn.ModuleDict()

    def split_positions(self) -> tuple[Tensor | None, Tensor]:
        """Tokens before the patches with their positions ``(1, P, C)``, and the patches' positions ``(1, N, C)``.

        Where positions are rotary, which the blocks see to, the latter are zeros ``(C,)``.
        """
        tokens: list[Tensor] = [t for t in (self.cls_token, self.dist_token, self.reg_token) if t is not None]
        if self.pos_embed is None:
            nothing = next(self.parameters()).new_zeros(self.config.width)
            return torch.cat(tokens, dim=1) if tokens else None, nothing
        if not tokens:
            return None, self.pos_embed
        prefix, covered = torch.cat(tokens, dim=1), self.config.position_prefix_tokens
        if covered:
            with_positions = prefix[:, :covered] + self.pos_embed[:, :covered]
            prefix = torch.cat([with_positions, prefix[:, covered:]], dim=1)
        return prefix, self.pos_embed[:, covered:]

    def make_rotation(self, suffix_tokens: int = 0) -> Tensor:
        """Rotary positions of all tokens: :func:`edgevit.models.rotary.make_rotation_table`."""
        config = self.config
        return make_rotation_table(
            config.grid,
            config.rotary_periods,
            config.prefix_tokens,
            suffix_tokens,
            config.rotary_start,
            config.rotary_reference,
        )

    def embed(self, pixels: Tensor) -> Tensor:
        """Pixels to what the first block reads: ``(B, 3, H, W) → (B, P + N, C)``."""
        x: Tensor = self.patch_embed(pixels)
        if self.positions is not None:
            prefix = self.prefix
            x = self.norm_pre(x + self.positions)
        else:
            prefix, positions = self.split_positions()
            x = self.norm_pre(x + positions)
            prefix = None if prefix is None else self.norm_pre(prefix)
        if self.config.window_count > 1:
            return split_windows(x, prefix, self.config.grid, self.config.windows)
        if prefix is None:
            return x
        constants = [t.expand(x.shape[0], -1, -1) for t in (prefix, self.suffix) if t is not None]
        return torch.cat([constants[0], x, *constants[1:]], dim=1)

    def encode(self, pixels: Tensor) -> Tensor:
        """Tokens behind the last block, with the norm before pooling: ``(B, 3, H, W) → (B, P + N, C)``."""
        x = self.embed(pixels)
        for block in self.blocks:
            x = block(x)
        normed: Tensor = self.norm(x)
        return normed

    def tap(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """What leaves at the outlets, in the order of the blocks."""
        x = self.embed(pixels)
        features: list[Tensor] = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if str(index) in self.outlets:  # here, not behind the last block, so that tokens need not be kept
                tokens = x if self.suffix is None else x[:, : self.config.count_tokens(index)]
                features.append(self.outlets[str(index)](tokens))
        return tuple(features)

    def pool(self, x: Tensor) -> Tensor:
        """Tokens to one vector: ``(B, P + N, C) → (B, C)``, twice as wide for ``token_mean``."""
        if self.config.pool == "token":
            return x[:, 0]
        if self.config.window_count > 1:
            merged: Tensor = MergedWindows(self.config.prefix_tokens, self.config.grid, self.config.windows)(x)
            return merged.mean(dim=1)
        others = self.config.prefix_tokens or self.config.late_tokens
        patches = x[:, self.config.prefix_tokens : self.config.tokens] if others else x
        if self.attn_pool is not None:
            if self.config.pool_prefix:
                more = self.suffix is not None or self.config.late_tokens
                patches = x[:, : self.config.tokens] if more else x
            pooled: Tensor = self.attn_pool(patches)
            return pooled
        mean = patches.mean(dim=1)
        return mean if self.config.pool == "mean" else torch.cat([x[:, 0], mean], dim=1)

    def readout(self, x: Tensor) -> Tensor:
        """What :meth:`encode` gives to the image's features: pooled, normalised, projected ``(B, features)``."""
        pooled: Tensor = self.fc_norm(self.pool(x))
        if self.head_dist is not None:  # as timm's pre-logits are
            pooled = (pooled + x[:, 1]) / 2
        return pooled if self.projection is None else self.projection(pooled)

    def forward(self, pixels: Tensor) -> Tensor | tuple[Tensor, ...]:
        if len(self.outlets):
            return self.tap(pixels)
        x = self.encode(pixels)
        if isinstance(self.head_dist, nn.Linear):
            logits: Tensor = (self.head(x[:, 0]) + self.head_dist(x[:, 1])) / 2
            return logits
        logits = self.head(self.readout(x))
        return logits if self.label_head is None else self.label_head(to_unit_length(logits))


def _make_tokens(count: int, width: int) -> nn.Parameter | None:
    return nn.Parameter(torch.zeros(1, count, width)) if count else None


def _make_norm(wanted: bool, width: int, eps: float) -> nn.Module:
    return nn.LayerNorm(width, eps=eps) if wanted else nn.Identity()
