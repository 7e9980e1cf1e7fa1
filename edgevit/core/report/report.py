"""Report: what a build found out, as plain figures that survive a round trip through JSON.

Only the standard library. What it is made of can be imported from here as well; every noun's file is named below.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgevit.core import schema
from edgevit.core.errors import BundleError, OutputError
from edgevit.core.json_text import parse_json
from edgevit.core.pass_record import PassRecord
from edgevit.core.quantization import QuantizationRecord
from edgevit.core.report.conditions import Conditions
from edgevit.core.report.fusion_record import FusionRecord
from edgevit.core.report.machine import Machine
from edgevit.core.report.scores import Accuracy, ClassChange, Parity
from edgevit.core.report.timings import ColdStart, EndToEnd, Latency, Ratio, SettingsTrial, Throughput
from edgevit.core.report.variant import Status, Variant, Verdict
from edgevit.core.target import Budget

__all__ = [
    "Accuracy",
    "ClassChange",
    "ColdStart",
    "DataUse",
    "EndToEnd",
    "Latency",
    "Machine",
    "Parity",
    "Ratio",
    "Report",
    "SettingsTrial",
    "Status",
    "Throughput",
    "Variant",
    "Verdict",
]

SCHEMA_VERSION = 2  # 1 had a field for INT8's record and one for FP8's


@dataclass(frozen=True)
class DataUse:
    """A set of images that a build used.

    Attributes:
        path: As the user gave it.
        images: Those that could be read.
        labelled: Whether they have labels.
        sha256: Of the images' content and labels.
        skipped_images: Those that could not be read.
        skipped: Their names, with what is wrong.
        matching: How the labels were matched with the model's classes: ``10 classes, matched by name``.
    """

    path: str
    images: int
    labelled: bool
    sha256: str
    skipped_images: int = 0
    matching: str = ""
    skipped: tuple[str, ...] = ()


@dataclass(frozen=True)
class GraphSummary:
    """How a graph was made: its folds and rewrites, and its nodes by type."""

    passes: tuple[PassRecord, ...] = ()
    op_counts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    """Everything that a build found out; ``report.json`` of a bundle.

    Attributes:
        source: The checkpoint, as plain data.
        target: The target's name.
        budget: What a faster variant might cost.
        machine: Where it was measured.
        variants: In the order of the table.
        verdict: What the build came to.
        passes: Folds and rewrites of the chosen variant's graph.
        op_counts: Nodes of that graph by type.
        preprocess: One line.
        data: The image sets by use: ``calibration``, ``validation``.
        stages: Seconds by stage.
        notes: Defaults assumed, tensors dropped and the like.
        note_lists: All names of a note that gives only the first of them, by note.
        quantization: How each quantised precision that was tried was made.
        fusion: What became of each precision's graph, with the compiler and the device that it compiled for, or the
            execution provider: of TensorRT's engines and rehearsals, and of ONNX Runtime's devices but the CPU.
        conditions: Clocks, temperatures, power and throttling while the latencies were measured.
        settings_tried: Ways to open the engines that were timed; all variants were then measured in the chosen one.
        tiers: By instruction set, the variants as they were judged under it, where the target names several.
        graphs: Of a portable bundle, each graph that its device chooses among: ``float``, ``int8``, ``fp8``.
        schema_version: Of the file.
    """

    source: Mapping[str, Any]
    target: str
    budget: Budget
    machine: Machine
    variants: tuple[Variant, ...]
    verdict: Verdict
    preprocess: str
    passes: tuple[PassRecord, ...] = ()
    op_counts: Mapping[str, int] = field(default_factory=dict)
    data: Mapping[str, DataUse] = field(default_factory=dict)
    stages: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    note_lists: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    quantization: Mapping[str, QuantizationRecord] = field(default_factory=dict)
    settings_tried: tuple[SettingsTrial, ...] = ()
    fusion: Mapping[str, FusionRecord] = field(default_factory=dict)
    conditions: Conditions | None = None
    tiers: Mapping[str, tuple[Variant, ...]] = field(default_factory=dict)
    graphs: Mapping[str, GraphSummary] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION

    def dumps(self) -> str:
        """As JSON that any encoding of Unicode can hold."""
        text = json.dumps(schema.to_data(self), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        # A file name that is no Unicode holds lone surrogates; they become JSON's own escapes.
        return text.encode("utf-8", "backslashreplace").decode("utf-8")

    def save(self, path: str | Path) -> None:
        """Write as JSON; a file that was there is replaced only by a complete one.

        Raises:
            OutputError: The file cannot be written.
        """
        path = Path(path)
        text = self.dumps()
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            temporary.write_text(text, encoding="utf-8")
            os.replace(temporary, path)
        except OSError as exc:
            temporary.unlink(missing_ok=True)
            raise OutputError(f"cannot write {path}: {exc.strerror or exc}", "check the disk and permissions") from exc

    @classmethod
    def load(cls, path: str | Path) -> Report:
        """Read what :meth:`save` wrote, now or in a version of schema 1.

        Raises:
            BundleError: The file is missing or damaged, or a later version of edgevit wrote it.
        """
        try:
            content = Path(path).read_bytes()
        except OSError as exc:
            raise BundleError(f"cannot read the report {path}: {exc}", "build again") from exc
        return cls.parse(content, Path(path))

    @classmethod
    def parse(cls, content: bytes, path: Path) -> Report:
        """As :meth:`load`, from the file's content; ``path`` is for messages."""
        try:
            data = parse_json(content)
        except ValueError as exc:
            raise BundleError(f"cannot read the report {path}: {exc}", "build again") from exc
        version = data.get("schema_version") if isinstance(data, dict) else None
        if isinstance(version, int) and version > SCHEMA_VERSION:
            raise BundleError(
                f"{path} has report schema {version}; this edgevit reads up to {SCHEMA_VERSION}", "update edgevit"
            )
        if version == 1:
            records = {"int8": data.pop("quantization", None), "fp8": data.pop("fp8", None)}
            made = {precision: record for precision, record in records.items() if record is not None}
            data = {**data, "quantization": made, "schema_version": SCHEMA_VERSION}
        return schema.from_data(cls, data, str(path), BundleError)
