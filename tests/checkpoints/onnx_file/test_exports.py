"""What each pass matches in files of three publishers by two exporters, and that their numbers stay."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from edgevit.checkpoints.onnx_file.file import ForeignFile, read_file
from edgevit.checkpoints.onnx_file.front import put_front
from edgevit.checkpoints.onnx_file.prepare import load_graph
from edgevit.checkpoints.preprocess_configs import read_timm_preprocess
from edgevit.core.pass_record import PassRecord
from edgevit.graph.graph import Graph
from edgevit.graph.passes import FOREIGN, PARTIAL
from edgevit.graph.passes.fold_static_shapes import fold_static_shapes
from edgevit.graph.passes.optimize import apply_passes
from tests.support.foreign_exports import Exporter, export


@dataclass(frozen=True)
class Expected:
    """Matches of two blocks of a ViT, or four of a Swin.

    Attributes:
        norms: LayerNorms that the exporter had taken apart.
        gelus: GELUs that it had taken apart.
        guards: Guards against NaN behind softmax.
        gathers: Chains of token movements: into windows and back for every block whose grid is larger than its
            window, and patch merging.
    """

    norms: int = 0
    gelus: int = 0
    guards: int = 0
    attentions: int = 2
    gathers: int = 0


FILES: dict[tuple[str, Exporter, int], Expected] = {
    ("timm_vit", "dynamo", 20): Expected(),
    ("timm_vit", "dynamo", 18): Expected(gelus=2),
    ("timm_vit", "dynamo", 22): Expected(),
    ("timm_vit", "dynamo", 23): Expected(),
    ("timm_vit", "script", 17): Expected(gelus=2),
    ("timm_vit", "script", 14): Expected(norms=5, gelus=2),
    ("timm_deit_distilled", "script", 17): Expected(gelus=2),
    ("timm_vit_registers", "script", 17): Expected(gelus=2),
    ("timm_swin", "dynamo", 20): Expected(attentions=4, gathers=5),
    ("timm_swin", "script", 17): Expected(gelus=4, attentions=4, gathers=5),
    ("timm_swin", "script", 14): Expected(norms=11, gelus=4, attentions=4, gathers=5),
    ("timm_swin_padded", "script", 17): Expected(gelus=4, attentions=4, gathers=9),
    ("torchvision_vit", "dynamo", 20): Expected(),
    ("torchvision_vit", "script", 17): Expected(gelus=2),
    ("torchvision_vit", "script", 21): Expected(),
    ("torchvision_swin", "dynamo", 20): Expected(attentions=4, gathers=5),
    ("torchvision_swin", "script", 17): Expected(gelus=4, attentions=4, gathers=5),
    ("transformers_vit", "dynamo", 20): Expected(guards=2),
    ("transformers_vit", "script", 17): Expected(gelus=2),
    ("transformers_vit_eager", "script", 11): Expected(norms=5, gelus=2),
    ("transformers_vit_eager", "script", 12): Expected(norms=5, gelus=2),
    ("transformers_vit_tanh", "script", 17): Expected(gelus=2),
    ("transformers_deit", "script", 17): Expected(gelus=2),
    ("transformers_swin", "script", 17): Expected(gelus=4, attentions=4, gathers=5),
}


def rewrite(
    name: str, exporter: Exporter, opset: int, batch: int, form: str
) -> tuple[ForeignFile, Graph, dict[str, PassRecord]]:
    file = read_file(export(name, exporter, opset=opset).path)
    graph, _ = load_graph(file, batch)
    records = (*apply_passes(graph, FOREIGN), *apply_passes(graph, PARTIAL[form]))
    return file, graph, {record.name: record for record in records}


# The form concerns the last pass, attention; one file of every way that a publisher and an exporter write it.
PACKED: tuple[tuple[str, Exporter, int], ...] = (
    ("timm_vit", "dynamo", 20),
    ("timm_deit_distilled", "script", 17),
    ("timm_swin", "script", 17),
    ("torchvision_vit", "script", 17),
    ("torchvision_swin", "dynamo", 20),
    ("transformers_vit", "dynamo", 20),
    ("transformers_vit_eager", "script", 11),
    ("transformers_swin", "script", 17),
)


@pytest.mark.parametrize(
    ("name", "exporter", "opset", "form"),
    [
        *(pytest.param(*file, "separate") for file in FILES),
        *(pytest.param(*file, "packed", marks=[] if file in PACKED else pytest.mark.slow) for file in FILES),
    ],
)
def test_passes_match_every_place_and_keep_the_numbers(name: str, exporter: Exporter, opset: int, form: str) -> None:
    expected = FILES[(name, exporter, opset)]
    file, graph, records = rewrite(name, exporter, opset, 2, form)
    found = {
        "norms": len(records["fuse_layer_norm"].applied),
        "gelus": len(records["fuse_gelu"].applied),
        "guards": len(records["remove_nan_guard"].applied),
        "attentions": len(records["fuse_attention"].applied),
        "gathers": len(records["fuse_token_gather"].applied),
    }
    assert found == vars(expected)
    images = np.random.default_rng(0).normal(size=(2, 3, *file.image_size)).astype(np.float32)
    before = onnxruntime.InferenceSession(str(file.path)).run([file.output], {file.input: images})[0]
    data = ir.serde.serialize_model(graph.model).SerializeToString()
    after = onnxruntime.InferenceSession(data).run(None, {file.input: images})[0]
    assert np.abs(after - before).max() <= 1e-5 * np.abs(before).max()


@pytest.mark.parametrize(("name", "exporter", "opset"), FILES)
def test_rewritten_graph_has_the_ops_of_the_canonical_form(name: str, exporter: Exporter, opset: int) -> None:
    _, graph, _ = rewrite(name, exporter, opset, 1, "separate")
    counts, attentions = graph.op_counts(), FILES[(name, exporter, opset)].attentions
    assert counts["Softmax"] == attentions
    assert counts["Gelu"] == attentions
    assert not {"Erf", "Pow", "Sqrt", "Where", "IsNaN", "Shape", "Expand", "Slice", "Split", "Pad"} & set(counts)
    ranks = {len(node.attributes["perm"].as_ints()) for node in graph.model.graph if node.op_type == "Transpose"}
    assert max(ranks) <= 4
    # q, k, v, scores, context, output projection and the two of the MLP for every attention
    linears = counts["MatMul"] + counts.get("Gemm", 0)
    merging = 1 if "swin" in name else 0
    heads = 2 if "deit" in name else 1
    assert linears == 8 * attentions + merging + heads


@pytest.mark.parametrize("fold", [True, False])
def test_front_takes_bytes_and_gives_the_same_logits(fold: bool) -> None:
    file, graph, _ = rewrite("timm_vit", "script", 17, 2, "separate")
    preprocess = read_timm_preprocess({"mean": (0.4, 0.5, 0.6), "std": (0.2, 0.3, 0.4)}, file.image_size)[0]
    record = put_front(graph, preprocess, fold=fold)
    assert record.applied == (("patch_embed",) if fold else ())
    assert ("Mul" in graph.op_counts()) is not fold
    pixels = np.random.default_rng(0).integers(0, 256, (2, *file.image_size, 3), np.uint8)
    images = preprocess.normalize(pixels).transpose(0, 3, 1, 2)
    before = onnxruntime.InferenceSession(str(file.path)).run([file.output], {file.input: images})[0]
    data = ir.serde.serialize_model(graph.model).SerializeToString()
    after = onnxruntime.InferenceSession(data).run(["logits"], {"image": pixels})[0]
    assert np.abs(after - before).max() <= 1e-5 * np.abs(before).max()


def test_inner_values_that_have_the_names_of_the_front_are_renamed() -> None:
    """A file whose logits are scaled behind, and whose first convolution is called ``image``."""
    model = onnx.load(str(export("timm_vit", "script").path))
    conv = next(node for node in model.graph.node if node.op_type == "Conv")
    old = conv.output[0]
    for node in model.graph.node:
        node.input[:] = ["pixels" if name == "image" else "image" if name == old else name for name in node.input]
    conv.output[0], model.graph.input[0].name, model.graph.output[0].name = "image", "pixels", "scaled"
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray([0.5], np.float32), "half"))
    model.graph.node.append(onnx.helper.make_node("Mul", ["logits", "half"], ["scaled"]))
    graph = Graph(ir.serde.deserialize_model(model))
    graph.model.graph.inputs[0].shape = ir.Shape([2, 3, 32, 32])
    fold_static_shapes(graph)
    preprocess = read_timm_preprocess({"mean": (0.4, 0.5, 0.6), "std": (0.2, 0.3, 0.4)}, (32, 32))[0]
    put_front(graph, preprocess, fold=True)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    images = preprocess.normalize(pixels).transpose(0, 3, 1, 2)
    before = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"pixels": images})[0]
    data = ir.serde.serialize_model(graph.model).SerializeToString()
    after = onnxruntime.InferenceSession(data).run(["logits"], {"image": pixels})[0]
    assert np.abs(after - before).max() <= 1e-5 * np.abs(before).max()
