"""measure_parts: damage by site of an encoder inside a larger graph, in which neither runs the whole of it.

Behind an encoder there may be a decoder with ten times its work, and behind the first of several taps the graph has no
cut. So a site of the encoder is measured at the taps, and its noise there brought to the scale of the outputs: by how
much of each tap's noise arrives there, and by what all sites of the encoder do there together. A site of the carried
part is measured at the outputs, from the float values in front of it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgevit.core.progress import Progress, ignore_progress
from edgevit.graph.carried import CARRIED
from edgevit.graph.graph import Graph
from edgevit.graph.segments import SegmentRunner, extract_nodes, join_segments, split_graph, split_part
from edgevit.quantize.plan import QuantizationPlan, apply_plan
from edgevit.quantize.site_noise import Pixels, Values, extract_whole, hold_graph, walk_segments

Sums = npt.NDArray[np.float64]

_RUNS = 7  # of each site where the graph is ranked as a whole: 3 images, and for a quarter of them 16 more
_LARGE_WORK = 10e12  # multiplications: minutes on two cores; ViTPose-S has 1.8e12, UperNet on Swin-T 3.6e13
# A map has its noise at every place: one image says more of it than a vector of logits does. As many multiplications as
# 32 images of a ViT-S with a small decoder have, on which smaller models are judged; fewer than 4 photos differ much.
_IMAGES_WORK, _FEWEST_IMAGES = 256e9, 4


def is_large(graph: Graph, plan: QuantizationPlan) -> bool:
    """Whether ranking sites takes very long where each runs all that follows it, with something around an encoder."""
    if not any(_is_carried(node) for node in graph.model.graph):
        return False
    macs = {site.name: site.macs for site in graph.sites()}
    left, work = sum(macs.values()), 0
    for segment in split_graph(graph):
        names = [node.name or "" for node in segment.nodes]
        work += left * sum(name in plan.sites for name in names)
        left -= sum(macs.get(name, 0) for name in names)
    return _RUNS * work > _LARGE_WORK


def limit_images(graph: Graph, most: int) -> int:
    """How many images a large graph is run on, where a small one is on ``most``."""
    count = int(_IMAGES_WORK // max(1, sum(site.macs for site in graph.sites())))
    return min(most, max(_FEWEST_IMAGES, count))


def measure_parts(
    graph: Graph,
    plan: QuantizationPlan,
    sites: Collection[str],
    pixels: Pixels,
    progress: Progress = ignore_progress,
) -> dict[str, float]:
    """Noise over signal at the outputs by site, each alone: of the encoder's estimated, of the others measured."""
    held = hold_graph(graph, pixels)
    graph = held.graph
    carried = [node for node in graph.model.graph if _is_carried(node)]
    behind = set(carried)
    segments = split_part(graph, [node for node in graph.model.graph if node not in behind])
    taps = [value.name or "" for segment in segments for value in segment.outputs]
    front = [name for name in plan.sites if not name.startswith(CARRIED)]
    begun, total = len(segments), len(segments) + len(plan.sites) - len(front)

    encoder, image = extract_whole(join_segments(segments)), graph.model.graph.inputs[0].name or ""
    runner = SegmentRunner(encoder)
    pairs = zip(pixels, held.choices, strict=True)
    values: list[Values] = [{image: value, **chosen, **runner.run_named(value)} for value, chosen in pairs]
    alone = walk_segments(
        segments,
        taps,
        [[value[tap] for tap in taps] for value in values],
        plan,
        [name for name in front if name in sites],
        held,
        lambda stage, done, _: progress(stage, done, total),
    )
    outputs = held.outputs
    chosen = [node for node in carried if node.name in sites and node.name in plan.sites]
    found, answers = _measure_carried(
        carried,
        chosen,
        plan,
        values,
        outputs,
        lambda stage, done, steps: progress(stage, begun + (total - begun) * done // steps, total),
    )
    if alone:
        noisy = SegmentRunner(apply_plan(encoder, plan, front))
        wrong: Iterator[Values] = ({**value, **noisy.run_named(value[image])} for value in values)
        weights = _weigh_taps(carried, values, wrong, answers, taps, outputs)
        found |= {name: float(noise @ weights) for name, noise in alone.items()}
    progress("sensitivity", total, total)
    return {name: found[name] for name in plan.sites if name in found}


def _measure_carried(
    carried: Sequence[ir.Node],
    chosen: Sequence[ir.Node],
    plan: QuantizationPlan,
    values: Sequence[Values],
    outputs: Sequence[str],
    progress: Progress,
) -> tuple[dict[str, float], list[Values]]:
    """Noise over signal of sites of the carried part; and for each image what the float model answers.

    Args:
        carried: All nodes of the part, in the order of execution.
        chosen: Those that are measured. Only what a site's result reaches is run, from the values in front of that,
            which are kept of one image at a time.
        plan: For the sites.
        values: Of each image what the part reads, by name, and the outputs that the encoder computes.
        outputs: Of the graph.
        progress: Told about every site and image.
    """
    rests = [_follow(node, carried) for node in chosen]
    kept = dict.fromkeys(value.name or "" for rest in rests for value in _list_sources(rest))
    runner = SegmentRunner(_extract(carried, [*outputs, *kept]))
    signal, noise = np.zeros(len(outputs)), np.zeros((len(rests), len(outputs)))
    answers: list[Values] = []
    for place, value in enumerate(values):
        known = {**value, **runner.run_fed(value)}
        answers.append({name: known[name] for name in outputs})
        signal += _sum_squares(answers[-1], {}, outputs)
        for number, rest in enumerate(rests):
            progress("sensitivity", place * len(rests) + number, len(values) * len(rests))
            quantized = apply_plan(_extract(rest, outputs), plan, [chosen[number].name or ""])
            noise[number] += _sum_squares(SegmentRunner(quantized).run_fed(known), known, outputs)
    return {node.name or "": float((sums / signal).mean()) for node, sums in zip(chosen, noise, strict=True)}, answers


def _weigh_taps(
    carried: Sequence[ir.Node],
    values: Sequence[Values],
    wrong: Iterable[Values],
    answers: Sequence[Values],
    taps: Sequence[str],
    outputs: Sequence[str],
) -> Sums:
    """How much noise over signal at the outputs one of each tap makes, so that all sites together make what they do.

    How taps differ is seen on the first image, with the noise in one of them at a time.

    Args:
        carried: All nodes of the carried part.
        values: Of each image what the part reads, in float.
        wrong: The same with all sites of the encoder quantised.
        answers: The float model's.
        taps: What the encoder gives.
        outputs: Of the graph.
    """
    runner = SegmentRunner(_extract(carried, outputs))
    weights = np.ones(len(taps))
    at_taps, of_taps, at_ends, of_ends = (np.zeros(len(names)) for names in (taps, taps, outputs, outputs))
    for place, (value, twin, answer) in enumerate(zip(values, wrong, answers, strict=True)):
        noise, signal = _sum_squares(twin, value, taps), _sum_squares(value, {}, taps)
        power = _sum_squares(answer, {}, outputs)
        if not place and len(taps) > 1:
            for i, tap in enumerate(taps):
                mixed = {**value, tap: twin[tap]}
                heard = _sum_squares({**mixed, **runner.run_fed(mixed)}, answer, outputs)
                weights[i] = (heard / power).mean() / max(1e-30, noise[i] / signal[i])
        at_taps, of_taps = at_taps + noise, of_taps + signal
        at_ends = at_ends + _sum_squares({**twin, **runner.run_fed(twin)}, answer, outputs)
        of_ends = of_ends + power
    expected = float(np.dot(weights, at_taps / of_taps))
    return weights * (float((at_ends / of_ends).mean()) / max(1e-30, expected))


def _is_carried(node: ir.Node) -> bool:
    return (node.name or "").startswith(CARRIED)


def _follow(node: ir.Node, carried: Sequence[ir.Node]) -> list[ir.Node]:
    """A node and what its result reaches, in the order of execution.

    Shapes and indices in front of them, and an image in float, are computed again: what is fed is maps.
    """
    reached = {node}
    for other in carried:
        if any(value is not None and value.producer() in reached for value in other.inputs):
            reached.add(other)
    for other in reversed(carried):
        again = other.op_type == "Cast" or any(value.dtype != ir.DataType.FLOAT for value in other.outputs)
        if again and any(reader in reached for value in other.outputs for reader, _ in value.uses()):
            reached.add(other)
    return [other for other in carried if other in reached]


def _list_sources(nodes: Sequence[ir.Node]) -> list[ir.Value]:
    """What nodes read that none of them computes."""
    inside = set(nodes)
    read = (value for node in nodes for value in node.inputs if value is not None and value.const_value is None)
    return list(dict.fromkeys(value for value in read if value.producer() not in inside))


def _extract(nodes: Sequence[ir.Node], results: Sequence[str]) -> Graph:
    """The graph of some nodes that gives those of the results that they compute."""
    made = {value.name for node in nodes for value in node.outputs}
    return extract_nodes(nodes, _list_sources(nodes), [name for name in results if name in made])


def _sum_squares(values: Values, others: Values, names: Sequence[str]) -> Sums:
    """Of each named value, or of its difference to the other of that name; 0 where it is not among them."""
    found = [
        np.square(values[name] - others.get(name, np.float32(0)), dtype=np.float64).sum() if name in values else 0.0
        for name in names
    ]
    return np.asarray(found, np.float64)
