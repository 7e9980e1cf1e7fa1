"""open_bundle: from a bundle on disk to a Predictor, which classifies or embeds images, or gives their features."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from types import TracebackType

import numpy as np
import numpy.typing as npt

from edgevit.core.engine import Engine, Setting
from edgevit.core.errors import BundleError, DataError, DeviceError
from edgevit.core.target import read_architecture
from edgevit.pixels.decode import ImageSource
from edgevit.pixels.preprocess import Preprocess
from edgevit.runtime.bundle import Bundle, load_bundle, verify_bundle
from edgevit.runtime.canary import CanaryCheck, Check, check_canary
from edgevit.runtime.manifest import Manifest
from edgevit.runtime.prediction import Prediction, rank_outputs
from edgevit.runtime.rebuild import suggest_rebuild
from edgevit.runtime.session import Outputs, Session, get_runtime, open_engine


class Predictor:
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

    def classify(self, image: ImageSource, top_k: int = 5) -> list[Prediction]:
        """The most probable classes of an image, best first; of a model of numbers, the largest of these.

        Args:
            image: A path, the bytes of a file, a Pillow image, or pixels ``(H, W, 3) uint8`` in RGB order.
            top_k: How many; at most all of them are given.

        Raises:
            BundleError: The bundle is for another task.
            DataError: The image cannot be decoded, or ``top_k`` is below 1.
            DeviceError: The engine failed, or gave values that are not numbers.
        """
        self._require("classify")
        if not isinstance(top_k, int | np.integer) or isinstance(top_k, bool):
            raise DataError(f"top_k = {top_k!r} is not a whole number", "give a number from 1")
        if top_k < 1:
            raise DataError(f"top_k = {top_k} asks for no class", "give a number from 1")
        return rank_outputs(self._compute(image)[0], self.labels, self.manifest.scores, top_k)

    def embed(self, image: ImageSource) -> npt.NDArray[np.float32]:
        """The embedding of an image, ``(C,)``; of unit length where the bundle was built so.

        Args:
            image: As :meth:`classify` takes it.

        Raises:
            BundleError: The bundle is for another task.
            DataError: The image cannot be decoded.
            DeviceError: The engine failed, or gave values that are not numbers.
        """
        self._require("embed")
        return self._compute(image)[0]

    def features(self, image: ImageSource) -> dict[str, npt.NDArray[np.float32]]:
        """Feature maps of an image by name, ``(C, h, w)`` each, or ``(h·w, C)`` where the bundle was built so.

        The names are those of ``manifest.outputs``; arguments and errors as :meth:`embed`.
        """
        self._require("features")
        names = [spec.name for spec in self.manifest.outputs]
        return dict(zip(names, self._compute(image), strict=True))

    def _compute(self, image: ImageSource) -> Outputs:
        answers = tuple(values[0] for values in self._session.run_outputs(self.preprocess.apply(image)[None]))
        if not all(np.isfinite(values).all() for values in answers):
            raise DeviceError("the engine gave values that are not finite numbers", "run `edgevit eval` on the bundle")
        return answers

    def _require(self, task: str) -> None:
        ours = self.manifest.task
        if ours != task:
            raise BundleError(
                f"the bundle of {self.manifest.name} is for the task {ours}, not {task}",
                f"call .{ours}(image), or build the checkpoint again with --task {task}",
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
        """Free the engine; closing twice is allowed."""
        self._session.close()

    def __enter__(self) -> Predictor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_bundle(
    path: str | os.PathLike[str],
    *,
    verify: bool = True,
    settings: Mapping[str, Setting] | None = None,
    check: Check = "auto",
    keep_compiled: bool = True,
) -> Predictor:
    """Open a bundle on this device.

    Files that the manifest does not list are ignored: they cannot change an answer.

    Where anything that may change an answer differs from where the bundle was judged (instruction sets, library,
    driver, device, settings), the engine first answers the bundle's canary, three images at most. A pass is remembered
    in the user's cache folder.

    Args:
        path: The bundle's folder.
        verify: Hash every file; otherwise only their presence and size are checked.
        settings: Override the engine's own, for example ``{"threads": 2}``; see ``edgevit/runtime/settings.py``.
        check: ``auto`` as above; ``always`` answers the canary in any case, ``never`` in none.
        keep_compiled: Keep what OpenVINO compiles of a verified bundle in the user's cache folder, and take it from
            there: the second start needs a third of the time. The answers are the same.

    Raises:
        BundleError: The bundle is damaged, portable, of a newer edgevit, or made for another device or library version.
        MissingPackageError: The engine library is not installed.
        DeviceError: A setting is not valid, the library refused the engine, or the engine does not answer here as where
            it was judged: with both figures, and with what differs.
    """
    bundle = load_bundle(path)
    engine = bundle.engine  # refuses a portable bundle before its files are hashed
    bundle = verify_bundle(path, contents=verify, extra=False)
    wanted = dataclasses.replace(engine, settings={**engine.settings, **(settings or {})})
    mismatch = _find_mismatch(bundle.manifest, wanted)
    if mismatch:
        in_float32 = dataclasses.replace(wanted, settings={**wanted.settings, "inference_precision": "f32"})
        if "inference_precision" in wanted.settings and _find_mismatch(bundle.manifest, in_float32) is None:
            hint = "open it with settings={'inference_precision': 'f32'}, or build a bundle for this processor"
            raise BundleError(f"{path}: {mismatch}", hint)
        raise BundleError(f"{path}: {mismatch}", suggest_rebuild(bundle))
    digests = {name: bundle.manifest.files[name].sha256 for name in engine.files} if verify and keep_compiled else None
    session = open_engine(engine, settings, digests=digests)
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
