"""Values of options that more than one command takes."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from edgevit.checkpoints.preprocess_options import PreprocessOptions

WEIGHTS: Callable[[Any], Any] = click.option(
    "--weights",
    type=click.Choice(["ema", "model"]),
    help="Of a training checkpoint: averaged over training, or the last step's (ema where it has both).",
)
"""The option ``--weights``."""


class SizeType(click.ParamType):  # type: ignore[type-arg]  # no parameters before click 8.3
    """``384`` or ``256x512`` (height × width) to a pair of pixels."""

    name = "PIXELS | HxW"

    def convert(
        self, value: str | tuple[int, int], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        """Read a size, or fail with an example."""
        if isinstance(value, tuple):
            return value
        match = re.fullmatch(r"(\d{1,5})(?:[x×](\d{1,5}))?", value.strip())
        if match is None or 0 in (sides := (int(match[1]), int(match[2] or match[1]))):
            self.fail(f"{value!r} is not a size such as 384 or 256x512", param, ctx)
        return sides


class LevelsType(click.ParamType):  # type: ignore[type-arg]
    """``2,5,8,11`` to whole numbers from 0."""

    name = "N,N,…"

    def convert(
        self, value: str | tuple[int, ...], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """Read whole numbers, or fail with an example."""
        if isinstance(value, tuple):
            return value
        if not re.fullmatch(r"\s*\d{1,4}(\s*,\s*\d{1,4})*\s*", value):
            self.fail(f"{value!r} are no numbers from 0 such as 2,5,8,11", param, ctx)
        return tuple(int(number) for number in value.split(","))


class BatchType(click.ParamType):  # type: ignore[type-arg]
    """``8`` or ``1:4:8`` to the smallest, the usual and the largest number of images a call."""

    name = "N | MIN:OPT:MAX"

    def convert(
        self, value: str | tuple[int, int, int], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int, int]:
        """Read a batch, or fail with an example or the order."""
        if isinstance(value, tuple):
            return value
        match = re.fullmatch(r"(\d{1,5})(?::(\d{1,5}):(\d{1,5}))?", value.strip())
        if match is None:
            self.fail(f"{value!r} is not a batch such as 8 or 1:4:8", param, ctx)
        low, usual, high = (int(match[1]), int(match[2] or match[1]), int(match[3] or match[1]))
        if not 1 <= low <= usual <= high:
            self.fail(f"{value!r} is not in order: 1 ≤ MIN ≤ OPT ≤ MAX", param, ctx)
        return low, usual, high


class TripleType(click.ParamType):  # type: ignore[type-arg]
    """``0.5`` or ``0.485,0.456,0.406`` to a number for each of R, G and B."""

    name = "R,G,B"

    def convert(
        self, value: str | tuple[float, float, float], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, float, float]:
        """Read one number or three, or fail with an example."""
        if isinstance(value, tuple):
            return value
        try:
            numbers = [float(part) for part in value.replace(",", " ").split()]
        except ValueError:
            numbers = []
        numbers = numbers * 3 if len(numbers) == 1 else numbers
        if len(numbers) != 3:
            self.fail(f"{value!r} is not one number or three, such as 0.485,0.456,0.406", param, ctx)
        return numbers[0], numbers[1], numbers[2]


class ResizeType(click.ParamType):  # type: ignore[type-arg]
    """``256`` to the length of the short side, ``256x256`` (height × width) to both."""

    name = "SHORT | HxW"

    def convert(
        self, value: str | int | tuple[int, int], param: click.Parameter | None, ctx: click.Context | None
    ) -> int | tuple[int, int]:
        """Read one side or both, or fail with an example."""
        if not isinstance(value, str):
            return value
        match = re.fullmatch(r"(\d{1,5})(?:[x×](\d{1,5}))?", value.strip())
        if match is None or 0 in (int(match[1]), int(match[2] or 1)):
            self.fail(f"{value!r} is not a length such as 256, or both such as 256x256", param, ctx)
        return (int(match[1]), int(match[2])) if match[2] else int(match[1])


PREPROCESS = ("mean", "std", "resize", "crop", "interpolation")


def preprocess_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Options that say how images are prepared, where the checkpoint does not."""
    for option in (
        click.option("--interpolation", metavar="NAME", help="Filter of the resize: bilinear, bicubic, …"),
        click.option("--crop", type=float, metavar="RATIO", help="Input size ÷ size before the crop (0.875)."),
        click.option("--resize", type=ResizeType(), metavar="SHORT|HxW", help="Short side before the crop, or both."),
        click.option("--std", type=TripleType(), metavar="R,G,B", help="Values are divided by it, after --mean."),
        click.option(
            "--mean", type=TripleType(), metavar="R,G,B", help="Subtracted from values between 0 and 1, as 0.5."
        ),
    ):
        function = option(function)
    return function


def read_preprocess(options: Mapping[str, Any]) -> PreprocessOptions | None:
    """What was said of the preprocessing; ``None`` for nothing."""
    from edgevit.checkpoints.preprocess_options import PreprocessOptions

    given = {name: options[name] for name in PREPROCESS if options[name] is not None}
    return PreprocessOptions(**given) if given else None


on_option = click.option(
    "--on", "host", metavar="USER@HOST", help="The device, reached by ssh: compile and measure there."
)


check_option = click.option(
    "--check",
    type=click.Choice(["auto", "always", "never"]),
    default="auto",
    show_default=True,
    help="Answer the bundle's canary: where the place is new to it, always, or never.",
)


def refuse_missing(paths: Mapping[str, Path | str | None]) -> None:
    """Raise where two or more of a command's paths are not there; of a single one, the stage that reads it says more.

    Args:
        paths: By what they are to the command; ``None`` was not given.

    Raises:
        DataError: All of them are listed.
    """
    from edgevit.core.errors import DataError, format_offenders

    given = {what: os.fspath(path) for what, path in paths.items() if path is not None}
    missing = [f"{what}: {path}" for what, path in given.items() if not os.path.exists(path)]
    if len(missing) > 1:
        raise DataError(f"{len(missing)} paths are not there:\n" + format_offenders(missing), "check them")


def read_source(source: str | None) -> str | None:
    """A checkpoint's name as a path; ``None`` for a hub id."""
    from edgevit.checkpoints.files.files import is_hub_id

    return None if source is None or is_hub_id(source) else source
