"""How an engine is opened: settings that mean the same for every engine library.

========================  ==========================================================================================
``hint``                  ``latency`` (default): all cores work on one batch. ``throughput``: several batches at a time.
``threads``               CPU threads of all streams together; by default chosen on the device.
``streams``               Batches that are computed at a time; by default 1 for latency, chosen on the device otherwise.
``inference_precision``   Arithmetic of what is not quantised: ``f32``, ``f16`` or ``bf16``.
========================  ==========================================================================================

A library's own properties pass through: keys in capitals for OpenVINO (``ENABLE_CPU_PINNING``), keys with a dot for
ONNX Runtime's session configuration (``session.intra_op.allow_spinning``).
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from edgevit.engine import Setting
from edgevit.errors import DeviceError, EdgevitError, format_offenders

_CHOICES = {"hint": ("latency", "throughput"), "inference_precision": ("f32", "f16", "bf16")}
_COUNTS = ("threads", "streams")
KEYS = ("hint", "threads", "streams", "inference_precision")


@dataclass(frozen=True)
class OpenSettings:
    """Settings after checking; ``None`` where the device chooses."""

    hint: str = "latency"
    threads: int | None = None
    streams: int | None = None
    inference_precision: str | None = None
    properties: Mapping[str, Setting] = field(default_factory=dict)


def read_settings(
    settings: Mapping[str, Setting],
    is_property: Callable[[str], bool],
    error: type[EdgevitError] = DeviceError,
) -> OpenSettings:
    """Check settings.

    Args:
        settings: Keys of the table above, and the library's own.
        is_property: Whether a key is one of the library's own.
        error: The exception class to raise.

    Raises:
        EdgevitError: As ``error``, listing every key or value that is not valid.
    """
    offenders = []
    for key, value in settings.items():
        if key in _CHOICES:
            if value not in _CHOICES[key]:
                offenders.append(f"{key} = {value!r} is not one of {', '.join(_CHOICES[key])}")
        elif key in _COUNTS:
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                offenders.append(f"{key} = {value!r} is not a whole number above 0")
        elif not is_property(key):
            close = difflib.get_close_matches(key, KEYS, n=1)
            offenders.append(f"unknown setting {key}" + (f" (did you mean {close[0]}?)" if close else ""))
    if offenders:
        raise error(
            f"the engine's settings are not valid:\n{format_offenders(offenders)}",
            f"the settings are {', '.join(KEYS)}, and the engine library's own properties",
        )
    common = {key: settings[key] for key in KEYS if key in settings}
    properties = {key: value for key, value in settings.items() if key not in KEYS}
    return OpenSettings(**common, properties=properties)  # type: ignore[arg-type]
