"""Placement: where an image lies in a model's input, and the way back.

Only numpy, because the device runtime puts answers back into the image's own pixels with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Placement:
    """Where an image lies in a model's input.

    Places are in pixels from the upper left corner: the first pixel reaches from 0 to 1. A place in the image, times
    ``scale``, plus ``offset``, is one in the input.

    Attributes:
        scale: Along x and y.
        offset: Likewise.
    """

    scale: tuple[float, float]
    offset: tuple[float, float]

    def to_input(self, places: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Where places of the image, ``(…, 2)`` as x and y, lie in the input."""
        found: npt.NDArray[np.float64] = places.astype(np.float64) * self.scale + self.offset
        return found

    def to_image(self, places: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """The inverse of :meth:`to_input`."""
        found: npt.NDArray[np.float64] = (places.astype(np.float64) - self.offset) / self.scale
        return found
