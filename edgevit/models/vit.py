"""Vision Transformer (Dosovitskiy et al., 2021, arXiv:2010.11929) and DeiT (Touvron et al., 2021, arXiv:2012.12877).

Stated once, in the form that exports best; :mod:`edgevit.checkpoints` maps every publisher's weights onto it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from edgevit.models.layers import Attention, Mlp, PatchEmbedding, sincos_positions


@dataclass(frozen=True)
class ViTConfig:
    """Everything that decides a ViT's parameters and arithmetic.

    Attributes:
        image_size: Height and width of the input in pixels.
        patch_size: Height and width of a patch in pixels.
        classes: Outputs of the head; 0 for none (the pooled features are the output).
        position: How positions are embedded: a learned table, or a fixed one of sines and cosines.
        position_prefix: Whether position embeddings cover the class and distillation tokens too.
        pool: What the head reads: the class token, or the mean of the patch tokens.
        distillation_head: A second head on the distillation token; the answer is the mean of both (DeiT).
        norm_before_pool: LayerNorm on all tokens before pooling (the usual place).
        norm_after_pool: LayerNorm on the pooled vector (timm's ``fc_norm``).
    """

    image_size: tuple[int, int] = (224, 224)
    patch_size: tuple[int, int] = (16, 16)
    in_channels: int = 3
    width: int = 768
    depth: int = 12
    heads: int = 12
    mlp_width: int = 3072
    classes: int = 1000
    qkv_bias: bool = True
    patch_bias: bool = True
    class_token: bool = True
    distillation_token: bool = False
    distillation_head: bool = False
    position_prefix: bool = True
    pool: Literal["token", "mean"] = "token"
    norm_before_pool: bool = True
    norm_after_pool: bool = False
    norm_eps: float = 1e-6
    activation: Literal["gelu", "gelu_tanh", "relu"] = "gelu"
    position: Literal["learned", "sincos"] = "learned"

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of {self.heads} heads")
        if any(i < p or i % p for i, p in zip(self.image_size, self.patch_size, strict=True)):
            raise ValueError(f"image size {self.image_size} is not a multiple of the patch size {self.patch_size}")
        if self.pool == "token" and not self.class_token:
            raise ValueError("pooling by class token needs a class token")
        if self.position == "sincos" and self.width % 4:
            raise ValueError(f"sine/cosine positions need a width that is a multiple of 4, not {self.width}")
        if self.distillation_head and not self.distillation_token:
            raise ValueError("a distillation head needs a distillation token")

    @property
    def grid(self) -> tuple[int, int]:
        """Patches down and across."""
        return self.image_size[0] // self.patch_size[0], self.image_size[1] // self.patch_size[1]

    @property
    def prefix_tokens(self) -> int:
        """Tokens ahead of the patches."""
        return int(self.class_token) + int(self.distillation_token)


class EncoderBlock(nn.Module):
    """Pre-norm encoder block: ``(B, N, C) → (B, N, C)``, or ``(B, queries, C)`` where ``queries`` is set.

    ``queries`` is set on the last block alone, by :mod:`edgevit.folds.last_block`.
    """

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.attn = Attention(config.width, config.heads, config.qkv_bias)
        self.norm2 = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.mlp = Mlp(config.width, config.mlp_width, config.activation)
        self.queries: int | None = None

    def forward(self, x: Tensor) -> Tensor:
        stream = x if self.queries is None else x[:, : self.queries]
        x = stream + self.attn(self.norm1(x), queries=self.queries)
        x = x + self.mlp(self.norm2(x))
        return x


class ViT(nn.Module):
    """Vision Transformer: normalised pixels ``(B, 3, H, W) float32 → (B, classes) float32`` logits."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.patch_embed = PatchEmbedding(config.patch_size, config.in_channels, width, config.patch_bias)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width)) if config.class_token else None
        self.dist_token = nn.Parameter(torch.zeros(1, 1, width)) if config.distillation_token else None
        prefix = config.prefix_tokens if config.position_prefix else 0
        self.pos_embed: nn.Parameter | None
        if config.position == "sincos":
            self.pos_embed = nn.Parameter(sincos_positions(config.grid, width, prefix), requires_grad=False)
        else:
            self.pos_embed = nn.Parameter(torch.zeros(1, prefix + config.grid[0] * config.grid[1], width))
        # Set by edgevit.folds.position_embedding, which then empties the three above.
        self.register_buffer("prefix", None)
        self.register_buffer("positions", None)
        self.prefix: Tensor | None
        self.positions: Tensor | None
        self.blocks = nn.ModuleList(EncoderBlock(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(width, eps=config.norm_eps) if config.norm_before_pool else nn.Identity()
        self.fc_norm = nn.LayerNorm(width, eps=config.norm_eps) if config.norm_after_pool else nn.Identity()
        self.head = nn.Linear(width, config.classes) if config.classes else nn.Identity()
        self.head_dist = nn.Linear(width, config.classes) if config.distillation_head else None

    def embed(self, pixels: Tensor) -> Tensor:
        """Pixels to tokens with positions: ``(B, 3, H, W) → (B, N, C)``."""
        x: Tensor = self.patch_embed(pixels)
        if self.positions is not None:
            x = x + self.positions
            if self.prefix is None:
                return x
            return torch.cat([self.prefix.expand(x.shape[0], -1, -1), x], dim=1)
        assert self.pos_embed is not None
        tokens = [t.expand(x.shape[0], -1, -1) for t in (self.cls_token, self.dist_token) if t is not None]
        if self.config.position_prefix:
            return torch.cat([*tokens, x], dim=1) + self.pos_embed
        return torch.cat([*tokens, x + self.pos_embed], dim=1)

    def pool(self, x: Tensor) -> Tensor:
        """Tokens to what the head reads: ``(B, N, C) → (B, C)``."""
        if self.config.pool == "token":
            return x[:, 0]
        return x[:, self.config.prefix_tokens :].mean(dim=1)

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.embed(pixels)
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        logits: Tensor = self.head(self.fc_norm(self.pool(x)))
        if self.head_dist is not None:
            logits = (logits + self.head_dist(x[:, 1])) / 2
        return logits
