"""Evidence: images, and the float model's answers to them, which every variant is judged by."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from edgevit.core import schema
from edgevit.core.errors import DataError, count_things, format_offenders, list_some, shorten_lists
from edgevit.core.packages import require_package
from edgevit.core.progress import Progress
from edgevit.core.report.report import DataUse
from edgevit.core.task import Task
from edgevit.measure.reference import compute_reference, generate_images, load_reference, save_reference
from edgevit.pixels.answered_set import read_answered
from edgevit.pixels.class_names import expect_labels
from edgevit.pixels.images import ImageSet
from edgevit.runtime.session import Outputs

if TYPE_CHECKING:
    from edgevit.build.order import Inputs
    from edgevit.core.answer import Answer
    from edgevit.core.cache import StageCache
    from edgevit.core.recipe import Recipe
    from edgevit.models.model import Model
    from edgevit.pixels.preprocess import Preprocess

Pixels = npt.NDArray[np.uint8]

FEATURE_IMAGES = 64
"""Of a set, that features are compared on: each gives millions of numbers, and a level of Swin-T is 1.2 MB an image."""
FEATURE_PARITY_IMAGES = 4
_IN_REPORT = " (report.json lists all)"


@dataclass(frozen=True)
class Judged:
    """A set of images and the module's answers to it, ``(N, …) float32`` for each of its outputs.

    Attributes:
        key: The cache's name of these answers, so of the checkpoint, the task and the images; empty where they are not
            from the cache.
    """

    images: ImageSet
    outputs: Outputs
    use: DataUse
    key: str = ""


@dataclass(frozen=True)
class Evidence:
    """What a build knows about the float model's answers.

    Attributes:
        pixels: ``(P, H, W, 3) uint8``, for parity and latency.
        outputs: The module's answers, ``(P, …) float32`` for each of its outputs.
        task: What these are.
        generated: Whether ``pixels`` are generated, as no image was given.
        choice: Calibration images: what a choice is made by.
        validation: Held-out images: what is reported.
        graph_outputs: By quantised precision, what its graph gives in ONNX Runtime, where the graph was judged apart
            from the engine.
        labels: Names of the classes.
        answer: How the outputs become depth, classes, boxes or poses, where they do.
        doubts: What speaks against the labels, a warning each.
        chooses: Whether the outputs are rows of queries that the model takes in the order of their scores.
    """

    preprocess: Preprocess
    pixels: Pixels
    outputs: Outputs
    task: Task = field(default_factory=lambda: Task("classify"))
    generated: bool = False
    choice: Judged | None = None
    validation: Judged | None = None
    graph_outputs: Mapping[str, Outputs] = field(default_factory=dict)
    labels: tuple[str, ...] | None = None
    answer: Answer | None = None
    doubts: tuple[str, ...] = ()
    chooses: bool = False

    @property
    def data(self) -> dict[str, DataUse]:
        """The sets by use."""
        sets = {"calibration": self.choice, "validation": self.validation}
        return {name: judged.use for name, judged in sets.items() if judged is not None}


@dataclass(frozen=True)
class ImageSets:
    """The images of a build, every one decoded once; see :func:`read_image_sets`.

    Attributes:
        calibration: The sample of calibration images that a choice is made by.
        validation: All of the validation images.
        quantization: The sample of calibration images that INT8 is calibrated on.
        sample: One line on how ``quantization`` was drawn.
        doubts: What speaks against judging by them, a warning each.
    """

    calibration: ImageSet | None = None
    validation: ImageSet | None = None
    quantization: ImageSet | None = None
    sample: str = ""
    doubts: tuple[str, ...] = ()


def read_image_sets(
    model: Model, recipe: Recipe, inputs: Inputs, progress: Progress, note: Callable[[str], None]
) -> ImageSets:
    """Read both sets and decode every image once, before anything slow.

    The calibration set is reduced to the recipe's seeded, class-balanced samples.

    Args:
        model: Its classes, labels and preprocessing.
        recipe: Sizes of the samples, and their seed.
        inputs: Where the images are, and whether those that cannot be used are left out.
        progress: Told about every image.
        note: Told what was left out.

    Raises:
        DataError: Listing every bad image, or images that are in both sets; all validation images among the others.
    """
    skip_bad = inputs.skip_bad_images

    def read(use: str, path: str | Path | None) -> ImageSet | None:
        if path is None:
            return None
        images = _list_images(model, path, skip_bad)
        images = images.check(
            skip_bad=skip_bad,
            preprocess=model.preprocess,
            progress=lambda done, total: progress(f"check {use}", done, total),
        )
        if images.skipped:
            count = len(images.skipped)
            counted = "1 image cannot be used and is" if count == 1 else f"{count} images cannot be used and are"
            listed = format_offenders(images.list_skipped())
            note(f"{use}: {counted} left out:\n{shorten_lists(listed, _IN_REPORT)}")
        return images

    found: dict[str, ImageSet | None] = {}
    refused: list[tuple[str, DataError]] = []
    for use, path in (("calibration", inputs.choice), ("validation", inputs.validation)):
        try:
            found[use] = read(use, path)
        except DataError as exc:
            refused.append((use, exc))
    if refused:
        hints = dict.fromkeys(exc.hint for _, exc in refused)
        named = [f"{use}: {exc.whole}" for use, exc in refused] if len(refused) > 1 else [refused[0][1].whole]
        raise DataError("\n".join(named), "; ".join(hints)) from refused[0][1]
    sets = ImageSets(found["calibration"], found["validation"])
    if sets.calibration is None:
        return sets
    overlap = _find_overlap(sets.calibration, sets.validation) if sets.validation is not None else ""
    fitted = sets.calibration.subset(recipe.quantization.images, recipe.seed)
    return ImageSets(
        calibration=sets.calibration.subset(recipe.choice_images, recipe.seed),
        validation=sets.validation,
        quantization=fitted,
        sample=_describe_sample(fitted, sets.calibration, recipe.seed),
        doubts=(overlap,) if overlap else (),
    )


def _list_images(model: Model, path: str | Path, skip_bad: bool) -> ImageSet:
    """A set with the labels that the model's task can use."""
    if model.answer is None:
        expected = expect_labels(model.task.scores or "softmax", model.labels, model.classes)
        return ImageSet.read(path, **expected, skip_bad=skip_bad)
    classes = model.answer.count_classes(model.outputs)
    images = read_answered(path, model.task.name, labels=model.labels, classes=classes, skip_bad=skip_bad)
    if model.task.name == "detect" or (model.task.name == "pose" and images.labelled):
        require_package("pycocotools", "AP", extra="coco")  # which is said before anything slow
    return images


