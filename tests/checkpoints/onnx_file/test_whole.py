"""Whole models: an encoder inside a graph that goes on behind it, found, put back, and equal to the file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgevit.checkpoints import read_checkpoint
from edgevit.checkpoints.onnx_file.whole import WholeModule
from edgevit.core.errors import CheckpointError, CompileError
from edgevit.core.quantization import Quantization
from edgevit.core.target import ExportForm
from edgevit.core.task import Task
from edgevit.graph.graph import Graph, known_shape
from edgevit.graph.passes.optimize import optimize_graph
from edgevit.measure.reference import run_outputs
from edgevit.models.export import export_model
from edgevit.models.model import Model
from edgevit.models.select_task import select_task
from edgevit.quantize.placement import PLACEMENTS
from edgevit.quantize.write_quantized import write_quantized
from tests.support.foreign_exports import HF_DINO, SWIN, silence
from tests.support.quantized import fit_sites
from tests.support.reference import import_timm, import_transformers, randomise, relative_error
from tests.support.small_graphs import run_graph

SIZE = 32
NAMES = ("mask", "score")


class Decoder(nn.Module):
    """Maps from the last tokens, as a saliency model has them: transposed convolutions, batch norms, a sigmoid."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.up = nn.Sequential(
            nn.ConvTranspose2d(width, 24, 4, 2, 1), nn.BatchNorm2d(24), nn.ReLU(),
            nn.Conv2d(24, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        )  # fmt: skip
        self.last = nn.Conv2d(16, 1, 1)

    def forward(self, maps: Tensor) -> Tensor:
        x = nn.functional.interpolate(self.last(self.up(maps)), size=(SIZE, SIZE), mode="bilinear")
        return torch.sigmoid(x)


class Saliency(nn.Module):
    """One tap behind the last block's norm, whose class token is dropped."""

    def __init__(self) -> None:
        super().__init__()
        transformers = import_transformers()
        self.encoder = transformers.Dinov2Model(transformers.Dinov2Config(**HF_DINO))
        self.decoder = Decoder(48)

    def forward(self, pixels: Tensor) -> Tensor:
        tokens = self.encoder(pixels).last_hidden_state[:, 1:]
        return self.decoder(tokens.transpose(1, 2).reshape(-1, 48, 4, 4))


class SeveralTaps(nn.Module):
    """Two outputs: one from three levels, without a norm, and one that reads the image too."""

    def __init__(self) -> None:
        super().__init__()
        transformers = import_transformers()
        config = transformers.Dinov2Config(**{**HF_DINO, "num_hidden_layers": 3})
        self.encoder = transformers.Dinov2Model(config)
        self.maps = nn.Conv2d(3 * 48, 5, 1)
        self.beside = nn.Conv2d(3, 5, 8, 8)
        self.score = nn.Linear(48, 1)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        found = self.encoder(pixels, output_hidden_states=True).hidden_states[1:]
        maps = torch.cat([level[:, 1:].transpose(1, 2).reshape(-1, 48, 4, 4) for level in found], dim=1)
        return self.maps(maps) + self.beside(pixels), self.score(found[1][:, 0]).sigmoid()


