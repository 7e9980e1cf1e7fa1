"""How an engine is opened: settings that mean the same for every engine library.

========================  ==========================================================================================
``hint``                  ``latency`` (default): one batch is computed as fast as possible. ``throughput``: several
                          batches at a time.
``streams``               Batches that are computed at a time; by default 1 for latency, chosen on the device otherwise.
``threads``               On a CPU: threads of all streams together; by default chosen on the device.
``inference_precision``   On Intel devices and CPUs, arithmetic of what is not quantised: ``f32``, ``f16`` or ``bf16``.
``cuda_graph``            On an NVIDIA GPU: record copies and kernels of a batch once, and launch them as one. By
                          default where the engine allows it; ``true`` refuses an engine that does not.
``wait``                  On an NVIDIA GPU: ``spin`` (default for latency) keeps a CPU core busy until the answer is
                          there; ``block`` (default for throughput) lets it sleep.
``transfers``             On an NVIDIA GPU, recorded: copies to and from the GPU are ``included`` in every call.
========================  ==========================================================================================

A library's own properties pass through: keys in capitals for OpenVINO (``ENABLE_CPU_PINNING``), keys with a dot for
ONNX Runtime's session configuration (``session.intra_op.allow_spinning``). That is for whoever opens an engine. A
bundle comes from somewhere, and some properties write files, or load some: it may set only those of its library's
``bundle_properties`` (:data:`edgevit.core.libraries.LIBRARIES`).
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

from edgevit.core.engine import Setting
from edgevit.core.errors import DeviceError, ErrorMaker, format_offenders
from edgevit.core.libraries import LIBRARIES

CHOICES = {
    "hint": ("latency", "throughput"),
    "inference_precision": ("f32", "f16", "bf16"),
    "wait": ("spin", "block"),
    "transfers": ("included",),
}
COUNTS = ("threads", "streams")
MOST = 1024  # each thread and each stream takes memory
SWITCHES = ("cuda_graph",)
KEYS = ("hint", "threads", "streams", "inference_precision")
GPU_KEYS = ("hint", "streams", "cuda_graph", "wait", "transfers")

refuse_setting = partial(DeviceError, code="argument")
"""The error of who opens an engine with settings of their own; a bundle's were checked when it was loaded."""


@dataclass(frozen=True)
class OpenSettings:
    """Settings after checking; ``None`` where the device chooses."""

    hint: str = "latency"
    threads: int | None = None
    streams: int | None = None
    inference_precision: str | None = None
    properties: Mapping[str, Setting] = field(default_factory=dict)
    cuda_graph: bool | None = None
    wait: str | None = None
    transfers: str = "included"


def merge_settings(own: Mapping[str, Setting], given: Mapping[str, Setting] | None) -> dict[str, Setting]:
    """An engine's own settings, with those of its opener in their place.

    Raises:
        DeviceError: What is given is no mapping of names.
    """
    if given is None:
        return dict(own)
    if not isinstance(given, Mapping) or not all(isinstance(key, str) for key in given):
        raise refuse_setting(f"settings = {given!r} are not names with values", 'give them as {"threads": 2}')
    return {**own, **given}


def read_settings(
    settings: Mapping[str, Setting],
    is_property: Callable[[str], bool] | None,
    error: ErrorMaker = refuse_setting,
    keys: tuple[str, ...] = KEYS,
) -> OpenSettings:
    """Check settings.

    Args:
        settings: Keys of the table above, and the library's own.
        is_property: Whether a key is one of the library's own; ``None`` where it has none.
        error: The exception class to raise.
        keys: Those of the table that the library has.

    Raises:
        EdgevitError: As ``error``, listing every key or value that is not valid.
    """
    offenders = []
    for key, value in settings.items():
        if key in keys:
            complaint = _find_fault(key, value)
            if complaint:
                offenders.append(f"{key} = {value!r} is not {complaint}")
        elif key in KEYS or key in GPU_KEYS:
            devices = "an NVIDIA GPU" if key in GPU_KEYS else "a CPU or an Intel device"
            offenders.append(f"{key} is a setting of engines for {devices}")
        elif is_property is None or not is_property(key):
            close = difflib.get_close_matches(key, keys, n=1)
            offenders.append(f"unknown setting {key}" + (f" (did you mean {close[0]}?)" if close else ""))
    if offenders:
        own = ", and the engine library's own properties" if is_property is not None else ""
        raise error(
            f"the engine's settings are not valid:\n{format_offenders(offenders)}",
            f"the settings are {', '.join(keys)}{own}",
        )
    common = {key: settings[key] for key in keys if key in settings}
    properties = {key: value for key, value in settings.items() if key not in keys}
    return OpenSettings(**common, properties=properties)  # type: ignore[arg-type]


def check_bundled_settings(
    settings: Mapping[str, Setting], backend: str, where: str, error: ErrorMaker, hint: str
) -> None:
    """Refuse settings that a bundle may not have.

    Args:
        settings: Of a bundle's engine, target or recipe, or of what a bundle is to be built from.
        backend: The engine library. Of one that is not known nothing is checked: it is not opened either.
        where: Whose settings they are, for the message.
        error: The exception class to raise.
        hint: What to do about it; what a bundle may set is added.

    Raises:
        EdgevitError: As ``error``, listing every key and value that is not in the tables above.
    """
    library = LIBRARIES.get(backend)
    if library is None:
        return
    properties, keys = library.bundle_properties, GPU_KEYS if library.nvidia else KEYS
    offenders = []
    for key, value in settings.items():
        setting = f"{_shorten(key if key.isprintable() else ascii(key))} = {_shorten(repr(value))}"
        if key in keys:
            complaint = _find_fault(key, value)
            if complaint:
                offenders.append(f"{setting} is not {complaint}")
        elif key not in properties:
            offenders.append(f"{setting} is not a setting that a bundle may have")
        elif not any(type(value) is type(choice) and value == choice for choice in properties[key]):
            offenders.append(f"{setting} is not one of {', '.join(map(repr, properties[key]))}")
    if offenders:
        raise error(
            f"{where} cannot stand in a bundle:\n{format_offenders(offenders)}",
            f"{hint}; a bundle's own are {', '.join((*keys, *properties))}",
        )


def _shorten(text: str, most: int = 100) -> str:
    """Somebody may have put a whole document in place of a name or value."""
    return text if len(text) <= most else f"{text[:most]} …"


def _find_fault(key: str, value: Setting) -> str | None:
    if key in CHOICES and value not in CHOICES[key]:
        choices = CHOICES[key]
        return f"one of {', '.join(choices)}" if len(choices) > 1 else choices[0]
    if key in SWITCHES and not isinstance(value, bool):
        return "true or false"
    if key in COUNTS and (isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST):
        return f"a whole number from 1 to {MOST}"
    return None