def refuse_assumed(model: Model, *images: str | Path | None) -> None:
    """Raise where images are given and their way into the model is assumed: accuracy would be of something else."""
    if model.assumed and any(path is not None for path in images):
        options = " ".join(f"--{name}" for name in model.assumed)
        raise DataError(
            f"images are given, and nothing says how {model.source.path} wants them: {', '.join(model.assumed)}",
            f"give {options}, or put its preprocessor_config.json or timm's config.json beside it",
        )


def _describe_sample(sample: ImageSet, whole: ImageSet, seed: int) -> str:
    """``512 of 1,000 images, 1 or 2 of each class, seed 0``."""
    drawn = len(sample) < len(whole)
    parts = [f"{len(sample):,} of {len(whole):,} images" if drawn else f"all {len(whole):,} images"]
    if sample.labels is not None and whole.labels is not None:
        counts = Counter(sample.labels)
        each = [counts[label] for label in set(whole.labels)]
        least, most = min(each), max(each)
        spread = f"{least}" if least == most else f"{least} or {most}" if most == least + 1 else f"{least} to {most}"
        parts.append(f"{spread} of each class")
    return ", ".join([*parts, f"seed {seed}"] if drawn else parts)


def _find_overlap(calibration: ImageSet, validation: ImageSet) -> str:
    """A warning where some validation images have copies among the calibration images; else empty.

    Raises:
        DataError: The same files are in both sets, or every validation image is among the calibration images.
    """
    seen = {(calibration.root / f).resolve() for f in calibration.files}
    shared = [f for f in validation.files if (validation.root / f).resolve() in seen]
    copies = shared or _find_copies(calibration, validation)
    if not copies:
        return ""
    whole, counted = len(validation), count_things(len(validation), "validation image")
    if len(copies) == whole == len(calibration):
        what = f"calibration and validation are the same {count_things(whole, 'image')}, as {validation.files[0]}"
    elif len(copies) == whole:
        what = f"all {counted} are among the calibration images, as {validation.files[0]}"
    elif not shared:
        return f"{len(copies)} of {counted} have copies among the calibration images: {list_some(copies, 3)}"
    else:
        are = "is" if len(shared) == 1 else "are"
        what = f"{len(shared)} of {counted} {are} in both the calibration and the validation set:\n"
        what += format_offenders(shared)
    raise DataError(what, "accuracy is judged on images that the choice has not seen: give sets without common images")


