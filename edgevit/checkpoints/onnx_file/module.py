"""A file that was recognised in part: its graph in place of a canonical module."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from edgevit.checkpoints.onnx_file.file import ForeignFile
from edgevit.checkpoints.onnx_file.front import put_front
from edgevit.checkpoints.onnx_file.prepare import load_graph
from edgevit.core.errors import CheckpointError, CompileError, count_things
from edgevit.core.pass_record import PassRecord
from edgevit.core.target import ExportForm
from edgevit.graph.graph import Graph, static_shape
from edgevit.graph.passes import FOREIGN, PARTIAL
from edgevit.graph.passes.optimize import apply_passes
from edgevit.pixels.preprocess import Preprocess


@dataclass(frozen=True)
class ForeignConfig:
    """What the line reads of a model's config.

    Attributes:
        image_size: Height and width of the input in pixels.
        classes: Length of the logits.
        batch: Images a call that the file is fixed to; ``None`` for any number.
    """

    image_size: tuple[int, int]
    classes: int
    batch: int | None


class ForeignModule(nn.Module):
    """Stands where a canonical module does; it has the shapes of the file's weights and cannot run.

    The file's own answers are the float reference, and :meth:`export` gives its rewritten graph.

    Args:
        file: The file.
        graph: What ``FOREIGN`` and ``PARTIAL`` made of it, to be described.
        whole: Why it is no canonical module.
        batch: Images a call that its graph is fixed to; ``None`` for any number.

    Raises:
        CheckpointError: Its output is not one row of logits an image.
    """

    family = "onnx"

    def __init__(self, file: ForeignFile, graph: Graph, whole: PassRecord, batch: int | None) -> None:
        super().__init__()
        self.file, self.whole = file, whole
        self.config = ForeignConfig(file.image_size, _count_classes(file, graph), batch)
        self.sites = graph.sites()
        weights = [  # their shapes, for whoever counts; the numbers stay in the file
            torch.empty(tuple(value.const_value.shape.numpy()), device="meta")
            for value in graph.model.graph.initializers.values()
            if value.const_value is not None and value.const_value.dtype.is_floating_point()
        ]
        self.weights = nn.ParameterList([nn.Parameter(w, requires_grad=False) for w in weights])

    def forward(self, pixels: Tensor) -> Tensor:
        """Raise CompileError: there is nothing that runs in torch."""
        raise CompileError(
            f"{self.file.path} was recognised in part: it has no module that runs in torch",
            "build it in float; edgevit inspect says what was not recognised and why",
        )

    def export(self, preprocess: Preprocess, form: ExportForm, batch: int) -> tuple[Graph, tuple[PassRecord, ...]]:
        """The graph in the form that engines fuse: ``(B, H, W, 3) uint8 → (B, classes) float32``.

        Raises:
            CompileError: A number of images that the file does not take.
        """
        refuse_batch(self.file, self.config.batch, batch)
        graph, loaded = load_graph(self.file, batch)
        records = (*loaded, *apply_passes(graph, FOREIGN), *apply_passes(graph, PARTIAL[form.qkv]))
        front = put_front(graph, preprocess, fold=form.fold_input_normalization)
        return graph, (*records, front, self.whole)


def refuse_batch(file: ForeignFile, fixed: int | None, batch: int) -> None:
    """Raise CompileError for a number of images a call that a file does not take.

    Args:
        file: The file.
        fixed: Images a call that its graph is fixed to; ``None`` for any number.
        batch: What is asked for.
    """
    if fixed not in (None, batch):
        raise CompileError(
            f"{file.path} was exported for {count_things(fixed or 0, 'image')} a call, not {batch}",
            f"give --batch {fixed}, or export it again with an open batch",
        )


# By its number of axes: what an output is that is no logits.
_OTHER_OUTPUTS = {
    1: (
        ": one number an image, whose axis of classes was taken away",
        "export it without that squeeze, so that its output is (batch, 1)",
    ),
}


def _count_classes(file: ForeignFile, graph: Graph) -> int:
    shape = static_shape(graph.model.graph.outputs[0]) or ()
    if len(shape) != 2:
        what, hint = _OTHER_OUTPUTS.get(len(shape), ("", "export the classifier with its head"))
        raise CheckpointError(f"{file.path}: its output {file.output} is {shape}, not (batch, classes){what}", hint)
    return shape[1]
