"""``model_info``: what OpenVINO's model_api reads in an IR, so that it opens the file without further configuration.

The keys are those of model_api's image models (``model_api/models/parameters.py``) and classification model.
"""

from __future__ import annotations

from collections.abc import Sequence

from edgevit.pixels.preprocess import Preprocess

# model_api's "crop" takes the largest centred rectangle of the input's aspect ratio, and resizes it
_RESIZE = {
    "shortest": "crop",
    "crop": "crop",
    "none": "crop",
    "squash": "standard",
    "pad": "fit_to_window",
    "longest": "fit_to_window_letterbox",
}
_INTERPOLATION = {"nearest": "NEAREST", "bilinear": "LINEAR", "bicubic": "CUBIC"}


def describe_model_info(
    preprocess: Preprocess, labels: Sequence[str] | None, *, multilabel: bool = False
) -> dict[str, str]:
    """``model_info`` of a classifier that takes RGB pixels and normalises them itself.

    model_api passes images in BGR order, hence ``reverse_input_channels``; there are no ``mean_values`` and
    ``scale_values``, as they would be applied a second time. model_api has no antialiasing and no margin around the
    crop, so its pixels differ a little from ``preprocess``, which is what was measured.

    Args:
        preprocess: The bundle's.
        multilabel: Whether each label is there or not by itself, by its sigmoid.
        labels: The classes in order; blanks become underscores, as model_api separates labels by blanks.
    """
    info = {
        "model_type": "Classification",
        "task_type": "classification",
        "multilabel": str(multilabel),
        "hierarchical": "False",
        "output_raw_scores": "True",
        "reverse_input_channels": "True",
        "resize_type": _RESIZE[preprocess.resize],
        "interpolation_mode": _INTERPOLATION.get(preprocess.interpolation, "CUBIC"),
        "pad_value": str(preprocess.fill[0]),
    }
    if labels is not None:
        info["labels"] = " ".join("_".join(label.split()) or f"class_{i}" for i, label in enumerate(labels))
    return info
