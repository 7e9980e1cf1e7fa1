"""evaluate_on: a bundle over any number of images, on a Ray of this machine or on a cluster.

The set is cut into shards of consecutive images, of whole batches as one machine makes them. The nodes answer them and
write one file a shard; this process counts the answers shard by shard in the set's order, as it would count its own, so
that no figure depends on who answered what and when.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgevit.core.cache_folder import claim_folder, default_cache_directory
from edgevit.core.errors import BundleError, DeviceError, OutputError
from edgevit.core.libraries import LIBRARIES
from edgevit.core.packages import require_package
from edgevit.core.progress import Progress, ignore_progress
from edgevit.core.schema import from_data, to_data
from edgevit.measure.answer_source import Question
from edgevit.measure.answers import Answered
from edgevit.measure.evaluate import Evaluation, evaluate_bundle
from edgevit.remote.sweep.cluster import LOCAL, Cluster, connect
from edgevit.remote.sweep.kept_answers import read_kept, remove_partial
from edgevit.remote.sweep.shard_pipeline import run_shards
from edgevit.remote.sweep.shard_work import Shard, Work, describe_code
from edgevit.runtime.canary import CanaryCheck

if TYPE_CHECKING:
    from edgevit.pixels.images import ImageSet
    from edgevit.runtime.canary import Check

MOST_IMAGES = 256
"""Of a shard: a multiple of the batch, few enough that some nodes share some thousand images evenly."""
MOST_BYTES = 64 << 20
"""Of a shard's answers: maps are large, and nodes and this process hold a shard's at a time."""
_LOG_LEVEL = "RAY_BACKEND_LOG_LEVEL"
FOLDER = "evaluations"
"""In the cache, where answers lie if no folder is named."""


def evaluate_on(
    address: str,
    bundle: str | Path,
    data: str | Path,
    *,
    resume_folder: str | Path | None = None,
    reference: str | Path | None = None,
    arch: str | None = None,
    skip_bad_images: bool = False,
    check: Check = "auto",
    public_key: str | os.PathLike[str] | None = None,
    progress: Progress = ignore_progress,
) -> Evaluation:
    """As :func:`edgevit.measure.evaluate.evaluate_bundle`, on a Ray; begun again, it goes on where it ended.

    Args:
        address: Of a cluster, as ``ray.init`` takes it, whose nodes see the bundle, the data, the reference and
            ``resume_folder`` under the same paths; or ``local`` for a Ray of this machine's own.
        bundle: The folder or the packed file.
        data: The images.
        resume_folder: Where answers are kept, found again by what they depend on: the bundle, the code and the contents
            of the images. By default in the cache, where Ray runs on this machine.
        reference: The checkpoint, whose answers are kept for other bundles made from it.
        arch: As there, and so the other arguments.
        skip_bad_images: Likewise.
        check: Likewise, on every node.
        public_key: Likewise.
        progress: Told after every shard and every batch.

    Raises:
        MissingPackageError: Ray is not installed.
        DeviceError: No cluster answers, it cannot finish, or its nodes have other code.
        OutputError: The folder cannot be written, or a cluster is to keep answers in a folder that is not named.
        EdgevitError: As ``evaluate_bundle``.
    """
    require_package("ray", "an evaluation with --address", extra="sweep")
    if resume_folder is None and address != LOCAL:
        raise OutputError(
            "the nodes of a cluster have no folder in common that edgevit knows of",
            "name one that all of them see: --resume-folder FOLDER",
        )
    folder = Path(os.path.abspath(_make_folder(resume_folder)))
    if reference is not None and os.path.exists(reference):
        reference = os.path.abspath(reference)
    return evaluate_bundle(
        os.path.abspath(bundle),
        os.path.abspath(data),
        reference=reference,
        arch=arch,
        skip_bad_images=skip_bad_images,
        answer_with=functools.partial(_answer_on, address=address, folder=folder, progress=progress),
        check=check,
        public_key=public_key,
        progress=progress,
    )


def _make_folder(named: str | Path | None) -> Path:
    try:
        if named is None:
            root = default_cache_directory()
            claim_folder(root)
            named = root / FOLDER
        os.makedirs(named, exist_ok=True)
    except OSError as exc:
        raise OutputError(f"{named} cannot be written: {exc.strerror or exc}", "name another --resume-folder") from exc
    return Path(named)


@contextlib.contextmanager
def _answer_on(question: Question, *, address: str, folder: Path, progress: Progress) -> Iterator[ClusterAnswers]:
    if question.bundle.manifest.engine is None:
        raise BundleError(f"{question.bundle.path} is a portable bundle: it has no engine yet", "finish it first")
    threads = _count_threads(question.reference is not None)  # before connect sets Ray's number for this process
    # Ray's core warns of every actor of Ray Data on the screen (its issue 53727).
    with contextlib.ExitStack() as stack:
        if _LOG_LEVEL not in os.environ:
            os.environ[_LOG_LEVEL] = "fatal"
            stack.callback(os.environ.pop, _LOG_LEVEL, None)
        cluster = stack.enter_context(connect(address))
        yield ClusterAnswers(question, cluster, folder, threads, progress)


class ClusterAnswers:
    """Answers of a cluster's nodes; an :class:`edgevit.measure.answer_source.AnswerSource`.

    Args:
        question: Who is asked.
        cluster: The nodes.
        folder: Where answers are kept.
        threads: Of this machine, which an actor has too.
        progress: Told after every shard.
    """

    def __init__(self, question: Question, cluster: Cluster, folder: Path, threads: int, progress: Progress) -> None:
        self._question, self._cluster, self._folder, self._progress = question, cluster, folder, progress
        self._threads = threads
        manifest = question.bundle.manifest
        assert manifest.engine is not None
        self._gpu = LIBRARIES[manifest.engine.backend].nvidia
        key = question.public_key
        self._work = Work(
            bundle=str(question.bundle.path),
            manifest_sha256=question.bundle.manifest_sha256,
            preprocess=manifest.preprocess,
            check=question.check,
            public_key=None if key is None else Path(key).read_bytes(),
            reference=None if question.reference is None else str(question.reference),
            arch=question.arch,
            batch_size=1,
            threads=threads,
            made_by=describe_code(),
            run=secrets.token_hex(8),
        )
        self._digests: dict[str, str] = {}
        self._reference_key = ""
        self._machines: set[str] = set()
        self.canary = CanaryCheck("not checked")

    @property
    def doubts(self) -> tuple[str, ...]:
        """That processors of several kinds answered, whose last digits may differ."""
        if len(self._machines) < 2:
            return ()
        listed = "; ".join(sorted(self._machines))
        return (f"processors of {len(self._machines)} kinds answered, and may differ in last digits: {listed}",)

    def check(self, images: ImageSet, *, skip_bad: bool) -> ImageSet:
        """Decode and hash all images on the nodes; of files that have not changed since, it is kept."""
        place = self._folder / "checked"
        remove_partial(place)
        pieces = _cut(images, MOST_IMAGES)
        stem = {"made by": self._work.made_by, "preprocess": to_data(self._work.preprocess)}
        shards = {
            index: Shard(piece, checked=place / f"{_fingerprint({**stem, 'images': _list_stamps(piece)})}.json")
            for index, piece in enumerate(pieces)
        }
        faults: list[tuple[str, str]] = []
        for piece, (head, _) in zip(pieces, self._run(shards, "check images"), strict=True):
            faults += [(file, reason) for file, reason in head["faults"]]
            self._digests.update(zip(piece.files, head["digests"], strict=True))
        images = images.drop(list(dict.fromkeys(faults)), skip_bad=skip_bad)
        self._read_reference()
        return images

    def _read_reference(self) -> None:
        """What is wrong with the checkpoint is said before anything slow; it is not kept here."""
        if self._question.reference is None:
            return
        from edgevit.measure.open_reference import read_reference

        manifest = self._question.bundle.manifest
        model = read_reference(self._question.reference, self._question.arch, manifest)
        self._reference_key = _fingerprint(
            {
                "made by": self._work.made_by,
                "checkpoint": model.source.identity,
                "config": repr(model.config),
                "preprocess": to_data(manifest.preprocess),
                "task": to_data(model.task),
                "threads": self._threads,
            }
        )

    def hash(self, images: ImageSet) -> str:
        """The set's fingerprint, of what the nodes hashed."""
        return images.sha256(digests=[self._digests[file] for file in images.files])

    def gallery(self, images: ImageSet, batch_size: int) -> npt.NDArray[Any]:
        """The float model's embeddings of all images, ``(N, C)``, which are held in memory to be searched."""
        shards = self._plan(images, batch_size, compare=True)
        for _ in self._run(shards, "answers", batch_size):
            pass  # the engine's, which need the same pixels and are counted afterwards
        return np.concatenate([self._load(shard.references)[1][0] for shard in shards.values()])

    def answer(self, images: ImageSet, batch_size: int, *, compare: bool) -> Iterator[Answered]:
        """Answers in the set's order, a shard at a time."""
        shards = self._plan(images, batch_size, compare=compare)
        first = True
        for shard, (head, arrays) in zip(shards.values(), self._run(shards, "answers", batch_size), strict=True):
            if first:
                self.canary = from_data(CanaryCheck, head["canary"], "an answered shard", DeviceError)
                first = False
            wanted = self._load(shard.references)[1] if shard.references is not None else None
            piece = shard.images
            labels = None if piece.labels is None else np.asarray(piece.labels, np.int64)
            for start in range(0, len(piece), batch_size):
                part = slice(start, start + batch_size)
                yield Answered(
                    tuple(values[part] for values in arrays),
                    None if wanted is None else tuple(values[part] for values in wanted),
                    None if labels is None else labels[part],
                    piece.files[part],
                )

    def _plan(self, images: ImageSet, batch_size: int, *, compare: bool) -> dict[int, Shard]:
        """The shards with the files of their answers, by content."""
        outputs = self._question.bundle.manifest.outputs
        each = sum(4 * int(np.prod([side for side in spec.shape[1:] if isinstance(side, int)])) for spec in outputs)
        size = max(1, min(MOST_IMAGES, MOST_BYTES // max(1, each)) // batch_size) * batch_size
        engine_key = _fingerprint({"made by": self._work.made_by, "bundle": self._work.manifest_sha256})
        answers, references = self._folder / "answers" / engine_key, self._folder / "references" / self._reference_key
        remove_partial(answers)
        remove_partial(references)
        shards = {}
        for index, piece in enumerate(_cut(images, size)):
            digests = tuple(self._digests[file] for file in piece.files)
            name = f"{_fingerprint({'images': digests, 'boxes': piece.boxes, 'batch': batch_size})}.answers"
            shards[index] = Shard(piece, None, digests, answers / name, references / name if compare else None)
        return shards

    def _run(
        self, shards: dict[int, Shard], stage: str, batch_size: int = 1
    ) -> Iterator[tuple[dict[str, Any], list[npt.NDArray[Any]]]]:
        """What the first file of each shard has, in order; those that have no whole files are computed."""
        total = sum(len(shard.images) for shard in shards.values())
        missing = {index: left for index, shard in shards.items() if (left := _find_missing(shard)) is not None}
        done = total - sum(len(shard.images) for shard in missing.values())
        self._progress(stage, done, total)
        work = dataclasses.replace(self._work, batch_size=batch_size)
        with contextlib.closing(
            run_shards(missing.items(), work, self._cluster, threads=self._threads, gpu=self._gpu)
        ) as finished:
            waiting = set(missing)
            for index, shard in shards.items():
                while index in waiting:
                    ended = next(finished)
                    waiting.discard(ended)
                    done += len(shards[ended].images)
                    self._progress(stage, done, total)
                yield self._load(shard.first)

    def _load(self, path: Path | None) -> tuple[dict[str, Any], list[npt.NDArray[Any]]]:
        found = None if path is None else read_kept(path)
        if found is None:
            raise DeviceError(
                f"a node has answered a shard, and {path} is not here",
                "name a folder that this machine and all nodes have in common: --resume-folder",
            )
        if "machine" in found[0]:
            self._machines.add(found[0]["machine"])
        return found


def _find_missing(shard: Shard) -> Shard | None:
    """The shard with those files that are still to be written; ``None`` where there are none."""
    paths = {name: getattr(shard, name) for name in ("checked", "answers", "references")}
    left = {name: path for name, path in paths.items() if path is not None and read_kept(path) is None}
    if not left:
        return None
    checked, answers, references = (left.get(name) for name in paths)
    return dataclasses.replace(shard, checked=checked, answers=answers, references=references)


def _cut(images: ImageSet, size: int) -> list[ImageSet]:
    """Consecutive images; what the whole set was left without is none of theirs."""
    bare = dataclasses.replace(images, skipped=(), matching=None)
    return [bare.pick(range(start, min(start + size, len(images)))) for start in range(0, len(images), size)]


def _list_stamps(images: ImageSet) -> list[Any]:
    """What tells that a file, or what it shows, is another one; no image is read."""
    truths, boxes = images.truths, images.boxes
    return [
        [file, images.stamp(file), truths.fingerprint(index) if truths else "", boxes[index] if boxes else ()]
        for index, file in enumerate(images.files)
    ]


def _fingerprint(data: Any) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode("utf-8", "surrogateescape")).hexdigest()[:32]


def _count_threads(reference: bool) -> int:
    """Threads of the float model, or of an engine, on this machine."""
    if reference:
        threads: int = require_package("torch", "comparing with the float model").get_num_threads()
        return threads
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
