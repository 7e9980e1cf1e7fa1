"""Graph + images → Ranges: what values each activation takes.

The graph runs in ONNX Runtime with the activations as further outputs. Of these only bounded statistics are kept, so
memory grows with neither the number of images nor that of the batches.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgevit.core.errors import CalibrationError, format_offenders
from edgevit.core.progress import Progress, ignore_progress
from edgevit.graph.graph import Graph
from edgevit.quantize.grid import BINS, Ranges, TensorStatistics

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Of one activation and run, so that counting costs less than running the model; 512 images give tens of millions.
HISTOGRAM_SAMPLE = 1 << 16
MIN_EXPONENT = -110  # of a bin's width: values divided by it stay within float32


def calibrate_graph(
    graph: Graph,
    tensors: Sequence[str],
    batches: Iterable[NDArray[np.uint8]],
    *,
    images: int | None = None,
    progress: Progress = ignore_progress,
) -> Ranges:
    """Run the graph over images and keep statistics of some of its values.

    The graph is fed as many images at a time as its input says, or one where that is open. Where the images are no
    multiple of it, the last is repeated to fill up.

    Args:
        graph: With one input ``(B, H, W, 3) uint8``; it is not changed.
        tensors: Names of values: the input, or computed ones of floating point.
        batches: ``(any, H, W, 3) uint8`` each.
        images: How many they are in all, for ``progress``.
        progress: Called with the stage ``calibrate``, in images.

    Raises:
        CalibrationError: Unknown or constant values, no images, images of another size, activations that are not
            finite: all of them.
        MissingPackageError: ONNX Runtime is not installed.
    """
    names = list(dict.fromkeys(tensors))
    inputs = [value for value in graph.model.graph.inputs if not value.is_initializer()]
    _check_names(graph, names)
    if len(inputs) != 1 or inputs[0].shape is None:
        raise CalibrationError("the graph does not have one input of known shape", "export it again")
    shape = [d if isinstance(d, int) else None for d in inputs[0].shape]
    accumulators = {name: Accumulator() for name in names}
    taps = [name for name in names if name != inputs[0].name]
    seen = 0
    progress("calibrate", 0, images or 0)
    with tempfile.TemporaryDirectory(prefix="edgevit-calibrate-") as folder:
        session = _open_session(graph, taps, Path(folder))
        for chunk, count in _chunk(batches, shape):
            if inputs[0].name in accumulators:
                accumulators[inputs[0].name].add(chunk)
            # One run for all: an activation costs far less memory than the time of another run would.
            for name, values in zip(taps, session.run(taps, {inputs[0].name: chunk}) if taps else (), strict=True):
                accumulators[name].add(values)
            seen += count
            progress("calibrate", seen, max(images or 0, seen))
    if seen == 0:
        raise CalibrationError("there are no calibration images", "give --calibration a folder of images or a CSV")
    return Ranges({name: accumulator.finish() for name, accumulator in accumulators.items()}, seen)


class Accumulator:
    """Statistics of one activation, run by run.

    The width of a bin is a power of two and bins begin at its multiples. So when the range grows, bins become one by
    twos, and no count is ever split between two bins.
    """

    def __init__(self, sample: int = HISTOGRAM_SAMPLE) -> None:
        self.sample = sample
        self.runs = 0
        self.rows = 0
        self.low: NDArray[np.float32] = np.zeros(0, np.float32)
        self.high: NDArray[np.float32] = np.zeros(0, np.float32)
        self.sums: NDArray[np.float64] = np.zeros(0)
        self.histogram: NDArray[np.int64] = np.zeros(BINS, np.int64)
        self.first = 0  # where the first bin begins, in widths of a bin
        self.exponent = MIN_EXPONENT  # of the width, as a power of two

    def add(self, values: NDArray[Any]) -> None:
        """Take in the values of one run, of any shape and numeric type, the last axis always of the same length."""
        table = np.asarray(values, np.float32)
        table = table.reshape(-1, table.shape[-1] if table.ndim else 1)
        low, high = table.min(axis=0), table.max(axis=0)  # NaN where there is one
        with np.errstate(invalid="ignore"):
            sums = table.sum(axis=0, dtype=np.float64)
            if self.runs:
                low, high, sums = np.minimum(self.low, low), np.maximum(self.high, high), self.sums + sums
        self.low, self.high, self.sums = low, high, sums
        if np.isfinite(low).all() and np.isfinite(high).all():
            self._cover(float(low.min()), float(high.max()))
            self._count(table)
        self.runs += 1
        self.rows += len(table)

    def finish(self) -> TensorStatistics:
        """What was seen so far."""
        width = math.ldexp(1.0, self.exponent)
        with np.errstate(invalid="ignore"):
            mean = float(self.sums.mean()) / self.rows
        return TensorStatistics(
            low=float(self.low.min()),
            high=float(self.high.max()),
            mean=mean,
            count=self.rows * self.low.size,
            histogram=self.histogram.copy(),
            histogram_low=self.first * width,
            bin_width=width,
        )

    def _cover(self, low: float, high: float) -> None:
        """Widen and move the bins until they hold all values so far, which lie between ``low`` and ``high``."""
        exponent = self.exponent
        if not self.histogram.any():
            # A constant gets bins that are fine for its size, yet not so fine that their number exceeds float32.
            spread = max(high - low, max(abs(low), abs(high)) / BINS)
            exponent = max(math.frexp(spread / BINS)[1] - 1, MIN_EXPONENT)
        while _bin(high, exponent) - _bin(low, exponent) >= BINS:
            exponent += 1
        first = _bin(low, exponent)
        if (exponent, first) != (self.exponent, self.first):
            used = np.flatnonzero(self.histogram)
            histogram = np.zeros_like(self.histogram)
            np.add.at(histogram, ((used + self.first) >> (exponent - self.exponent)) - first, self.histogram[used])
            self.histogram, self.exponent, self.first = histogram, exponent, first

    def _count(self, table: NDArray[np.float32]) -> None:
        """Count every value, or evenly spaced ones, others in each run, that go through all channels."""
        stride = -(-table.size // self.sample)
        while math.gcd(stride, table.shape[1]) > 1:
            stride += 1
        flat = table.reshape(-1)[self.runs % stride :: stride]
        bins = np.floor(flat * np.float32(math.ldexp(1.0, -self.exponent))).astype(np.intp)
        self.histogram += np.bincount(bins - self.first, minlength=BINS)


def _bin(value: float, exponent: int) -> int:
    return math.floor(math.ldexp(value, -exponent))


def _check_names(graph: Graph, names: Sequence[str]) -> None:
    import onnx_ir as ir

    floats = (None, ir.DataType.FLOAT, ir.DataType.FLOAT16)
    inputs = {value.name for value in graph.model.graph.inputs}
    computed = {value.name: value.dtype for node in graph.model.graph for value in node.outputs}
    problems = []
    for name in names:
        if name in graph.model.graph.initializers:
            problems.append(f"{name} is a constant")
        elif name not in computed and name not in inputs:
            problems.append(f"{name} is not in the graph")
        elif name in computed and computed[name] not in floats:
            problems.append(f"{name} is of {computed[name]}")
    if problems or not names:
        raise CalibrationError(
            "these values cannot be calibrated:\n" + format_offenders(problems or ["none was named"]),
            "name computed values of floating point, or the graph's input",
        )


def _open_session(graph: Graph, taps: Sequence[str], folder: Path) -> Any:
    """A session of a copy of the graph with further outputs; from a file, to hold the weights once and not twice."""
    import onnx_ir as ir

    from edgevit.runtime.onnxruntime import import_onnxruntime

    onnxruntime = import_onnxruntime()
    copy = graph.copy()
    outputs = copy.model.graph.outputs
    present = {value.name for value in outputs}
    values = {value.name: value for node in copy.model.graph for value in node.outputs}
    for name in taps:
        if name not in present:
            value = values[name]
            value.dtype = value.dtype or ir.DataType.FLOAT
            outputs.append(value)
    path = folder / "tapped.onnx"
    copy.save(path)
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def _chunk(
    batches: Iterable[NDArray[np.uint8]], shape: Sequence[int | None]
) -> Iterator[tuple[NDArray[np.uint8], int]]:
    """Images as many at a time as the input takes, and how many of them are new."""
    size = shape[0] or 1
    waiting: list[NDArray[np.uint8]] = []
    for batch in batches:
        expected = [have if want is None else want for want, have in zip(shape[1:], batch.shape[1:], strict=False)]
        if batch.dtype != np.uint8 or batch.ndim != len(shape) or list(batch.shape[1:]) != expected:
            raise CalibrationError(
                f"calibration images are {batch.dtype} {batch.shape}, and the graph takes uint8 {tuple(shape)}",
                "prepare the images with the model's own preprocessing",
            )
        for image in batch:
            waiting.append(image)
            if len(waiting) == size:
                yield np.stack(waiting), size
                waiting = []
    if waiting:
        yield np.stack(waiting + [waiting[-1]] * (size - len(waiting))), len(waiting)
