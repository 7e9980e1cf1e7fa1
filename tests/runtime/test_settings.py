from __future__ import annotations

import pytest

from edgevit.core.engine import Setting
from edgevit.core.errors import CompileError, DeviceError
from edgevit.runtime.settings import GPU_KEYS, OpenSettings, read_settings


def test_no_settings_mean_latency_and_the_devices_choice() -> None:
    assert read_settings({}, str.isupper) == OpenSettings("latency", None, None, None, {})


def test_settings_are_taken_and_the_librarys_own_kept_apart() -> None:
    given: dict[str, Setting] = {
        "hint": "throughput",
        "threads": 3,
        "streams": 2,
        "inference_precision": "bf16",
        "ENABLE_CPU_PINNING": True,
    }
    expected = OpenSettings("throughput", 3, 2, "bf16", {"ENABLE_CPU_PINNING": True})
    assert read_settings(given, str.isupper) == expected


def test_every_wrong_setting_is_listed_with_close_matches() -> None:
    wrong: dict[str, Setting] = {
        "hint": "fast",
        "thread": 2,
        "streams": 0,
        "threads": True,
        "inference_precision": 16,
    }
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


def test_settings_of_a_gpu_are_taken_by_its_engines_alone() -> None:
    given: dict[str, Setting] = {
        "hint": "latency",
        "streams": 2,
        "cuda_graph": False,
        "wait": "block",
        "transfers": "included",
    }
    read = read_settings(given, lambda key: False, keys=GPU_KEYS)
    assert (read.streams, read.cuda_graph, read.wait) == (2, False, "block")
    with pytest.raises(DeviceError) as caught:
        read_settings({"cuda_graph": True, "wait": "spin"}, str.isupper)
    assert caught.value.message.count("engines for an NVIDIA GPU") == 2


def test_wrong_settings_of_a_gpu_are_all_listed() -> None:
    wrong: dict[str, Setting] = {
        "threads": 2,
        "cuda_graph": 1,
        "wait": "sleep",
        "transfers": "no",
        "stream": 2,
        "ENABLE": 1,
    }
    with pytest.raises(DeviceError) as caught:
        read_settings(wrong, lambda key: False, keys=GPU_KEYS)
    for words in (
        "threads is a setting of engines for a CPU",
        "cuda_graph = 1 is not true or false",
        "wait = 'sleep' is not one of spin, block",
        "transfers = 'no' is not included",
        "unknown setting stream (did you mean streams?)",
        "unknown setting ENABLE",
    ):
        assert words in caught.value.message
