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
        wanted = f"a whole number from {low} to {high}"
        return self._take(key, default, wanted, int, lambda v: _is_whole(v) and low <= v <= high)

    def number(self, key: str, default: float, high: float = 64.0) -> float:
        """A number above 0 and within bounds."""
        wanted = f"a number above 0 and up to {high:g}"
        return self._take(key, default, wanted, float, lambda v: is_number(v) and 0 < v <= high)

    def flag(self, key: str, default: bool) -> bool:
        """True or false."""
        return self._take(key, default, "true or false", bool, lambda v: isinstance(v, bool))

    def text(self, key: str, default: str) -> str:
        """A text."""
        return self._take(key, default, "a text", str, lambda v: isinstance(v, str))

    def mapping(self, key: str) -> Mapping[str, Any]:
        """A table; empty where there is none."""
        return self._take(key, {}, "a table", dict, lambda v: isinstance(v, Mapping))

    def size(self, key: str, default: Size) -> Size:
        """One whole number for both sides, or a list of height and width."""

        def both(value: Any) -> Any:
            return (value, value) if _is_whole(value) else value

        wanted = "one or two whole numbers above 0"
        return self._take(
            key, default, wanted, lambda v: tuple(both(v)), lambda v: _are_whole(both(v), 2, 2, 2**15 - 1)
        )

    def integers(self, key: str, default: tuple[int, ...], high: int = 512) -> tuple[int, ...]:
        """A list of one to eight whole numbers from 1 to ``high``."""
        wanted = "a list of one to eight whole numbers above 0"
        return self._take(key, default, wanted, tuple, lambda v: _are_whole(v, 1, 8, high))

    def _take(
        self, key: str, default: C, wanted: str, convert: Callable[[Any], C], is_good: Callable[[Any], bool]
    ) -> C:
        """A value that is good; the default where there is none, or with a complaint where it is not."""
        value = self.data.get(key)
        if value is None or is_good(value):
            return default if value is None else convert(value)
        self.complaints.append(f"{key} = {value!r} is not {wanted}")
        return default

    def finish(self, build: Callable[..., C], **values: Any) -> C:
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


def _are_whole(value: object, least: int, most: int, high: int) -> bool:
    """Whether a value is a list of so many whole numbers from 1 to ``high``."""
    if not isinstance(value, Sequence) or not least <= len(value) <= most:
        return False
    return all(_is_whole(v) and 1 <= v <= high for v in value)


def is_number(value: object) -> bool:
    """Whether a value is a number; true and false are none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def refuse_parts(unsupported: list[str], subject: str) -> None:
    """Raise CheckpointError where there is anything that is not supported.

    Args:
        unsupported: Parts of a model.
        subject: Begins the message, up to its verb: ``config.json describes``.
    """
    if unsupported:
        raise CheckpointError(
            f"{subject} parts that are not supported yet:\n{format_offenders(unsupported)}",
            "docs/models.md lists the families that can be read; no part can be left out without changing the answers",
        )


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
