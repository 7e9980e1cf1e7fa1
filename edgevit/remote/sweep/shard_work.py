"""What the nodes of a cluster do in a large evaluation: check shards of images, and answer them.

Each shard ends as one file. What is wrong with images, the bundle or the checkpoint comes back as data, so that all of
it is said at once, as on one machine; what is raised here is a fault of the machine, and is tried again.
"""

from __future__ import annotations

import functools
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgevit.core.errors import BundleError, DataError, DeviceError, EdgevitError, format_offenders
from edgevit.core.own_source import hash_source
from edgevit.core.packages import list_versions
from edgevit.core.schema import to_data
from edgevit.measure.machine.processor import list_instruction_sets, name_cpu, read_processors
from edgevit.remote.sweep.kept_answers import count_try, forget_tries, write_kept
from edgevit.runtime.bundle import load_bundle

if TYPE_CHECKING:
    from edgevit.measure.answers import Run
    from edgevit.pixels.images import ImageSet
    from edgevit.pixels.preprocess import Preprocess
    from edgevit.runtime import Predictor
    from edgevit.runtime.canary import Check

MOST_TRIES = 8
"""Of a shard in one run; what a cluster loses of its workers and nodes hits a shard once or twice."""
_PACKAGES = ("edgevit", "numpy", "pillow", "openvino", "onnxruntime", "tensorrt", "tensorrt_rtx", "torch")


@dataclass(frozen=True)
class Work:
    """What all shards of an evaluation have in common.

    Attributes:
        bundle: Its path, on every node.
        manifest_sha256: Of the bundle that is meant.
        preprocess: From an image to the engine's input.
        check: Whether the bundle's canary is answered when it is opened.
        public_key: Of whoever has to have signed the bundle, as a PEM file's content.
        reference: The checkpoint, on every node.
        arch: Its architecture.
        batch_size: Images a call.
        threads: That decode images, and of the float model: as many as where the evaluation was begun, as sums may
            depend on them.
        made_by: What :func:`describe_code` gave there.
        run: By which runs of the command differ.
    """

    bundle: str
    manifest_sha256: str
    preprocess: Preprocess
    check: Check
    public_key: bytes | None
    reference: str | None
    arch: str | None
    batch_size: int
    threads: int
    made_by: Mapping[str, str]
    run: str


@dataclass(frozen=True)
class Shard:
    """Consecutive images of a set, and the files that are to be written.

    Attributes:
        images: The images.
        checked: Where the result of a check goes.
        digests: Of the images, once they are checked.
        answers: Where the engine's answers go; ``None`` where they are there.
        references: The same of the float model's.
    """

    images: ImageSet
    checked: Path | None = None
    digests: tuple[str, ...] = ()
    answers: Path | None = None
    references: Path | None = None

    @property
    def first(self) -> Path:
        """The file that it is known by."""
        path = self.checked or self.answers or self.references
        assert path is not None
        return path


def describe_code() -> dict[str, str]:
    """The code and the packages that answers may depend on."""
    return {"code": hash_source(__name__), **list_versions(_PACKAGES)}


@functools.cache
def describe_machine() -> str:
    """The processor, by which answers may differ in their last digits."""
    processors = read_processors(Path("/"))
    return f"{name_cpu(processors) or 'unknown processor'} ({' '.join(list_instruction_sets(processors))})"


class ShardWorker:
    """An actor of Ray Data: rows with a pickled :class:`Shard` in, rows with an error or none out.

    The bundle and the checkpoint are opened once, when they are first needed, and stay open.
    """

    def __init__(self, work: Work) -> None:
        self._work = work
        self._predictor: Predictor | None = None
        self._reference: Run | None = None

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """``shard`` and ``index`` to ``index`` and ``error``, which is empty or a pickled :class:`EdgevitError`."""
        shard: Shard = pickle.loads(row["shard"])
        try:
            self._require_same_code()
            if not count_try(shard.first, self._work.run, MOST_TRIES):
                raise DeviceError(
                    f"{MOST_TRIES} workers have died of the shard that begins with {shard.images.files[0]}",
                    "see the workers' logs; where memory is short, give the nodes more of it",
                )
            if shard.checked is not None:
                _check(shard.images, self._work, shard.checked)
            else:
                self._answer(shard)
        except EdgevitError as exc:
            return {"index": row["index"], "error": pickle.dumps(exc)}
        finally:
            forget_tries(shard.first, self._work.run)
        return {"index": row["index"], "error": b""}

    def _require_same_code(self) -> None:
        here = describe_code()
        if here != self._work.made_by:
            theirs = self._work.made_by
            other = [
                f"{name}: {here.get(name, 'absent')}, not {theirs.get(name, 'absent')}"
                for name in sorted({*here, *theirs})
                if here.get(name) != theirs.get(name)
            ]
            raise DeviceError(
                f"a node of the cluster has other code than this machine:\n{format_offenders(other)}",
                "install the same edgevit and the same packages on all nodes",
            )

    def _answer(self, shard: Shard) -> None:
        images, work = shard.images, self._work
        digests = dict(zip(images.files, shard.digests, strict=True))
        changed = [file for file, digest in digests.items() if images.hash(file) != digest]
        if changed:
            raise DataError(
                f"{len(changed)} images are other ones than when they were checked:\n{format_offenders(changed)}",
                "all nodes have to see the same files, which are left in place while an evaluation runs",
            )
        engine = None if shard.answers is None else self._open().run_outputs
        reference = None if shard.references is None else self._read_reference()
        found: list[tuple[Any, ...]] = []
        wanted: list[tuple[Any, ...]] = []
        for batch in images.batches(work.preprocess, work.batch_size, workers=work.threads):
            if engine is not None:
                found.append(engine(batch.pixels))
            if reference is not None:
                wanted.append(reference(batch.pixels))
        head = {"machine": describe_machine()}
        if shard.answers is not None:
            write_kept(shard.answers, {**head, "canary": to_data(self._open().canary)}, _join(found))
        if shard.references is not None:
            write_kept(shard.references, head, _join(wanted))

    def _open(self) -> Predictor:
        from edgevit.runtime import open_bundle

        if self._predictor is None:
            work = self._work
            if load_bundle(work.bundle, public_key=work.public_key).manifest_sha256 != work.manifest_sha256:
                raise BundleError(f"a node of the cluster has another bundle at {work.bundle}", "copy it to all nodes")
            self._predictor = open_bundle(work.bundle, check=work.check, public_key=work.public_key)
        return self._predictor

    def _read_reference(self) -> Run:
        from edgevit.core.packages import require_package
        from edgevit.measure.open_reference import read_reference
        from edgevit.measure.reference import run_outputs

        if self._reference is None:
            work = self._work
            assert work.reference is not None
            require_package("torch", "the float model").set_num_threads(work.threads)
            manifest = load_bundle(work.bundle).manifest
            self._reference = run_outputs(read_reference(work.reference, work.arch, manifest))
        return self._reference


def _check(images: ImageSet, work: Work, out: Path) -> None:
    """Decode and hash a shard's images; what cannot be read has no hash."""
    faults = images.find_faults(work.preprocess, work.threads)
    hash_file: Callable[[str], str] = functools.cache(functools.partial(_hash, images))
    write_kept(out, {"faults": faults, "digests": [hash_file(file) for file in images.files]})


def _hash(images: ImageSet, file: str) -> str:
    try:
        return images.hash(file)
    except DataError:  # which is among the faults
        return ""


def _join(parts: list[tuple[Any, ...]]) -> list[Any]:
    return [np.concatenate(values) for values in zip(*parts, strict=True)]
