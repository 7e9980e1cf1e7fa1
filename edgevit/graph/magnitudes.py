"""measure_magnitudes: the largest magnitude that values of a graph take on some images."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt

from edgevit.core.progress import Progress
from edgevit.graph.graph import Graph
from edgevit.graph.segments import SegmentRunner, extract_segment, release_weights, split_graph


def measure_magnitudes(
    graph: Graph, names: Collection[str], pixels: Sequence[npt.NDArray[np.generic]], stage: str, progress: Progress
) -> dict[str, float]:
    """Run a graph segment by segment, which keeps one tensor an image, and look at some of its values.

    Args:
        graph: It is not changed.
        names: Computed values of floating point.
        pixels: Images, ``(B, H, W, 3) uint8`` each.
        stage: What ``progress`` is told about every segment.
        progress: See there.

    Returns:
        By name; NaN or infinite where a value was so on any image.
    """
    stream = list(pixels)
    largest = dict.fromkeys(names, 0.0)
    segments = split_graph(graph)
    for index, segment in enumerate(segments):
        progress(stage, index, len(segments))
        result = segment.result.name or ""
        made = [v.name or "" for node in segment.nodes for v in node.outputs]
        runner = SegmentRunner(extract_segment(segment, [name for name in made if name in largest]))
        for place, item in enumerate(stream):
            found = runner.run_named(item)
            stream[place] = found[result]
            for name in found.keys() & largest.keys():
                largest[name] = float(np.maximum(largest[name], np.abs(found[name]).max(initial=0.0)))
        release_weights(segment)
    progress(stage, len(segments), len(segments))
    return largest
