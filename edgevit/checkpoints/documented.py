"""The evaluation transform that a publisher documents for its weights, where the file does not store one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from edgevit.checkpoints.assemble import Plan, assemble_model
from edgevit.checkpoints.fields import Size
from edgevit.checkpoints.files.files import CheckpointFiles
from edgevit.checkpoints.names import Names
from edgevit.checkpoints.positions import Resampling
from edgevit.checkpoints.preprocess_configs import IMAGENET, Triple
from edgevit.checkpoints.shapes import at_image_size
from edgevit.models import ModelConfig
from edgevit.models.model import Model
from edgevit.pixels.preprocess import Interpolation, Preprocess, Resize

_USUAL_CROP = 0.875  # 224 pixels of an image whose short side is 256


def document_preprocess(
    whose: str,
    native: Size,
    size: Size,
    resized: Size,
    *,
    resize: Resize = "shortest",
    interpolation: Interpolation = "bicubic",
    normalization: Sequence[Triple] = IMAGENET,
    antialias: bool = True,
) -> tuple[Preprocess, tuple[str, ...]]:
    """Resize, centre crop, normalise; and a note that it is assumed to be ``whose``.

    Sizes are heights and widths in pixels: ``native`` is what the weights are for, ``size`` what the model will run at,
    and ``resized`` what comes before the crop, at the native size. ``normalization`` is mean and standard deviation.
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
        antialias=antialias,
    )
    preprocess = preprocess if native == size else preprocess.with_size(*size)
    return preprocess, (f"preprocessing is not stored; {whose}'s is assumed: {preprocess.describe()}",)


def assemble_documented(
    files: CheckpointFiles,
    tensors: Mapping[str, Tensor],
    described: ModelConfig,
    image_size: Size | None,
    *,
    publisher: str,
    layout: str,
    architecture: str,
    names: Names,
    crop: float = _USUAL_CROP,
    resize: Resize = "shortest",
    resampling: Resampling = "antialiased",
    may_lack_head: bool = True,
    notes: Sequence[str] = (),
) -> Model:
    """A model of bare weights, with the transform that its publisher documents.

    ``described`` is the config at the image size that the weights are for, ``image_size`` the one that is wanted, and
    ``crop`` the image size over the height and width before the crop. The rest is as in
    :class:`~edgevit.checkpoints.assemble.Plan`.
    """
    config, native = at_image_size(described, image_size), described.image_size
    resized = int(native[0] / crop), int(native[1] / crop)
    preprocess, assumed = document_preprocess(
        f"{publisher}'s {architecture}", native, config.image_size, resized, resize=resize
    )
    plan = Plan(
        layout=layout,
        architecture=architecture,
        config=config,
        names=names,
        preprocess=preprocess,
        stored_size=native,
        may_lack_head=may_lack_head,
        resampling=resampling,
        notes=(*notes, *assumed),
    )
    return assemble_model(files, plan, tensors)
