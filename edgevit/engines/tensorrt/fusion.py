"""What TensorRT's compiler made of a graph, read from its own list of layers: the proof that attention was fused.

The compiler lists every layer of an engine with the ONNX nodes behind it. Sites keep their names through edgevit's
stages, so a layer says which sites it computes; a kernel that holds a block's ``scores`` and ``context`` is its
attention in one piece.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgevit.core.report.fusion_record import FusionRecord
from edgevit.graph.graph import SITE_OPS, producer_of
from edgevit.graph.moves import MOVING_OPS

if TYPE_CHECKING:
    import onnx_ir as ir

    from edgevit.graph.graph import SITE_OPS, Graph

_LAYER = re.compile(r"^Name: (?P<name>.*?), LayerType: (?P<kind>\w+), (?P<rest>.*)$", re.MULTILINE)
_NODE = re.compile(r"\[ONNX Layer: ([^\]]*)\]")
# A word, or before TensorRT 10 a phrase: "Thirty-two wide channel vectorized row major Int8 format".
_TYPE = re.compile(r"Datatype: ([^,}]*)")
_TYPES = {
    "Float": "fp32",
    "FP32": "fp32",
    "Half": "fp16",
    "FP16": "fp16",
    "BFloat16": "bf16",
    "BF16": "bf16",
    "Int8": "int8",
    "UInt8": "uint8",
    "FP8": "fp8",
}
QUANTIZED = ("fp8", "int8")
_MOVING_KINDS = ("kgen", "Reformat", "Shuffle")
_OPAQUE = "Myelin"  # a whole subgraph in one line, before TensorRT 10
_NARROW = ("fp8", "int8", "bf16", "fp16", "fp32")  # a kernel is called by the narrowest type that it multiplies


@dataclass(frozen=True)
class EngineLayer:
    """One kernel of an engine.

    Attributes:
        name: The compiler's.
        kind: The compiler's word: ``gemm``, ``kgen`` (generated), ``runtime_fusion``, ``correlation`` (a convolution).
        operands: Types that it reads: activations and constants.
        results: Types that it writes.
        nodes: Names of the ONNX nodes that it computes, or a part of.
    """

    name: str
    kind: str
    operands: tuple[str, ...]
    results: tuple[str, ...]
    nodes: tuple[str, ...]


def read_layers(log: str) -> tuple[EngineLayer, ...]:
    """The layers of the compiler's message that begins with ``Layers:`` (detailed profiling verbosity).

    TensorRT's words have changed: 8 says only in a layer's name which nodes it computes, later ones in ``Metadata``;
    types are words since 10, and have a field of their own since 11 and in TensorRT-RTX.
    """
    found = []
    for match in _LAYER.finditer(log):
        before, _, after = match["rest"].partition("Outputs: [")
        results, _, metadata = after.partition("Metadata:")
        named = _NODE.findall(metadata) if "Metadata:" in after else match["name"].split(" + ")
        nodes = tuple(dict.fromkeys(named))
        found.append(EngineLayer(match["name"], match["kind"], _read_types(before), _read_types(results), nodes))
    return tuple(found)


def read_types(graph: Graph) -> dict[str, str]:
    """What each product of a typed graph multiplies, by node: ``int8`` or ``fp8`` where Q/DQ pairs say so."""
    found = {}
    for node in graph.model.graph:
        if node.op_type not in SITE_OPS:
            continue
        kinds = [_read_kind(value) for value in node.inputs[:2]]
        narrow = next((kind for kind in kinds if kind in QUANTIZED and kinds == [kind, kind]), None)
        floats = [v.dtype for v in node.inputs[:2] if v is not None and v.dtype is not None]
        names = {"FLOAT": "fp32", "FLOAT16": "fp16", "BFLOAT16": "bf16"}
        wide = next((names[kind.name] for kind in floats if kind.name in names), None)
        kind = narrow or wide
        if kind is not None:
            found[node.name or ""] = kind
    return found


def _read_kind(value: ir.Value | None) -> str | None:
    """The type of a dequantised operand's codes, through ops that move numbers."""
    producer = producer_of(value)
    while producer is not None and producer.op_type in MOVING_OPS:
        producer = producer_of(producer.inputs[0])
    if producer is None or producer.op_type != "DequantizeLinear" or producer.inputs[0] is None:
        return None
    codes = producer.inputs[0].dtype
    return {"INT8": "int8", "FLOAT8E4M3FN": "fp8"}.get(codes.name) if codes is not None else None


