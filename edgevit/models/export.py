"""Model → Graph: the canonical module in a target's export form, through torch's dynamo exporter."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import nn

from edgevit.core.errors import ExportError
from edgevit.core.packages import require_package
from edgevit.core.pass_record import PassRecord
from edgevit.core.target import ExportForm
from edgevit.graph.graph import BATCH_AXIS, Graph
from edgevit.models.folds import apply_folds
from edgevit.models.model import Model, OwnGraph
from edgevit.models.pixels import PixelModel, copy_structure

if TYPE_CHECKING:
    import onnx_ir as ir

INPUT = "image"


def fold_model(model: Model, form: ExportForm) -> tuple[PixelModel, tuple[PassRecord, ...]]:
    """The module in its export form: ``(B, H, W, 3) uint8`` to ``model.outputs``; ``model`` is not changed."""
    module = copy_structure(model.module)
    pixels = PixelModel(module, model.preprocess, unit_length=model.task.normalize).eval()
    return pixels, apply_folds(pixels, form)


_OLDEST_NAMED = 18
"""torch's exporter writes 18; its way down to 17 goes through ONNX's converter, which loses the modules' names."""


def export_model(
    model: Model, form: ExportForm, *, opset: int = 20, batch: tuple[int, int, int] = (1, 1, 1)
) -> tuple[Graph, tuple[PassRecord, ...]]:
    """Export to ONNX.

    Args:
        model: What :func:`edgevit.checkpoints.read_checkpoint` gave.
        form: Which folds, and which form of q/k/v.
        opset: ONNX opset of the result, which is 18 for an older one: :mod:`edgevit.graph.opset` restates it when all
            passes are through.
        batch: Smallest, usual and largest batch. Three equal numbers make it static; a module that gives its own graph
            takes no other ones, and the build opens it at the end.

    Returns:
        The graph, input ``image (B, H, W, 3) uint8``, outputs as ``model.outputs``; and what was folded.

    Raises:
        MissingPackageError: onnx or onnxscript is not installed.
        ExportError: torch's exporter refused the module; the message ends with its last lines.
    """
    for package in ("onnx", "onnxscript"):
        require_package(package, "exporting")
    if isinstance(model.module, OwnGraph):
        assert batch[0] == batch[2], "a graph of its own is made for one number of images"
        graph, records = model.module.export(model.preprocess, form, batch[0])
        _drop_traces(graph.model)
        return graph, records
    pixels, records = fold_model(model, form)
    height, width = model.config.image_size
    dynamic = batch[0] != batch[2]
    # torch.export takes an example of batch 1 for a constant, so a dynamic batch needs a larger one.
    example = torch.zeros(max(2, batch[1]) if dynamic else batch[1], height, width, 3, dtype=torch.uint8)
    shapes = {"image": {0: torch.export.Dim(BATCH_AXIS, min=batch[0], max=max(2, batch[2]))}} if dynamic else None
    try:
        with quiet_exporter():
            program = torch.onnx.export(
                pixels,
                (example,),
                dynamo=True,
                opset_version=max(opset, _OLDEST_NAMED),
                input_names=[INPUT],
                output_names=[spec.name for spec in model.outputs],
                dynamic_shapes=shapes,
                optimize=False,  # passes.ORDER does it; see passes/fold_constants.py
                verbose=False,
            )
    except Exception as exc:
        last = "\n".join(f"  {line}" for line in str(exc).strip().splitlines()[-5:])
        raise ExportError(
            f"torch's exporter refused {model.source.architecture}:\n{last}",
            f"export with opset 20 and a static batch; torch is {torch.__version__}",
        ) from exc
    assert program is not None
    ir_model = program.model
    ir_model.producer_name, ir_model.producer_version = "edgevit", None
    _drop_traces(ir_model)
    return Graph(ir_model), records


def _drop_traces(model: ir.Model) -> None:
    """The exporter notes for every node the lines of Python that made it, with the folders of this machine."""
    for node in model.graph.all_nodes():
        node.metadata_props.pop("pkg.torch.onnx.stack_trace", None)


def float_module(model: Model) -> nn.Module:
    """The unfolded module behind the same interface, as the reference for parity and accuracy."""
    return PixelModel(model.module, model.preprocess, unit_length=model.task.normalize).eval()


@contextlib.contextmanager
def quiet_exporter() -> Iterator[None]:
    """Silence what torch's exporter prints and warns; what fails raises."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
