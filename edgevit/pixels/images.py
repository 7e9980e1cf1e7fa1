"""ImageSet: labelled or unlabelled images from a folder, a CSV, tar or parquet files, read as a stream.

Only the standard library, numpy and Pillow.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import random
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from edgevit.core.errors import DataError, format_offenders
from edgevit.pixels.class_names import Matching
from edgevit.pixels.decode import decode_image
from edgevit.pixels.hash_image import hash_image
from edgevit.pixels.in_order import map_ordered
from edgevit.pixels.listing import list_csv, list_folder
from edgevit.pixels.parquet_set import list_parquet
from edgevit.pixels.preprocess import Preprocess
from edgevit.pixels.shard_files import find_shards
from edgevit.pixels.store import Store
from edgevit.pixels.tar_set import list_tars
from edgevit.pixels.truths import Truths

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
        store: Where the files lie that are no files of their own.
    """

    root: Path
    files: tuple[str, ...]
    labels: tuple[int, ...] | None = None
    matching: Matching | None = None
    skipped: tuple[tuple[str, str], ...] = ()
    source: str = ""
    truths: Truths | None = None
    boxes: tuple[Box, ...] | None = None
    store: Store | None = None

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
        """List the images of a folder, a CSV, or tar or parquet files; no image is opened yet, see :meth:`check`.

        A folder holds one folder per class, searched to any depth; or only images, which makes an unlabelled set. A
        CSV has the columns ``file`` (relative to the CSV) and, unless the set is unlabelled, ``label``; others are
        ignored. Tar and parquet files are one file, a folder of them or a pattern; see
        :mod:`edgevit.pixels.shard_files`.

        A folder, or a label of a CSV or of a shard, is a name of ``labels`` or else a class index; see
        :func:`edgevit.pixels.class_names.match_classes`.

        Args:
            path: The folder, the file or the pattern.
            labels: The model's class names, by index.
            classes: How many classes the model has, where that is known.
            labelled: Whether labels are looked at.
            skip_bad: Leave out files of other formats, and rows that repeat a file or have no label, instead of
                refusing. Labels that fit no class are refused in any case.

        Raises:
            DataError: Listing everything that is wrong with the set.
        """
        source = Path(path)
        shards = find_shards(source)
        if shards is not None:
            list_shards = list_tars if shards.kind == "tar" else list_parquet
            listing = list_shards(shards, source, labels, classes, labelled)
        elif os.path.isdir(source):
            listing = list_folder(source, labels, classes, labelled)
        elif os.path.isfile(source):
            listing = list_csv(source, labels, classes, labelled)
        else:
            raise DataError(f"{source}: no such folder or file", "check the path")
        images = cls(listing.root, listing.files, source=str(source), store=listing.store)
        if labelled:
            images = dataclasses.replace(images, labels=listing.labels, matching=listing.matching)
        return images.settle(listing.offenders, skip_bad=skip_bad)

    def settle(self, offenders: Sequence[tuple[str, str]], *, skip_bad: bool) -> ImageSet:
        """This set without the offenders, (file, reason) each, which a listing found; it lists them in ``skipped``.

        Raises:
            DataError: Listing them, unless they are skipped, or saying that too little is left.
        """
        if offenders and not skip_bad:  # refused in any case, so with those that only decoding would find
            offenders = [*offenders, *self.find_faults()]
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
        offenders = self.find_faults(preprocess, workers, progress)
        return self.drop(offenders, skip_bad=skip_bad)

    def drop(self, offenders: Sequence[tuple[str, str]], *, skip_bad: bool) -> ImageSet:
        """What :meth:`check` gives, where :meth:`find_faults` gave the offenders."""
        return _settle(self, list(offenders), str(self.root), skip_bad) if offenders else self

    def find_faults(
        self,
        preprocess: Preprocess | None = None,
        workers: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> list[tuple[str, str]]:
        """(file, reason) of every image that cannot be used; arguments as of :meth:`check`."""
        offenders: list[tuple[str, str]] = []

        def find_fault(index: int) -> str | None:
            file = self.files[index]
            try:
                image = decode_image(self.fetch(file), name=file)
                if preprocess is not None:
                    preprocess.resized_size(image.height, image.width, name=file)
            except DataError as exc:
                return exc.message.removeprefix(f"{file}: ")
            return None if self.truths is None else self.truths.find_fault(index, (image.height, image.width))

        with warnings.catch_warnings(), closing(map_ordered(find_fault, range(len(self.files)), workers)) as faults:
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
                return preprocess.apply(self.fetch(file), name=file)
            return preprocess.fit_box(decode_image(self.fetch(file), name=file), self.boxes[index])

        if batch_size < 1:
            raise ValueError(f"batch_size = {batch_size} is below 1")
        pixels: list[npt.NDArray[np.uint8]] = []
        with closing(map_ordered(load, range(len(self.files)), workers)) as images:
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
        return self.pick(chosen)

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

    def fetch(self, file: str) -> Path | bytes:
        """What ``decode_image`` takes: a file's path, or its bytes where it lies within another.

        Raises:
            DataError: The other file cannot be read.
        """
        return self.root / file if self.store is None else self.store.read(file)

    def hash(self, file: str) -> str:
        """SHA-256 of a file, in hexadecimal; errors as :func:`hash_image`."""
        return hash_image(self.fetch(file))

    def measure(self, file: str) -> int:
        """Size of a file in bytes.

        Raises:
            OSError: It cannot be looked at.
            DataError: What it lies in cannot be read.
        """
        return os.path.getsize(self.root / file) if self.store is None else self.store.measure(file)

    def stamp(self, file: str) -> str:
        """Another text after a file was written again, without reading it; empty where it is not there."""
        if self.store is not None:
            return self.store.stamp(file)
        try:
            status = os.stat(self.root / file)
        except OSError:
            return ""
        return f"{status.st_size} {status.st_mtime_ns}"

    def sha256(self, workers: int | None = None, *, digests: Sequence[str] | None = None) -> str:
        """Fingerprint of names, labels and file contents; the same wherever the set lies.

        Args:
            workers: Threads; by default one a core.
            digests: What :meth:`hash` gives of every file, where that is known.
        """
        total = hashlib.sha256()
        labels = self.labels or (None,) * len(self.files)
        hashes = map_ordered(self.hash, self.files, workers) if digests is None else digests
        for index, (file, label, digest) in enumerate(zip(self.files, labels, hashes, strict=True)):
            shown = "" if self.truths is None else f" {self.truths.fingerprint(index)}"
            shown += "" if self.boxes is None else f" {self.boxes[index]}"
            total.update(f"{len(file)} {file} {label} {digest}{shown}\n".encode("utf-8", "surrogateescape"))
        return total.hexdigest()

    def pick(self, indices: Sequence[int]) -> ImageSet:
        """The images at some indices, with all that belongs to them."""
        files = tuple(self.files[i] for i in indices)
        return dataclasses.replace(
            self,
            files=files,
            store=None if self.store is None else self.store.pick(files),
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
        images = dataclasses.replace(images.pick(kept), skipped=(*images.skipped, *offenders))
    if not images.files:
        left = f" left after {len(images.skipped)} bad ones were skipped" if images.skipped else ""
        raise DataError(f"{where} has no images{left}", "give a folder per class, a folder of images, or a CSV")
    if images.labels is not None and len(set(images.labels)) == 1:
        raise DataError(
            f"{where} has labels, but all {len(images.files)} are of class {images.labels[0]}",
            "give images of two classes or more; unlabelled ones as a folder of images only or a CSV without labels",
        )
    return images
