"""Report: what a build found out, as plain figures that survive a round trip through JSON.

Standard library alone. No figure is ever NaN or infinite: where there is none, the field is ``None`` and is left out of
the file. Rates are kept as counts, so nothing is rounded; the percentages are properties.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from edgevit import schema
from edgevit.conditions import Conditions, Platform
from edgevit.engine import Setting
from edgevit.errors import BundleError, OutputError
from edgevit.fusion import FusionRecord
from edgevit.quantization import QuantizationRecord
from edgevit.record import PassRecord
from edgevit.runtime.nvidia import Gpu
from edgevit.target import Budget
from edgevit.task import TaskName

SCHEMA_VERSION = 1

Status = Literal[
    "CHOSEN",
    "WITHIN BUDGET",
    "SLOWER",
    "TOO SLOW",
    "ACCURACY DROP",
    "PARITY FAILED",
    "NOT SUPPORTED",
    "NOT MEASURED",
]


class _Figures:
    """Refuses figures that JSON cannot hold."""

    def __post_init__(self) -> None:
        for f in dataclasses.fields(self):  # type: ignore[arg-type]
            value = getattr(self, f.name)
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"{f.name} = {value} is not finite")


@dataclass(frozen=True)
class Latency(_Figures):
    """Time of one call, from uint8 pixels in memory to float32 logits in memory.

    Attributes:
        batch: Images a call.
        runs: Timed calls.
        warmup_runs: Calls before them.
        seconds: Sum of the timed calls.
        std_ms: Standard deviation of the calls, not of their mean.
        method: One sentence on how it was measured.
        settings: The engine's, as used: threads, streams, hint.
    """

    batch: int
    runs: int
    warmup_runs: int
    seconds: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    mean_ms: float
    std_ms: float
    min_ms: float
    method: str
    settings: Mapping[str, Setting] = field(default_factory=dict)


@dataclass(frozen=True)
class Ratio(_Figures):
    """One latency over another from the same interleaved run, with its interval over rounds."""

    value: float
    low: float
    high: float
    rounds: int
    confidence: float = 0.95


@dataclass(frozen=True)
class SettingsTrial:
    """One way to open the engine.

    Attributes:
        settings: Besides those that the engine has anyway; see ``edgevit/runtime/settings.py``.
        ratio: Its latency over that of the library's own choice, from the same interleaved run.
        chosen: Whether the engine is opened in this way.
    """

    settings: Mapping[str, Setting]
    ratio: Ratio
    chosen: bool = False


@dataclass(frozen=True)
class ColdStart(_Figures):
    """What a fresh process pays, medians over ``processes``; files may be in the page cache.

    Attributes:
        import_ms: Importing numpy, the runtime and the engine's library.
        load_ms: From the files to a session that can run.
        first_inference_ms: The first call, with one image.
        peak_memory_bytes: Largest resident set of the whole process, ``None`` where the system does not tell.
        processes: Fresh processes that were started.
    """

    import_ms: float
    load_ms: float
    first_inference_ms: float
    peak_memory_bytes: int | None = None
    processes: int = 1


@dataclass(frozen=True)
class Throughput(_Figures):
    """Images a second with ``streams`` callers at once and the engine's throughput settings."""

    images_per_second: float
    streams: int
    seconds: float
    runs: int
    batch: int = 1
    settings: Mapping[str, Setting] = field(default_factory=dict)


@dataclass(frozen=True)
class ClassChange:
    """A class in which the number of right answers differs from the float model's."""

    label: int
    images: int
    reference_correct: int
    correct: int


