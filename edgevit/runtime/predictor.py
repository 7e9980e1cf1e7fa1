"""open_bundle: from a bundle on disk to a Predictor, which has a method for every task."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgevit.core.arguments import check_choice, check_switch
from edgevit.core.engine import Engine, Setting
from edgevit.core.errors import BundleError, DataError, ErrorCode
from edgevit.core.target import read_architecture
from edgevit.pixels.decode import ImageSource
from edgevit.pixels.preprocess import Preprocess
from edgevit.runtime.bundle import Bundle, load_bundle, verify_bundle
from edgevit.runtime.canary import CHECKS, CanaryCheck, Check, check_canary
from edgevit.runtime.manifest import Manifest
from edgevit.runtime.prediction import Prediction, rank_outputs
from edgevit.runtime.rebuild import suggest_rebuild
from edgevit.runtime.session import Outputs, Session, get_runtime, open_engine
from edgevit.runtime.settings import merge_settings
from edgevit.runtime.versions import OtherVersion
from edgevit.runtime.whole_predictor import WholePredictor, check_finite, check_list, name_listed, tell_memory

if TYPE_CHECKING:
    from concurrent.futures import Future


_ANSWERS: Mapping[str, str] = {"map": "outputs"}
"""Methods that answer a task whose name they do not have."""


class Predictor(WholePredictor):
    """An opened bundle; a context manager, safe to use from several threads.

    Attributes:
        manifest: What the bundle is, with the figures that were measured.
        differences: What here differs from where it was measured, such as another version of the engine library.
        canary: What was done to find out whether the engine answers here as where it was judged.
    """

    def __init__(
        self,
        bundle: Bundle,
        session: Session,
        differences: tuple[str, ...],
        canary: CanaryCheck | None = None,
    ) -> None:
        self.manifest: Manifest = bundle.manifest
        self.differences = differences
        self.canary = canary or CanaryCheck("not checked")
        self._session = session

    @property
    def preprocess(self) -> Preprocess:
        """From an image to the engine's input."""
        return self.manifest.preprocess

    @property
    def labels(self) -> tuple[str, ...] | None:
        """Names of the classes in order, if the checkpoint had them."""
        return self.manifest.labels

    @property
    def settings(self) -> Mapping[str, Setting]:
        """How the engine is opened: threads, streams and so on, as used."""
        return self._session.settings

    @property
    def session(self) -> Session:
        """The opened engine."""
        return self._session

    def classify(self, image: ImageSource, top_k: int = 5, *, bgr: bool = False) -> list[Prediction]:
        """The most probable classes of an image, best first; of a model of numbers, the largest of these.

        Args:
            image: A path, the bytes of a file, a Pillow image, or an array: ``(H, W, 3) uint8`` in RGB order,
                ``(H, W, 4)`` with transparency, which is dropped, or ``(H, W)`` in grey.
            top_k: How many; at most all of them are given.
            bgr: An array is in OpenCV's order.

        Raises:
            BundleError: The bundle is for another task.
            DataError: The image cannot be decoded, or ``top_k`` is below 1.
            DeviceError: The engine failed, or gave values that are not numbers.
        """
        return self._rank((image,), top_k, bgr, listed=False)[0]

    def classify_batch(
        self, images: Iterable[ImageSource], top_k: int = 5, *, bgr: bool = False
    ) -> list[list[Prediction]]:
        """As :meth:`classify`, of any number of images, each of its own size.

        As many at a time as the engine takes are prepared and computed.
        """
        return self._rank(images, top_k, bgr, listed=True)

    def embed(self, image: ImageSource, *, bgr: bool = False) -> npt.NDArray[np.float32]:
        """The embedding of an image, ``(C,)``; of unit length where the bundle was built so.

        Args:
            image: As :meth:`classify` takes it.
            bgr: An array is in OpenCV's order.

        Raises:
            BundleError: The bundle is for another task.
            DataError: The image cannot be decoded.
            DeviceError: The engine failed, or gave values that are not numbers.
        """
        self._require("embed")
        (vectors,) = self._compute((image,), bgr, listed=False)
        vector: npt.NDArray[np.float32] = vectors[0]
        return vector

    def embed_batch(self, images: Iterable[ImageSource], *, bgr: bool = False) -> npt.NDArray[np.float32]:
        """As :meth:`embed`, of any number of images, each of its own size: ``(images, C)``."""
        self._require("embed")
        return self._compute(images, bgr, listed=True)[0]

    def features(self, image: ImageSource, *, bgr: bool = False) -> dict[str, npt.NDArray[np.float32]]:
        """Feature maps of an image by name, ``(C, h, w)`` each, or ``(h·w, C)`` where the bundle was built so.

        The names are those of ``manifest.outputs``; arguments and errors as :meth:`embed`.
        """
        self._require("features")
        return self._name_outputs(values[0] for values in self._compute((image,), bgr, listed=False))

    def features_batch(self, images: Iterable[ImageSource], *, bgr: bool = False) -> dict[str, npt.NDArray[np.float32]]:
        """As :meth:`features`, of any number of images, each of its own size: ``(images, …)`` by name."""
        self._require("features")
        return self._name_outputs(self._compute(images, bgr, listed=True))

    def submit(self, image: ImageSource, *, block: bool = True, **options: Any) -> Future[Any]:
        """Have an image answered in the background, as the method of the bundle's task does it.

        Args:
            image: As :meth:`classify` takes it. It is not copied, so an array must not change until it is answered.
            block: Wait for room in the queue.
            options: Of that method: ``top_k``, ``threshold``, ``boxes``, ``bgr``.

        Returns:
            A future of the method's answer, or of its error.

        Raises:
            QueueFullError: As many images as the queue takes are on their way, and ``block`` is false.
            DeviceError: The bundle is closed.
        """
        answer: Callable[..., Any] = getattr(self, _ANSWERS.get(self.manifest.task, self.manifest.task))
        return self._session.enqueue(functools.partial(answer, image, **options), block=block)

    def map(self, images: Iterable[ImageSource], **options: Any) -> Iterator[Any]:
        """Answers to many images in their order, while the next ones are prepared in the background.

        Images are taken from the iterable as there is room for them. The first that cannot be answered raises its
        error.

        Args:
            images: As :meth:`classify` takes them.
            options: As of :meth:`submit`.
        """
        waiting: deque[Future[Any]] = deque()
        try:
            for image in check_list(images):
                waiting.append(self.submit(image, **options))
                while waiting and (waiting[0].done() or len(waiting) >= self._session.queue_size):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()

    def warm_up(self, n: int = 3) -> None:
        """Let the preparation and every stream of the engine run ``n`` times, so that the next answer is not slower.

        Raises:
            DataError: ``n`` is no whole number from 1.
            DeviceError: The bundle is closed, or the engine failed.
        """
        self._session.warm_up(n)
        sides = 2 * self.preprocess.height, 2 * self.preprocess.width
        self.preprocess.apply(np.zeros((*sides, 3), np.uint8))

    def _rank(self, images: Iterable[ImageSource], top_k: int, bgr: bool, *, listed: bool) -> list[list[Prediction]]:
        self._require("classify")
        if not isinstance(top_k, int | np.integer) or isinstance(top_k, bool):
            raise DataError(f"top_k = {top_k!r} is not a whole number", "give a number from 1", code="argument")
        if top_k < 1:
            raise DataError(f"top_k = {top_k} asks for no class", "give a number from 1", code="argument")
        (logits,) = self._compute(images, bgr, listed=listed)
        return [rank_outputs(row, self.labels, self.manifest.scores, top_k) for row in logits]

    @tell_memory()
    def _compute(self, images: Iterable[ImageSource], bgr: bool, *, listed: bool) -> Outputs:
        """All outputs, ``(images, …) float32`` each; images of a list are named by their places."""
        check_switch(bgr, "bgr")
        remaining = enumerate(check_list(images))
        parts: list[Outputs] = []
        while chunk := list(islice(remaining, self.manifest.batch[2])):
            pixels = [
                self.preprocess.apply(image, name=name_listed(index, image) if listed else None, bgr=bgr)
                for index, image in chunk
            ]
            parts.append(self._session.run_outputs(pixels[0][None] if len(pixels) == 1 else np.stack(pixels)))
            check_finite(parts[-1])
        if not parts:
            return tuple(np.zeros((0, *map(int, spec.shape[1:])), np.float32) for spec in self.manifest.outputs)
        return parts[0] if len(parts) == 1 else tuple(map(np.concatenate, zip(*parts, strict=True)))

    def _require(self, *tasks: str) -> None:
        ours = self.manifest.task
        if ours not in tasks:
            raise BundleError(
                f"the bundle of {self.manifest.name} is for the task {ours}, not {tasks[0]}",
                f"call .{_ANSWERS.get(ours, ours)}(image), or build the checkpoint again with --task {tasks[0]}",
                code="argument",
            )

    def run(self, batch: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """The one output of prepared images; see :meth:`edgevit.runtime.session.Session.run`.

        Args:
            batch: ``(B, H, W, 3) uint8``, each image as ``preprocess.apply`` gives it.

        Returns:
            ``(B, K) float32``.
        """
        return self._session.run(batch)

    def run_outputs(self, batch: npt.NDArray[np.uint8]) -> Outputs:
        """All outputs of prepared images; see :meth:`edgevit.runtime.session.Session.run_outputs`."""
        return self._session.run_outputs(batch)

    def close(self) -> None:
        """Free the engine, after the calls under way; what was submitted and has not begun ends with an error.

        Closing twice is allowed.
        """
        self._session.close()

    def __enter__(self) -> Predictor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@tell_memory()
def open_bundle(
    path: str | os.PathLike[str],
    *,
    verify: bool = True,
    settings: Mapping[str, Setting] | None = None,
    check: Check = "auto",
    public_key: str | bytes | os.PathLike[str] | None = None,
    keep_compiled: bool = True,
    queue_size: int | None = None,
) -> Predictor:
    """Open a bundle on this device.

    Files that the manifest does not list are ignored: they cannot change an answer.

    Where anything that may change an answer differs from where the bundle was judged (instruction sets, library,
    driver, device, settings), the engine first answers the bundle's canary, three images at most. A pass is remembered
    in the user's cache folder.

    Args:
        path: The bundle's folder, or a packed bundle (``NAME.edgevit``).
        verify: Hash every file; otherwise only their presence and size are checked.
        settings: Override the engine's own, for example ``{"threads": 2}``; see ``edgevit/runtime/settings.py``.
        check: ``auto`` as above; ``always`` answers the canary in any case, ``never`` in none.
        public_key: Of whoever has to have signed the bundle, as a PEM file or its content as bytes: an unsigned or
            altered bundle is refused before the engine library sees any of it. Every file is hashed then.
        keep_compiled: Keep what OpenVINO compiles of a verified bundle in the user's cache folder, and take it from
            there: the second start needs half of the time. The answers are the same.
        queue_size: Most images that ``submit`` takes in and that are not answered; by default two for each of its
            threads, of which there is one more than the engine has streams.

    Raises:
        BundleError: The bundle is damaged, portable, of a newer edgevit, or made for another device or library version.
        MissingPackageError: The engine library is not installed.
        DeviceError: A setting is not valid, the library refused the engine, or the engine does not answer here as where
            it was judged: with both figures, and with what differs.
        EdgevitError: An argument is not of its kind; with the code ``argument``.
    """
    check_switch(verify, "verify")
    check_switch(keep_compiled, "keep_compiled")
    check_choice(check, "check", CHECKS)
    bundle = load_bundle(path, public_key=public_key)
    engine = bundle.engine  # refuses a portable bundle before its files are hashed
    verify_bundle(bundle, contents=verify or public_key is not None, extra=False)
    wanted = dataclasses.replace(engine, settings=merge_settings(engine.settings, settings))
    mismatch = _find_mismatch(bundle.manifest, wanted)
    if mismatch:
        in_float32 = dataclasses.replace(wanted, settings={**wanted.settings, "inference_precision": "f32"})
        if "inference_precision" in wanted.settings and _find_mismatch(bundle.manifest, in_float32) is None:
            hint = "open it with settings={'inference_precision': 'f32'}, or build a bundle for this processor"
            raise BundleError(f"{path}: {mismatch}", hint, code="device")
        code: ErrorCode = "library" if isinstance(mismatch, OtherVersion) else "device"
        raise BundleError(f"{path}: {mismatch}", suggest_rebuild(bundle), code=code)
    hashed = verify or public_key is not None
    digests = {name: bundle.manifest.files[name].sha256 for name in engine.files} if hashed and keep_compiled else None
    session = open_engine(engine, settings, digests=digests, queue_size=queue_size)
    try:
        canary = check_canary(bundle, session, check)
        return Predictor(bundle, session, get_runtime(engine.backend).find_differences(engine), canary)
    except BaseException:
        session.close()
        raise


def _find_mismatch(manifest: Manifest, engine: Engine) -> str | None:
    wanted, here = manifest.target.architecture, read_architecture()
    if wanted is not None and wanted != here:
        return f"the bundle is for {manifest.target.title} ({wanted}); this machine has {here}"
    return get_runtime(engine.backend).find_mismatch(engine)
