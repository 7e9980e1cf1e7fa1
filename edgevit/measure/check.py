"""check_bundle: whether a bundle is as it was built, and answers here as where it was judged."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from edgevit.core.errors import BundleError
from edgevit.core.report.place import Place
from edgevit.runtime.bundle import load_bundle, verify_bundle
from edgevit.runtime.canary import CanaryCheck, try_canary
from edgevit.runtime.predictor import open_bundle
from edgevit.runtime.rebuild import rebuild_command
from edgevit.runtime.session import get_runtime


@dataclass(frozen=True)
class BundleCheck:
    """What was found.

    Attributes:
        bundle: Its folder.
        files: Whose content was compared with the manifest, and is the same.
        passed: Whether the engine answers here as it did at the build.
        canary: The figures.
        here: This place.
        built: Where the bundle was judged; ``None`` where its engine was not run at the build.
    """

    bundle: str
    files: int
    passed: bool
    canary: CanaryCheck
    here: Place
    built: Place | None


def check_bundle(path: str | os.PathLike[str], public_key: str | os.PathLike[str] | None = None) -> BundleCheck:
    """Hash every file of a bundle, open it, and let its engine answer the canary, whatever is remembered.

    Args:
        path: The bundle's folder, or a packed bundle.
        public_key: Of whoever has to have signed it; see :func:`edgevit.runtime.open_bundle`.

    Raises:
        BundleError: A file is missing, damaged or too many; or the bundle has no engine or no canary, or does not fit
            this machine.
        DeviceError: The engine does not open, or fails.
    """
    bundle = verify_bundle(load_bundle(path, public_key=public_key))
    engine, record = bundle.engine, bundle.manifest.canary
    if record is None:
        raise BundleError(
            f"{path}: every file is as built, but it has no canary: nothing tells what its engine has to answer",
            f"measure it with edgevit eval on labelled images, or build it again: {rebuild_command(bundle)}",
        )
    with open_bundle(path, verify=False, check="never", public_key=public_key) as predictor:
        found = try_canary(bundle, predictor.session, "always")
        here = get_runtime(engine.backend).describe_place(engine, predictor.settings)
    return BundleCheck(str(Path(path)), len(bundle.manifest.files), found.status == "passed", found, here, record.place)
