"""Which Linears around an encoder are quantised: in front of a decoder of convolutions, and all of them where heavy."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper

from edgevit.graph.graph import Graph
from edgevit.quantize.carried_sites import HEAVY_SHARE, find_float_reason, leads_to_convolutions, weigh_linears
from edgevit.quantize.placement import PLACEMENTS

# tokens -> restore -> a Linear of every token -> map; then what each case has behind it.
_FRONT = """
   restored = MatMul (tokens, square)
   shifted = Add (restored, bias)
   read = MatMul (shifted, wide)
   bent = Gelu (read)
"""
_BACKS = {
    "decoder": """
   turned = Transpose <perm = [0, 2, 1]> (bent)
   planes = Reshape (turned, map)
   y = Conv (planes, kernel)
""",
    "boxes": """
   y = MatMul (bent, narrow)
""",
    "both": """
   turned = Transpose <perm = [0, 2, 1]> (bent)
   planes = Reshape (turned, map)
   y = Conv (planes, kernel)
   z = MatMul (bent, narrow)
""",
    "attention": """
   turned = Transpose <perm = [0, 2, 1]> (bent)
   scores = MatMul (bent, turned)
   likely = Softmax <axis = -1> (scores)
   met = MatMul (likely, bent)
   back = Transpose <perm = [0, 2, 1]> (met)
   planes = Reshape (back, map)
   y = Conv (planes, kernel)
""",
}


def make(case: str, width: int = 32, tokens: int = 24) -> Graph:
    outputs = "float[1,N,K] y, float[1,M,L] z" if case == "both" else "float[1,N,K] y"
    proto = onnx.parser.parse_model(
        f'<ir_version: 10, opset_import: ["" : 20]> g (float[1,{tokens},{width}] tokens) => ({outputs}) '
        f"{{{_FRONT}{_BACKS[case]}}}"
    )
    generator = np.random.default_rng(0)
    for name, shape in {
        "square": (width, width),
        "bias": (width,),
        "wide": (width, width),
        "narrow": (width, 4),
        "kernel": (16, width, 1, 1),
    }.items():
        values = generator.normal(size=shape).astype(np.float32)
        proto.graph.initializer.append(numpy_helper.from_array(values, name))
    proto.graph.initializer.append(numpy_helper.from_array(np.asarray([1, width, tokens // 4, 4]), "map"))
    for value in proto.graph.output:
        value.type.tensor_type.ClearField("shape")
    graph = Graph(ir.from_proto(onnx.shape_inference.infer_shapes(proto)))
    names = {"restored": "outlets.2.restore", "read": "head/readout", "y": "head/last"}
    for node in graph.model.graph:
        node.name = names.get(node.outputs[0].name or "", node.outputs[0].name)
    return graph


def find(graph: Graph, name: str) -> ir.Node:
    return next(node for node in graph.model.graph if node.name == name)


@pytest.mark.parametrize(
    ("case", "expected"), [("decoder", True), ("boxes", False), ("both", False), ("attention", False)]
)
def test_leads_to_convolutions_when_nothing_else_reads_it(case: str, expected: bool) -> None:
    graph = make(case)
    for name in ("outlets.2.restore", "head/readout"):
        assert leads_to_convolutions(find(graph, name)) is expected


@pytest.mark.parametrize("library", PLACEMENTS)
@pytest.mark.parametrize("name", ["outlets.2.restore", "head/readout"])
def test_linear_in_front_of_a_decoder_is_quantised_and_of_boxes_not(library: str, name: str) -> None:
    placement = PLACEMENTS[library]
    assert find_float_reason(find(make("decoder"), name), placement) == ""
    assert find_float_reason(find(make("boxes"), name), placement) in placement.float_sites.values()


def test_linear_of_few_rows_or_columns_stays_float() -> None:
    for graph in (make("decoder", tokens=8), make("decoder", width=8)):
        assert find_float_reason(find(graph, "head/readout"), PLACEMENTS["openvino"])


def test_sites_of_the_encoder_itself_are_not_concerned() -> None:
    graph = make("boxes")
    node = find(graph, "head/readout")
    node.name = "blocks.3.mlp.fc1"
    assert find_float_reason(node, PLACEMENTS["openvino"]) == ""


@pytest.mark.parametrize("library", PLACEMENTS)
@pytest.mark.parametrize("case", ["boxes", "attention"])
def test_where_they_are_heavy_linears_of_many_rows_are_quantised_whatever_reads_them(library: str, case: str) -> None:
    graph, placement = make(case), PLACEMENTS[library]
    assert find_float_reason(find(graph, "head/readout"), placement, heavy=True) == ""
    assert find_float_reason(find(graph, "outlets.2.restore"), placement, heavy=True)  # it is the encoder's
    for small in (make(case, tokens=8), make(case, width=8)):
        assert find_float_reason(find(small, "head/readout"), placement, heavy=True)
    for product in ("scores", "met") if case == "attention" else ():
        node = find(graph, product)
        node.name = f"head/{product}"
        assert find_float_reason(node, placement, heavy=True)


def test_weight_of_linears_is_their_share_of_all_multiplications() -> None:
    graph = make("boxes")
    nodes = list(graph.model.graph)
    rows, width = 24, 32
    carried, encoder, narrow = rows * width * width, rows * width * width, rows * width * 4
    assert weigh_linears(nodes) == pytest.approx(carried / (carried + encoder + narrow))
    assert weigh_linears(nodes) > HEAVY_SHARE
    find(graph, "head/readout").name = "blocks.3.mlp.fc1"
    assert weigh_linears(nodes) == 0
    assert weigh_linears([]) == 0
