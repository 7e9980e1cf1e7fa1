"""A whole model of transformers: exported by transformers' own code and torch, and then read as any ONNX file is.

Only classes that transformers itself has are built, so nothing from the folder is executed. What surrounds an encoder
is not written again here: its own code gives the graph, and the graph is held against its answers.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edgevit.checkpoints.fields import Size
from edgevit.checkpoints.files.files import CheckpointFiles
from edgevit.checkpoints.onnx_file.answers import open_outputs
from edgevit.checkpoints.onnx_file.file import ForeignFile, read_file
from edgevit.checkpoints.onnx_file.whole import WholeModule
from edgevit.checkpoints.onnx_file.whole_reader import read_whole_file
from edgevit.checkpoints.texts.label_texts import LabelTexts
from edgevit.checkpoints.transformers.dense_tasks import DenseTask, find_dense_class, read_dense
from edgevit.checkpoints.transformers.open_vocabulary import LabelledDetector, Queries, read_queries, takes_labels
from edgevit.core.cache import StageCache
from edgevit.core.errors import CheckpointError, last_line
from edgevit.core.packages import require_package
from edgevit.core.progress import Progress, ignore_progress
from edgevit.models.export import quiet_exporter
from edgevit.models.model import Model

LAYOUT = "transformers folder of a depth estimator, segmenter, detector or pose estimator"
ONNX_FILE, RECORD_FILE = "model.onnx", "export.json"
_TOLERANCE = 1e-4
_OPSETS = {"dynamo": 20, "torchscript": 17}
"""Of torch's two exporters, in the order in which they are tried."""


def is_whole(config: Mapping[str, Any]) -> bool:
    """Whether a ``config.json`` is that of a whole model."""
    return find_dense_class(config) is not None


def read_whole_model(
    files: CheckpointFiles,
    image_size: Size | None,
    texts: LabelTexts | None = None,
    progress: Progress = ignore_progress,
) -> Model:
    """Read a folder of a whole model; see :func:`edgevit.checkpoints.read_checkpoint`.

    Raises:
        CheckpointError: It cannot be loaded or exported, no encoder is found in it, or it needs labels and has none.
        DataError: Texts of labels are longer than the text tower takes.
        MissingPackageError: transformers is not installed.
    """
    files.require_weights()
    name = find_dense_class(files.config)
    assert name is not None
    dense = read_dense(files.config, files.image_processor, image_size)
    queries = read_queries(files, texts) if takes_labels(files.config) else None
    folder = _Folder(files, name, dense, queries)
    file, exporter = folder.find_export(1, progress)
    notes = (*dense.notes, f"exported by {exporter}")
    try:
        model = read_whole_file(files, file, dense.preprocess, (), notes)
    except CheckpointError as exc:
        where = f"{name} of {files.source} at {folder.size[0]} × {folder.size[1]} pixels"
        raise CheckpointError(
            exc.message.replace(str(file.path), where),
            "height and width have to be multiples of its patch (--image-size), and its encoder a ViT or a Swin",
        ) from exc
    assert isinstance(model.module, WholeModule)
    model.module.export_for = lambda batch: folder.find_export(batch)[0]
    model.module.config = dataclasses.replace(model.module.config, batch=None)
    source = dataclasses.replace(model.source, layout="transformers folder", architecture=name)
    labels = dense.labels
    if queries is not None:
        labels = queries.labels
        source = dataclasses.replace(
            source, notes=(*source.notes, queries.note), templates=queries.templates, texts=queries.texts
        )
    return dataclasses.replace(model, task=dense.task, labels=labels, source=source, answer=dense.answer)


