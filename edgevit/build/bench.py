"""Bench: what every stage of a build works with: the evidence, the cache, and who is told how far it is."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

from edgevit.build.tier_process import run_under
from edgevit.core.progress import WHOLE, Progress, ignore_progress

if TYPE_CHECKING:
    from edgevit.build.evidence import Evidence
    from edgevit.core.cache import StageCache
    from edgevit.core.isa import TierName
    from edgevit.runtime.session import Outputs

Result = TypeVar("Result")


def ignore_note(text: str) -> None:
    """Say nothing of what was recognised and assumed."""


class Stages(dict[str, float]):
    """Seconds by stage; see :meth:`plan` for who is told how many of them are done."""

    _parts: Sequence[str] = ()
    _told: tuple[Progress, ...] = ()

    def plan(self, parts: Sequence[str], progress: Progress) -> None:
        """Tell of each part that is done from now on how many of these that makes, as the stage :data:`WHOLE`."""
        self._parts, self._told = parts, (progress,)
        self._tell()

    @contextlib.contextmanager
    def time(self, name: str) -> Iterator[None]:
        """Add a stage when it has ended well."""
        start = time.perf_counter()
        yield
        self[name] = round(time.perf_counter() - start, 3)
        if name in self._parts:
            self._tell()

    def _tell(self) -> None:
        for progress in self._told:
            progress(WHOLE, sum(part in self for part in self._parts), len(self._parts))

    def __reduce__(self) -> tuple[type[Stages], tuple[dict[str, float]]]:
        return Stages, (dict(self),)  # in another process nobody listens


@dataclass(frozen=True)
class Bench:
    """What the stages of a build work with.

    Attributes:
        evidence: Images and the float model's answers.
        cache: Finished stages.
        progress: Told about every stage.
        note: Told, a sentence each, what was recognised and assumed.
        stages: Seconds by stage, which a stage adds to.
    """

    evidence: Evidence
    cache: StageCache
    progress: Progress = ignore_progress
    note: Callable[[str], None] = ignore_note
    stages: Stages = field(default_factory=Stages)

    def add_answers(self, outputs: Mapping[str, Outputs]) -> Bench:
        """With what the quantised graphs answer, for their engines to be held against."""
        return replace(self, evidence=replace(self.evidence, graph_outputs=outputs))

    def quiet(self) -> Bench:
        """The bench of a step that tells nobody how far it is."""
        return replace(self, progress=ignore_progress, note=ignore_note)

    def run_under(
        self, tier: TierName | None, function: Callable[..., Result], *arguments: Any, **options: Any
    ) -> Result:
        """``function(*arguments, bench, **options)`` where nothing newer than ``tier`` is computed with.

        As :func:`edgevit.build.tier_process.run_under`; its progress is told here.
        """
        result: Result = run_under(tier, _call, function, arguments, self.quiet(), progress=self.progress, **options)
        return result


def _call(
    function: Callable[..., Result], arguments: tuple[Any, ...], bench: Bench, *, progress: Progress, **options: Any
) -> Result:
    """What the other process runs."""
    return function(*arguments, replace(bench, progress=progress), **options)
