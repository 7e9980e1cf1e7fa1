"""The float model's own answers, which every engine is compared with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from edgevit.core.errors import CheckpointError, count_things, format_offenders
from edgevit.core.progress import Progress, ignore_progress
from edgevit.runtime.session import Outputs

if TYPE_CHECKING:
    from edgevit.models.model import Model
    from edgevit.pixels.images import ImageSet

PIXELS_AT_A_TIME = 8 * 224 * 224  # large enough to keep a core busy, small enough for a small machine


def run_module(model: Model) -> Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]]:
    """The unfolded module as ``(B, H, W, 3) uint8 → (B, K) float32``: its one output."""
    run = run_outputs(model)
    return lambda batch: run(batch)[0]


def run_outputs(model: Model) -> Callable[[npt.NDArray[np.uint8]], Outputs]:
    """The unfolded module, or the ONNX file that it came from: ``(B, H, W, 3) uint8`` to all of ``model.outputs``."""
    if model.answers is not None:
        from edgevit.checkpoints.onnx_file.answers import answer_pixels

        return answer_pixels(model.answers, model.preprocess, whole=model.task.is_whole)
    import torch

    from edgevit.models.export import float_module

    module = float_module(model)

    def run(batch: npt.NDArray[np.uint8]) -> Outputs:
        with torch.inference_mode():
            result = module(torch.from_numpy(np.ascontiguousarray(batch)))
        return tuple(value.numpy() for value in (result if isinstance(result, tuple) else (result,)))

    return run


def compute_reference(model: Model, pixels: npt.NDArray[np.uint8]) -> Outputs:
    """The module's answers to a few images, ``(N, H, W, 3) uint8`` to ``(N, …) float32`` for each of its outputs.

    A few at a time: the activations of all of them may take more memory than the weights.
    """
    run = run_outputs(model)
    size = _choose_batch(model)
    parts = [run(pixels[start : start + size]) for start in range(0, len(pixels), size)]
    return tuple(np.concatenate(values) for values in zip(*parts, strict=True))


def _choose_batch(model: Model) -> int:
    height, width = model.config.image_size
    return min(256, max(1, PIXELS_AT_A_TIME // (height * width)))


def save_reference(
    model: Model, images: ImageSet, folder: Path, *, progress: Progress = ignore_progress, stage: str = "reference"
) -> None:
    """Run the module over a set and write each of its outputs, ``(N, …) float32`` in NumPy's format.

    Written image by image, so memory does not grow with the set; :func:`load_reference` reads them.

    Raises:
        CheckpointError: Answers that are not finite, with the images that gave them.
    """
    run = run_outputs(model)
    stored = []
    for spec in model.outputs:
        shape = (len(images), *(side for side in spec.shape[1:] if isinstance(side, int)))
        stored.append(np.lib.format.open_memmap(folder / f"{spec.name}.npy", "w+", np.float32, shape))
    bad: list[str] = []
    done = 0
    progress(stage, 0, len(images))
    for batch in images.batches(model.preprocess, _choose_batch(model)):
        answers = run(batch.pixels)
        for values, answer in zip(stored, answers, strict=True):
            bad += [f for f, row in zip(batch.files, answer, strict=True) if not np.isfinite(row).all()]
            values[done : done + len(answer)] = answer
        done += len(batch.pixels)
        progress(stage, done, len(images))
    for values in stored:
        values.flush()
    bad = list(dict.fromkeys(bad))
    if bad:
        raise CheckpointError(
            f"the float model's own answers are not finite for {count_things(len(bad), 'image')}:\n"
            + format_offenders(bad),
            "the checkpoint is damaged, or was trained to values beyond float32's range",
        )


def load_reference(model: Model, folder: Path) -> Outputs:
    """What :func:`save_reference` wrote, mapped from disk."""
    return tuple(np.load(folder / f"{spec.name}.npy", mmap_mode="r") for spec in model.outputs)


def generate_images(count: int, height: int, width: int, seed: int) -> npt.NDArray[np.uint8]:
    """Smooth coloured noise ``(count, height, width, 3) uint8``, for parity where no images were given."""
    from PIL import Image

    generator = np.random.default_rng(seed)
    images = []
    for _ in range(count):
        coarse = generator.integers(0, 256, (8, 8, 3), np.uint8)
        smooth = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        grain = generator.normal(0, 12, (height, width, 3))
        images.append(np.clip(np.asarray(smooth, np.float64) + grain, 0, 255).astype(np.uint8))
    return np.stack(images)
