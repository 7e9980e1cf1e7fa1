"""Precision by builder flags, for TensorRT before 10.3, which takes no strongly typed network.

The graph is float32 with Q/DQ pairs of float32 scales; ``FP16`` and ``INT8`` allow the builder narrower kernels. What
must not be float16 is pinned layer by layer: nodes whose values leave its range (:mod:`edgevit.graph.half_range`), and
LayerNorms, whose sums of squares do.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any


def create_network(library: Any, builder: Any, *, strongly_typed: bool) -> Any:
    """A network definition; with explicit batch, which TensorRT 8 has to be told."""
    flags = library.NetworkDefinitionCreationFlag
    flag = flags.STRONGLY_TYPED if strongly_typed else flags.EXPLICIT_BATCH
    return builder.create_network(1 << int(flag))


def share_profiles(library: Any, config: Any) -> None:
    """Let several execution contexts of an engine use its one profile, which TensorRT 8.6 has to be asked for.

    Since 10 they may always; a second stream of an engine with a range of batches would otherwise not start.
    """
    feature = getattr(getattr(library, "PreviewFeature", None), "PROFILE_SHARING_0806", None)
    if feature is not None:
        config.set_preview_feature(feature, True)


def allow_precision(library: Any, network: Any, config: Any, precision: str, wide: Collection[str]) -> None:
    """Set the flags of a precision, and pin what has to stay float32.

    A layer of the parsed network has the name of its ONNX node; ``wide`` are names of those that leave float16's range.
    """
    if precision == "fp32":
        return
    config.set_flag(library.BuilderFlag.FP16)
    if precision == "int8":
        config.set_flag(library.BuilderFlag.INT8)
    pinned = [layer for layer in map(network.get_layer, range(network.num_layers)) if _is_pinned(library, layer, wide)]
    for layer in pinned:
        layer.precision = library.float32
        for place in range(layer.num_outputs):
            if layer.get_output(place).dtype in (library.float32, library.float16):  # not the codes of a quantiser
                layer.set_output_type(place, library.float32)
    if pinned:
        config.set_flag(library.BuilderFlag.OBEY_PRECISION_CONSTRAINTS)


def _is_pinned(library: Any, layer: Any, wide: Collection[str]) -> bool:
    if layer.type == library.LayerType.NORMALIZATION:
        return True
    # Constants and what moves them have no arithmetic to pin; Q/DQ layers have the type of their scale.
    movers = (library.LayerType.CONSTANT, library.LayerType.QUANTIZE, library.LayerType.DEQUANTIZE)
    return layer.name in wide and layer.type not in movers
