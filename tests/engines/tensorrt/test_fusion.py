"""Reading the compiler's list of layers, on lines as TensorRT-RTX 1.7.1 writes them."""

from __future__ import annotations

import pytest

from edgevit.core import schema
from edgevit.core.errors import BundleError
from edgevit.core.quantization import Quantization
from edgevit.core.report.fusion_record import FusionRecord
from edgevit.core.target import ExportForm
from edgevit.engines.tensorrt.fusion import prove_fusion, read_layers, read_types
from edgevit.engines.tensorrt.typed import type_graph
from tests.support.quantized import quantize_all
from tests.support.small_graphs import make_graph, make_pixels


def line(name: str, kind: str, operands: str, result: str, *nodes: str) -> str:
    tensor = "Dimensions: [1,197,192], Strides: [37824,192,1], StrideOrder: [2,1,0], Datatype: {}, Format: (Linear)"
    reads = ", ".join(f"{{ Name: in{i}, {tensor.format(t)} }}" for i, t in enumerate(operands.split()))
    origin = "".join(f"[ONNX Layer: {node}]" for node in nodes)
    return (
        f"Name: {name}, LayerType: {kind}, Inputs: [ {reads}], Constants: [], "
        f"Outputs: [ {{ Name: out, {tensor.format(result)} }}], TacticName: {name}_0x1, StreamId: 0, Metadata: {origin}"
    )


OPS = {
    "patch_embed/cast": "Cast",
    "blocks.0.attn.qkv": "MatMul",
    "blocks.0.attn.qkv/bias": "Add",
    "blocks.0.attn/reshape": "Reshape",
    "blocks.0.attn/transpose": "Transpose",
    "blocks.0.attn/scores": "MatMul",
    "blocks.0.attn/softmax": "Softmax",
    "blocks.0.attn/context": "MatMul",
    "blocks.0.attn/context/quantize": "QuantizeLinear",
    "blocks.1.attn/scores": "MatMul",
    "blocks.1.attn/softmax": "Softmax",
    "blocks.1.attn/context": "MatMul",
    "head": "Gemm",
}
LOG = "\n".join(
    [
        "Layers:",
        line("cast", "kgen", "UInt8", "Half", "patch_embed/cast"),
        line("qkv", "gemm", "Int8 Float", "Half", "blocks.0.attn.qkv", "blocks.0.attn.qkv/weight"),
        line("epilogue", "kgen", "Half", "Half", "blocks.0.attn.qkv", "blocks.0.attn.qkv/bias"),
        line("layout", "kgen", "Half", "Half", "blocks.0.attn/reshape", "blocks.0.attn/transpose"),
        line(
            "mha", "kgen", "Half Half Half", "Half", *(f"blocks.0.attn/{n}" for n in ("context", "softmax", "scores"))
        ),
        line("q", "kgen", "Half", "Int8", "blocks.0.attn/context/quantize"),
        line("first", "gemm", "Half Half", "Half", "blocks.1.attn/scores"),
        line("second", "kgen", "Half Half", "Half", "blocks.1.attn/softmax", "blocks.1.attn/context"),
        line("head", "runtime_fusion", "Half Half", "Half", "head"),
        line("__myl_Move", "kgen", "Half", "Half"),
        "",
        "I/O Tensors:",
        " Name: image, IOMode: Input, DataType: UInt8, Dimensions: [1,224,224,3], Location: Device",
    ]
)


@pytest.fixture(scope="module")
def record() -> FusionRecord:
    return prove_fusion(read_layers(LOG), OPS, "tensorrt_rtx 1.7", "SM86")


def test_layers_are_read_with_types_and_nodes() -> None:
    layers = read_layers(LOG)
    assert [layer.name for layer in layers][:3] == ["cast", "qkv", "epilogue"]
    assert len(layers) == 10
    assert (layers[0].operands, layers[0].results) == (("uint8",), ("fp16",))
    assert layers[1].operands == ("int8", "fp32")
    assert layers[4].nodes == ("blocks.0.attn/context", "blocks.0.attn/softmax", "blocks.0.attn/scores")
    assert layers[9].nodes == ()


