"""The file's own answers, by ONNX Runtime: the reference of everything that is built from it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgevit.checkpoints.onnx_file.file import ForeignFile
from edgevit.core.cores import limit_threads
from edgevit.core.errors import CheckpointError, last_line
from edgevit.core.packages import require_package
from edgevit.pixels.preprocess import Preprocess, to_nchw

Answer = Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]
Answers = Callable[[npt.NDArray[np.float32]], tuple[npt.NDArray[np.float32], ...]]


def open_answers(file: ForeignFile) -> Answer:
    """Run the file as it is: ``(B, 3, H, W) float32 → (B, classes) float32``, for any ``B``.

    Raises:
        CheckpointError: ONNX Runtime refuses it.
    """
    answers = open_outputs(file)
    return lambda images: answers(images)[0]


def open_outputs(file: ForeignFile) -> Answers:
    """The same with all outputs that are kept, ``(B, …) float32`` each.

    Raises:
        CheckpointError: ONNX Runtime refuses it.
    """
    ort = require_package("onnxruntime", f"running {file.path}")
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = limit_threads()
    try:
        session = ort.InferenceSession(str(file.path), options, providers=["CPUExecutionProvider"])
    except Exception as exc:  # onnxruntime's own classes share no base
        raise CheckpointError(
            f"ONNX Runtime refuses {file.path}: {last_line(exc)}", "check it with onnx.checker, and export it again"
        ) from exc

    def answers(images: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float32], ...]:
        size = file.batch or len(images)
        parts = []
        for start in range(0, len(images), size):
            batch = images.take(range(start, start + size), axis=0, mode="clip")  # the last image again and again
            try:
                found = session.run(list(file.outputs), {file.input: batch})
            except Exception as exc:
                raise CheckpointError(
                    f"ONNX Runtime cannot run {file.path} on {len(batch)} × 3 × {batch.shape[2]} × {batch.shape[3]}: "
                    f"{last_line(exc)}",
                    "check the size and the number of images that it was exported for",
                ) from exc
            parts.append([values.reshape(size, -1) for values in found] if file.flat else found)
        return tuple(np.concatenate(values)[: len(images)] for values in zip(*parts, strict=True))

    return answers


def answer_pixels(
    path: Path, preprocess: Preprocess, *, whole: bool = False
) -> Callable[[npt.NDArray[np.uint8]], tuple[npt.NDArray[np.float32], ...]]:
    """The same on preprocessed pixels: ``(B, H, W, 3) uint8`` to the logits, or to all outputs of a whole model."""
    from edgevit.checkpoints.onnx_file.file import read_file

    file = read_file(path, (preprocess.height, preprocess.width))
    answers = open_outputs(file.keep_outputs() if whole else file)

    def run(pixels: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.float32], ...]:
        return answers(to_nchw(preprocess.normalize(pixels)))

    return run
