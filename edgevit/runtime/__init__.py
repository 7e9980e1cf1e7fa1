"""What a device app needs: numpy, Pillow and one engine library.

>>> from edgevit.runtime import open_bundle
>>> with open_bundle("my-bundle") as predictor:
...     print(predictor.classify("photo.jpg", top_k=3))
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgevit.runtime.canary import CanaryCheck as CanaryCheck
    from edgevit.runtime.prediction import Prediction as Prediction
    from edgevit.runtime.predictor import Predictor as Predictor
    from edgevit.runtime.predictor import open_bundle as open_bundle
    from edgevit.runtime.session import Session as Session
    from edgevit.runtime.session import open_engine as open_engine
    from edgevit.runtime.submissions import QueueFullError as QueueFullError

# imported when asked for, so that the command line can import this package without numpy's start-up
_HOMES = {
    "CanaryCheck": "edgevit.runtime.canary",
    "Predictor": "edgevit.runtime.predictor",
    "Prediction": "edgevit.runtime.prediction",
    "QueueFullError": "edgevit.runtime.submissions",
    "Session": "edgevit.runtime.session",
    "open_bundle": "edgevit.runtime.predictor",
    "open_engine": "edgevit.runtime.session",
}

__all__ = ["CanaryCheck", "Prediction", "Predictor", "QueueFullError", "Session", "open_bundle", "open_engine"]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