def _find_copies(calibration: ImageSet, validation: ImageSet) -> list[str]:
    """Validation images of the same content as a calibration image, whatever their names."""
    sizes = {f: validation.measure(f) for f in validation.files}
    wanted = frozenset(sizes.values())
    alike = {f: size for f in calibration.files if (size := calibration.measure(f)) in wanted}
    found = frozenset(alike.values())
    contents = frozenset(map(calibration.hash, alike))
    return [f for f, size in sizes.items() if size in found and validation.hash(f) in contents]


def gather_evidence(model: Model, recipe: Recipe, sets: ImageSets, cache: StageCache, progress: Progress) -> Evidence:
    """Run the float model over both sets; answers of an earlier build are used again.

    Raises:
        CheckpointError: The model's own answers are not finite.
    """
    height, width = model.config.image_size
    some = sets.calibration or sets.validation
    features = model.task.is_dense
    count = min(recipe.parity_images, FEATURE_PARITY_IMAGES) if features else recipe.parity_images
    if some is None:
        pixels = generate_images(count, height, width, recipe.seed)
    else:
        sample = some.subset(count, recipe.seed)
        pixels = np.concatenate([batch.pixels for batch in sample.batches(model.preprocess, 1)])
    return Evidence(
        preprocess=model.preprocess,
        pixels=pixels,
        outputs=_answer_few(model, pixels, cache),
        task=model.task,
        generated=some is None,
        choice=_judge(model, sets.calibration, "calibration", recipe.seed, cache, progress),
        validation=_judge(model, sets.validation, "validation", recipe.seed, cache, progress),
        labels=model.labels,
        answer=model.answer,
        chooses=bool(getattr(model.module, "chooses", False)),
    )


def _identify(model: Model, images: str) -> dict[str, object]:
    """What the module's answers to some images depend on."""
    return {
        "checkpoint": model.source.identity,
        "config": repr(model.config),
        "preprocess": schema.to_data(model.preprocess),
        "task": schema.to_data(model.task),
        "images": images,
    }


def _answer_few(model: Model, pixels: Pixels, cache: StageCache) -> Outputs:
    """The module's answers to the images of parity and latency; both steps of a sweep's cell need them."""

    def save(folder: Path) -> None:
        for spec, values in zip(model.outputs, compute_reference(model, pixels), strict=True):
            np.save(folder / f"{spec.name}.npy", values)

    digest = hashlib.sha256(pixels.tobytes()).hexdigest()
    folder, _ = cache.run("reference", _identify(model, f"pixels {digest}"), save)
    return load_reference(model, folder)


def _judge(
    model: Model, images: ImageSet | None, use: str, seed: int, cache: StageCache, progress: Progress
) -> Judged | None:
    if images is None:
        return None
    if model.task.is_dense:
        images = images.subset(FEATURE_IMAGES, seed)
    digest = images.sha256()
    folder, _ = cache.run(
        "reference",
        _identify(model, digest),
        lambda folder: save_reference(model, images, folder, progress=progress, stage=f"reference {use}"),
    )
    described = DataUse(
        path=images.source or str(images.root),
        images=len(images),
        labelled=images.labelled,
        sha256=digest,
        matching=images.describe_labels(),
        skipped_images=len(images.skipped),
        skipped=tuple(images.list_skipped()),
    )
    return Judged(images, load_reference(model, folder), described, folder.name)
