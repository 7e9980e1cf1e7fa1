"""Values of options that more than one command takes."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgevit.core.engine import LARGEST_BATCH

if TYPE_CHECKING:
    from edgevit.checkpoints.preprocess_options import PreprocessOptions

WEIGHTS: Callable[[Any], Any] = click.option(
    "--weights",
    type=click.Choice(["ema", "model"]),
    help="Of a training checkpoint: averaged over training, or the last step's (ema where it has both).",
)
"""The option ``--weights``."""

LABELS: Callable[[Any], Any] = click.option(
    "--labels",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Classes of a CLIP, SigLIP or OWL-ViT, a label a line.",
)
"""The option ``--labels``."""

TEMPLATES: Callable[[Any], Any] = click.option(
    "--templates", type=click.Path(path_type=Path), metavar="FILE", help="Texts with {} for the label, one a line."
)
"""The option ``--templates``."""


def read_size(value: str) -> tuple[int, int]:
    """``384`` or ``256x512`` (height × width) to a pair of pixels."""
    match = re.fullmatch(r"(\d{1,5})(?:[x×](\d{1,5}))?", value.strip())
    if match is None or 0 in (sides := (int(match[1]), int(match[2] or match[1]))):
        raise click.BadParameter(f"{value!r} is not a size such as 384 or 256x512")
    return sides


def read_levels(value: str) -> tuple[int, ...]:
    """``2,5,8,11`` to whole numbers from 0."""
    if not re.fullmatch(r"\s*\d{1,4}(\s*,\s*\d{1,4})*\s*", value):
        raise click.BadParameter(f"{value!r} are no numbers from 0 such as 2,5,8,11")
    return tuple(int(number) for number in value.split(","))


def read_score(value: str) -> float:
    """A number from 0."""
    try:
        score = float(value)
    except ValueError:
        score = -1.0
    if not score >= 0:  # nor one that is not a number
        raise click.BadParameter(f"{value!r} is no number from 0")
    return score


def read_batch(value: str) -> tuple[int, int, int]:
    """``8`` or ``1:4:8`` to the smallest, the usual and the largest number of images a call."""
    match = re.fullmatch(r"(\d{1,9})(?::(\d{1,9}):(\d{1,9}))?", value.strip())
    if match is None:
        raise click.BadParameter(f"{value!r} is not a batch such as 8 or 1:4:8")
    low, usual, high = (int(match[1]), int(match[2] or match[1]), int(match[3] or match[1]))
    if not 1 <= low <= usual <= high:
        raise click.BadParameter(f"{value!r} is not in order: 1 ≤ MIN ≤ OPT ≤ MAX")
    if high > LARGEST_BATCH:
        raise click.BadParameter(f"{value!r} has more than {LARGEST_BATCH} images a call")
    return low, usual, high


def read_triple(value: str) -> tuple[float, float, float]:
    """``0.5`` or ``0.485,0.456,0.406`` to a number for each of R, G and B."""
    try:
        numbers = [float(part) for part in value.replace(",", " ").split()]
    except ValueError:
        numbers = []
    numbers = numbers * 3 if len(numbers) == 1 else numbers
    if len(numbers) != 3:
        raise click.BadParameter(f"{value!r} is not one number or three, such as 0.485,0.456,0.406")
    return numbers[0], numbers[1], numbers[2]


def read_resize(value: str) -> int | tuple[int, int]:
    """``256`` to the length of the short side, ``256x256`` (height × width) to both."""
    match = re.fullmatch(r"(\d{1,5})(?:[x×](\d{1,5}))?", value.strip())
    if match is None or 0 in (int(match[1]), int(match[2] or 1)):
        raise click.BadParameter(f"{value!r} is not a length such as 256, or both such as 256x256")
    return (int(match[1]), int(match[2])) if match[2] else int(match[1])


PREPROCESS = ("mean", "std", "resize", "crop", "interpolation")


def preprocess_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Options that say how images are prepared, where the checkpoint does not."""
    for option in (
        click.option("--interpolation", metavar="NAME", help="Filter of the resize: bilinear, bicubic, …"),
        click.option("--crop", type=float, metavar="RATIO", help="Input size ÷ size before the crop (0.875)."),
        click.option("--resize", type=read_resize, metavar="SHORT|HxW", help="Short side before the crop, or both."),
        click.option("--std", type=read_triple, metavar="R,G,B", help="Values are divided by it, after --mean."),
        click.option(
            "--mean", type=read_triple, metavar="R,G,B", help="Subtracted from values between 0 and 1, as 0.5."
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

key_option = click.option(
    "--public-key",
    type=click.Path(path_type=Path),
    metavar="KEY.pem",
    help="Refuse a bundle that was not signed with this key's other half.",
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
        paths: By what they are to the command; ``None`` was not given. A pattern says by itself what is missing.

    Raises:
        DataError: All of them are listed.
    """
    from edgevit.core.errors import DataError, format_offenders
    from edgevit.pixels.shard_files import is_pattern

    given = {what: os.fspath(path) for what, path in paths.items() if path is not None and not is_pattern(path)}
    missing = [f"{what}: {path}" for what, path in given.items() if not os.path.exists(path)]
    if len(missing) > 1:
        raise DataError(f"{len(missing)} paths are not there:\n" + format_offenders(missing), "check them")


def read_source(source: str | None) -> str | None:
    """A checkpoint's name as a path; ``None`` for a hub id."""
    from edgevit.checkpoints.files.files import is_hub_id

    return None if source is None or is_hub_id(source) else source
