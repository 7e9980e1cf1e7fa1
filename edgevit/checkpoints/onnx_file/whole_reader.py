"""An ONNX file of a whole model: an encoder with something else than a classifier behind it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from edgevit.checkpoints.files.files import CheckpointFiles
from edgevit.checkpoints.onnx_file.answers import open_outputs
from edgevit.checkpoints.onnx_file.file import ForeignFile
from edgevit.checkpoints.onnx_file.lift import name_blocks
from edgevit.checkpoints.onnx_file.prepare import load_graph, refuse_branches
from edgevit.checkpoints.onnx_file.whole import WholeModule, check_whole, read_whole
from edgevit.core.engine import TensorSpec
from edgevit.core.errors import CheckpointError, count_things
from edgevit.core.pass_record import PassRecord
from edgevit.core.task import Task
from edgevit.graph.graph import Graph, static_shape
from edgevit.graph.passes import FOREIGN
from edgevit.graph.passes.optimize import apply_passes
from edgevit.graph.patterns.pieces import MismatchError
from edgevit.models.model import Model, Source
from edgevit.pixels.preprocess import Preprocess


@dataclass(frozen=True)
class Whole:
    """What was made of a file.

    Attributes:
        module: Its encoder, canonical, inside what is carried.
        records: What was rewritten on the way.
        sentence: On what was found.
    """

    module: WholeModule
    records: tuple[PassRecord, ...]
    sentence: str


def read_whole_file(
    files: CheckpointFiles, file: ForeignFile, preprocess: Preprocess, assumed: tuple[str, ...], notes: tuple[str, ...]
) -> Model:
    """Read a file whose outputs are no logits.

    Raises:
        CheckpointError: No encoder is found in it, or what was found does not answer as the file does.
    """
    if not (kept := file.keep_outputs()).whole:
        raise CheckpointError(f"{file.path} has no output of float32", "export it with its maps, boxes or logits")
    dropped = [name for name in (file.output, *file.others) if name and name not in kept.whole]
    try:
        graph, records = load_graph(kept, 1)
        records = (*records, *apply_passes(graph, FOREIGN))
        refuse_branches(graph, kept)
        whole = _read(kept, graph, classes=0)
    except MismatchError as exc:
        refused = f"{exc.site}: {exc.reason}" if exc.site != "graph" else exc.reason
        of_one = ", for one image" if file.batch not in (None, 1) else ""
        raise CheckpointError(
            f"{file.path} gives no logits, and no encoder was found in it whole: {refused}",
            f"edgevit builds what surrounds a ViT or a Swin; export it at a fixed size{of_one}, in evaluation mode",
        ) from exc
    if dropped:
        notes = (*notes, f"left out are outputs of another type than float32: {', '.join(dropped)}")
    source = make_source(files, file, (whole.sentence, *notes, *describe_file(file)))
    records = (*records, *whole.records)
    return Model(
        whole.module, preprocess, None, source, Task("map"), assumed=assumed, answers=file.path, passes=records
    )


def try_whole(file: ForeignFile, graph: Graph) -> Whole | None:
    """A classifier whose head the canonical model does not have; ``None`` where no encoder is found either."""
    shape = static_shape(graph.model.graph.outputs[0]) or ()
    if file.flat or len(shape) != 2:
        return None
    try:
        return _read(file, graph, classes=shape[1])
    except MismatchError:
        return None


def _read(file: ForeignFile, graph: Graph, classes: int) -> Whole:
    specs = []
    for number, value in enumerate(graph.model.graph.outputs):
        shape = static_shape(value)
        if shape is None:
            raise MismatchError(value.producer(), f"the shape of the output {value.name} depends on the image")
        if not shape or shape[0] != 1:
            raise MismatchError(value.producer(), f"the output {value.name} is {shape}, without an axis of images")
        name = "logits" if classes else _make_name(value.name or f"output{number}")
        specs.append(TensorSpec(name, ("batch", *shape[1:]), "float32"))
    module = read_whole(file, graph, tuple(specs), classes)
    errors = check_whole(module, open_outputs(file))
    blocks = name_blocks(module.encoder.config)  # type: ignore[arg-type]
    worst = max(errors.values())
    carried = ", ".join(f"{count} {op}" for op, count in _list_heavy(module))
    read = "; ".join(f"read behind {_describe_tap(module, tap.level, tap.norm is not None)}" for tap in module.taps)
    sentence = (
        f"an encoder was found whole: {type(module.encoder.config).__name__.removesuffix('Config')}, "
        f"{count_things(len(blocks), 'block')}, {read}; carried as it is: {carried or 'nothing'}; "
        f"with the encoder put back the outputs differ from the file's by {worst:.1e} of the largest"
    )
    records = (PassRecord("recover_encoder", "graph", blocks, module.near),)
    return Whole(module, records, sentence)


def _describe_tap(module: WholeModule, level: int, norm: bool) -> str:
    place = f"{module.encoder.config.level_name} {level}"  # type: ignore[union-attr]
    return f"{place} and its norm" if norm else place


def _list_heavy(module: WholeModule) -> list[tuple[str, int]]:
    """What computes in the carried graph."""
    heavy = ("Conv", "ConvTranspose", "MatMul", "Gemm", "Resize", "Softmax", "GridSample", "TopK")
    return [(op, module.carried_ops[op]) for op in heavy if op in module.carried_ops]


def _make_name(name: str) -> str:
    """A name that is a file's too."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", name).strip("_.") or "output"


def make_source(files: CheckpointFiles, file: ForeignFile, notes: tuple[str, ...]) -> Source:
    """Where a model of an ONNX file came from."""
    path = file.path
    return Source(
        path=files.source,
        layout=f"ONNX file by {file.producer}, opset {file.opset}",
        architecture=path.stem if path.stem != "model" else path.resolve().parent.name,
        sha256=files.sha256(),
        notes=notes,
    )


def describe_file(file: ForeignFile) -> tuple[str, ...]:
    """What is said of the file's size where that is open."""
    if not file.open_size:
        return ()
    size = f"{file.image_size[0]} × {file.image_size[1]} pixels"
    return (f"height and width are open in the file: it is built for {size}",)
