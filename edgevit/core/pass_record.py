"""What a rewrite did, where it did not, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Skip:
    """A place that a rewrite looked at and left alone."""

    site: str
    reason: str


@dataclass(frozen=True)
class PassRecord:
    """The trace of one rewrite, kept in the bundle and shown by ``edgevit inspect``.

    Attributes:
        name: The rewrite's registry name.
        stage: ``module`` for a fold of the weights before export, ``graph`` for a rewrite of the ONNX graph.
        applied: The sites that it changed.
        skipped: The sites that it looked at and left alone, each with its reason.
        enabled: ``False`` where the export form or the recipe switched it off.
    """

    name: str
    stage: Literal["module", "graph"]
    applied: tuple[str, ...] = ()
    skipped: tuple[Skip, ...] = ()
    enabled: bool = True