def prove_fusion(
    layers: Sequence[EngineLayer],
    op_types: Mapping[str, str],
    compiler: str,
    device: str,
    types: Mapping[str, str] | None = None,
) -> FusionRecord:
    """Find every site of a graph in the layers that were made from it.

    Args:
        layers: What :func:`read_layers` found.
        op_types: The graph's nodes by name.
        compiler: Library and version.
        device: What it was compiled for.
        types: What the graph says that each product multiplies (:func:`read_types`). A strongly typed engine may not
            depart from it but for products with Q/DQ pairs, which it may compute in the type around them.
    """
    homes: dict[str, list[EngineLayer]] = {}
    for layer in layers:
        for node in layer.nodes:
            homes.setdefault(node, []).append(layer)
    fused, unfused, hidden = {}, [], 0
    opaque = sum(layer.kind == _OPAQUE for layer in layers)
    for name in op_types:
        if not name.endswith("/scores"):
            continue
        path = name.removesuffix("/scores")
        wanted = {name, f"{path}/softmax", f"{path}/context"} & set(op_types)
        whole = [layer for layer in homes.get(name, ()) if wanted <= set(layer.nodes)]
        if whole:
            fused[path] = _name_type(whole[0].operands)
        elif opaque and name not in homes:
            hidden += 1
        else:
            unfused.append(path)
    linears = [n for n, op in op_types.items() if op in SITE_OPS and not n.endswith(("/scores", "/context"))]
    found = {n: _find_type(homes[n], (types or {}).get(n)) for n in linears if n in homes}
    widened = [n for n, kind in found.items() if (types or {}).get(n) in QUANTIZED and kind != (types or {})[n]]
    counts = Counter(found.values())
    unknown = (
        f"{compiler} does not say what {opaque} of its layers computes, so {hidden} blocks of attention may be fused "
        "or not"
    )
    return FusionRecord(
        compiler=compiler,
        device=device,
        layers=len(layers),
        attention=fused,
        unfused_attention=tuple(unfused),
        products={kind: counts[kind] for kind in _NARROW if counts[kind]},
        widened=tuple(widened),
        unfused_quantizers=_find_alone(layers, op_types, ("QuantizeLinear", "DequantizeLinear"), least=1),
        moves=_find_alone(layers, op_types, (), least=0),
        casts=_find_alone(layers, op_types, ("Cast",), least=1),
        notes=(unknown,) if hidden else (),
    )


def _read_types(text: str) -> tuple[str, ...]:
    phrases = [phrase.split() for phrase in _TYPE.findall(text)]
    return tuple(next((_TYPES[w] for w in words if w in _TYPES), " ".join(words).lower()) for words in phrases)


def _name_type(types: Sequence[str]) -> str:
    return next((kind for kind in _NARROW if kind in types), "unknown")


def _find_type(layers: Sequence[EngineLayer], stated: str | None) -> str:
    """What a Linear multiplies: what the graph states where it is float, else what its kernel reads."""
    if stated is not None and stated not in QUANTIZED:
        return stated
    return _name_type(_find_multiplier(layers).operands)


def _find_multiplier(layers: Sequence[EngineLayer]) -> EngineLayer:
    """Of the layers of one Linear the one that multiplies: others add its bias or scale its sums."""
    return next((layer for layer in layers if layer.kind != "kgen"), layers[0])


def _find_alone(
    layers: Sequence[EngineLayer], op_types: Mapping[str, str], kinds: Sequence[str], *, least: int
) -> tuple[str, ...]:
    """Layers that hold nodes of ``kinds`` and such as move numbers, and no others."""
    found = []
    for layer in layers:
        types = [op_types.get(node, "") for node in layer.nodes]
        own = [node for node, kind in zip(layer.nodes, types, strict=True) if kind in kinds]
        alone = all(kind in kinds or kind in MOVING_OPS for kind in types)
        if alone and len(own) >= least and (kinds or layer.kind in _MOVING_KINDS):
            found.append(", ".join(own) or next(iter(layer.nodes), layer.name))
    return tuple(found)
