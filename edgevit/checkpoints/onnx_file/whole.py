"""A model around an encoder: the encoder canonical, and what surrounds it as the file has it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from edgevit.checkpoints.onnx_file.answers import Answers
from edgevit.checkpoints.onnx_file.file import ForeignFile
from edgevit.checkpoints.onnx_file.find_encoder import Encoder, Tap, cut_head, find_encoder
from edgevit.checkpoints.onnx_file.front import put_front
from edgevit.checkpoints.onnx_file.lift import TOLERANCE, fill_module
from edgevit.checkpoints.onnx_file.module import refuse_batch
from edgevit.checkpoints.onnx_file.prepare import load_graph
from edgevit.core.engine import TensorSpec
from edgevit.core.pass_record import PassRecord
from edgevit.core.target import ExportForm
from edgevit.core.task import Task
from edgevit.graph.graph import Graph, known_shape
from edgevit.graph.held_choices import find_choices
from edgevit.graph.join import join_graphs
from edgevit.graph.passes import CARRIED_PASSES, FOREIGN, PARTIAL
from edgevit.graph.passes.optimize import apply_passes
from edgevit.graph.patterns.pieces import MismatchError
from edgevit.graph.segments import run_inputs
from edgevit.models.export import export_model
from edgevit.models.model import Model, Source
from edgevit.models.outlets import Outlet, TokenOrder
from edgevit.models.pixels import copy_structure
from edgevit.models.swin import Swin
from edgevit.models.vit import ViT
from edgevit.pixels.preprocess import Preprocess


@dataclass(frozen=True)
class WholeConfig:
    """What the line reads of a model's config.

    Attributes:
        image_size: Height and width of the input in pixels.
        classes: Length of the logits, where the one output is logits; else 0.
        batch: Images a call that the file is fixed to; ``None`` for any number.
        outputs: What the file gives, with their shapes for one image.
    """

    image_size: tuple[int, int]
    classes: int
    batch: int | None
    outputs: tuple[TensorSpec, ...]


class WholeModule(nn.Module):
    """An encoder that is canonical, inside a graph that is carried.

    Args:
        file: The file.
        found: Its encoder.
        encoder: The canonical module without outlets.
        outputs: What the file gives.
        classes: Length of the logits, where it gives logits.

    Attributes:
        export_for: Of a folder, writes the file for another number of images a call.
    """

    family = "whole"
    export_for: Callable[[int], ForeignFile] | None = None

    def __init__(
        self, file: ForeignFile, found: Encoder, encoder: nn.Module, outputs: tuple[TensorSpec, ...], classes: int = 0
    ) -> None:
        super().__init__()
        self.file, self.taps, self.streams, self.near = file, found.taps, found.streams, found.near
        self.encoder = encoder
        self.tapped = add_outlets(encoder, found.taps)
        # One image is what ONNX calls no batch: nothing tells it from any other axis of one. Several were restated.
        self.config = WholeConfig(file.image_size, classes, 1 if file.batch == 1 else None, outputs)
        carried = load_carried(file, found.streams, 1)
        self.carried_ops = dict(carried.op_counts())
        self.chooses = bool(find_choices(carried))
        self.sites = carried.sites()  # of what is carried, by the file's names
        self.weights = nn.ParameterList(
            [
                nn.Parameter(torch.empty(tuple(value.const_value.shape.numpy()), device="meta"), requires_grad=False)
                for value in carried.model.graph.initializers.values()
                if value.const_value is not None and value.const_value.dtype.is_floating_point()
            ]
        )

    def forward(self, pixels: Tensor) -> Tensor | tuple[Tensor, ...]:
        """What the carried graph reads: a tuple of ``(B, N, C)``, one for each tap."""
        result: tuple[Tensor, ...] = self.tapped(pixels)
        return result

    def encoder_model(self, preprocess: Preprocess) -> Model:
        """The encoder with its taps, as a model of features."""
        task = Task("features", levels=tuple(tap.level for tap in self.taps), layout="tokens")
        source = Source(str(self.file.path), "the encoder of an ONNX file", self.file.path.stem, "")
        return Model(self.tapped, preprocess, None, source, task)

    def export(self, preprocess: Preprocess, form: ExportForm, batch: int) -> tuple[Graph, tuple[PassRecord, ...]]:
        """The encoder in the form that engines fuse, put back into the carried graph: ``(B, H, W, 3) uint8`` in.

        Raises:
            CompileError: A number of images that the file does not take.
            CheckpointError: The folder's model cannot be exported for so many images.
        """
        refuse_batch(self.file, self.config.batch, batch)
        file = self.file
        if self.export_for is not None and batch != file.batch:
            file = self.export_for(batch).keep_outputs()
        graph, folds = export_model(self.encoder_model(preprocess), form, batch=(batch, batch, batch))
        carried = load_carried(file, self.streams, batch)
        records = apply_passes(carried, (*CARRIED_PASSES, *PARTIAL[form.qkv]))
        if any(value.name == self.file.input for value in carried.model.graph.inputs):
            records = (*records, put_front(carried, preprocess, fold=form.fold_input_normalization, rename=False))
        level = self.encoder.config.level_name  # type: ignore[union-attr]
        join_graphs(graph, carried, {tap.name: f"{level}{tap.level}" for tap in self.taps})
        for value, spec in zip(graph.model.graph.outputs, self.config.outputs, strict=True):
            value.name = spec.name
        return graph, (*folds, *records)


def read_whole(file: ForeignFile, graph: Graph, outputs: tuple[TensorSpec, ...], classes: int) -> WholeModule:
    """Find the encoder of a graph, and stand for the file.

    Args:
        file: The file, with the outputs that are kept.
        graph: In the form that ``FOREIGN`` leaves, for one image a call.
        outputs: What the file gives.
        classes: Length of the logits, where it gives logits.

    Raises:
        MismatchError: No encoder is found whole.
    """
    found = find_encoder(graph)
    if not found.taps:
        raise MismatchError(None, "nothing reads its encoder")
    encoder = fill_module(found.config, found.state, str(file.path))
    return WholeModule(file, found, encoder, outputs, classes)


def load_carried(file: ForeignFile, streams: tuple[str, ...], batch: int) -> Graph:
    """The file's graph without its encoder: inputs are the taps, and the image where it is still read."""
    stamp = file.path.stat()  # the same path may hold another file by now
    return _load_carried(file, streams, batch, (stamp.st_mtime_ns, stamp.st_size)).copy()


