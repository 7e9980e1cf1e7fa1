"""Values of options that more than one command takes."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import click

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
        if isinstance(value, tuple):
            return value
        match = re.fullmatch(r"(\d{1,5})(?:[x×](\d{1,5}))?", value.strip())
        if match is None or 0 in (sides := (int(match[1]), int(match[2] or match[1]))):
            self.fail(f"{value!r} is not a size such as 384 or 256x512", param, ctx)
        return sides


class BatchType(click.ParamType):  # type: ignore[type-arg]
    """``8`` or ``1:4:8`` to the smallest, the usual and the largest number of images a call."""

    name = "N | MIN:OPT:MAX"

    def convert(
        self, value: str | tuple[int, int, int], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int, int]:
        if isinstance(value, tuple):
            return value
        match = re.fullmatch(r"(\d{1,5})(?::(\d{1,5}):(\d{1,5}))?", value.strip())
        if match is None:
            self.fail(f"{value!r} is not a batch such as 8 or 1:4:8", param, ctx)
        low, usual, high = (int(match[1]), int(match[2] or match[1]), int(match[3] or match[1]))
        if not 1 <= low <= usual <= high:
            self.fail(f"{value!r} is not in order: 1 ≤ MIN ≤ OPT ≤ MAX", param, ctx)
        return low, usual, high
