"""Noise of quantised sites: over the signal of each output, with one site quantised or with several.

Of a model with several outputs it is the mean of that of each: all levels of features count alike. What a model chooses
by score is the float model's choice, and the scores are outputs too (:mod:`edgevit.graph.held_choices`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgevit.core.progress import Progress, ignore_progress
from edgevit.graph.graph import Graph
from edgevit.graph.held_choices import find_choices, find_indices, hold_choices
from edgevit.graph.segments import Segment, SegmentRunner, extract_segment, join_segments, split_graph
from edgevit.quantize.plan import QuantizationPlan, apply_plan

Pixels = Sequence[npt.NDArray[np.generic]]
Answers = Sequence[Sequence[npt.NDArray[np.float32]]]
Values = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Held:
    """A float graph with what noise is measured on.

    Attributes:
        graph: With its choices as inputs, in the form of :func:`edgevit.graph.held_choices.hold_choices`.
        pixels: Images, one an item.
        choices: Of each image what the graph chose, by the inputs' names.
    """

    graph: Graph
    pixels: Pixels
    choices: Sequence[Values]

    @property
    def outputs(self) -> list[str]:
        """Names of what is judged."""
        return [value.name or "" for value in self.graph.model.graph.outputs]


def hold_graph(graph: Graph, pixels: Pixels) -> Held:
    """Run a graph for what it chooses; one that chooses nothing is not run."""
    choices = find_choices(graph)
    if not choices:
        return Held(graph, pixels, [{}] * len(pixels))
    tapped = graph.copy()
    indices = [find_indices(choice) for choice in find_choices(tapped)]
    for value in indices:
        value.dtype = ir.DataType.INT64
    tapped.model.graph.outputs[:] = indices
    runner = SegmentRunner(tapped)
    return Held(hold_choices(graph), pixels, [runner.run_named(value) for value in pixels])


def measure_sites(
    graph: Graph,
    plan: QuantizationPlan,
    sites: Collection[str],
    pixels: Pixels,
    progress: Progress = ignore_progress,
) -> dict[str, float]:
    """Noise over signal at the logits by site, each alone."""
    held = hold_graph(graph, pixels)
    segments = split_graph(held.graph)
    found = walk_segments(segments, held.outputs, run_held(held), plan, sites, held, progress)
    progress("sensitivity", len(segments), len(segments))
    return {name: float(found[name].mean()) for name in plan.sites if name in found}


def walk_segments(
    segments: Sequence[Segment],
    outputs: Sequence[str],
    reference: Answers,
    plan: QuantizationPlan,
    sites: Collection[str],
    held: Held,
    progress: Progress,
) -> dict[str, npt.NDArray[np.float64]]:
    """Noise over signal at each output by site, each alone; ``reference`` has the outputs of each image of ``held``.

    The float model runs segment by segment, so that a site costs its own segment and what follows.
    """
    stream: Pixels = list(held.pixels)
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
            for value, chosen, wanted in zip(stream, held.choices, reference, strict=True):
                answers = quantized.run_named(value, chosen)
                if suffix is not None:
                    answers |= suffix.run_named(answers[segment.result.name or ""], chosen)
                # What leaves the graph before this segment is as it was.
                for place, output in enumerate(outputs):
                    if output in answers:
                        noise[place] += np.square(answers[output] - wanted[place], dtype=np.float64).sum()
            found[name] = noise / signal
        if rest:
            runner = SegmentRunner(part)
            stream = [runner.run(value, chosen)[0] for value, chosen in zip(stream, held.choices, strict=True)]
    return found


def extract_whole(segment: Segment) -> Graph:
    """With what leaves the graph there behind its result."""
    return extract_segment(segment, [value.name or "" for value in segment.outputs])


def measure_noise(held: Held, plan: QuantizationPlan, sites: Collection[str], reference: Answers) -> float:
    """Noise over signal at the logits with some sites quantised; ``reference`` is :func:`run_held`'s."""
    found = run_held(dataclasses.replace(held, graph=apply_plan(held.graph, plan, sites)))
    noise = [[a - b for a, b in zip(*pair, strict=True)] for pair in zip(found, reference, strict=True)]
    return float((measure_power(noise) / measure_power(reference)).mean())


def run_held(held: Held) -> Answers:
    """What the graph gives in ONNX Runtime: for each image its outputs, ``(B, …) float32``."""
    runner = SegmentRunner(held.graph)
    return [runner.run(value, chosen) for value, chosen in zip(held.pixels, held.choices, strict=True)]


def measure_power(answers: Answers) -> npt.NDArray[np.float64]:
    """Sum of squares of each output."""
    squares = [[np.square(values, dtype=np.float64).sum() for values in outputs] for outputs in answers]
    total: npt.NDArray[np.float64] = np.asarray(squares, np.float64).sum(axis=0)
    return total
