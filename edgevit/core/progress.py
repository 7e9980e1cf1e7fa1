"""How long stages tell whoever waits how far they are."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called from the thread that runs the stage, never inside a timed region."""

    def __call__(self, stage: str, done: int, total: int) -> None:
        """``done`` of ``total`` steps of ``stage`` are finished."""


def ignore_progress(stage: str, done: int, total: int) -> None:
    """A :class:`Progress` that says nothing."""
