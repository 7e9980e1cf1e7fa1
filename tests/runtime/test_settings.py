from __future__ import annotations

import pytest

from edgevit.errors import CompileError, DeviceError
from edgevit.runtime.settings import OpenSettings, read_settings


def test_no_settings_mean_latency_and_the_devices_choice() -> None:
    assert read_settings({}, str.isupper) == OpenSettings("latency", None, None, None, {})


def test_settings_are_taken_and_the_librarys_own_kept_apart() -> None:
    given = {
        "hint": "throughput",
        "threads": 3,
        "streams": 2,
        "inference_precision": "bf16",
        "ENABLE_CPU_PINNING": True,
    }
    expected = OpenSettings("throughput", 3, 2, "bf16", {"ENABLE_CPU_PINNING": True})
    assert read_settings(given, str.isupper) == expected


def test_every_wrong_setting_is_listed_with_close_matches() -> None:
    wrong = {"hint": "fast", "thread": 2, "streams": 0, "threads": True, "inference_precision": 16}
    with pytest.raises(DeviceError) as caught:
        read_settings(wrong, str.isupper)
    for words in (
        "hint = 'fast'",
        "did you mean threads?",
        "streams = 0",
        "threads = True",
        "inference_precision = 16",
    ):
        assert words in caught.value.message
    assert "hint, threads, streams, inference_precision" in caught.value.hint


def test_error_class_is_the_callers() -> None:
    with pytest.raises(CompileError):
        read_settings({"x": 1}, str.isupper, CompileError)