@dataclass(frozen=True)
class Accuracy(_Figures):
    """An engine against labels and against the float model, on the same images.

    Of the task ``embed`` a right answer is one that the labels of an image's nearest neighbours elect, and agreement
    that the nearest neighbour is the float model's (recall@1); :mod:`edgevit.embedding_accuracy` says among which. Of
    ``features`` there are neither.

    Attributes:
        images: Images that were judged.
        labelled: Whether they had labels; without, every field about right answers is ``None``.
        agreement: Images with the float model's top-1; ``None`` of features, and of an embedding without neighbours.
        agreement_low: Lower end of the 95 % interval of the agreement, a fraction (Wilson).
        agreement_high: Its upper end.
        top1: Images whose label came first; ties go to the lower index.
        top5: Images whose label was among the first five.
        gained: Images that the float model got wrong and the engine right.
        lost: The reverse.
        drop_points: 100 · (lost − gained) / images.
        drop_low: Lower end of its 95 % interval (Tango's for paired samples).
        drop_high: Its upper end.
        sqnr_db: 10·log10(Σ reference² / Σ (reference − logits)²) over all logits; ``None`` where every logit is equal,
            or the reference is zero. Of features, with the mean of the levels' noise over signal.
        per_class: Only the classes that changed.
        skipped_images: Images of the set that could not be read.
        task: ``classify``, ``embed`` or ``features``.
        cosine_mean: Of an engine's embedding and the float model's.
        cosine_min: The smallest.
        recall10: Share of the float model's ten nearest neighbours that are among the engine's, on average.
        level_sqnr_db: The SQNR of every level of features; ``None`` where it equals the float model's.
    """

    images: int
    labelled: bool
    agreement: int | None
    agreement_low: float | None
    agreement_high: float | None
    top1: int | None = None
    top5: int | None = None
    reference_top1: int | None = None
    reference_top5: int | None = None
    gained: int | None = None
    lost: int | None = None
    drop_points: float | None = None
    drop_low: float | None = None
    drop_high: float | None = None
    sqnr_db: float | None = None
    per_class: tuple[ClassChange, ...] = ()
    skipped_images: int = 0
    task: TaskName = "classify"
    cosine_mean: float | None = None
    cosine_min: float | None = None
    recall10: float | None = None
    level_sqnr_db: Mapping[str, float | None] = field(default_factory=dict)

    def _percent(self, count: int | None) -> float | None:
        return None if count is None else 100 * count / self.images

    @property
    def top1_percent(self) -> float | None:
        return self._percent(self.top1)

    @property
    def top5_percent(self) -> float | None:
        return self._percent(self.top5)

    @property
    def reference_top1_percent(self) -> float | None:
        return self._percent(self.reference_top1)

    @property
    def reference_top5_percent(self) -> float | None:
        return self._percent(self.reference_top5)

    @property
    def agreement_percent(self) -> float | None:
        return self._percent(self.agreement)

    @property
    def worst_level(self) -> tuple[str, float] | None:
        """Name and SQNR of the level with most noise; ``None`` where all equal the float model's, or there is none."""
        noisy = {name: sqnr_db for name, sqnr_db in self.level_sqnr_db.items() if sqnr_db is not None}
        return min(noisy.items(), key=lambda item: item[1], default=None)


@dataclass(frozen=True)
class Parity(_Figures):
    """Whether an engine computes what the module computes.

    Attributes:
        images: Images compared.
        relative_error: Largest absolute difference over the reference's largest absolute logit; ``None`` where the
            engine gave values that are not finite.
        agreement: Images with the same top-1; ``None`` where no logits were compared.
        tolerance: What ``relative_error`` may be.
        passed: The result.
        reason: One sentence.
    """

    images: int
    relative_error: float | None
    agreement: int | None
    tolerance: float
    passed: bool
    reason: str


@dataclass(frozen=True)
class Variant:
    """One engine that a build made or tried.

    Attributes:
        accuracy: On validation images: what the table shows.
        choice_accuracy: On calibration images: what the choice was made by.
        ratio: Its latency over the first variant's.
        reason: Why it has its status.
    """

    name: str
    precision: str
    size_bytes: int
    latency: Latency | None = None
    ratio: Ratio | None = None
    cold_start: ColdStart | None = None
    throughput: Throughput | None = None
    accuracy: Accuracy | None = None
    choice_accuracy: Accuracy | None = None
    parity: Parity | None = None
    status: Status = "NOT MEASURED"
    reason: str = ""


