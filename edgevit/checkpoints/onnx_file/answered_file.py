"""An ONNX file of a whole model with transformers' ``config.json`` beside it, which says what its outputs are."""

from __future__ import annotations

import dataclasses

from edgevit.checkpoints.fields import Size
from edgevit.checkpoints.files.files import CheckpointFiles
from edgevit.checkpoints.onnx_file.file import read_file
from edgevit.checkpoints.onnx_file.whole_reader import read_whole_file
from edgevit.checkpoints.transformers.dense_tasks import DenseTask, read_dense
from edgevit.core.answer import Answer
from edgevit.core.errors import CheckpointError, format_offenders
from edgevit.models.model import Model


def read_answered_file(files: CheckpointFiles, image_size: Size | None) -> Model:
    """Read a file whose ``config.json`` names one of ``DENSE_CLASSES``.

    Outputs are known by their names, as transformers has them; where a file has others and as many, by their order.

    Raises:
        CheckpointError: No encoder is found in it, or its outputs are not those of the class.
    """
    dense = read_dense(files.config, files.image_processor, image_size)
    stored = dense.preprocess.height, dense.preprocess.width
    file = read_file(files.weights[0], image_size, otherwise=stored)
    files = dataclasses.replace(files, extra=file.data)
    if file.image_size != stored:
        dense = read_dense(files.config, files.image_processor, file.image_size)
    beside = "its task, preprocessing and class names are those of the files beside it"
    model = read_whole_file(files, file, dense.preprocess, (), (*dense.notes, beside))
    answer = _name_outputs(dense, model, files.source)
    return dataclasses.replace(model, task=dense.task, labels=dense.labels, answer=answer)


def _name_outputs(dense: DenseTask, model: Model, where: str) -> Answer:
    names = tuple(spec.name for spec in model.outputs)
    wanted = dense.answer.outputs
    answer = dense.answer
    if not set(wanted) <= set(names) and len(names) == len(wanted):
        answer = dataclasses.replace(answer, outputs=names)
    problems = answer.find_problems(model.outputs, None if dense.labels is None else len(dense.labels))
    if problems:
        raise CheckpointError(
            f"{where} does not give what the config.json beside it says:\n{format_offenders(problems)}",
            f"export it with the outputs {', '.join(wanted)}, or without a config.json (--task map)",
        )
    return answer
