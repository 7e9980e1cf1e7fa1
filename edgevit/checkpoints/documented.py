"""The evaluation transform that a publisher documents for its weights, where the file does not store one."""

from __future__ import annotations

from collections.abc import Sequence

from edgevit.checkpoints.fields import Size
from edgevit.preprocess import Interpolation, Preprocess, Resize

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)

Triple = tuple[float, float, float]


def document_preprocess(
    whose: str,
    native: Size,
    size: Size,
    resized: Size,
    *,
    resize: Resize = "shortest",
    interpolation: Interpolation = "bicubic",
    normalization: Sequence[Triple] = IMAGENET,
) -> tuple[Preprocess, tuple[str, ...]]:
    """Resize, centre crop, normalise; and a note that it is assumed.

    Args:
        whose: Publisher and model, for the note.
        native: Height and width that the weights are for.
        size: Height and width that the model will run at.
        resized: Height and width before the crop, at the native size.
        resize: How to get there.
        interpolation: The resampling filter.
        normalization: Mean and standard deviation.
    """
    mean, std = normalization
    preprocess = Preprocess(
        height=native[0],
        width=native[1],
        resize=resize,
        resize_height=resized[0],
        resize_width=resized[1],
        interpolation=interpolation,
        mean=mean,
        std=std,
    )
    preprocess = preprocess if native == size else preprocess.with_size(*size)
    return preprocess, (f"preprocessing is not stored; {whose}'s is assumed: {preprocess.describe()}",)
