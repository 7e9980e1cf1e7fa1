"""What a build tells whoever waits: whether two of its stages have one name, and how the whole goes on."""

from __future__ import annotations

from edgevit.core.progress import WHOLE


class StageNames:
    """A :class:`Progress`.

    Attributes:
        twice: Stages that began again after their end, each a second stage of its name.
        ended: By stage, whether it has ended.
        parts: What was told of the whole.
    """

    def __init__(self) -> None:
        self.twice: list[str] = []
        self.ended: dict[str, bool] = {}
        self.parts: list[tuple[int, int]] = []

    def __call__(self, stage: str, done: int, total: int) -> None:
        if stage == WHOLE:
            self.parts.append((done, total))
            return
        if self.ended.get(stage) and done < total:
            self.twice.append(stage)
        self.ended[stage] = done >= total
