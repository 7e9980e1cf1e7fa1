"""Values of a configuration that someone else wrote: typed, bounded, and all complaints at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from edgevit.core.errors import CheckpointError, format_offenders

Size = tuple[int, int]
C = TypeVar("C")

LARGEST_IMAGE = 4096  # pixels a side; a Swin's masks grow with the image
_LIMIT = 2**17  # widths and depths beyond any model; a damaged file must not make us build one


class Fields:
    """Reads one mapping; complains in :meth:`finish`.

    Args:
        data: The configuration.
        where: Its name in messages, for example ``config.json``.
    """

    def __init__(self, data: Mapping[str, Any], where: str) -> None:
        self.data = data
        self.where = where
        self.complaints: list[str] = []

    def integer(self, key: str, default: int, low: int = 1, high: int = _LIMIT) -> int:
        """A whole number within bounds."""
        value = self.data.get(key)
        if value is None:
            return default
        if not _is_whole(value) or not low <= value <= high:
            return self._complain(key, f"a whole number from {low} to {high}", default)
        return int(value)

    def number(self, key: str, default: float, high: float = 64.0) -> float:
        """A number above 0 and within bounds."""
        value = self.data.get(key)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= high:
            return self._complain(key, f"a number above 0 and up to {high:g}", default)
        return float(value)

    def flag(self, key: str, default: bool) -> bool:
        """True or false."""
        value = self.data.get(key)
        if value is None:
            return default
        return value if isinstance(value, bool) else self._complain(key, "true or false", default)

    def text(self, key: str, default: str) -> str:
        """A text."""
        value = self.data.get(key)
        if value is None:
            return default
        return value if isinstance(value, str) else self._complain(key, "a text", default)

    def mapping(self, key: str) -> Mapping[str, Any]:
        """A table; empty where there is none."""
        value = self.data.get(key)
        if value is None:
            return {}
        return value if isinstance(value, Mapping) else self._complain(key, "a table", {})

    def size(self, key: str, default: Size) -> Size:
        """One whole number for both sides, or a list of height and width."""
        value = self.data.get(key)
        if value is None:
            return default
        pair = [value, value] if _is_whole(value) else value
        if not isinstance(pair, Sequence) or len(pair) != 2 or not all(_is_whole(v) and 1 <= v < 2**15 for v in pair):
            return self._complain(key, "one or two whole numbers above 0", default)
        return pair[0], pair[1]

    def integers(self, key: str, default: tuple[int, ...], high: int = 512) -> tuple[int, ...]:
        """A list of one to eight whole numbers from 1 to ``high``."""
        value = self.data.get(key)
        if value is None:
            return default
        whole = isinstance(value, Sequence) and all(_is_whole(v) and 1 <= v <= high for v in value)
        if not whole or not 1 <= len(value) <= 8:
            return self._complain(key, "a list of one to eight whole numbers above 0", default)
        return tuple(value)

    def _complain(self, key: str, wanted: str, default: C) -> C:
        self.complaints.append(f"{key} = {self.data[key]!r} is not {wanted}")
        return default

    def finish(self, build: Callable[..., Any], **values: Any) -> Any:
        """Build a config dataclass, or raise with all complaints.

        Raises:
            CheckpointError: Listing every value that is not valid, or what the dataclass refuses.
        """
        if not self.complaints:
            try:
                return build(**values)
            except ValueError as exc:
                self.complaints.append(str(exc))
        raise CheckpointError(
            f"{self.where} describes no possible model:\n{format_offenders(self.complaints)}",
            "correct these values, or download the checkpoint again",
        )


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def choose_image_size(
    stored: Size, wanted: Size | None, patch: Size, smallest_grid: int = 1, pads: bool = False
) -> Size:
    """The size that a model will run at.

    Args:
        stored: Height and width that the checkpoint states.
        wanted: What the user asks for; ``None`` for ``stored``.
        patch: Height and width of a patch.
        smallest_grid: Least number of patches down and across.
        pads: The model pads an image whose sides are no multiples of the patch.

    Raises:
        CheckpointError: Naming the multiples and the nearest possible size.
    """
    size = stored if wanted is None else wanted
    step = (1, 1) if pads else patch
    least = [p * (smallest_grid - 1) + s for p, s in zip(patch, step, strict=True)]
    most = [LARGEST_IMAGE // s * s for s in step]
    bounds = list(zip(size, step, least, most, strict=True))
    if all(_is_whole(side) and low <= side <= high and side % s == 0 for side, s, low, high in bounds):
        return size
    rule = "" if pads else f"sides are multiples of {patch[0]} and {patch[1]} pixels (its patch), "
    near = [min(max(round(side / s) * s, low), high) for side, s, low, high in bounds]
    raise CheckpointError(
        f"image size {size[0]} × {size[1]} is not possible for this model: "
        f"{rule}at least {least[0]} × {least[1]}, at most {most[0]} × {most[1]}",
        f"the nearest possible size is {near[0]} × {near[1]}",
    )
