"""An ONNX file that somebody else exported, alone or in a folder as Optimum leaves it."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgevit.checkpoints.fields import Fields, Size
from edgevit.checkpoints.files.files import ONNX, CheckpointFiles
from edgevit.checkpoints.labels import read_labels, read_scores
from edgevit.checkpoints.onnx_file.answered_file import read_answered_file
from edgevit.checkpoints.onnx_file.answers import Answer, open_answers
from edgevit.checkpoints.onnx_file.endings import refuse_ending
from edgevit.checkpoints.onnx_file.file import ForeignFile, read_file
from edgevit.checkpoints.onnx_file.lift import check_module, fill_module, lift_graph, name_blocks
from edgevit.checkpoints.onnx_file.module import ForeignModule
from edgevit.checkpoints.onnx_file.prepare import load_graph, refuse_branches
from edgevit.checkpoints.onnx_file.whole_reader import describe_file, make_source, read_whole_file, try_whole
from edgevit.checkpoints.preprocess_configs import read_timm_preprocess, read_transformers_preprocess
from edgevit.checkpoints.preprocess_options import describe_assumed
from edgevit.checkpoints.timm.timm import CFG_KEYS
from edgevit.checkpoints.transformers.dense_tasks import find_dense_class
from edgevit.core.errors import CheckpointError, count_things
from edgevit.core.pass_record import PassRecord, Skip
from edgevit.core.task import Task
from edgevit.graph.graph import Graph, static_shape
from edgevit.graph.passes import FOREIGN, PARTIAL
from edgevit.graph.passes.optimize import apply_passes
from edgevit.graph.patterns.pieces import MismatchError
from edgevit.models.model import Model
from edgevit.pixels.preprocess import Preprocess

LAYOUT = "ONNX file (.onnx) of a ViT, DeiT or Swin classifier"
_ASSUMED = ("mean", "std", "resize", "interpolation")
_ARITHMETIC = {"Add", "Div", "Mul", "Sub"}


def recognise(files: CheckpointFiles) -> bool:
    """A file with ONNX's ending."""
    return len(files.weights) == 1 and files.weights[0].suffix == ONNX


def read(files: CheckpointFiles, arch: str | None, image_size: Size | None) -> Model:
    """Read an ONNX file; see :func:`edgevit.checkpoints.read_checkpoint`."""
    path = files.weights[0]
    if arch is not None:
        raise CheckpointError(
            f"{files.source} is an ONNX file, whose graph says its architecture",
            "leave --arch out: it is for bare weight files",
        )
    if files.which == "ema":
        raise CheckpointError(f"{files.source} is an ONNX file, which has one set of weights", "leave --weights out")
    if find_dense_class(files.config) is not None:
        return read_answered_file(files, image_size)
    file = read_file(path, image_size, otherwise=_stored_size(files))
    files = dataclasses.replace(files, extra=file.data)
    preprocess, assumed, notes = _read_preprocess(files, file.image_size)
    if file.refusal is not None:
        return read_whole_file(files, file, preprocess, assumed, notes)
    answer = open_answers(file)
    if file.open_size or file.batch is None:  # what is said to be open need not be so: the graph decides
        answer(np.zeros((file.batch or 1, 3, *file.image_size), np.float32))
    graph, loaded, fixed = _load(file)
    if len(static_shape(graph.model.graph.outputs[0]) or ()) > 2:
        return read_whole_file(files, file, preprocess, assumed, notes)
    refuse_ending(graph, answer, file.image_size, files.source)
    own = sorted({use.node.op_type for use in graph.model.graph.inputs[0].uses()} & _ARITHMETIC)
    if own:
        note = "the graph scales or shifts the image itself, and mean and standard deviation come before that"
        notes = (*notes, f"{note}: {', '.join(own)}")
    module, records, recognised = _recover(file, graph, loaded, fixed, answer, files.source)
    classes = module.config.classes
    labels, unnamed = read_labels(_stored_labels(files.config), classes, "config.json")
    notes = (*notes, *describe_file(file))
    if file.flat:
        notes = (*notes, "the output lacks an axis of images or of classes, of length 1: it is read as with both")
    if file.others:
        notes = (*notes, f"the logits are the output {file.output}; left out: {', '.join(file.others)}")
    partial = isinstance(module, ForeignModule)
    reason = (
        "the ONNX file was recognised in part, and quantising needs the whole: edgevit inspect says what is missing"
    )
    return Model(
        module,
        preprocess,
        labels,
        make_source(files, file, (recognised, *notes, *unnamed)),
        Task("classify", scores=read_scores(files.config, "config.json")),
        assumed=assumed,
        answers=path,
        passes=records,
        float_only=reason if partial else "",
    )