def test_attention_in_one_kernel_is_told_from_attention_in_two(record: FusionRecord) -> None:
    assert record.attention == {"blocks.0.attn": "fp16"}
    assert record.unfused_attention == ("blocks.1.attn",)


def test_products_are_counted_by_the_type_that_they_multiply(record: FusionRecord) -> None:
    assert record.products == {"int8": 1, "fp16": 1}


def test_kernels_that_compute_nothing_are_named(record: FusionRecord) -> None:
    assert record.unfused_quantizers == ("blocks.0.attn/context/quantize",)
    assert record.moves == ("blocks.0.attn/reshape", "__myl_Move")
    assert record.casts == ("patch_embed/cast",)
    assert [*record.leftovers()] == [
        "attention in several kernels",
        "Q/DQ that no kernel took in",
        "kernels that only move numbers",
        "kernels that only change types",
    ]


def test_record_describes_itself_and_survives_a_report(record: FusionRecord) -> None:
    assert record.describe() == "10 layers; attention fused in 1 of 2 blocks (fp16); products: 1 int8, 1 fp16"
    assert schema.from_data(FusionRecord, schema.to_data(record), "a report", BundleError) == record


OLDER_OPS = {
    "patch_embed/cast": "Cast",
    "blocks.0.norm1/quantize": "QuantizeLinear",
    "blocks.0.mlp.fc1": "MatMul",
    "blocks.0.mlp.fc1/bias": "Add",
    "head": "MatMul",
    "head/transpose": "Transpose",
    "blocks.0.attn/scores": "MatMul",
    "blocks.0.attn/softmax": "Softmax",
    "blocks.0.attn/context": "MatMul",
    "blocks.1.attn/scores": "MatMul",
    "blocks.1.attn/softmax": "Softmax",
    "blocks.1.attn/context": "MatMul",
}


def test_layers_as_tensorrt_10_lists_them_are_read_also_where_no_tactic_has_a_name() -> None:
    """Copies and Q/DQ have a tactic's value alone; a convolution has parameters behind its outputs."""
    tensor = "[ { Name: x, Location: Device, Dimensions: [1,197,192], Format/Datatype: "
    log = "\n".join(
        [
            "Layers:",
            f"Name: Reformatting CopyNode for Input Tensor 0 to blocks.0.mlp.fc1, LayerType: Reformat, "
            f"Inputs: {tensor}Half }}], Outputs: {tensor}Half }}], ParameterType: Reformat, Origin: REFORMAT, "
            f"TacticValue: 0x00000000000003e8, StreamId: 0, Metadata: ",
            f"Name: blocks.0.norm1/quantize, LayerType: Reformat, Inputs: {tensor}Half }}], Outputs: {tensor}Int8 }}], "
            f"ParameterType: Reformat, Origin: QDQ, TacticValue: 0x0000000000000000, StreamId: 0, "
            f"Metadata: [ONNX Layer: blocks.0.norm1/quantize]",
            f"Name: blocks.0.mlp.fc1, LayerType: CaskGemmConvolution, Inputs: {tensor}Int8 }}], "
            f"Outputs: {tensor}Half }}], ParameterType: Convolution, Kernel: [1,1], "
            f'Weights: {{"Type": "Int8", "Count": 147456}}, Activation: NONE, TacticName: ampere_int8, '
            "TacticValue: 0x1, StreamId: 0, "
            "Metadata: [ONNX Layer: blocks.0.mlp.fc1][ONNX Layer: blocks.0.mlp.fc1/bias]",
        ]
    )
    layers = read_layers(log)
    assert [layer.nodes for layer in layers] == [
        (),
        ("blocks.0.norm1/quantize",),
        ("blocks.0.mlp.fc1", "blocks.0.mlp.fc1/bias"),
    ]
    assert [(layer.operands, layer.results) for layer in layers[1:]] == [(("fp16",), ("int8",)), (("int8",), ("fp16",))]
    record = prove_fusion(layers, OLDER_OPS, "tensorrt 10.3.0", "SM87")
    assert record.products == {"int8": 1}
    assert record.unfused_quantizers == ("blocks.0.norm1/quantize",)
    assert record.moves == ("Reformatting CopyNode for Input Tensor 0 to blocks.0.mlp.fc1",)


