"""What a user says of the preprocessing, over what a checkpoint says or in its place."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgevit.core.errors import DataError
from edgevit.pixels.preprocess import INTERPOLATIONS, Interpolation, Preprocess

if TYPE_CHECKING:
    from edgevit.models.model import Model

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class PreprocessOptions:
    """Each ``None`` leaves what the checkpoint says.

    Attributes:
        mean: Subtracted per channel (R, G, B) from values between 0 and 1.
        std: Divided by per channel.
        resize: Length of the short side before the crop, or a height and width that the image is squashed to.
        crop: The model's input size ÷ the size that the short side is resized to, as timm's ``crop_pct``; instead of
            ``resize``.
        interpolation: The resampling filter.
    """

    mean: Triple | None = None
    std: Triple | None = None
    resize: int | tuple[int, int] | None = None
    crop: float | None = None
    interpolation: Interpolation | None = None

    def __post_init__(self) -> None:
        if self.resize is not None and self.crop is not None:
            raise DataError("--resize and --crop both say what images are resized to", "give one of them")
        if self.crop is not None and not 0 < self.crop <= 1:
            raise DataError(f"--crop {self.crop:g} is not between 0 and 1", "0.875 is the usual one")
        if self.interpolation is not None and self.interpolation not in INTERPOLATIONS:
            raise DataError(
                f"--interpolation {self.interpolation} is unknown", f"it is one of {', '.join(INTERPOLATIONS)}"
            )

    @property
    def said(self) -> frozenset[str]:
        """What a checkpoint need not say any more."""
        names = {name for name in ("mean", "std", "interpolation") if getattr(self, name) is not None}
        return frozenset(names | ({"resize"} if self.resize is not None or self.crop is not None else set()))

    def change(self, preprocess: Preprocess) -> Preprocess:
        """The preprocessing with what these options say.

        Raises:
            DataError: A value that is not possible.
        """
        fields = {n: getattr(self, n) for n in ("mean", "std", "interpolation") if getattr(self, n) is not None}
        height, width = preprocess.height, preprocess.width
        if isinstance(self.resize, tuple):
            fields |= {"resize": "squash", "resize_height": self.resize[0], "resize_width": self.resize[1]}
        elif self.resize is not None:
            fields |= {"resize": "shortest", "resize_height": self.resize, "resize_width": self.resize}
        elif self.crop is not None:
            sides = math.floor(height / self.crop), math.floor(width / self.crop)
            fields |= {"resize": "shortest", "resize_height": sides[0], "resize_width": sides[1]}
        if "resize" in fields:
            fields["crop_ratio"] = self.crop
        if self.mean is not None or self.std is not None:
            fields["rescale"] = 1 / 255
        if self.interpolation not in (None, "bilinear"):  # the one filter that is known without antialiasing
            fields["antialias"] = True
        try:
            return dataclasses.replace(preprocess, **fields)
        except ValueError as exc:
            raise DataError(f"the preprocessing is not possible: {exc}", "correct these options") from exc

    def apply(self, model: Model) -> Model:
        """The model with the changed preprocessing, and what is still assumed of it."""
        if not self.said:
            return model
        changed = self.change(model.preprocess)
        assumed = tuple(name for name in model.assumed if name not in self.said)
        source = model.source
        if model.assumed:
            before = describe_assumed(model.preprocess, model.assumed)
            notes = [note for note in source.notes if note != before]
            notes += [describe_assumed(changed, assumed)] if assumed else []
            source = dataclasses.replace(source, notes=tuple(notes))
        return dataclasses.replace(model, preprocess=changed, assumed=assumed, source=source)


def describe_assumed(preprocess: Preprocess, assumed: Sequence[str]) -> str:
    """A note on what nothing says of a preprocessing: some of ``mean``, ``std``, ``resize`` and ``interpolation``."""
    return (
        f"nothing says the preprocessing's {', '.join(assumed)}; for random pixels it does not matter, "
        f"and assumed is: {preprocess.describe()}"
    )
