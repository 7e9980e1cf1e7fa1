"""ImageSet: labelled or unlabelled images from a folder or a CSV, read as a stream.

Only the standard library, numpy and Pillow.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import random
import warnings
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from edgevit.core.errors import DataError, format_offenders
from edgevit.pixels.class_names import Matching
from edgevit.pixels.decode import decode_image
from edgevit.pixels.listing import list_csv, list_folder
from edgevit.pixels.preprocess import Preprocess
from edgevit.pixels.truths import Truths

Item = TypeVar("Item")
Result = TypeVar("Result")
Box: TypeAlias = tuple[float, float, float, float]


class Batch(NamedTuple):
    """Consecutive images of a set.

    Attributes:
        pixels: ``(B, H, W, 3) uint8``.
        labels: ``(B,) int64``, or ``None`` in an unlabelled set.
        files: The B names.
    """

    pixels: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64] | None
    files: tuple[str, ...]


@dataclass(frozen=True)
class ImageSet:
    """Images and their labels, in a fixed order.

    Attributes:
        root: The folder that ``files`` are relative to.
        files: Names, with forward slashes.
        labels: A class index for each file, or ``None``.
        matching: How the names of folders, or a CSV's labels, were matched with the model's classes.
        skipped: (file, reason) of images left out on request.
        source: The folder or the file, as it was named.
        truths: Of depth, segment, detect or pose: what each image shows; see :mod:`edgevit.pixels.truths`.
        boxes: Of pose: the part of its image that each file stands for, as left, top, right and bottom, so that a file
            is named once for every person in it.
    """

    root: Path
    files: tuple[str, ...]
    labels: tuple[int, ...] | None = None
    matching: Matching | None = None
    skipped: tuple[tuple[str, str], ...] = ()
    source: str = ""
    truths: Truths | None = None
    boxes: tuple[Box, ...] | None = None

    def __len__(self) -> int:
        return len(self.files)

    @classmethod
    def read(
        cls,
        path: str | os.PathLike[str],
        *,
        labels: Sequence[str] | None = None,
        classes: int | None = None,
        labelled: bool = True,
        skip_bad: bool = False,
    ) -> ImageSet:
        """List the images of a folder or a CSV; no image is opened yet, see :meth:`check`.

        A folder holds one folder per class, searched to any depth; or only images, which makes an unlabelled set. A
        CSV has the columns ``file`` (relative to the CSV) and, unless the set is unlabelled, ``label``; others are
        ignored.

        A folder, or a label of a CSV, is a name of ``labels`` or else a class index; see
        :func:`edgevit.pixels.class_names.match_classes`.

        Args:
            path: The folder or the CSV.
            labels: The model's class names, by index.
            classes: How many classes the model has, where that is known.
            labelled: Whether labels are looked at.
            skip_bad: Leave out files of other formats, and rows that repeat a file or have no label, instead of
                refusing. Labels that fit no class are refused in any case.

        Raises:
            DataError: Listing everything that is wrong with the set.
        """
        source = Path(path)
        if os.path.isdir(source):
            listing = list_folder(source, labels, classes, labelled)
        elif os.path.isfile(source):
            listing = list_csv(source, labels, classes, labelled)
        else:
            raise DataError(f"{source}: no such folder or CSV file", "check the path")
        images = cls(listing.root, listing.files, source=str(source))
        if labelled:
            images = dataclasses.replace(images, labels=listing.labels, matching=listing.matching)
        return images.settle(listing.offenders, skip_bad=skip_bad)

    def settle(self, offenders: Sequence[tuple[str, str]], *, skip_bad: bool) -> ImageSet:
        """This set without the offenders, (file, reason) each, which a listing found; it lists them in ``skipped``.

        Raises:
            DataError: Listing them, unless they are skipped, or saying that too little is left.
        """
        if offenders and not skip_bad:  # refused in any case, so with those that only decoding would find
            offenders = [*offenders, *self._find_faults()]
        return _settle(self, list(offenders), self.source, skip_bad)

    def check(
        self,
        *,
        skip_bad: bool = False,
        preprocess: Preprocess | None = None,
        workers: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> ImageSet:
        """Decode every image once.

        Args:
            skip_bad: Leave out bad images, instead of refusing.
            preprocess: Also refuse extreme strips that it could not resize.
            workers: Threads; by default one a core.
            progress: Called with (done, total) from the calling thread.

        Returns:
            This set, or with ``skip_bad`` one without the bad images, which it lists in ``skipped``.

        Raises:
            DataError: Listing every bad image, or saying that too little is left.
        """
        offenders = self._find_faults(preprocess, workers, progress)
        return _settle(self, offenders, str(self.root), skip_bad) if offenders else self

    def _find_faults(
        self,
        preprocess: Preprocess | None = None,
        workers: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> list[tuple[str, str]]:
        """(file, reason) of every image that cannot be decoded; arguments as of :meth:`check`."""
        offenders: list[tuple[str, str]] = []

        def find_fault(index: int) -> str | None:
            file = self.files[index]
            try:
                image = decode_image(self.root / file, name=file)
                if preprocess is not None:
                    preprocess.resized_size(image.height, image.width, name=file)
            except DataError as exc:
                return exc.message.removeprefix(f"{file}: ")
            return None if self.truths is None else self.truths.find_fault(index, (image.height, image.width))

        with warnings.catch_warnings(), closing(_map_ordered(find_fault, range(len(self.files)), workers)) as faults:
            warnings.simplefilter("ignore")  # of decompression bombs, which are listed instead
            for done, fault in enumerate(faults, start=1):
                if fault is not None:
                    offenders.append((self.files[done - 1], fault))
                if progress is not None:
                    progress(done, len(self.files))
        return list(dict.fromkeys(offenders))  # of a file that stands for several persons, what is wrong with it

    def batches(self, preprocess: Preprocess, batch_size: int, *, workers: int | None = None) -> Iterator[Batch]:
        """Stream the images in order; the last batch may be smaller.

        Images are decoded in threads, a bounded number ahead, so memory does not grow with the set.

        Raises:
            DataError: An image that :meth:`check` has not seen, or that has changed since.
        """

        def load(index: int) -> npt.NDArray[np.uint8]:
            file = self.files[index]
            if self.boxes is None:
                return preprocess.apply(self.root / file, name=file)
            return preprocess.fit_box(decode_image(self.root / file, name=file), self.boxes[index])

        if batch_size < 1:
            raise ValueError(f"batch_size = {batch_size} is below 1")
        pixels: list[npt.NDArray[np.uint8]] = []
        with closing(_map_ordered(load, range(len(self.files)), workers)) as images:
            for end, image in enumerate(images, start=1):
                pixels.append(image)
                if len(pixels) == batch_size or end == len(self.files):
                    part = slice(end - len(pixels), end)
                    labels = None if self.labels is None else np.asarray(self.labels[part], np.int64)
                    yield Batch(np.stack(pixels), labels, self.files[part])
                    pixels = []

    def subset(self, size: int, seed: int, balanced: bool = True) -> ImageSet:
        """A seeded sample without replacement, in the set's order; the whole set where it is not larger.

        Args:
            size: Number of images.
            seed: The same seed gives the same sample on every machine and Python version.
            balanced: Take equally many of each class, as far as there are; an unlabelled set counts as one class.
        """
        if size < 1:
            raise DataError(f"a sample of {size} images is empty", "ask for at least one image")
        if size >= len(self.files):
            return self
        # Sorting by random() rather than sample(): only the former's stream is promised to stay the same.
        generator = random.Random(seed)
        keys = [generator.random() for _ in self.files]
        rank = [0] * len(keys)
        if balanced and self.labels is not None:
            counts: Counter[int] = Counter()
            for index in sorted(range(len(keys)), key=keys.__getitem__):
                rank[index] = counts[self.labels[index]]
                counts[self.labels[index]] += 1
        chosen = sorted(sorted(range(len(keys)), key=lambda i: (rank[i], keys[i]))[:size])
        return self._pick(chosen)

    def describe_labels(self) -> str:
        """How they were matched with the model's classes: ``10 classes, matched by name``; empty without labels."""
        if self.matching is None or not self.labelled:
            return ""
        return f"{len(set(self.labels or self.matching.index_of.values()))} classes, {self.matching.rule}"

    @property
    def labelled(self) -> bool:
        """Whether something but the float model says what is right."""
        return self.labels is not None or self.truths is not None

    def list_skipped(self) -> list[str]:
        """What was left out, and why: ``cat/broken.jpg: …``."""
        return [f"{file}: {reason}" for file, reason in self.skipped]

    def sha256(self, workers: int | None = None) -> str:
        """Fingerprint of names, labels and file contents; the same wherever the set lies."""
        total = hashlib.sha256()
        labels = self.labels or (None,) * len(self.files)
        digests = _map_ordered(lambda file: hash_image(self.root / file), self.files, workers)
        for index, (file, label, digest) in enumerate(zip(self.files, labels, digests, strict=True)):
            shown = "" if self.truths is None else f" {self.truths.fingerprint(index)}"
            shown += "" if self.boxes is None else f" {self.boxes[index]}"
            total.update(f"{len(file)} {file} {label} {digest}{shown}\n".encode("utf-8", "surrogateescape"))
        return total.hexdigest()

    def _pick(self, indices: Sequence[int]) -> ImageSet:
        return dataclasses.replace(
            self,
            files=tuple(self.files[i] for i in indices),
            labels=None if self.labels is None else tuple(self.labels[i] for i in indices),
            truths=None if self.truths is None else self.truths.pick(indices),
            boxes=None if self.boxes is None else tuple(self.boxes[i] for i in indices),
        )


