"""Place: everything that may change what an engine answers, and the record of a bundle's canary.

Only the standard library, because the device runtime reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from edgevit.core.engine import Setting
from edgevit.core.report.figures import Figures
from edgevit.core.schema import FieldError

CANARY_FILE = "canary.npz"
MOST_IMAGES = 3

MARGIN_DB = 5.0
"""Below what the build saw: three times the noise's power. docs/bundle.md has the measurements behind both numbers."""
CEILING_DB = 50.0
"""Asked of no engine: float32 answers are 90 dB and more, and lose tens of them to another order of sums."""
QUANTIZED_CEILING_DB = 30.0
"""The same of quantised engines: with so little noise no answer is wrong, and single values that go to another code on
another processor may be most of it."""

MACHINE_PARTS = ("engine library", "device", "instruction set", "driver")
"""Words for all of a place but its settings."""
_SAME_ANSWERS = ("hint", "threads", "streams", "cuda_graph", "wait", "transfers")
"""Settings that say how fast an answer comes."""


@dataclass(frozen=True)
class Place:
    """Where an engine answers: whatever may make its answers others.

    Attributes:
        backend: Registry name of the engine library.
        version: Of the library.
        device: Name of the processor or GPU; ``None`` where the system does not tell.
        instruction_set: Newest tier of a CPU's instructions that the library may use, by its name in
            ``edgevit/core/isa.py``; ``None`` on another device, and where the system does not tell.
        driver: Version of the device's driver, where it has one.
        settings: Those of the opened engine that may change answers: ``inference_precision`` and the library's own.
    """

    backend: str
    version: str
    device: str | None = None
    instruction_set: str | None = None
    driver: str | None = None
    settings: Mapping[str, Setting] = field(default_factory=dict)

    @property
    def parts(self) -> dict[str, str]:
        """What a place is made of, by words for people."""
        machine = (f"{self.backend} {self.version}", self.device, self.instruction_set, self.driver)
        named = {
            **dict(zip(MACHINE_PARTS, machine, strict=True)),
            **{key: str(value) for key, value in sorted(self.settings.items())},
        }
        return {key: value for key, value in named.items() if value is not None}


def compare_places(here: Place, built: Place) -> dict[str, tuple[str, str]]:
    """The parts that differ: what it is here, and where the bundle was judged."""
    ours, theirs = here.parts, built.parts
    found = {}
    for name in [*theirs, *(name for name in ours if name not in theirs)]:
        absent = "unknown" if name in MACHINE_PARTS else "not set"
        pair = ours.get(name, absent), theirs.get(name, absent)
        if pair[0] != pair[1]:
            found[name] = pair
    return found


def select_settings(settings: Mapping[str, Setting]) -> dict[str, Setting]:
    """Of an opened engine's settings, those that may change its answers."""
    return {key: value for key, value in settings.items() if key not in _SAME_ANSWERS}


@dataclass(frozen=True)
class CanaryRecord(Figures):
    """What a bundle's canary holds, and what the build saw of it.

    Attributes:
        images: In the file, 1 to 3.
        sqnr_db: Of the answers at the build against the float model's, of the output with most noise; ``None`` where
            all of them were equal.
        least_db: What an engine must reach.
        answers: Whose the stored answers are: ``engine``, or ``graph``, where the engine was not run at the build.
        place: Where it was judged; ``None`` where the engine was not run.
    """

    images: int
    least_db: float
    sqnr_db: float | None = None
    answers: Literal["engine", "graph"] = "engine"
    place: Place | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.images <= MOST_IMAGES:
            raise FieldError([f"images = {self.images} is not from 1 to {MOST_IMAGES}"])
        if (self.place is None) != (self.answers == "graph"):
            raise FieldError(["place is there where answers are the engine's, and not where they are the graph's"])


def choose_least_db(sqnr_db: float | None, ceiling: float = CEILING_DB) -> float:
    """What an engine must reach, from what the build saw (``None`` for equal answers)."""
    return ceiling if sqnr_db is None else round(min(sqnr_db - MARGIN_DB, ceiling), 2)