@dataclass(frozen=True)
class _Folder:
    """What an export is made from.

    Attributes:
        files: The checkpoint.
        name: Its class.
        dense: What its configurations say.
        queries: Of labels that were given as texts.
    """

    files: CheckpointFiles
    name: str
    dense: DenseTask
    queries: Queries | None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of its images."""
        return self.dense.preprocess.height, self.dense.preprocess.width

    def find_export(self, batch: int, progress: Progress = ignore_progress) -> tuple[ForeignFile, str]:
        """The file for a number of images a call, made now or from the cache, and what wrote it."""
        inputs: dict[str, Any] = {"checkpoint": self.files.sha256(), "size": list(self.size), "class": self.name}
        inputs["transformers"] = _find_version()
        if self.queries is not None:
            inputs |= {"texts": self.queries.texts, "labels": len(self.queries.labels)}
        if batch != 1:
            inputs["batch"] = batch

        def export(made: Path) -> None:
            _export(self, batch, made, progress)

        cache = StageCache()
        made, _ = cache.run("whole_export", inputs, export)
        record = json.loads((made / RECORD_FILE).read_text(encoding="utf-8"))
        exporter = f"transformers {record['transformers']} and torch's {record['exporter']}"
        return read_file(made / ONNX_FILE, self.size), exporter


def _export(source: _Folder, batch: int, folder: Path, progress: Progress) -> None:
    """Write the graph by the first of torch's exporters whose graph answers as the module does."""
    files, name, outputs = source.files, source.name, source.dense.answer.outputs
    transformers = require_package("transformers", f"exporting {name}")
    size = (batch, 3, *source.size)
    model = _load(transformers, name, files)
    module: nn.Module = _Outputs(model, outputs)
    if source.queries is not None:
        module = LabelledDetector(model, outputs, source.queries, source.size, progress)
    module.eval()
    pixels = torch.from_numpy(np.random.default_rng(0).normal(size=size).astype(np.float32))
    try:
        with torch.inference_mode():
            expected = [value.numpy() for value in module(pixels)]
    except Exception as exc:  # whatever transformers raises
        raise CheckpointError(
            f"{name} of {files.source} does not answer to an image of {size[2]} × {size[3]} pixels by itself: "
            f"{last_line(exc)}",
            "export it to ONNX by its own tools with what else it needs as a constant, and name that file",
        ) from exc
    problems = []
    for exporter in _OPSETS:
        path = folder / ONNX_FILE
        for old in folder.iterdir():
            old.unlink()
        try:
            _write(module, outputs, pixels, exporter, path)
            found = open_outputs(read_file(path).keep_outputs())(pixels.numpy())
        except CheckpointError as exc:
            problems.append(f"{exporter}: {exc.message}")
            continue
        except Exception as exc:  # whatever torch's exporters raise
            problems.append(f"{exporter}: {last_line(exc)}")
            continue
        error = max(_compare(ours, theirs) for ours, theirs in zip(found, expected, strict=True))
        if error <= _TOLERANCE:
            record = {"exporter": f"{exporter} exporter", "transformers": transformers.__version__, "error": error}
            (folder / RECORD_FILE).write_text(json.dumps(record), encoding="utf-8")
            return
        problems.append(f"{exporter}: its graph differs from the module by {error:.2g} of the largest")
    listed = "\n".join(f"  {problem}" for problem in problems)
    raise CheckpointError(
        f"torch cannot export {name} of {files.source} at {size[2]} × {size[3]} pixels:\n{listed}",
        "export it to ONNX by its own tools, and name that file",
    )


class _Outputs(nn.Module):
    """A model of transformers, with only what the task reads."""

    def __init__(self, model: nn.Module, names: tuple[str, ...]) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, ...]:
        result = self.model(pixel_values=pixel_values, return_dict=True)
        return tuple(getattr(result, name) for name in self.names)


def _load(transformers: Any, name: str, files: CheckpointFiles) -> nn.Module:
    try:
        kind = getattr(transformers, name)
    except (AttributeError, ImportError, RuntimeError) as exc:
        raise CheckpointError(
            f"transformers {transformers.__version__} cannot give its class {name}: {last_line(exc)}",
            "pip install --upgrade transformers torchvision, or export the model to ONNX and name that file",
        ) from exc
    try:
        with _quiet_transformers(transformers):
            model, info = kind.from_pretrained(
                str(files.path),
                local_files_only=True,
                attn_implementation="eager",
                dtype=torch.float32,
                output_loading_info=True,
            )
    except Exception as exc:
        raise CheckpointError(
            f"transformers cannot load {name} from {files.source}: {last_line(exc)}", "check the folder's files"
        ) from exc
    missing = sorted(info.get("missing_keys", ()))
    if missing:
        from edgevit.core.errors import format_offenders

        raise CheckpointError(
            f"{files.source} lacks tensors of {name}, which transformers would fill with random numbers:\n"
            + format_offenders(missing),
            "name the folder that the whole model was saved in",
        )
    whole: nn.Module = model.eval().requires_grad_(False)
    return whole


@contextlib.contextmanager
def _quiet_transformers(transformers: Any) -> Any:
    """Without the bars and advice of loading; what is missing is in the loading info."""
    log = transformers.utils.logging
    before, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(before)
        if bars:
            log.enable_progress_bar()


def _write(module: nn.Module, outputs: tuple[str, ...], pixels: Tensor, exporter: str, path: Path) -> None:
    more: dict[str, Any] = {"dynamo": False}
    if exporter == "dynamo":
        more = {"dynamo": True, "external_data": True, "verbose": False}
    with quiet_exporter(), torch.no_grad():
        torch.onnx.export(
            module,
            (pixels,),
            str(path),
            opset_version=_OPSETS[exporter],
            input_names=["pixel_values"],
            output_names=list(outputs),
            **more,
        )


def _compare(ours: np.ndarray, theirs: np.ndarray) -> float:
    if ours.shape != theirs.shape:
        return float("inf")
    return float(np.abs(ours - theirs).max() / max(float(np.abs(theirs).max()), 1e-12))


def _find_version() -> str:
    from importlib import metadata

    try:
        return metadata.version("transformers")
    except metadata.PackageNotFoundError:
        return ""