def _settle(images: ImageSet, offenders: list[tuple[str, str]], where: str, skip_bad: bool) -> ImageSet:
    """Refuse or drop the offenders, then refuse what can measure nothing."""
    if offenders and not skip_bad:
        what = "bad image" if images.truths is None else "fault"
        count = f"{len(offenders)} {what}" + ("s" if len(offenders) > 1 else "")
        some_left = bool(set(images.files) - {file for file, _ in offenders})
        raise DataError(
            f"{where} has {count}:\n" + format_offenders([f"{file}: {reason}" for file, reason in offenders]),
            "repair or remove them, or go on without them (--skip-bad-images)"
            if some_left
            else f"not one can be used: check that the files lie where they are listed, below {images.root}",
        )
    if offenders:
        bad = {file for file, _ in offenders}
        kept = [i for i, file in enumerate(images.files) if file not in bad]
        images = dataclasses.replace(images._pick(kept), skipped=(*images.skipped, *offenders))
    if not images.files:
        left = f" left after {len(images.skipped)} bad ones were skipped" if images.skipped else ""
        raise DataError(f"{where} has no images{left}", "give a folder per class, a folder of images, or a CSV")
    if images.labels is not None and len(set(images.labels)) == 1:
        raise DataError(
            f"{where} has labels, but all {len(images.files)} are of class {images.labels[0]}",
            "give images of two classes or more; unlabelled ones as a folder of images only or a CSV without labels",
        )
    return images


def _map_ordered(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int | None = None
) -> Generator[Result, None, None]:
    """``map`` in threads, in order, with at most four items a thread under way; stops early when closed."""
    workers = workers or os.cpu_count() or 1
    pending: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="edgevit-images")
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) >= 4 * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def hash_image(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal.

    Raises:
        DataError: It cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    except OSError as exc:
        raise DataError(f"{path}: {exc.strerror}", "check the path and its permissions") from exc
    return digest.hexdigest()
