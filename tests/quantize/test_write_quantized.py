"""What a record says is quantised is, nothing else is, and the library's own order of heads comes with it."""

from __future__ import annotations

import dataclasses

from edgevit.core.quantization import Quantization, QuantizationRecord
from edgevit.quantize.placement import PLACEMENTS
from edgevit.quantize.quantize import plan_quantization
from edgevit.quantize.write_quantized import write_quantized
from tests.support.quantized import plan_fp8
from tests.support.small_graphs import make_graph, make_pixels

OPENVINO, RTX = PLACEMENTS["openvino"], PLACEMENTS["tensorrt_rtx"]
FC2 = "blocks.0.mlp.fc2"


def keep_float(record: QuantizationRecord, name: str) -> QuantizationRecord:
    sites = tuple(dataclasses.replace(s, precision="float") if s.name == name else s for s in record.sites)
    return dataclasses.replace(record, sites=sites)


def test_write_quantized_of_fp8_gives_weights_to_no_site_but_the_records() -> None:
    graph = make_graph("vit")
    _, plan, record = plan_fp8(graph, make_pixels("vit", 1), "tensorrt_rtx", {})
    before = graph.op_counts()
    whole = write_quantized(graph, plan, record, RTX)
    partly = write_quantized(graph, plan, keep_float(record, FC2), RTX)
    missing = set(whole.model.graph.initializers) - set(partly.model.graph.initializers)
    assert f"{FC2}.weight.codes" in missing
    assert {name for name in missing if name.endswith("weight.codes")} == {f"{FC2}.weight.codes"}
    assert graph.op_counts() == before


def test_write_quantized_of_int8_moves_heads_by_rows_where_the_library_does_so_faster() -> None:
    quantization = Quantization(rounding="nearest", float_share=0.0)
    base, plan, record = plan_quantization(make_graph("vit"), make_pixels("vit", 2), quantization, "openvino")
    rows = write_quantized(base, plan, record, OPENVINO).op_counts()
    turned = write_quantized(base, plan, record, dataclasses.replace(OPENVINO, gather_rows=False)).op_counts()
    assert rows.get("Transpose", 0) < turned["Transpose"]
    assert rows["QuantizeLinear"] == turned["QuantizeLinear"]
    assert f"{FC2}.weight.codes" in write_quantized(base, plan, record, OPENVINO).model.graph.initializers
    kept = write_quantized(base, plan, keep_float(record, FC2), OPENVINO)
    assert f"{FC2}.weight.codes" not in kept.model.graph.initializers
