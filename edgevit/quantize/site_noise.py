"""Noise of quantised sites: over the signal of each output, with one site quantised or with several.

Of a model with several outputs it is the mean of that of each: all levels of features count alike.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt

from edgevit.core.progress import Progress, ignore_progress
from edgevit.graph.graph import Graph
from edgevit.graph.segments import Segment, SegmentRunner, extract_segment, join_segments, split_graph
from edgevit.quantize.plan import QuantizationPlan, apply_plan

Pixels = Sequence[npt.NDArray[np.generic]]
Answers = Sequence[Sequence[npt.NDArray[np.float32]]]


def measure_sites(
    graph: Graph,
    plan: QuantizationPlan,
    sites: Collection[str],
    pixels: Pixels,
    progress: Progress = ignore_progress,
) -> dict[str, float]:
    """Noise over signal at the logits by site, each alone."""
    outputs = [value.name or "" for value in graph.model.graph.outputs]
    segments, reference = split_graph(graph), run_graph(graph, pixels)
    found = walk_segments(segments, outputs, reference, plan, sites, pixels, progress)
    progress("sensitivity", len(segments), len(segments))
    return {name: float(found[name].mean()) for name in plan.sites if name in found}


def walk_segments(
    segments: Sequence[Segment],
    outputs: Sequence[str],
    reference: Answers,
    plan: QuantizationPlan,
    sites: Collection[str],
    pixels: Pixels,
    progress: Progress,
) -> dict[str, npt.NDArray[np.float64]]:
    """Noise over signal at each output by site, each alone; ``reference`` has the outputs of each of ``pixels``.

    The float model runs segment by segment, so that a site costs its own segment and what follows.
    """
    stream: Pixels = list(pixels)
    signal = measure_power(reference)
    found = {}
    for index, segment in enumerate(segments):
        progress("sensitivity", index, len(segments))
        part, rest = extract_whole(segment), segments[index + 1 :]
        names = [node.name or "" for node in segment.nodes if node.name in sites and node.name in plan.sites]
        suffix = SegmentRunner(extract_whole(join_segments(rest))) if rest and names else None
        for name in names:
            quantized = SegmentRunner(apply_plan(part, plan, [name]))
            noise = np.zeros(len(outputs))
            for value, wanted in zip(stream, reference, strict=True):
                answers = quantized.run_named(value)
                if suffix is not None:
                    answers |= suffix.run_named(answers[segment.result.name or ""])
                # What leaves the graph before this segment is as it was.
                for place, output in enumerate(outputs):
                    if output in answers:
                        noise[place] += np.square(answers[output] - wanted[place], dtype=np.float64).sum()
            found[name] = noise / signal
        if rest:
            runner = SegmentRunner(part)
            stream = [runner.run(value)[0] for value in stream]
    return found


def extract_whole(segment: Segment) -> Graph:
    """With what leaves the graph there behind its result."""
    return extract_segment(segment, [value.name or "" for value in segment.outputs])


def measure_noise(
    graph: Graph,
    plan: QuantizationPlan,
    sites: Collection[str],
    pixels: Pixels,
    reference: Answers,
) -> float:
    """Noise over signal at the logits with some sites quantised; ``reference`` is :func:`run_graph`'s."""
    found = run_graph(apply_plan(graph, plan, sites), pixels)
    noise = [[a - b for a, b in zip(*pair, strict=True)] for pair in zip(found, reference, strict=True)]
    return float((measure_power(noise) / measure_power(reference)).mean())


def run_graph(graph: Graph, pixels: Pixels) -> Answers:
    """What the graph gives in ONNX Runtime: for each item its outputs, ``(B, …) float32``."""
    runner = SegmentRunner(graph)
    return [runner.run(value) for value in pixels]


def measure_power(answers: Answers) -> npt.NDArray[np.float64]:
    """Sum of squares of each output."""
    squares = [[np.square(values, dtype=np.float64).sum() for values in outputs] for outputs in answers]
    total: npt.NDArray[np.float64] = np.asarray(squares, np.float64).sum(axis=0)
    return total
