"""The float model's own answers, which every engine is compared with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from edgevit.errors import CheckpointError, format_offenders
from edgevit.progress import Progress, ignore_progress

if TYPE_CHECKING:
    from edgevit.images import ImageSet
    from edgevit.model import Model

PIXELS_AT_A_TIME = 8 * 224 * 224  # large enough to keep a core busy, small enough for a small machine


def run_module(model: Model) -> Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]]:
    """The unfolded module, or the ONNX file that it came from, as ``(B, H, W, 3) uint8 → (B, classes) float32``."""
    if model.answers is not None:
        from edgevit.foreign.answers import answer_pixels

        return answer_pixels(model.answers, model.preprocess)
    import torch

    from edgevit.export import float_module

    module = float_module(model)

    def run(batch: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        with torch.inference_mode():
            logits: npt.NDArray[np.float32] = module(torch.from_numpy(np.ascontiguousarray(batch))).numpy()
        return logits

    return run


def save_reference(
    model: Model, images: ImageSet, path: Path, *, progress: Progress = ignore_progress, stage: str = "reference"
) -> None:
    """Run the module over a set and write its logits as ``(N, classes) float32`` in NumPy's format.

    Written image by image, so memory does not grow with the set.

    Raises:
        CheckpointError: Logits that are not finite, with the images that gave them.
    """
    run = run_module(model)
    logits = np.lib.format.open_memmap(path, "w+", np.float32, (len(images), model.classes))
    height, width = model.config.image_size
    size = min(256, max(1, PIXELS_AT_A_TIME // (height * width)))
    bad: list[str] = []
    done = 0
    progress(stage, 0, len(images))
    for batch in images.batches(model.preprocess, size):
        answer = run(batch.pixels)
        bad += [f for f, row in zip(batch.files, answer, strict=True) if not np.isfinite(row).all()]
        logits[done : done + len(answer)] = answer
        done += len(answer)
        progress(stage, done, len(images))
    logits.flush()
    if bad:
        raise CheckpointError(
            f"the float model's own answers are not finite for {len(bad)} images:\n{format_offenders(bad)}",
            "the checkpoint is damaged, or was trained to values beyond float32's range",
        )


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
