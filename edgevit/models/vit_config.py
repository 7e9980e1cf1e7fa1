"""ViTConfig: everything that decides a ViT's parameters and arithmetic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from edgevit.core.schema import refuse
from edgevit.models.layers import Activation

_COUNTS = ("classes", "register_tokens", "projection", "late_tokens", "pool_heads", "pool_mlp_width")


@dataclass(frozen=True)
class ViTConfig:
    """A Vision Transformer of any family that :class:`edgevit.models.vit.ViT` states.

    Attributes:
        image_size: Height and width of the input in pixels.
        patch_size: Height and width of a patch in pixels.
        drop_remainder: Whether pixels that fill no whole patch at the right and bottom are left unread; where it is
            false, an image that has any is refused.
        patch_padding: Rows and columns of zeros on either side of the normalised image, of which as much is read as
            fills whole patches (ViTPose).
        mlp_width: Hidden channels; of a gated MLP those of the gate.
        classes: Outputs of the head; 0 for none (the features are the output).
        register_tokens: Learned tokens behind the class token that nothing reads (Darcet et al., arXiv:2309.16588).
        position: How positions are embedded: a learned table; a fixed one of sines and cosines; or none, and every
            block rotates its queries and keys by their places (:mod:`edgevit.models.rotary`).
        rotary_periods: Of rotary positions, those of a quarter of a head's channels, in halves of an image, or where
            patches are counted in patches; also beside a learned table.
        rotary_start: Where they are counted, what the first patch down and across is.
        rotary_reference: Where they are counted, how many there are down and across, whatever the grid; ``None`` for
            as many as the grid has.
        position_prefix: Whether position embeddings cover the class and distillation tokens too.
        position_registers: Whether they cover the registers as well.
        pool: What the head reads: the class token; the mean of the patch tokens; both side by side (DINOv2's
            classifiers); or what a learned query attends to (SigLIP's MAP head).
        pool_prefix: Whether that query attends to the tokens before the patches too (Perception Encoder).
        pool_heads: With how many heads; 0 for those of the blocks.
        pool_mlp_width: Hidden channels of the MLP behind it; 0 for those of the blocks.
        projection: Width of a Linear behind pooling (CLIP); 0 for none.
        projection_bias: Whether it has a bias, as a timm tower's in open_clip.
        distillation_head: A second head on the distillation token; the answer is the mean of both (DeiT).
        block_positions: Whether every block but the first adds positions of its own to all tokens (YOLOS).
        late_tokens: Learned tokens that join the others, behind the patches, in front of one of the blocks (EoMT's
            queries).
        late_block: Which block that is.
        windows: Windows down and across that the stream holds one after the other, each with class token and registers
            of its own (:mod:`edgevit.models.vit_windows`).
        window_blocks: Blocks whose attention is within windows; in the others it is among all tokens.
        norm_before_blocks: LayerNorm between the embedding and the first block (CLIP).
        norm_before_pool: LayerNorm on all tokens before pooling (the usual place).
        norm_after_pool: LayerNorm on the pooled vector (timm's ``fc_norm``).
        layer_scale: A factor for every channel behind attention and MLP.
        qk_norm: LayerNorm on every head's queries and keys.
        compares: Whether the head reads the features divided by their length, so that its outputs are cosines to the
            classes, times a factor (labels by their texts).
        gated_mlp: Two Linears in, one of them a gate (with SiLU: SwiGLU).
        mlp_norm: LayerNorm on an MLP's hidden channels, before its last Linear (EVA-02).
        attention_norm: LayerNorm on what attention gives, before its output projection (EVA-02's CLIP).
        level_norm: Whether the origin puts the last norm on the features of every block (transformers' backbones).
        level_name: What features are counted by.
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
    pool: Literal["token", "mean", "token_mean", "map"] = "token"
    pool_prefix: bool = False
    pool_heads: int = 0
    pool_mlp_width: int = 0
    norm_before_pool: bool = True
    norm_after_pool: bool = False
    norm_eps: float = 1e-6
    activation: Activation = "gelu"
    position: Literal["learned", "sincos", "rotary"] = "learned"
    rotary_periods: tuple[float, ...] = ()
    rotary_start: float | None = None
    rotary_reference: tuple[int, int] | None = None
    register_tokens: int = 0
    position_registers: bool = False
    norm_before_blocks: bool = False
    layer_scale: bool = False
    qk_norm: bool = False
    gated_mlp: bool = False
    mlp_norm: bool = False
    attention_norm: bool = False
    projection: int = 0
    projection_bias: bool = False
    drop_remainder: bool = False
    compares: bool = False
    patch_padding: tuple[int, int] = (0, 0)
    block_positions: bool = False
    late_tokens: int = 0
    late_block: int = 0
    windows: tuple[int, int] = (1, 1)
    window_blocks: tuple[int, ...] = ()
    level_norm: bool = False
    level_name: ClassVar[str] = "block"

    def __post_init__(self) -> None:
        width, image, patch = self.width, self.image_size, self.patch_size
        small = any(i < p for i, p in zip(image, patch, strict=True))
        loose = small or self.drop_remainder or any(self.patch_padding)
        rest = not loose and any(i % p for i, p in zip(image, patch, strict=True))
        wide = any(pad < 0 or pad >= p for pad, p in zip(self.patch_padding, patch, strict=True))
        counts = {name: getattr(self, name) for name in _COUNTS}
        odd, by_token = self.position == "sincos" and width % 4, self.pool in ("token", "token_mean")
        second, registers = self.distillation_head, self.position_registers
        rotary, quarter = self.rotates, width // self.heads / 4
        unlike = rotary and len(self.rotary_periods) != quarter
        windowed = self.windows != (1, 1)
        uneven = any(n < 1 or side % n for n, side in zip(self.windows, self.grid, strict=True))
        strange = windowed and (self.pool not in ("token", "mean") or rotary or self.classes)
        beyond = self.window_blocks and (not windowed or not set(self.window_blocks) <= set(range(self.depth)))
        late = bool(self.late_tokens)
        early = self.late_block != 0 if not late else not 0 < self.late_block < self.depth
        changed = second and (self.pool != "token" or self.norm_after_pool or self.projection)
        refuse(
            (width % self.heads, f"width {width} is not a multiple of {self.heads} heads"),
            (small, f"image size {image} is smaller than the patch size {patch}"),
            (rest, f"image size {image} is not a multiple of the patch size {patch}"),
            (wide, f"a padding of {self.patch_padding} is below 0 or as large as a patch of {patch}"),
            (odd, f"sine/cosine positions need a width that is a multiple of 4, not {width}"),
            *((count < 0, f"{name} is {count}, below 0") for name, count in counts.items()),
            (uneven, f"a grid of {self.grid} patches does not divide into windows of {self.windows}"),
            (strange, "windows go with the class token's answer and with positions that are embedded"),
            (beyond, f"there are no windows, or no blocks {self.window_blocks}, to attend within"),
            (early, f"no tokens join, or not in front of block {self.late_block}, which has to follow another"),
            (windowed and late, "tokens that join the others do not go with windows"),
            (by_token and not self.class_token, "pooling by class token needs a class token"),
            (second and not self.distillation_token, "a distillation head needs a distillation token"),
            (changed, "a distillation head goes with the class token as it is, without another norm or a projection"),
            (unlike, f"rotary positions need {quarter:g} periods, not {len(self.rotary_periods)}"),
            (rotary and not all(period > 0 for period in self.rotary_periods), "a rotary period is not above 0"),
            (rotary and self.qk_norm, "rotary positions and norms of queries and keys are not known together"),
            (
                self.pool_heads and width % self.pool_heads,
                f"width {width} is not a multiple of {self.pool_heads} heads",
            ),
            (self.compares and not self.classes, "a head that compares has classes"),
            (self.compares and second, "a distillation head does not compare"),
            (registers and not self.register_tokens, "positions of registers need registers"),
            (registers and not self.position_prefix, "positions that cover the registers cover the class token too"),
        )

    @property
    def grid(self) -> tuple[int, int]:
        """Patches down and across."""
        sides = zip(self.image_size, self.patch_padding, self.patch_size, strict=True)
        rows, columns = ((side + 2 * pad) // patch for side, pad, patch in sides)
        return rows, columns

    @property
    def level_count(self) -> int:
        """Blocks, behind each of which features can leave."""
        return self.depth

    def level_shape(self, level: int) -> tuple[int, int, int]:
        """Channels, height and width of the feature map of a block."""
        return self.width, *self.grid

    @property
    def prefix_tokens(self) -> int:
        """Tokens before the patches, or before each window's: class, distillation, registers, in this order."""
        return int(self.class_token) + int(self.distillation_token) + self.register_tokens

    @property
    def tokens(self) -> int:
        """Of an image: those before the patches, and the patches; without those that join late."""
        return self.window_count * self.prefix_tokens + self.grid[0] * self.grid[1]

    def count_tokens(self, block: int) -> int:
        """Tokens of an image that a block gives."""
        return self.tokens + (self.late_tokens if block >= self.late_block else 0)

    @property
    def window_count(self) -> int:
        """Windows that the stream holds; 1 for none."""
        return self.windows[0] * self.windows[1]

    @property
    def position_prefix_tokens(self) -> int:
        """How many of them the position embeddings cover."""
        if not self.position_prefix or self.position == "rotary":
            return 0
        return self.prefix_tokens - (0 if self.position_registers else self.register_tokens)

    @property
    def rotates(self) -> bool:
        """Whether positions are rotary, with or without a table of them."""
        return self.position == "rotary" or bool(self.rotary_periods)

    @property
    def pooled(self) -> int:
        """Width of what pooling gives."""
        return 2 * self.width if self.pool == "token_mean" else self.width

    @property
    def features(self) -> int:
        """Width of an image's features, which the head reads and an embedding gives."""
        return self.projection or self.pooled
