"""From a trained Vision Transformer to a measured bundle that a device opens.

The names below are imported when they are first used, so ``import edgevit`` costs milliseconds::

    import edgevit

    target = edgevit.load_target("intel-cpu")
    result = edgevit.build_model("./my_model", target, out="./bundle", calibration="train/", validation="val/")
    print(result.report.verdict.sentence)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgevit.build.build import build_model
    from edgevit.build.conclude import BuildResult
    from edgevit.build.inspect import inspect_source
    from edgevit.checkpoints import read_checkpoint
    from edgevit.core.errors import EdgevitError
    from edgevit.core.recipe import Recipe, load_recipe
    from edgevit.core.report.report import Report
    from edgevit.core.target import Budget, Target, list_targets, load_target
    from edgevit.models.model import Model
    from edgevit.pixels.images import ImageSet
    from edgevit.pixels.preprocess import Preprocess
    from edgevit.remote.sweep.sweep import sweep
    from edgevit.runtime import open_bundle

__version__ = "0.1.0"

__all__ = [
    "Budget",
    "BuildResult",
    "EdgevitError",
    "ImageSet",
    "Model",
    "Preprocess",
    "Recipe",
    "Report",
    "Target",
    "__version__",
    "build_model",
    "inspect_source",
    "list_targets",
    "load_recipe",
    "load_target",
    "open_bundle",
    "read_checkpoint",
    "sweep",
]

_MODULES = {
    "Budget": "edgevit.core.target",
    "BuildResult": "edgevit.build.conclude",
    "EdgevitError": "edgevit.core.errors",
    "ImageSet": "edgevit.pixels.images",
    "Model": "edgevit.models.model",
    "Preprocess": "edgevit.pixels.preprocess",
    "Recipe": "edgevit.core.recipe",
    "Report": "edgevit.core.report.report",
    "Target": "edgevit.core.target",
    "build_model": "edgevit.build.build",
    "inspect_source": "edgevit.build.inspect",
    "list_targets": "edgevit.core.target",
    "load_recipe": "edgevit.core.recipe",
    "load_target": "edgevit.core.target",
    "open_bundle": "edgevit.runtime",
    "read_checkpoint": "edgevit.checkpoints",
    "sweep": "edgevit.remote.sweep.sweep",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'edgevit' has no attribute {name!r}")
    value = getattr(importlib.import_module(_MODULES[name]), name)
    globals()[name] = value  # found directly from now on
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
