"""A back end that fails leaves a clear error and a usable process."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgevit.core.errors import BundleError, DeviceError, EdgevitError
from edgevit.runtime import open_bundle
from edgevit.runtime.bundle import Bundle
from edgevit.runtime.session import open_engine
from tests.support.tiny_bundle import make_bundle
from tests.support.tiny_onnx import compute_logits, make_images


@pytest.fixture(params=["cpu", "intel-cpu"])
def bundle(request: pytest.FixtureRequest, tmp_path: Path) -> Bundle:
    return make_bundle(tmp_path / "out", tmp_path / "work", target=request.param)


def test_file_removed_before_opening_is_named_and_its_return_is_enough(bundle: Bundle) -> None:
    for name in bundle.engine.files:
        file = bundle.path / name
        content = file.read_bytes()
        file.unlink()
        with pytest.raises(BundleError, match=f"{name}: missing"):
            open_bundle(bundle.path)
        file.write_bytes(content)
    with open_bundle(bundle.path) as predictor:
        np.testing.assert_allclose(predictor.run(make_images(2)), compute_logits(make_images(2)), rtol=1e-4, atol=1e-4)


def test_file_removed_between_check_and_opening_is_an_error_of_ours(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = bundle.path / bundle.engine.files[-1]
    content = file.read_bytes()
    real = open_engine

    def remove_first(*arguments: Any, **options: Any) -> Any:
        file.unlink()
        return real(*arguments, **options)

    monkeypatch.setattr("edgevit.runtime.predictor.open_engine", remove_first)
    with pytest.raises(EdgevitError) as caught:
        open_bundle(bundle.path, keep_compiled=False)
    assert file.name.split(".")[0] in caught.value.message
    assert caught.value.hint
    file.write_bytes(content)
    monkeypatch.setattr("edgevit.runtime.predictor.open_engine", real)
    open_bundle(bundle.path).close()


def test_files_removed_under_an_open_bundle_change_no_answer(bundle: Bundle) -> None:
    for keep in (True, False):
        with open_bundle(bundle.path, keep_compiled=keep) as predictor:
            expected = predictor.run(make_images(3))
            contents = {name: (bundle.path / name).read_bytes() for name in bundle.engine.files}
            for name in contents:
                (bundle.path / name).unlink()
            np.testing.assert_array_equal(predictor.run(make_images(3)), expected)
            for name, content in contents.items():
                (bundle.path / name).write_bytes(content)


class Refusing:
    """What a library calls for an answer, and refuses the first of them."""

    def __init__(self, real: Any, name: str, error: BaseException) -> None:
        self._real, self._name, self.error = real, name, error
        self.left = 1

    def __getattr__(self, name: str) -> Any:
        if name == self._name and self.left:
            self.left -= 1

            def refuse(*arguments: Any, **options: Any) -> Any:
                raise self.error

            return refuse
        return getattr(self._real, name)


@pytest.mark.parametrize("error", [MemoryError("std::bad_alloc"), RuntimeError("a kernel failed")])
def test_call_that_the_library_refuses_is_an_error_of_ours_and_the_next_one_answers(
    bundle: Bundle, error: Exception
) -> None:
    with open_bundle(bundle.path) as predictor:
        expected = predictor.classify(make_images(1)[0])
        executor: Any = predictor.session._executor
        if bundle.engine.backend == "openvino":
            executor._requests.put(Refusing(executor._requests.get(), "infer", error))
        else:
            executor._session = Refusing(executor._session, "run", error)
        with pytest.raises(DeviceError, match=r"too little memory|bad_alloc|a kernel failed") as caught:
            predictor.classify(make_images(1)[0])
        assert caught.value.__cause__ is error
        assert predictor.classify(make_images(1)[0]) == expected
        assert predictor.submit(make_images(1)[0]).result(30) == expected


@pytest.mark.skipif(sys.platform != "linux", reason="a limit on the address space is Linux's")
def test_opening_that_gets_no_memory_is_an_error_of_ours_and_a_later_one_answers(bundle: Bundle) -> None:
    code = f"""
import resource
import numpy as np
from edgevit.core.errors import EdgevitError
from edgevit.runtime import open_bundle
from tests.support.tiny_onnx import make_images

with open_bundle({str(bundle.path)!r}, keep_compiled=False) as predictor:  # libraries and their threads are loaded
    expected = predictor.run(make_images(1))
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used, resource.RLIM_INFINITY))
    refused = None
    held = []
    for _ in range(200):
        try:
            held.append(open_bundle({str(bundle.path)!r}, keep_compiled=False))
        except EdgevitError as exc:
            refused = exc
            break
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    print(type(refused).__name__)
    for other in held:
        other.close()
    print(np.array_equal(predictor.run(make_images(1)), expected))
with open_bundle({str(bundle.path)!r}) as predictor:
    print(np.array_equal(predictor.run(make_images(1)), expected))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    kind, *answers = done.stdout.split()
    assert kind in ("DeviceError", "BundleError"), done.stdout
    assert answers == ["True", "True"]


def test_engine_that_another_thread_closes_ends_every_call_with_an_answer_or_an_error_of_ours(bundle: Bundle) -> None:
    expected = compute_logits(make_images(1))
    for _ in range(5):
        predictor = open_bundle(bundle.path)
        ready = threading.Barrier(5)
        wrong: list[Any] = []

        def call(predictor: Any = predictor, ready: Any = ready, wrong: Any = wrong) -> None:
            ready.wait(30)
            try:
                while True:
                    found = predictor.run(make_images(1))
                    if not np.allclose(found, expected, rtol=1e-4, atol=1e-4):
                        wrong.append(found)
            except DeviceError as exc:
                if "closed" not in exc.message:
                    wrong.append(exc)
            except BaseException as exc:
                wrong.append(exc)

        threads = [threading.Thread(target=call) for _ in range(4)]
        for thread in threads:
            thread.start()
        ready.wait(30)
        for thread in [threading.Thread(target=predictor.close) for _ in range(2)]:
            thread.start()
            thread.join(30)
            assert not thread.is_alive()
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive()
        assert wrong == []
    with open_bundle(bundle.path) as again:
        np.testing.assert_allclose(again.run(make_images(1)), expected, rtol=1e-4, atol=1e-4)
