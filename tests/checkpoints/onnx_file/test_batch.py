"""Files that are fixed to several images a call: brought to any number, or left with the reason."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch

from edgevit.checkpoints import read_checkpoint
from edgevit.checkpoints.onnx_file.file import read_file
from edgevit.checkpoints.onnx_file.module import ForeignModule
from edgevit.checkpoints.onnx_file.prepare import load_graph
from edgevit.core.errors import CheckpointError, CompileError
from edgevit.core.target import ExportForm
from edgevit.graph.passes.optimize import optimize_graph
from edgevit.models.export import export_model
from tests.support.foreign_exports import Exporter, export, read
from tests.support.pass_graphs import draw

NAMES = (
    "timm_vit",
    "timm_swin",
    "timm_deit_distilled",
    "torchvision_vit",
    "torchvision_swin",
    "transformers_vit",
    "transformers_swin",
)
FILES: list[tuple[str, Exporter]] = [(name, "script") for name in NAMES]
FILES += [(name, "dynamo") for name in NAMES if name not in ("transformers_swin", "timm_deit_distilled")]
# Every publisher and model, half of them by each exporter; the others are slow.
CHOSEN: list[tuple[str, Exporter]] = [
    ("timm_swin", "script"),
    ("timm_deit_distilled", "script"),
    ("torchvision_vit", "script"),
    ("transformers_swin", "script"),
    ("timm_vit", "dynamo"),
    ("torchvision_swin", "dynamo"),
    ("transformers_vit", "dynamo"),
]


def answer(data: bytes | str, images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    session = onnxruntime.InferenceSession(data)
    result: npt.NDArray[np.float32] = session.run(None, {session.get_inputs()[0].name: images})[0]
    return result


@pytest.mark.parametrize(
    ("name", "exporter"),
    [pytest.param(*file, marks=[] if file in CHOSEN else pytest.mark.slow) for file in FILES],
)
def test_file_of_four_images_is_the_canonical_model_of_an_open_batch(name: str, exporter: Exporter) -> None:
    fixed = read(name, exporter, batch=4)
    dynamic = read(name, exporter)
    assert not isinstance(fixed.module, ForeignModule), fixed.source.notes[0]
    assert fixed.config == dynamic.config
    (record,) = (r for r in fixed.passes if r.name == "fold_batch")
    assert record.applied[0].endswith("exported for 4")
    ours, theirs = fixed.module.state_dict(), dynamic.module.state_dict()
    assert ours.keys() == theirs.keys()
    assert all((ours[key] - theirs[key]).abs().max() <= 1e-6 for key in ours)


@pytest.mark.parametrize("name", ["timm_swin", "torchvision_vit"])
def test_graph_of_a_file_of_four_images_has_the_operators_of_an_open_batch(name: str) -> None:
    models = read(name, "script", batch=4), read(name, "script")
    counts = [optimize_graph(export_model(m, ExportForm())[0])[0].op_counts() for m in models]
    assert counts[0] == counts[1]


RESTATED: list[tuple[str, Exporter]] = [
    ("timm_swin", "script"),
    ("torchvision_vit", "script"),
    ("torchvision_swin", "script"),
    ("torchvision_swin", "dynamo"),
    ("transformers_vit", "dynamo"),
]


@pytest.mark.parametrize("batch", [1, 2, 6])
@pytest.mark.parametrize(("name", "exporter"), RESTATED)
def test_restated_graph_answers_every_image_as_the_file_does(name: str, exporter: Exporter, batch: int) -> None:
    path = export(name, exporter, batch=4).path
    graph, _ = load_graph(read_file(path), batch)
    images = draw(8, 3, 32, 32)
    expected = np.concatenate([answer(str(path), images[:4]), answer(str(path), images[4:])])[:batch]
    found = answer(ir.serde.serialize_model(graph.model).SerializeToString(), images[:batch])
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """A ViT of four images whose logits are centred over the batch."""
    model = onnx.load(str(export("timm_vit", "script", batch=4).path))
    last = model.graph.node[-1]
    last.output[0] = "own"
    model.graph.node.append(onnx.helper.make_node("ReduceMean", ["own"], ["mean"], axes=[0], keepdims=1))
    model.graph.node.append(onnx.helper.make_node("Sub", ["own", "mean"], ["logits"]))
    onnx.save(model, str(tmp_path / "mixed.onnx"))
    return tmp_path / "mixed.onnx"


def test_file_that_mixes_images_is_kept_at_its_own_number_with_the_reason(mixed: Path) -> None:
    model = read_checkpoint(mixed)
    assert "exported for 4 images a call and cannot be brought to one: it mixes the images" in model.source.notes[0]
    assert model.float_only
    with pytest.raises(CompileError, match="exported for 4 images a call, not 1") as caught:
        export_model(model, ExportForm())
    assert "--batch 4" in caught.value.hint
    assert export_model(model, ExportForm(), batch=(4, 4, 4))[0].op_counts()["Softmax"] == 2


def test_batch_that_is_open_in_name_alone_is_refused_in_one_sentence(tmp_path: Path) -> None:
    model = onnx.load(str(export("timm_vit", "script", batch=4).path))
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "n"
    onnx.save(model, str(tmp_path / "model.onnx"))
    with pytest.raises(CheckpointError, match=r"cannot run .* on 1 × 3 × 32 × 32") as caught:
        read_checkpoint(tmp_path / "model.onnx")
    assert "number of images" in caught.value.hint


def test_normalisation_in_front_is_folded_and_said(tmp_path: Path) -> None:
    path = export("timm_vit", "script").path
    model = onnx.load(str(path))
    for node in model.graph.node:
        node.input[:] = ["scaled" if name == "image" else name for name in node.input]
    mean, std = (np.asarray(v, np.float32).reshape(1, 3, 1, 1) for v in ([0.4, 0.5, 0.6], [0.2, 0.3, 0.4]))
    for name, numbers in (("mean", mean), ("std", std)):
        model.graph.initializer.append(onnx.numpy_helper.from_array(numbers, name))
    model.graph.node.insert(0, onnx.helper.make_node("Div", ["shifted", "std"], ["scaled"]))
    model.graph.node.insert(0, onnx.helper.make_node("Sub", ["image", "mean"], ["shifted"]))
    onnx.save(model, str(tmp_path / "model.onnx"))
    found, plain = read_checkpoint(tmp_path / "model.onnx"), read_checkpoint(path)
    assert any("mean and standard deviation come before that: Sub" in note for note in found.source.notes)
    images = torch.from_numpy(draw(2, 3, 32, 32))
    with torch.inference_mode():
        expected = plain.module((images - torch.from_numpy(mean)) / torch.from_numpy(std))
        assert (found.module(images) - expected).abs().max() <= 1e-5 * expected.abs().max()
