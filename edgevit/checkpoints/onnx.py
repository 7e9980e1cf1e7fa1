"""An ONNX file that somebody else exported, alone or in a folder as Optimum leaves it."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgevit.checkpoints.fields import Size
from edgevit.checkpoints.files import ONNX, CheckpointFiles
from edgevit.checkpoints.labels import read_labels
from edgevit.errors import CheckpointError
from edgevit.foreign.answers import Answer, open_answers
from edgevit.foreign.file import ForeignFile, read_file
from edgevit.foreign.lift import check_module, fill_module, lift_graph, name_blocks
from edgevit.foreign.module import ForeignModule
from edgevit.foreign.pieces import MismatchError
from edgevit.foreign.prepare import apply_passes, load_graph
from edgevit.graph import Graph
from edgevit.model import Model, Source
from edgevit.movement import strip_reshapes
from edgevit.passes import FOREIGN, PARTIAL
from edgevit.preprocess import Preprocess
from edgevit.preprocess_configs import read_timm_preprocess, read_transformers_preprocess
from edgevit.record import PassRecord, Skip

LAYOUT = "ONNX file (.onnx) of a ViT, DeiT or Swin classifier"
_ASSUMED = ("mean", "std", "resize", "interpolation")
_TIMM_KEYS = ("mean", "std", "crop_pct", "interpolation")


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
    file = read_file(path, image_size)
    files = dataclasses.replace(files, extra=file.data)
    preprocess, assumed, notes = _read_preprocess(files, file.image_size)
    answer = open_answers(file)
    module, records, recognised = _recover(file, answer, files.source)
    classes = module.config.classes
    labels, unnamed = read_labels(_stored_labels(files.config), classes, "config.json")
    if file.others:
        notes = (*notes, f"the logits are the output {file.output}; left out: {', '.join(file.others)}")
    source = Source(
        path=files.source,
        layout=f"ONNX file by {file.producer}, opset {file.opset}",
        architecture=path.stem if path.stem != "model" else path.resolve().parent.name,
        sha256=files.sha256(),
        notes=(recognised, *notes, *unnamed),
    )
    partial = isinstance(module, ForeignModule)
    reason = (
        "the ONNX file was recognised in part, and quantising needs the whole: edgevit inspect says what is missing"
    )
    return Model(
        module,
        preprocess,
        labels,
        source,
        assumed=assumed,
        answers=path,
        passes=records,
        float_only=reason if partial else "",
    )


def _recover(file: ForeignFile, answer: Answer, where: str) -> tuple[Any, tuple[PassRecord, ...], str]:
    """The canonical module, what was rewritten on the way, and a sentence on it; else the rewritten graph."""
    graph, loaded = load_graph(file, file.batch or 1)
    records = (*loaded, *apply_passes(graph, FOREIGN))
    _refuse_probabilities(graph, where)
    try:
        if file.batch not in (None, 1):
            raise MismatchError(None, f"it was exported for {file.batch} images a call: parts are read for one")
        config, state = lift_graph(graph)
        module = fill_module(config, state, where)
        error = check_module(module, config, answer)
    except MismatchError as exc:
        return _keep_graph(file, graph, exc, where)
    blocks = name_blocks(config)
    sentence = (
        f"the whole graph was recognised: {type(config).__name__.removesuffix('Config')}, {len(blocks)} blocks; "
        f"its logits differ from the file's by {error:.1e} of the largest"
    )
    return module, (*records, PassRecord("recover_module", "graph", blocks)), sentence


def _keep_graph(
    file: ForeignFile, graph: Graph, mismatch: MismatchError, where: str
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
    return ForeignModule(file, graph, whole), (), sentence


def _refuse_probabilities(graph: Graph, where: str) -> None:
    node = strip_reshapes(graph.model.graph.outputs[0]).producer()
    if node is not None and node.op_type in ("Softmax", "LogSoftmax", "Sigmoid"):
        raise CheckpointError(
            f"{where} ends in {node.op_type}: it gives probabilities, and a build compares logits",
            f"export the model without the {node.op_type}; edgevit run shows probabilities",
        )


def _read_preprocess(files: CheckpointFiles, size: Size) -> tuple[Preprocess, tuple[str, ...], tuple[str, ...]]:
    """From the files beside the graph: the preprocessing, what is assumed of it, and notes."""
    config = files.config
    stored = files.configs.get("preprocessor_config.json")
    timm: Mapping[str, Any] = config.get("pretrained_cfg") or config
    if stored is not None:
        model_type = config.get("model_type")
        preprocess, notes = read_transformers_preprocess(stored, model_type if isinstance(model_type, str) else None)
        where = "preprocessor_config.json"
    elif any(timm.get(key) for key in _TIMM_KEYS):
        preprocess, notes = read_timm_preprocess(timm, size)
        where = "config.json"
    else:
        preprocess, _ = read_timm_preprocess({"crop_pct": 1.0, "interpolation": "bilinear"}, size)
        note = (
            f"preprocessing is not known; for random pixels it does not matter, and assumed is: {preprocess.describe()}"
        )
        return preprocess, _ASSUMED, (note,)
    if (preprocess.height, preprocess.width) != size:
        preprocess = preprocess.with_size(*size)
        notes = (*notes, f"{where} is of another size; the graph takes {size[0]} × {size[1]} pixels")
    return preprocess, (), (*notes, f"preprocessing and class names are those of {Path(where).name} beside it")


def _stored_labels(config: Mapping[str, Any]) -> Any:
    timm = config.get("pretrained_cfg") or {}
    return config.get("id2label") or config.get("label_names") or timm.get("label_names") or config.get("labels")
