"""What time an engine takes: a call, one engine against another, from file to answer, a fresh process, many callers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from edgevit.core.engine import Setting
from edgevit.core.report.figures import Figures


@dataclass(frozen=True)
class Latency(Figures):
    """Time of one call, from uint8 pixels in memory to float32 logits in memory.

    Attributes:
        batch: Images a call.
        runs: Timed calls.
        warmup_runs: Calls before them.
        seconds: Sum of the timed calls.
        p50_ms: Median of the calls.
        p90_ms: Nine calls in ten take no longer.
        p99_ms: Nor do 99 in a hundred.
        mean_ms: Mean of the calls.
        std_ms: Standard deviation of the calls, not of their mean.
        min_ms: The fastest call.
        method: One sentence on how it was measured.
        settings: The engine's, as used: threads, streams, hint.
        low_ms: Lower end of the 95 % interval of ``p50_ms`` over rounds of this run; another process may be outside.
        high_ms: Its upper end.
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
    low_ms: float | None = None
    high_ms: float | None = None


@dataclass(frozen=True)
class Ratio(Figures):
    """One latency over another from the same interleaved run.

    Attributes:
        value: The ratio.
        low: Lower end of its interval over rounds.
        high: Its upper end.
        rounds: Turns that the engines took.
        confidence: Of the interval.
    """

    value: float
    low: float
    high: float
    rounds: int
    confidence: float = 0.95


@dataclass(frozen=True)
class Spread(Figures):
    """Milliseconds of some calls.

    Attributes:
        p50_ms: Their median.
        p25_ms: A quarter of the calls take no longer.
        p75_ms: Three quarters take no longer.
    """

    p50_ms: float
    p25_ms: float
    p75_ms: float


@dataclass(frozen=True)
class EndToEnd(Figures):
    """What an app waits for: from the bytes of one image file to the answer.

    Attributes:
        image: The file's name in its set, or ``synthetic``.
        format: ``JPEG``, ``PNG`` and so on.
        width: Of the upright image, in pixels.
        height: Likewise.
        runs: Timed answers.
        decode: From the file's bytes to 8-bit RGB.
        resize: From that to the model's pixels.
        engine: From these to its outputs.
        answer: From those to what the app is given: the most probable classes by name, or an array.
        whole: All four in one, by the call.
        method: One sentence on how it was measured.
    """

    image: str
    format: str
    width: int
    height: int
    runs: int
    decode: Spread
    resize: Spread
    engine: Spread
    answer: Spread
    whole: Spread
    method: str = ""

    @property
    def parts_ms(self) -> dict[str, float]:
        """Medians of ``decode``, ``resize``, ``engine`` and ``answer``, in this order."""
        return {name: getattr(self, name).p50_ms for name in ("decode", "resize", "engine", "answer")}

    @property
    def total_ms(self) -> float:
        """The sum of the parts' medians."""
        return sum(self.parts_ms.values())

    @property
    def shares(self) -> dict[str, float]:
        """Of the parts in ``total_ms``, from 0 to 1."""
        total = self.total_ms
        return {name: part / total if total else 0.0 for name, part in self.parts_ms.items()}

    @property
    def photo(self) -> str:
        """``500 × 375 JPEG``, where nobody's file was measured ``synthetic 640 × 480 JPEG``."""
        kind = "synthetic " if self.image == SYNTHETIC else ""
        return f"{kind}{self.width} × {self.height} {self.format}"


SYNTHETIC = "synthetic"
"""What stands for the name of an image that was drawn."""


@dataclass(frozen=True)
class SettingsTrial:
    """One way to open the engine.

    Attributes:
        settings: Besides those that the engine has anyway; see ``edgevit/runtime/settings.py``.
        ratio: Its latency over that of the library's own choice, from the same interleaved run.
        chosen: Whether the engine is opened in this way.
        library: The engine library.
    """

    settings: Mapping[str, Setting]
    ratio: Ratio
    chosen: bool = False
    library: str = ""


@dataclass(frozen=True)
class ColdStart(Figures):
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
class Throughput(Figures):
    """Images a second with several callers at once and the engine's throughput settings.

    Attributes:
        images_per_second: Of all callers together.
        streams: Callers at once.
        seconds: From the first timed call to the end of the last.
        runs: Timed calls.
        batch: Images a call.
        settings: The engine's, as used.
    """

    images_per_second: float
    streams: int
    seconds: float
    runs: int
    batch: int = 1
    settings: Mapping[str, Setting] = field(default_factory=dict)