def test_layers_as_tensorrt_8_lists_them_are_read_by_name_and_what_they_hide_is_not_called_unfused() -> None:
    """Types stand in a phrase, a layer's name is all that it says of the nodes, and a fused subgraph says nothing."""
    tensor = "[ { Name: x, Location: Device, Dimensions: [1,197,192], Format/Datatype: "
    log = "\n".join(
        [
            "Layers:",
            f"Name: patch_embed/cast, LayerType: Reformat, Inputs: {tensor}Row major linear UInt8 format }}], "
            f"Outputs: {tensor}Row major linear FP32 }}], ParameterType: Reformat, Origin: CAST, TacticValue: 0x0",
            f"Name: blocks.0.mlp.fc1 + blocks.0.mlp.fc1/bias, LayerType: CaskGemmConvolution, "
            f"Inputs: {tensor}Thirty-two wide channel vectorized row major Int8 format }}], "
            f"Outputs: {tensor}Channel major FP16 format where channel % 8 == 0 }}], TacticName: t, TacticValue: 0x1",
            f"Name: {{ForeignNode[blocks.0.norm1...head/transpose]}}, LayerType: Myelin, "
            f"Inputs: {tensor}Row major linear FP16 format }}], Outputs: {tensor}Row major linear FP32 }}], "
            "TacticValue: 0x0",
            f"Name: head + head/transpose, LayerType: CaskGemmConvolution, Inputs: {tensor}Row major linear FP32 }}], "
            f"Outputs: {tensor}Row major linear FP32 }}], TacticName: t, TacticValue: 0x1",
        ]
    )
    layers = read_layers(log)
    assert [(layer.operands, layer.results) for layer in layers] == [
        (("uint8",), ("fp32",)),
        (("int8",), ("fp16",)),
        (("fp16",), ("fp32",)),
        (("fp32",), ("fp32",)),
    ]
    record = prove_fusion(layers, OLDER_OPS, "tensorrt 8.6.2", "SM87")
    assert (record.layers, record.products) == (4, {"int8": 1, "fp32": 1})
    assert (record.attention, record.unfused_attention, record.moves) == ({}, (), ())
    assert record.casts == ("patch_embed/cast",)
    assert record.notes == (
        "tensorrt 8.6.2 does not say what 1 of its layers computes, so 2 blocks of attention may be fused or not",
    )
    assert record.describe() == "4 layers; products: 1 int8, 1 fp32"


def test_an_empty_list_gives_an_empty_record() -> None:
    assert read_layers("") == ()
    record = prove_fusion((), {"blocks.0.attn/scores": "MatMul"}, "tensorrt", "SM86")
    assert (record.layers, record.unfused_attention) == (0, ("blocks.0.attn",))


def test_products_are_typed_by_the_graph_where_it_is_float_and_by_the_kernel_where_it_is_quantised() -> None:
    types = {"blocks.0.attn.qkv": "int8", "head": "fp32"}  # a float32 island, whose kernel reads float16 beside it
    assert prove_fusion(read_layers(LOG), OPS, "tensorrt", "SM86", types).products == {"int8": 1, "fp32": 1}
    widened = prove_fusion(read_layers(LOG), OPS, "tensorrt", "SM86", {"head": "int8", "blocks.0.attn.qkv": "int8"})
    assert widened.widened == ("head",)
    assert widened.products == {"int8": 1, "fp16": 1}
    assert widened.leftovers()["products in a wider type than their Q/DQ"] == ("head",)


def test_types_of_a_typed_graph_are_those_of_its_codes_and_floats() -> None:
    graph = make_graph("vit", ExportForm(qkv="packed", fold_residual_rotation=True))
    quantization = Quantization(float_share=0.0, rounding="nearest")
    typed = type_graph(quantize_all(graph, make_pixels("vit", 1), quantization, "tensorrt"), "fp16")
    types = read_types(typed)
    assert types["blocks.0.mlp.fc1"] == types["blocks.0.attn.qkv"] == "int8"
    assert types["blocks.0.attn/scores"] == types["patch_embed.proj"] == "fp16"
    assert types["head"] == "fp32"
