"""What a bundle may set of its engine: nothing that writes a file, or loads one that nobody checked.

Its digests can be computed again by whoever supplies it, so an opened bundle does with this machine what its settings
say. They are held against the table of ``runtime/settings.py``; everything else comes from whoever opens it.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from edgevit.core.errors import BundleError, ErrorMaker, RecipeError, TargetError
from edgevit.runtime.settings import check_bundled_settings

if TYPE_CHECKING:
    from edgevit.core.engine import Setting
    from edgevit.core.target import Target
    from edgevit.runtime.manifest import Manifest

_UNSAFE = partial(BundleError, code="unsafe")
_OPENING = "whoever opens a bundle may give any other: open_bundle(…, settings={…})"
_BUNDLE_HINT = f"build it again without them; {_OPENING}"
_BUILD_HINT = f"leave them out, as the engine would be measured with what its bundle has not; {_OPENING}"


def check_manifest_settings(path: Path, manifest: Manifest, error: ErrorMaker = _UNSAFE) -> None:
    """Refuse a manifest whose target or engine sets more than a bundle may.

    Raises:
        EdgevitError: As ``error``, naming every such setting.
    """
    target, engine = manifest.target, manifest.engine
    check_bundled_settings(target.settings, target.backend, f"{path}: target.settings", error, _BUNDLE_HINT)
    if engine is not None:
        check_bundled_settings(engine.settings, engine.backend, f"{path}: engine.settings", error, _BUNDLE_HINT)


def check_portable_recipe(path: Path, settings: Mapping[str, Setting], target: Target) -> None:
    """Refuse a portable bundle whose recipe sets more than a bundle may: its engine is compiled by it.

    Raises:
        BundleError: Naming every such setting.
    """
    check_bundled_settings(settings, target.backend, f"{path}: settings", _UNSAFE, _BUNDLE_HINT)


def check_build_settings(target: Target, settings: Mapping[str, Setting]) -> None:
    """Refuse, before the build, what its bundle could not hold.

    Args:
        target: What is built for.
        settings: The recipe's.

    Raises:
        TargetError: The target sets more than a bundle may.
        RecipeError: The recipe does.
    """
    where = f"the settings of target {target.name}"
    check_bundled_settings(target.settings, target.backend, where, TargetError, _BUILD_HINT)
    check_bundled_settings(settings, target.backend, "the recipe's settings", RecipeError, _BUILD_HINT)
