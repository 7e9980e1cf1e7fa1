"""CellResult and SweepResult: what a sweep found out, as plain figures that survive a round trip through JSON."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from edgevit.core import schema
from edgevit.core.errors import BundleError, OutputError
from edgevit.core.json_text import parse_json
from edgevit.remote.sweep.question import Answer, Question

if TYPE_CHECKING:
    from edgevit.build.conclude import BuildResult
    from edgevit.core.report.report import Report
    from edgevit.core.report.variant import Variant

RESULT_FILE = "result.json"
SWEEP_FILE = "sweep.json"
BUNDLE = "bundle"


@dataclass(frozen=True)
class CellResult:
    """What a cell came to.

    Attributes:
        name: Of the cell, in its sweep.
        key: Hash of all that it depends on.
        target: The target's name.
        source: The checkpoint, as the cell names it.
        bundle: The bundle's folder, relative to the sweep's; ``None`` where none was written.
        passed: Whether its verdict passed.
        precision: Of the chosen variant.
        variant: Its name.
        figures: Of the chosen variant, by the names of :data:`edgevit.remote.sweep.question.FIGURES`.
        latency_interval_ms: 95 % interval of ``latency_p50_ms`` over the rounds of its measurement.
        sentence: The verdict's.
        warnings: The verdict's.
        error: What stopped the build; empty where nothing did.
        hint: What to do about it.
        seconds: By stage.
        machine: Where latencies were measured: processor, and the board's name where it was one.
    """

    name: str
    key: str
    target: str
    source: str
    bundle: str | None = None
    passed: bool = False
    precision: str | None = None
    variant: str | None = None
    figures: Mapping[str, float] = field(default_factory=dict)
    latency_interval_ms: tuple[float, float] | None = None
    sentence: str = ""
    warnings: tuple[str, ...] = ()
    error: str = ""
    hint: str = ""
    seconds: Mapping[str, float] = field(default_factory=dict)
    machine: str = ""

    @property
    def failed(self) -> bool:
        """Whether an error stopped the build; a missed budget does not."""
        return bool(self.error)

    def save(self, folder: Path) -> None:
        """Write into the cell's folder, whole or not at all.

        Raises:
            OutputError: It cannot be written.
        """
        _write(folder / RESULT_FILE, schema.to_data(self))

    @classmethod
    def load(cls, folder: Path, key: str) -> CellResult | None:
        """What an earlier run found out of the same cell; ``None`` where there is nothing, or of another."""
        try:
            data = parse_json((folder / RESULT_FILE).read_bytes())
            result = schema.from_data(cls, data, str(folder), BundleError)
        except (OSError, ValueError, BundleError):
            return None
        whole = result.bundle is None or (folder.parent.parent / result.bundle).is_dir()
        return result if result.key == key and whole else None


@dataclass(frozen=True)
class SweepResult:
    """``sweep.json``.

    Attributes:
        plan: As it was given, as plain data.
        question: What was asked.
        cells: In the order of the plan.
        answers: For every target.
        fronts: By target, the cells that none beats in both latency and accuracy, the fastest first.
        machines: How many nodes took part, by what they are.
        warnings: Where boards of one kind differ, a sentence each.
        schema_version: Of the file.
    """

    plan: Mapping[str, Any]
    question: Question
    cells: tuple[CellResult, ...]
    answers: tuple[Answer, ...] = ()
    fronts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    machines: Mapping[str, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    schema_version: Literal[1] = 1

    @property
    def failed(self) -> tuple[CellResult, ...]:
        """The cells that an error stopped."""
        return tuple(cell for cell in self.cells if cell.failed)

    def save(self, folder: Path) -> None:
        """Write into the sweep's folder, whole or not at all.

        Raises:
            OutputError: It cannot be written.
        """
        _write(folder / SWEEP_FILE, schema.to_data(self))

    @classmethod
    def load(cls, folder: Path) -> SweepResult:
        """Read a sweep's result.

        Raises:
            BundleError: It is not there, or not one.
        """
        path = folder / SWEEP_FILE
        try:
            data = parse_json(path.read_bytes())
        except (OSError, ValueError) as exc:
            raise BundleError(f"{path} cannot be read: {exc}", "give the folder of a finished sweep") from exc
        return schema.from_data(cls, data, str(path), BundleError)


def describe_result(name: str, key: str, source: str, target: str, built: BuildResult) -> CellResult:
    """A build's result as a cell's; its bundle lies in the cell's folder."""
    return describe_report(name, key, source, target, built.report, bundle=built.bundle is not None)


def describe_report(name: str, key: str, source: str, target: str, report: Report, *, bundle: bool) -> CellResult:
    """The same from the report that lies in a bundle, or beside where it would be."""
    verdict = report.verdict
    chosen = next((v for v in report.variants if v.name == verdict.chosen), None)
    return CellResult(
        name=name,
        key=key,
        target=target,
        source=source,
        bundle=f"cells/{name}/{BUNDLE}" if bundle else None,
        passed=verdict.passed,
        precision=chosen.precision if chosen is not None else None,
        variant=chosen.name if chosen is not None else None,
        figures=list_figures(chosen) if chosen is not None else {},
        latency_interval_ms=_find_interval(chosen) if chosen is not None else None,
        sentence=verdict.sentence,
        warnings=verdict.warnings,
        seconds=dict(report.stages),
        machine=report.machine.board or report.machine.cpu,
    )


def list_figures(variant: Variant) -> dict[str, float]:
    """What was measured of a variant, by the names of :data:`edgevit.remote.sweep.question.FIGURES`.

    Accuracy is that on held-out images; those that a choice has looked at say nothing here.
    """
    accuracy, latency, ends = variant.accuracy, variant.latency, variant.end_to_end
    found: dict[str, float | None] = {"size_mb": variant.size_bytes / 1e6}
    if accuracy is not None:
        worst = accuracy.worst_level
        found |= {
            "top1": accuracy.top1_percent,
            "drop_points": accuracy.drop_points,
            "agreement": accuracy.agreement_percent,
            "cosine": accuracy.cosine_mean,
            "sqnr_db": worst[1] if worst is not None else accuracy.sqnr_db,
            "kept": accuracy.kept[1] if accuracy.kept is not None else None,
        }
    if latency is not None:
        found |= {f"latency_{p}_ms": getattr(latency, f"{p}_ms") for p in ("p50", "p90", "p99")}
    if ends is not None:
        found["answer_p50_ms"] = ends.whole.p50_ms
    return {name: value for name, value in found.items() if value is not None}


def _find_interval(variant: Variant) -> tuple[float, float] | None:
    latency = variant.latency
    if latency is None or latency.low_ms is None or latency.high_ms is None:  # of a report of an earlier version
        return None
    return latency.low_ms, latency.high_ms


def _write(path: Path, data: object) -> None:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        temporary.write_text(json.dumps(data, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        os.replace(temporary, path)
    except OSError as exc:
        temporary.unlink(missing_ok=True)
        raise OutputError(f"cannot write {path}: {exc.strerror or exc}", "check the disk and permissions") from exc