class SwinPyramid(nn.Module):
    """Maps from every stage of a Swin, added at the first one's size."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = import_timm().create_model(
            "swin_tiny_patch4_window7_224", **{**SWIN, "num_classes": 0}, features_only=True
        )
        self.sides = nn.ModuleList(nn.Conv2d(c, 6, 1) for c in self.encoder.feature_info.channels())

    def forward(self, pixels: Tensor) -> Tensor:
        levels = [side(x.permute(0, 3, 1, 2)) for side, x in zip(self.sides, self.encoder(pixels), strict=True)]
        size = levels[0].shape[2:]
        return torch.stack([nn.functional.interpolate(x, size=size) for x in levels]).sum(0)


class TwoLayerHead(nn.Module):
    """A classifier whose head the canonical model does not have."""

    def __init__(self) -> None:
        super().__init__()
        transformers = import_transformers()
        self.encoder = transformers.Dinov2Model(transformers.Dinov2Config(**HF_DINO))
        self.head = nn.Sequential(nn.Linear(48, 32), nn.ReLU(), nn.Linear(32, 7))

    def forward(self, pixels: Tensor) -> Tensor:
        return self.head(self.encoder(pixels).last_hidden_state[:, 0])


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[str, ...]]] = {
    "saliency": (Saliency, ("mask",)),
    "several_taps": (SeveralTaps, NAMES),
    "swin_pyramid": (SwinPyramid, ("mask",)),
}


def make(kind: Callable[[], nn.Module]) -> nn.Module:
    module = randomise(kind())
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.2, generator=torch.Generator().manual_seed(2))
            part.running_var.uniform_(0.5, 2, generator=torch.Generator().manual_seed(3))
    return module.eval()


def write(module: nn.Module, path: Path, names: tuple[str, ...], batch: int = 1, **more: Any) -> Path:
    with silence():
        torch.onnx.export(
            module, (torch.randn(batch, 3, SIZE, SIZE),), path, dynamo=False, opset_version=17,
            input_names=["image"], output_names=list(names), **more,
        )  # fmt: skip
    return path


@pytest.fixture(scope="module", params=list(MODELS))
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Model]:
    kind, names = MODELS[request.param]
    module = make(kind)
    path = write(module, tmp_path_factory.mktemp(request.param) / "m.onnx", names)
    return module, select_task(read_checkpoint(path), Task())


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "rotated"])
def graph(request: pytest.FixtureRequest, case: tuple[nn.Module, Model]) -> Graph:
    """Not to be changed."""
    return optimize_graph(export_model(case[1], ExportForm(fold_residual_rotation=request.param))[0])[0]


def draw(count: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (count, SIZE, SIZE, 3), np.uint8)


def answer(module: nn.Module, model: Model, pixels: np.ndarray) -> list[Tensor]:
    normal = torch.from_numpy(model.preprocess.normalize(pixels).transpose(0, 3, 1, 2).astype(np.float32))
    with torch.inference_mode():
        found = module(normal)
    return list(found) if isinstance(found, tuple) else [found]


def compare(module: nn.Module, model: Model, graph: Graph, pixels: np.ndarray) -> list[float]:
    wanted = answer(module, model, pixels)
    outputs = [spec.name for spec in model.outputs]
    assert [value.name for value in graph.model.graph.outputs] == outputs
    found = run_graph(graph, [one[None] for one in pixels], outputs)
    return [relative_error(torch.from_numpy(ours), theirs) for ours, theirs in zip(found, wanted, strict=True)]


def test_encoder_is_found_whole_and_the_task_is_map(case: tuple[nn.Module, Model]) -> None:
    module, model = case
    assert isinstance(model.module, WholeModule)
    assert model.task.name == "map"
    blocks = {"Saliency": 2, "SeveralTaps": 3, "SwinPyramid": 4}[type(module).__name__]
    record = next(r for r in model.passes if r.name == "recover_encoder")
    assert len(record.applied) == blocks
    assert f"{blocks} blocks" in model.source.notes[0]
    wanted = [tuple(v.shape[1:]) for v in answer(module, model, draw(1))]
    assert [spec.shape[1:] for spec in model.outputs] == wanted


def test_float_reference_is_the_files_own_answer(case: tuple[nn.Module, Model]) -> None:
    module, model = case
    pixels = draw(1)
    for ours, theirs in zip(run_outputs(model)(pixels), answer(module, model, pixels), strict=True):
        assert relative_error(torch.from_numpy(ours), theirs) <= 1e-5


def test_graph_with_the_encoder_put_back_answers_as_the_model(case: tuple[nn.Module, Model], graph: Graph) -> None:
    module, model = case
    assert "BatchNormalization" not in graph.op_counts()
    assert max(compare(module, model, graph, draw(2))) <= 1e-4


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime", "tensorrt"])
@pytest.mark.parametrize("graph", [True], ids=["rotated"], indirect=True)
def test_int8_keeps_the_outputs_and_quantises_encoder_and_convolutions(
    case: tuple[nn.Module, Model], graph: Graph, backend: str
) -> None:
    module, model = case
    pixels = [image[None] for image in draw(16)]
    base, plan, record = fit_sites(graph, pixels, Quantization(sqnr_db=-20), backend)
    states = {site.name: site for site in record.sites}
    convs = [n for n, s in states.items() if n.startswith("head/") and "onv" in n and s.precision == "int8"]
    assert bool(convs) == (type(module).__name__ == "Saliency")
    assert any("transposed" in s.reason for s in record.sites) == (bool(convs) and backend == "tensorrt")
    assert all(s.reason for s in record.sites if s.precision == "float")
    quantized = write_quantized(base, plan, record, PLACEMENTS[backend])
    resized = {str(node.name): known_shape(node.inputs[0])[1] for node in base.model.graph if node.op_type == "Resize"}
    few = {name for name, channels in resized.items() if channels <= 4}  # the saliency map
    assert bool(few) == (type(module).__name__ == "Saliency")
    assert quantized.op_counts().get("Resize", 0) == len(resized) - (len(few) if backend == "openvino" else 0)
    names = [spec.name for spec in model.outputs]
    found = run_graph(quantized, [one[None] for one in draw(2)], names)
    for name, ours, theirs in zip(names, found, answer(module, model, draw(2)), strict=True):
        noise = float(((torch.from_numpy(ours) - theirs) ** 2).sum() / (theirs**2).sum())
        assert noise < 10 ** (-18 / 10), (name, noise)


def test_batch_is_fixed_or_as_large_as_is_asked_for(tmp_path: Path) -> None:
    module = make(Saliency)
    axes = {"image": {0: "n"}, "mask": {0: "n"}}
    model = read_checkpoint(write(module, tmp_path / "open.onnx", ("mask",), dynamic_axes=axes))
    graph, _ = export_model(model, ExportForm(), batch=(3, 3, 3))
    found = run_graph(optimize_graph(graph)[0], [draw(3)], ["mask"])[0]
    assert relative_error(torch.from_numpy(found), answer(module, model, draw(3))[0]) <= 1e-4
    fixed = read_checkpoint(write(module, tmp_path / "fixed.onnx", ("mask",)))
    with pytest.raises(CompileError, match="exported for 1 image a call, not 3"):
        export_model(fixed, ExportForm(), batch=(3, 3, 3))


@pytest.mark.parametrize("make_one", [Saliency, SeveralTaps, SwinPyramid])
def test_file_of_four_images_is_built_for_any_number(make_one: Callable[[], nn.Module], tmp_path: Path) -> None:
    module = make(make_one)
    names = NAMES[: 1 + (make_one is SeveralTaps)]
    model = read_checkpoint(write(module, tmp_path / "four.onnx", names, batch=4))
    assert isinstance(model.module, WholeModule)
    for batch in (1, 3):
        graph = optimize_graph(export_model(model, ExportForm(), batch=(batch, batch, batch))[0])[0]
        found = run_graph(graph, [draw(batch)], list(names))
        for ours, theirs in zip(found, answer(module, model, draw(batch)), strict=True):
            assert relative_error(torch.from_numpy(ours), theirs) <= 1e-4


def test_encoder_of_a_whole_model_gives_embeddings_by_itself(tmp_path: Path) -> None:
    module = make(Saliency)
    model = select_task(read_checkpoint(write(module, tmp_path / "m.onnx", ("mask",))), Task("embed"))
    pixels = torch.randn(2, 3, SIZE, SIZE)
    with torch.inference_mode():
        wanted = module.encoder(pixels).last_hidden_state[:, 0]  # type: ignore[operator]
        assert relative_error(model.module(pixels), wanted) <= 1e-4
    assert (model.task.name, model.answers) == ("embed", None)
    assert "--task embed gives what the encoder does: what the graph has behind it is left out" in model.source.notes


def test_classifier_with_another_head_is_quantised_as_a_whole_model(tmp_path: Path) -> None:
    module = make(TwoLayerHead)
    model = select_task(read_checkpoint(write(module, tmp_path / "m.onnx", ("logits",))), Task())
    assert isinstance(model.module, WholeModule)
    assert (model.task.name, model.classes, model.float_only) == ("classify", 7, "")
    graph, _ = optimize_graph(export_model(model, ExportForm(fold_residual_rotation=True))[0])
    assert compare(module, model, graph, draw(2))[0] <= 1e-4


def test_file_whose_outputs_show_nothing_is_refused(tmp_path: Path) -> None:
    module = make(Saliency)
    nn.init.constant_(module.decoder.last.bias, -1e9)  # type: ignore[arg-type]
    with pytest.raises(CheckpointError, match="one number everywhere"):
        read_checkpoint(write(module, tmp_path / "m.onnx", ("mask",)))


def test_another_file_at_the_same_path_is_read_again(tmp_path: Path) -> None:
    path = write(make(Saliency), tmp_path / "m.onnx", ("mask",))
    read_checkpoint(path)
    module = make(Saliency)
    nn.init.constant_(module.decoder.last.bias, 2.0)  # type: ignore[arg-type]
    model = read_checkpoint(write(module, path, ("mask",)))
    assert isinstance(model.module, WholeModule)


def test_graph_without_an_encoder_is_refused_with_the_reason(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 2, 1)).eval()
    with pytest.raises(CheckpointError, match="gives no logits, and no encoder was found in it whole") as caught:
        read_checkpoint(write(module, tmp_path / "m.onnx", ("mask",)))
    assert "no pre-norm blocks" in caught.value.message


def test_task_that_nothing_describes_is_refused(tmp_path: Path) -> None:
    model = read_checkpoint(write(make(Saliency), tmp_path / "m.onnx", ("mask",)))
    with pytest.raises(CheckpointError, match="nothing says how the outputs"):
        select_task(model, Task("depth"))
    with pytest.raises(CheckpointError):
        select_task(model, Task("classify"))


def test_weights_beside_the_file_can_be_let_go(tmp_path: Path) -> None:
    """The norm that a tap goes through holds a mapping of that file, which nothing can copy."""
    import onnx

    path = write(make(Saliency), tmp_path / "m.onnx", ("mask",))
    apart = tmp_path / "apart.onnx"
    onnx.save_model(onnx.load(path), apart, save_as_external_data=True, location="weights.bin", size_threshold=0)
    model = read_checkpoint(apart)
    assert isinstance(model.module, WholeModule)
    assert model.module.taps[0].norm is not None
    light = model.without_weights()
    assert all(value.is_meta for value in light.module.parameters())