@functools.lru_cache(maxsize=2)  # which takes seconds, and a build asks for it several times
def _load_carried(file: ForeignFile, streams: tuple[str, ...], batch: int, _stamp: tuple[int, int]) -> Graph:
    graph, _ = load_graph(file, batch)
    apply_passes(graph, FOREIGN)
    cut_head(graph, [Tap(level, name) for level, name in enumerate(streams)])
    return graph


def add_outlets(encoder: nn.Module, taps: Sequence[Tap]) -> nn.Module:
    """A copy of the canonical module whose outlets are the taps, in the file's order of tokens; weights are shared."""
    module = copy_structure(encoder)
    assert isinstance(module, (ViT, Swin))
    for tap in taps:
        norm = None
        if tap.norm is not None:
            norm = nn.LayerNorm(len(tap.norm.weight), eps=tap.norm.epsilon)
            state = {"weight": tap.norm.weight, "bias": tap.norm.bias}
            norm.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in state.items()})
            norm.eval().requires_grad_(False)
        grid = module.config.stage_grid(tap.level) if isinstance(module, Swin) else module.config.grid
        outlet = module.outlets[str(tap.level)] = Outlet(grid, norm, 0, "tokens")
        if tap.order:
            outlet.arrange = TokenOrder(tap.order)
    module.norm = nn.Identity()
    if isinstance(module, ViT):
        module.fc_norm = nn.Identity()
    return module


def check_whole(module: WholeModule, answers: Answers) -> dict[str, float]:
    """Largest difference of every output from the file's own, over that output's largest value, on generated images.

    Args:
        module: What was found.
        answers: The file's own, ``(B, 3, H, W) float32`` to all of its outputs.

    Raises:
        MismatchError: One is above the tolerance: something was taken for what it is not.
    """
    batch = module.file.batch or 1
    images = np.random.default_rng(0).normal(size=(batch, 3, *module.config.image_size)).astype(np.float32)
    expected = answers(images)
    found = run_parts(module, images)
    errors = {}
    for spec, ours, theirs in zip(module.config.outputs, found, expected, strict=True):
        if ours.shape != theirs.shape:
            raise MismatchError(
                None, f"with its encoder put back {spec.name} is {ours.shape}, the file's {theirs.shape}"
            )
        scale = max(float(np.abs(theirs).max()), 1e-12)
        if np.ptp(theirs) == 0:  # as of a ReLU that is 0 everywhere: equal whatever the encoder gives
            continue
        errors[spec.name] = float(np.abs(ours - theirs).max()) / scale
    if not errors:
        raise MismatchError(None, "on generated images its outputs are one number everywhere, which shows nothing")
    worst = max(errors, key=lambda name: errors[name])
    if not errors[worst] <= TOLERANCE:
        raise MismatchError(
            None, f"with its encoder put back {worst} differs from the file's by {errors[worst]:.2g} of the largest"
        )
    return errors


def run_parts(module: WholeModule, images: npt.NDArray[np.float32]) -> list[npt.NDArray[np.float32]]:
    """The encoder in torch and what is carried in ONNX Runtime: ``(B, 3, H, W) float32`` to all outputs."""
    carried = load_carried(module.file, module.streams, len(images))
    with torch.inference_mode():
        levels = module.tapped(torch.from_numpy(images))
    taps = {tap.name: level.numpy() for tap, level in zip(module.taps, levels, strict=True)}
    feeds = {}
    for value in carried.model.graph.inputs:
        numbers = images if value.name == module.file.input else taps[value.name or ""]
        feeds[value.name or ""] = numbers.reshape(known_shape(value))
    return run_inputs(carried, feeds)
