"""The canary: whether an engine answers on this machine as it did where its bundle was judged.

The rule, which docs/bundle.md states for other runtimes: of every output, the SQNR of the answers here against the
float model's stored ones, over all images together; the smallest of them must reach the record's ``least_db``.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from edgevit.core.arguments import check_choice
from edgevit.core.cache_folder import default_cache_directory
from edgevit.core.errors import DeviceError, OutputError
from edgevit.core.json_text import parse_json
from edgevit.core.report.place import MACHINE_PARTS, CanaryRecord, Place, compare_places
from edgevit.core.schema import to_data
from edgevit.runtime.bundle import Bundle
from edgevit.runtime.cache_file import read_cache, write_cache
from edgevit.runtime.rebuild import suggest_rebuild
from edgevit.runtime.session import Session, get_runtime

Check: TypeAlias = Literal["auto", "always", "never"]
CHECKS: tuple[Check, ...] = get_args(Check)

_MOST_FILES = 256


@dataclass(frozen=True)
class CanaryCheck:
    """What was done about a bundle's canary, and what came of it.

    Attributes:
        status: ``passed`` or ``failed``: answered now. ``remembered``: it has passed in this place before. ``same
            place``: this is where the bundle was judged. ``not checked``: nobody asked. ``none``: the bundle has none.
        sqnr_db: Of the answers here against the float model's; ``None`` where it was not answered, where all are equal,
            and where ``finite`` is false.
        finite: Whether all answers were numbers; ``None`` where it was not answered.
        built_db: The same at the build; ``None`` where all were equal, or the engine was not run there.
        least_db: What was asked.
        against_build_db: SQNR of the answers here against those stored at the build; ``None`` where it was not
            answered, and where they are equal.
        differences: Of this place: what it is here, and what at the build.
        inferences: Calls of the engine that it took.
    """

    status: Literal["passed", "failed", "remembered", "same place", "not checked", "none"]
    sqnr_db: float | None = None
    finite: bool | None = None
    built_db: float | None = None
    least_db: float | None = None
    against_build_db: float | None = None
    differences: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    inferences: int = 0

    def describe(self) -> str:
        """One line for people."""
        if self.status == "none":
            return "the bundle has none: nothing tells whether it answers here as where it was built"
        if self.status == "not checked":
            return "not checked"
        if self.status == "same place":
            return "this is the place where the bundle was judged"
        found = "answers that are not finite numbers" if self.finite is False else name_db(self.sqnr_db)
        when = " when it was first opened here" if self.status == "remembered" else ""
        verdict = "failed" if self.status == "failed" else "passed"
        return f"{verdict}{when}: {found} here, {name_db(self.built_db)} at the build, at least {self.least_db:.1f} dB"


def measure_sqnr(reference: Sequence[npt.NDArray[np.float32]], answers: Sequence[npt.NDArray[np.float32]]) -> float:
    """SQNR in dB of the output with most noise: 10·log10(Σ reference² / Σ (reference − answers)²), in float64.

    Args:
        reference: One array for every output.
        answers: Of the same shapes.

    Returns:
        ``inf`` where all answers are equal; ``nan`` where some are no finite numbers; ``-inf`` where a reference of
        zeros is missed.
    """
    worst = math.inf
    for wanted, found in zip(reference, answers, strict=True):
        if not np.isfinite(found).all():
            return math.nan
        exact = wanted.astype(np.float64)
        signal, noise = float((exact**2).sum()), float(((exact - found) ** 2).sum())
        if noise > 0:
            worst = min(worst, 10 * math.log10(signal / noise) if signal > 0 else -math.inf)
    return worst


def check_canary(bundle: Bundle, session: Session, check: Check = "auto") -> CanaryCheck:
    """Answer the canary where there is reason to.

    Args:
        bundle: Whose engine the session has open.
        session: The opened engine.
        check: ``auto`` answers where the place differs from the one of the build, and this place has not passed before.
            ``always`` answers. ``never`` does nothing.

    Raises:
        BundleError: The canary's file cannot be read.
        DeviceError: It failed: with the figures here and at the build, and with what differs; or the engine failed.
    """
    done = try_canary(bundle, session, check)
    if done.status != "failed":
        return done
    found = "are not finite numbers" if done.finite is False else f"have an SQNR of {name_db(done.sqnr_db)}"
    told = [f"{name} {here}, at the build {built}" for name, (here, built) in done.differences.items()]
    differs = f"; what differs: {'; '.join(told)}" if told else "; the place is the same"
    raise DeviceError(
        f"{bundle.path}: the engine answers something else here than at the build: its answers to the canary {found}, "
        f"at the build it was {name_db(done.built_db)}, and {done.least_db:.1f} dB is the least{differs}",
        _suggest(bundle, done),
        code="canary",
    )


def try_canary(bundle: Bundle, session: Session, check: Check = "auto") -> CanaryCheck:
    """As :func:`check_canary`, with a failure as a result."""
    check_choice(check, "check", CHECKS)
    record = bundle.manifest.canary
    if record is None:
        return CanaryCheck("none")
    done = CanaryCheck("not checked", built_db=record.sqnr_db, least_db=record.least_db)
    if check == "never":
        return done
    here = get_runtime(bundle.engine.backend).describe_place(bundle.engine, session.settings)
    differences = compare_places(here, record.place) if record.place is not None else {}
    done = dataclasses.replace(done, differences=differences)
    if check == "auto" and record.place is not None and not differences:
        return dataclasses.replace(done, status="same place")
    memory = _name_memory(bundle, here)
    if check == "auto" and (passed := _recall(memory, record)) is not None:
        return dataclasses.replace(done, status="remembered", sqnr_db=passed["sqnr_db"], finite=True)
    from edgevit.runtime.canary_file import read_canary  # most openings need it not, and an app's start counts

    canary = read_canary(bundle, record)
    answers = session.run_outputs(canary.pixels)
    sqnr_db, against_build_db = (measure_sqnr(stored, answers) for stored in (canary.reference, canary.answers))
    done = dataclasses.replace(
        done,
        status="passed" if sqnr_db >= record.least_db else "failed",
        sqnr_db=round(sqnr_db, 2) if math.isfinite(sqnr_db) else None,
        finite=not math.isnan(sqnr_db),
        against_build_db=round(against_build_db, 2) if math.isfinite(against_build_db) else None,
        inferences=-(-len(canary.pixels) // session.batch[2]),
    )
    if done.status == "passed":
        _remember(memory, done)
    return done


def locate_bundle(bundle: Bundle) -> dict[str, tuple[str, str]] | None:
    """What here differs from where the bundle was judged, if it is opened with the settings that it was judged with.

    Nothing is opened. ``None`` where the bundle has no canary, or its engine was not run at the build.

    Raises:
        MissingPackageError: The engine library is not installed.
        DeviceError: The device is not here.
    """
    record = bundle.manifest.canary
    if record is None or record.place is None:
        return None
    here = get_runtime(bundle.engine.backend).describe_place(bundle.engine, record.place.settings)
    return compare_places(here, record.place)


def name_db(value: float | None) -> str:
    """``28.0 dB``, or ``no noise`` where all answers are equal."""
    return "no noise" if value is None else f"{value:.1f} dB"


def _suggest(bundle: Bundle, done: CanaryCheck) -> str:
    if done.differences and not set(MACHINE_PARTS) & set(done.differences):
        return "open it without the settings that differ, or with check='never' (--check never), where that is meant"
    return f"{suggest_rebuild(bundle)}; or open it with check='never' (--check never)"


def _name_memory(bundle: Bundle, here: Place) -> str:
    """In the cache, the file that says that this very bundle has passed in this place."""
    text = json.dumps([bundle.manifest_sha256, to_data(here)], sort_keys=True)
    return f"canary/{hashlib.sha256(text.encode()).hexdigest()}.json"


def _find_root() -> Path | None:
    try:
        return default_cache_directory()
    except OutputError:  # nobody's home
        return None


def _recall(memory: str, record: CanaryRecord) -> dict[str, Any] | None:
    """What was remembered; ``None`` where nothing was, or what is there is damaged or would not pass."""
    root = _find_root()
    content = read_cache(root / memory) if root is not None else None
    try:
        data = parse_json(content) if content is not None else None
    except ValueError:
        return None
    if not isinstance(data, dict) or data.get("passed") is not True:
        return None
    sqnr_db = data.get("sqnr_db")
    passes = sqnr_db is None or (isinstance(sqnr_db, int | float) and sqnr_db >= record.least_db)
    return {"sqnr_db": sqnr_db} if passes else None


def _remember(memory: str, done: CanaryCheck) -> None:
    """A folder that cannot be written costs the next opening its inferences, and nothing else."""
    root = _find_root()
    if root is not None:
        content = json.dumps({"passed": True, "sqnr_db": done.sqnr_db}).encode()
        write_cache(root, memory, content, most_files=_MOST_FILES)
