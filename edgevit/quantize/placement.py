"""Where each engine library takes Q/DQ, and on which grid: a table of data, because the libraries fuse differently.

Residual adds, LayerNorms and softmax inputs stay float everywhere: quantised residuals take ViTs to 0–5 % top-1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from edgevit.core.errors import RecipeError
from edgevit.core.libraries import LIBRARIES
from edgevit.graph.carried import CARRIED

GridKind: TypeAlias = Literal["u8", "i8", "u8_zero"]
"""``u8``: asymmetric, 0 … 255 with a zero point. ``i8``: symmetric, −127 … 127. ``u8_zero``: 0 … 255, zero point 0."""


# Features behind the way back from a rotation (edgevit.models.folds.residual_rotation), OpenVINO, held-out photos,
# float against INT8. The shared Swin: 44.0, 41.6, 38.3 dB against 37.3, 37.0, 34.1 at 1.02 of the time. DeiT-T: 40.7,
# 30.8, 27.5, 25.2 against 36.7, 30.1, 27.1, 24.8 at 1.00 to 1.04.
_RESTORED = {
    "outlets.*.restore": "features are its result: INT8 would cost decibels and save next to no time",
    f"{CARRIED}*": "it is carried in float: a small Linear, or one of few that surround the encoder",
}


@dataclass(frozen=True)
class Placement:
    """Grids by what reads the tensor.

    Attributes:
        linear: Input of a Linear (per tensor); weights are i8, symmetric, per output channel, everywhere.
        product: Queries, keys and values, as operands of a product of two activations.
        probability: Softmax's output in front of the product with the values.
        image: The uint8 image as the patch embedding's input with scale 1 and zero point 0, which loses nothing; or
            ``None`` where the library takes no unsigned input: the patch embedding then stays float.
        channel_scales: Whether a multiplication by constants in front of Q costs nothing at run time.
        quantize_at: ``producer``: behind the op that computes the tensor, so that reshapes, transposes and Gathers move
            bytes; ``consumer``: at the input of the product itself.
        products: What ``products = "auto"`` of a recipe may quantise in attention.
        gather_rows: Whether heads that change places as bytes do so faster by a Gather of rows
            (:mod:`edgevit.graph.passes.fuse_row_gather`).
        multiply_resize: Whether maps of few channels are enlarged faster by products
            (:mod:`edgevit.graph.passes.multiply_resize`).
        int4_weights: Whether the library runs weights of four bits with float activations.
        smallest_dimension: Matrices with fewer rows or columns stay float, as the kernels are no faster there.
        smallest_rows: Linears of fewer rows a call stay float: they wait for their weights, not for arithmetic.
        apart_token: Whether the class token's MLP may be computed apart: a single row costs little in float.
        float_sites: Patterns of sites that gain nothing by INT8, with the reason.
        paired_weights: Whether neighbouring weights share a limit, so that their products with u8 do not overflow 16
            bits on processors without VNNI (:mod:`edgevit.quantize.methods.weight_pairs`). DeiT-T, OpenVINO, 100
            photos: 28.1 dB on every processor, where full weights have 28.3 with VNNI and 13.8 without; the shared
            Swin: 41.4 and 12.1 without the limit. ONNX Runtime multiplies u8 by u8 there instead.
        transposed_convolutions: Whether those of what surrounds an encoder run in INT8.
    """

    linear: GridKind
    product: GridKind
    probability: GridKind
    image: GridKind | None
    channel_scales: bool
    quantize_at: Literal["producer", "consumer"]
    products: Literal["float", "scores", "both"]
    smallest_dimension: int = 1
    gather_rows: bool = False
    multiply_resize: bool = False
    int4_weights: bool = False
    smallest_rows: int = 1
    apart_token: bool = False
    float_sites: Mapping[str, str] = field(default_factory=lambda: _RESTORED)
    paired_weights: bool = False
    transposed_convolutions: bool = True


# Counted in the layers of TensorRT-RTX 1.7.1 for DeiT-T: the fused attention writes float heads where the next Linear
# reads them, but as bytes only in its own order, and a kernel of its own reorders them: 124 layers with everything in
# INT8, 111 with the attention's output Linear and the Linears of one row in float16.
_TENSORRT = Placement(
    "i8",
    "i8",
    "i8",
    None,
    True,
    "producer",
    "float",
    smallest_dimension=16,
    smallest_rows=2,
    float_sites={"*.attn.proj": "in INT8 a kernel more would put its input in order", **_RESTORED},
    transposed_convolutions=False,  # TensorRT-RTX 1.7.1 gives their Q/DQ kernels of their own, and multiplies in float
)

# OpenVINO: u8 activations with zero points; products of two activations want symmetric operands. A Mul in front of a
# FakeQuantize becomes part of it. TensorRT: zero points must be 0, no unsigned input; K or N below 16 is not worth it.
# ONNX Runtime's CPU kernels multiply u8 by i8; its products of two activations gain nothing from int8.
_BY_NAME: Mapping[str, Placement] = {
    "openvino": Placement(
        "u8",
        "i8",
        "u8_zero",
        "u8_zero",
        True,
        "producer",
        "both",
        gather_rows=True,
        multiply_resize=True,
        int4_weights=True,
        apart_token=True,
        paired_weights=True,
    ),
    "onnxruntime": Placement("u8", "i8", "u8_zero", "u8_zero", False, "producer", "float"),
    "tensorrt": _TENSORRT,
}
PLACEMENTS = {name: _BY_NAME[library.placement] for name, library in LIBRARIES.items()}
"""By engine library."""


def check_weight_bits(bits: int, backend: str) -> None:
    """Raise RecipeError where an engine library does not run weights of so few bits."""
    if bits == 4 and not PLACEMENTS[backend].int4_weights:
        able = [name for name, other in PLACEMENTS.items() if other.int4_weights]
        raise RecipeError(
            f"weight_bits = 4 is not for {backend}", f"engine libraries with 4-bit weights: {', '.join(able)}"
        )
