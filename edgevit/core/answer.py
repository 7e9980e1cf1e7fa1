"""Answer: how a whole model's outputs become depth, classes, boxes or poses in the image's own pixels.

Only the standard library: manifests hold it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from edgevit.core import schema
from edgevit.core.engine import TensorSpec
from edgevit.core.task import TaskName

BoxScores: TypeAlias = Literal["softmax", "sigmoid", "best_sigmoid"]
Form: TypeAlias = Literal["depth", "class_maps", "mask_queries", "boxes", "heatmaps"]

TASK_OF_FORM: Mapping[Form, TaskName] = {
    "depth": "depth",
    "class_maps": "segment",
    "mask_queries": "segment",
    "boxes": "detect",
    "heatmaps": "pose",
}
_RANKS: Mapping[Form, tuple[tuple[int, ...], ...]] = {
    "depth": ((2, 3),),
    "class_maps": ((3,),),
    "mask_queries": ((2,), (3,)),
    "boxes": ((2,), (2,)),
    "heatmaps": ((3,),),
}
"""Axes that each output may have, beside that of images."""

LARGEST_MASK = 4096
LARGEST_KERNEL = 99
MOST_EDGES = 10_000


@dataclass(frozen=True)
class Answer:
    """How outputs become an answer.

    Attributes:
        form: What the outputs are. ``depth``: a map of depth. ``class_maps``: a map for every class, whose largest
            counts. ``mask_queries``: the classes of every query, the last of which is none, and its mask. ``boxes``:
            the classes of every query and its box: centre and size as shares of the image. ``heatmaps``: a map for
            every keypoint.
        outputs: Names of the bundle's outputs that it reads, in the order of ``form``.
        metric: Of ``depth``: whether it is in metres. Otherwise it is relative, as the origin has it.
        scores: Of ``boxes``: ``sigmoid``: a query may have several classes, and as many pairs as there are queries
            count. ``best_sigmoid``: it has one, the likeliest. ``softmax``: likewise, and the last class is none.
        threshold: Of ``boxes``: what a score has to be above, unless the caller says otherwise.
        mask_size: Of ``mask_queries``: height and width that masks are resized to before classes are summed.
        tiles: Of ``mask_queries``: whether an image's short side is resized to the input's, and overlapping squares
            along the long side are computed by themselves and averaged.
        kernel: Of ``heatmaps``: side of the Gaussian that smooths a map before its maximum is refined.
        edges: Of ``heatmaps``: pairs of keypoints that a skeleton joins.
    """

    form: Form
    outputs: tuple[str, ...]
    metric: bool = False
    scores: BoxScores = "softmax"
    threshold: float = 0.5
    mask_size: tuple[int, int] | None = None
    tiles: bool = False
    kernel: int = 11
    edges: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        wanted = len(_RANKS[self.form])
        sides = self.mask_size or ()
        schema.refuse(
            (len(self.outputs) != wanted, f"outputs = {list(self.outputs)} are not {wanted}, as {self.form} reads"),
            (not 0 <= self.threshold < math.inf, f"threshold = {self.threshold} is not a finite number from 0"),
            (
                not all(1 <= side <= LARGEST_MASK for side in sides),
                f"mask_size = {list(sides)} is not between 1 and {LARGEST_MASK}",
            ),
            (
                (self.form == "mask_queries") != (self.mask_size is not None),
                f"mask_size is of mask_queries, which need one, and the form is {self.form}",
            ),
            (
                not (1 <= self.kernel <= LARGEST_KERNEL and self.kernel % 2),
                f"kernel = {self.kernel} is not an odd number from 1 to {LARGEST_KERNEL}",
            ),
            (len(self.edges) > MOST_EDGES, f"edges are {len(self.edges)}, and {MOST_EDGES} are the most"),
        )

    @property
    def task(self) -> TaskName:
        """The task that it answers."""
        return TASK_OF_FORM[self.form]

    def count_classes(self, specs: Sequence[TensorSpec]) -> int | None:
        """How many classes or keypoints a bundle's outputs tell apart; ``None`` of depth."""
        if self.form == "depth":
            return None
        shape = next(spec.shape for spec in specs if spec.name == self.outputs[0])
        if self.form in ("class_maps", "heatmaps"):
            return int(shape[1])
        return int(shape[-1]) - (self.form == "mask_queries" or self.scores == "softmax")  # whose last one is none

    def find_problems(self, specs: Sequence[TensorSpec], labels: int | None) -> list[str]:
        """What contradicts a bundle's outputs, as sentences.

        Args:
            specs: Of the outputs.
            labels: How many classes or keypoints have names; ``None`` where none has.
        """
        shapes = {spec.name: spec.shape[1:] for spec in specs}
        missing = [name for name in self.outputs if name not in shapes]
        if missing:
            return [f"answer reads {', '.join(missing)}, and the outputs are {', '.join(shapes)}"]
        read = [shapes[name] for name in self.outputs]
        if any(len(shape) not in ranks for shape, ranks in zip(read, _RANKS[self.form], strict=True)):
            return [f"answer reads {self.form}, and the outputs are {read}"]
        if any(not isinstance(side, int) for shape in read for side in shape):
            return [f"answer reads outputs of a fixed size, and they are {read}"]
        counts = [[int(side) for side in shape] for shape in read]
        named = {
            "depth": 0,
            "class_maps": counts[0][0],
            "mask_queries": counts[0][-1] - 1,
            "boxes": counts[0][-1] - (self.scores == "softmax"),
            "heatmaps": counts[0][0],
        }[self.form]
        problems = []
        if self.form == "depth" and len(counts[0]) == 3 and counts[0][0] != 1:
            problems.append(f"answer reads one map of depth, and {self.outputs[0]} has {counts[0][0]}")
        if len(counts) == 2 and counts[0][0] != counts[1][0]:
            problems.append(f"answer reads {counts[0][0]} and {counts[1][0]} queries")
        if self.form == "boxes" and counts[1][1] != 4:
            problems.append(f"answer reads boxes of 4 numbers, and {self.outputs[1]} has {counts[1][1]}")
        if self.form != "depth" and named < 1:
            problems.append("answer reads outputs without a class")
        if labels is not None and labels != named:
            problems.append(f"there are {labels} labels, and answer reads {named}")
        if any(not 0 <= end < named for edge in self.edges for end in edge):
            problems.append(f"answer.edges names keypoints that are not among the {named}")
        return problems
