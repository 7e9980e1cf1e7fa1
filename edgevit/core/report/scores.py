"""How right an engine is: against labels, and against the float model.

Rates are kept as counts, so nothing is rounded; the percentages are properties.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from edgevit.core.report.figures import Figures
from edgevit.core.report.task_figures import KEPT_FIGURES
from edgevit.core.task import TaskName


@dataclass(frozen=True)
class ClassChange:
    """A class in which the number of right answers differs from the float model's.

    Attributes:
        label: The class.
        images: Judged images of that class.
        reference_correct: Those that the float model got right.
        correct: Those that the engine got right.
    """

    label: int
    images: int
    reference_correct: int
    correct: int


@dataclass(frozen=True)
class ImageChange:
    """An image to which the engine gives another class than the float model.

    Attributes:
        file: Its name within the set.
        reference: The class that the float model gives.
        answer: The class that the engine gives.
        label: The right one; ``None`` without labels.
        sha256: Of the file, so that nobody takes another of its name for it.
    """

    file: str
    reference: int
    answer: int
    label: int | None = None
    sha256: str = ""


@dataclass(frozen=True)
class NoisyImage(Figures):
    """The image with most noise, of the level with most noise.

    Attributes:
        file: Its name within the set; where that is not known, its place, from 0.
        share: Its part of the noise of all images, a fraction.
        sqnr_db: Its own ratio; ``None`` where the float model's values are all zero.
    """

    file: str
    share: float
    sqnr_db: float | None = None


@dataclass(frozen=True)
class Accuracy(Figures):
    """An engine against labels and against the float model, on the same images.

    Of the task ``embed`` a right answer is one that the labels of an image's nearest neighbours elect, and agreement
    that the nearest neighbour is the float model's (recall@1); :mod:`edgevit.measure.embeddings` says among which. Of
    ``features`` and of whole models there are neither; those of a known task have ``task_figures``.

    Attributes:
        images: Images that were judged.
        labelled: Whether they had labels; without, every field about right answers is ``None``.
        agreement: Images with the float model's top-1; ``None`` of features, and of an embedding without neighbours.
        agreement_low: Lower end of the 95 % interval of the agreement, a fraction (Wilson).
        agreement_high: Its upper end.
        top1: Images whose label came first; ties go to the lower index.
        top5: Images whose label was among the first five.
        reference_top1: ``top1`` of the float model.
        reference_top5: ``top5`` of the float model.
        gained: Images that the float model got wrong and the engine right.
        lost: The reverse.
        drop_points: 100 · (lost − gained) / images.
        drop_low: Lower end of its 95 % interval (Tango's for paired samples).
        drop_high: Its upper end.
        sqnr_db: 10·log10(Σ reference² / Σ (reference − logits)²) over all logits; ``None`` where every logit is equal,
            or the reference is zero. Of features, with the mean of the levels' noise over signal.
        per_class: Only the classes that changed.
        changed_images: The first images that were lost, that were gained, and that went from one wrong class to another
            (without labels: that changed), at most twelve of each kind, by their place in the set.
        skipped_images: Images of the set that could not be read.
        task: What the answers are.
        cosine_mean: Of an engine's embedding and the float model's.
        cosine_min: The smallest.
        recall10: Share of the float model's ten nearest neighbours that are among the engine's, on average.
        level_sqnr_db: The SQNR of every level of features; ``None`` where it equals the float model's. Where agreement
            says nothing, that of the outputs about their mean over the images, under the name ``the output``.
        no_agreement: Why agreement says nothing, so that an SQNR is judged; else empty.
        noisiest: Of features and whole models; ``None`` where all equals the float model's.
        task_figures: Of depth, segment, detect and pose: the figures of :mod:`edgevit.core.report.task_figures`, by
            their keys.
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
    changed_images: tuple[ImageChange, ...] = ()
    skipped_images: int = 0
    task: TaskName = "classify"
    cosine_mean: float | None = None
    cosine_min: float | None = None
    recall10: float | None = None
    level_sqnr_db: Mapping[str, float | None] = field(default_factory=dict)
    no_agreement: str = ""
    task_figures: Mapping[str, float] = field(default_factory=dict)
    noisiest: NoisyImage | None = None

    def _percent(self, count: int | None) -> float | None:
        return None if count is None else 100 * count / self.images

    @property
    def top1_percent(self) -> float | None:
        """Right answers, of the images; ``None`` without labels."""
        return self._percent(self.top1)

    @property
    def reference_top1_percent(self) -> float | None:
        """The float model's right answers, of the images; ``None`` without labels."""
        return self._percent(self.reference_top1)

    @property
    def agreement_percent(self) -> float | None:
        """Images with the float model's top-1, of all; ``None`` where there is none to compare."""
        return self._percent(self.agreement)

    @property
    def kept(self) -> tuple[str, float] | None:
        """Key and per cent of how much of the float model's answers is kept; ``None`` where none were compared."""
        key = KEPT_FIGURES.get(self.task, "")
        return (key, self.task_figures[key]) if key in self.task_figures else None

    @property
    def worst_level(self) -> tuple[str, float] | None:
        """Name and SQNR of the level with most noise; ``None`` where all equal the float model's, or there is none."""
        noisy = {name: sqnr_db for name, sqnr_db in self.level_sqnr_db.items() if sqnr_db is not None}
        return min(noisy.items(), key=lambda item: item[1], default=None)


@dataclass(frozen=True)
class Parity(Figures):
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
