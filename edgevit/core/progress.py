"""How long stages tell whoever waits how far they are."""

from __future__ import annotations

from typing import Protocol

WHOLE = "in all"
"""The stage that is the whole: its steps are the parts that were planned."""


class Progress(Protocol):
    """Called from the thread that runs the stage, never inside a timed region."""

    def __call__(self, stage: str, done: int, total: int) -> None:
        """``done`` of ``total`` steps of ``stage`` are finished."""


def ignore_progress(stage: str, done: int, total: int) -> None:
    """A :class:`Progress` that says nothing."""


def add_to_names(progress: Progress, end: str) -> Progress:
    """A :class:`Progress` for what is done once more in another way, so that no two stages have one name."""

    def tell(stage: str, done: int, total: int) -> None:
        progress(f"{stage}{end}", done, total)

    return tell