@dataclass(frozen=True)
class Machine(_Figures):
    """Where something was measured.

    Attributes:
        isa: The instruction sets that matter for this work.
        usable_cores: Logical cores that this process may run on.
        cpu_limit: Cores' worth of time that the control group allows, ``None`` where there is no limit.
        governor: Frequency governor, ``None`` where the system does not tell.
        virtual: Whether it is a virtual machine, ``None`` where the system does not tell.
        board: Model of a development board.
        load_average: Over 1, 5 and 15 minutes, before measuring.
        packages: Versions of those that matter and are installed.
        platform: What a Jetson, or NVIDIA's driver, says of its versions and settings.
        gpus: NVIDIA's, as their driver lists them.
        cuda_driver: The newest CUDA that this driver serves.
    """

    cpu: str
    isa: tuple[str, ...]
    physical_cores: int
    logical_cores: int
    usable_cores: int
    os: str
    kernel: str
    python: str
    architecture: str
    packages: Mapping[str, str]
    memory_bytes: int | None = None
    cpu_limit: float | None = None
    governor: str | None = None
    virtual: bool | None = None
    board: str | None = None
    load_average: tuple[float, float, float] | None = None
    platform: Platform | None = None
    gpus: tuple[Gpu, ...] = ()
    cuda_driver: str | None = None


@dataclass(frozen=True)
class Verdict:
    """What a build came to.

    Attributes:
        chosen: Name of the variant to pack; ``None`` where none computes what the module computes.
        passed: Whether the budget was kept, as far as it could be judged.
        sentence: The result and its evidence.
        warnings: What weakens the evidence.
        next_step: What to try.
    """

    chosen: str | None
    passed: bool
    sentence: str
    warnings: tuple[str, ...] = ()
    next_step: str | None = None


@dataclass(frozen=True)
class DataUse:
    """A set of images that a build used."""

    path: str
    images: int
    labelled: bool
    sha256: str
    skipped_images: int = 0


@dataclass(frozen=True)
class Report:
    """Everything that a build found out; ``report.json`` of a bundle.

    Attributes:
        source: The checkpoint, as plain data.
        target: The target's name.
        passes: Folds and rewrites of the chosen variant's graph.
        op_counts: Nodes of that graph by type.
        preprocess: One line.
        data: The image sets by use: ``calibration``, ``validation``.
        stages: Seconds by stage.
        notes: Defaults assumed, tensors dropped and the like.
        quantization: How the INT8 variant was made, where one was tried.
        fp8: How the FP8 variant was made, where one was tried.
        fusion: What TensorRT's compiler made of each precision's graph, with the compiler and the device that it
            compiled for.
        conditions: Clocks, temperatures, power and throttling while the latencies were measured.
        settings_tried: Ways to open the engines that were timed; all variants were then measured in the chosen one.
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
    quantization: QuantizationRecord | None = None
    fp8: QuantizationRecord | None = None
    settings_tried: tuple[SettingsTrial, ...] = ()
    fusion: Mapping[str, FusionRecord] = field(default_factory=dict)
    conditions: Conditions | None = None
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
        """Read what :meth:`save` wrote.

        Raises:
            BundleError: The file is missing or damaged, or a later version of edgevit wrote it.
        """
        path = Path(path)
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as exc:
            raise BundleError(f"cannot read the report {path}: {exc}", "build again") from exc
        version = data.get("schema_version") if isinstance(data, dict) else None
        if isinstance(version, int) and version > SCHEMA_VERSION:
            raise BundleError(
                f"{path} has report schema {version}; this edgevit reads up to {SCHEMA_VERSION}", "update edgevit"
            )
        return schema.from_data(cls, data, str(path), BundleError)