def _load(file: ForeignFile) -> tuple[Graph, tuple[PassRecord, ...], MismatchError | None]:
    """The graph for one image a call, what was rewritten, and why it takes several where it cannot be restated."""
    fixed = None
    try:
        graph, records = load_graph(file, 1)
    except MismatchError as exc:
        reason = f"it was exported for {file.batch} images a call and cannot be brought to one: {exc.reason}"
        fixed = MismatchError(None, f"{exc.site}: {reason}")
        graph, records = load_graph(file, file.batch or 1)
    records = (*records, *apply_passes(graph, FOREIGN))
    refuse_branches(graph, file)
    return graph, records, fixed


def _recover(
    file: ForeignFile,
    graph: Graph,
    records: tuple[PassRecord, ...],
    fixed: MismatchError | None,
    answer: Answer,
    where: str,
) -> tuple[Any, tuple[PassRecord, ...], str]:
    """The canonical module, what was rewritten on the way, and a sentence on it; else the rewritten graph."""
    try:
        if fixed is not None:
            raise fixed
        config, state = lift_graph(graph)
        module = fill_module(config, state, where)
        error = check_module(module, config, answer)
    except MismatchError as exc:
        whole = try_whole(file, graph) if fixed is None else None
        if whole is not None:
            return whole.module, (*records, *whole.records), f"{exc.site}: {exc.reason}; {whole.sentence}"
        # One image is what ONNX calls no batch: nothing tells it from any other axis of one.
        batch = file.batch if fixed is not None or file.batch == 1 else None
        return _keep_graph(file, graph, exc, where, batch)
    blocks = name_blocks(config)
    sentence = (
        f"the whole graph was recognised: {type(config).__name__.removesuffix('Config')}, "
        f"{count_things(len(blocks), 'block')}; "
        f"its {'logits differ' if config.classes else 'features differ'} from the file's by {error:.1e} of the largest"
    )
    return module, (*records, PassRecord("recover_module", "graph", blocks)), sentence


def _keep_graph(
    file: ForeignFile, graph: Graph, mismatch: MismatchError, where: str, batch: int | None
) -> tuple[ForeignModule, tuple[PassRecord, ...], str]:
    """What stands for a graph that is no canonical model as a whole; refused where nothing in it is attention."""
    whole = PassRecord("recover_module", "graph", skipped=(Skip(mismatch.site, mismatch.reason),))
    attention = next(r for r in apply_passes(graph, PARTIAL["separate"]) if r.name == "fuse_attention")
    if not attention.applied and not attention.skipped:
        common = ", ".join(f"{n} {op}" for op, n in Counter(n.op_type for n in graph.model.graph).most_common(4))
        raise CheckpointError(
            f"{where} is no vision transformer: it has no attention, but {common}",
            "edgevit builds ViT, DeiT and Swin classifiers",
        )
    total = len(attention.applied) + len(attention.skipped)
    sentence = (
        f"the graph was recognised in part, {len(attention.applied)} of {total} attentions: "
        f"{mismatch.site}: {mismatch.reason}"
    )
    return ForeignModule(file, graph, whole, batch), (), sentence


def _read_preprocess(files: CheckpointFiles, size: Size) -> tuple[Preprocess, tuple[str, ...], tuple[str, ...]]:
    """From the files beside the graph: the preprocessing, what is assumed of it, and notes."""
    config = files.config
    stored = files.image_processor
    timm: Mapping[str, Any] = config.get("pretrained_cfg") or config
    if stored is not None:
        preprocess, notes = read_transformers_preprocess(stored, _model_type(config))
        where = "preprocessor_config.json"
    elif any(timm.get(key) for key in CFG_KEYS):
        preprocess, notes = read_timm_preprocess(timm, size)
        where = "config.json"
    else:
        preprocess, _ = read_timm_preprocess({"crop_pct": 1.0, "interpolation": "bilinear"}, size)
        return preprocess, _ASSUMED, (describe_assumed(preprocess, _ASSUMED),)
    if (preprocess.height, preprocess.width) != size:
        preprocess = preprocess.with_size(*size)
        notes = (*notes, f"{where} is of another size; the graph takes {size[0]} × {size[1]} pixels")
    return preprocess, (), (*notes, f"preprocessing and class names are those of {Path(where).name} beside it")


def _stored_size(files: CheckpointFiles) -> Size | None:
    """What the files beside a graph say of its images' height and width: what they are cropped to, before all else."""
    config, stored = files.config, files.image_processor
    timm: Mapping[str, Any] = config.get("pretrained_cfg") or config
    if stored is not None or timm.get("input_size"):
        if stored is not None:
            preprocess, _ = read_transformers_preprocess(stored, _model_type(config))
        else:
            preprocess, _ = read_timm_preprocess(timm)
        return preprocess.height, preprocess.width
    if config.get("image_size") is None:
        return None
    fields = Fields(config, "config.json")
    size = fields.size("image_size", (0, 0))
    return fields.finish(lambda: size)


def _model_type(config: Mapping[str, Any]) -> str | None:
    value = config.get("model_type")
    return value if isinstance(value, str) else None


def _stored_labels(config: Mapping[str, Any]) -> Any:
    timm = config.get("pretrained_cfg") or {}
    return config.get("id2label") or config.get("label_names") or timm.get("label_names") or config.get("labels")
