from __future__ import annotations

import dataclasses
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevit.core.engine import Engine, Setting, TensorSpec
from edgevit.core.errors import BundleError, DataError, DeviceError
from edgevit.core.target import load_target
from edgevit.engines.compile import compile_engine
from edgevit.runtime.session import Session, open_engine
from tests.support.tiny_onnx import compute_grid, compute_logits, make_images, write_classifier

BACKENDS = ("cpu", "intel-cpu")


class _Recorder:
    """An executor whose answer is the mean of each image; remembers the batches that it was given."""

    settings: Mapping[str, Setting] = {}
    streams = 1

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.closed = 0

    def execute(self, batch: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.float32], ...]:
        assert batch.flags.c_contiguous
        self.sizes.append(len(batch))
        return (batch.mean((1, 2), dtype=np.float64).astype(np.float32),)

    def close(self) -> None:
        self.closed += 1


def _session(batch: tuple[int, int, int]) -> tuple[Session, _Recorder]:
    size: int | str = batch[0] if batch[0] == batch[2] else "batch"
    engine = Engine(
        backend="none",
        device="CPU",
        precision="fp32",
        files=("x",),
        inputs=(TensorSpec("image", (size, 4, 5, 3), "uint8"),),
        outputs=(TensorSpec("logits", (size, 3), "float32"),),
        batch=batch,
    )
    recorder = _Recorder()
    return Session(engine, recorder), recorder


@given(st.integers(1, 5), st.integers(0, 5), st.integers(1, 23))
def test_any_number_of_images_gives_one_row_each_in_order(least: int, more: int, count: int) -> None:
    session, recorder = _session((least, least, least + more))
    images = np.random.default_rng(count).integers(0, 256, (count, 4, 5, 3), dtype=np.uint8)
    logits = session.run(images)
    np.testing.assert_allclose(logits, images.mean((1, 2)), rtol=1e-6)
    assert logits.dtype == np.float32
    assert all(least <= size <= least + more for size in recorder.sizes)
    assert len(recorder.sizes) == -(-count // (least + more))


def test_images_that_are_not_contiguous_are_taken() -> None:
    session, _ = _session((2, 2, 2))
    images = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 3), dtype=np.uint8).transpose(1, 2, 0, 3)
    np.testing.assert_allclose(session.run(images), images.mean((1, 2)), rtol=1e-6)


@pytest.mark.parametrize(
    ("batch", "words"),
    [
        (np.zeros((1, 4, 5, 3), np.float32), "type float32"),
        (np.zeros((1, 4, 5, 3), np.int64), "type int64"),
        (np.zeros((1, 5, 4, 3), np.uint8), r"shape \(1, 5, 4, 3\)"),
        (np.zeros((1, 3, 4, 5), np.uint8), r"shape \(1, 3, 4, 5\)"),
        (np.zeros((0, 4, 5, 3), np.uint8), r"shape \(0, 4, 5, 3\)"),
        (np.zeros((4, 5, 3), np.uint8), r"shape \(4, 5, 3\)"),
        ([[1]], "not list"),
        (None, "not NoneType"),
    ],
)
def test_other_batch_is_refused_with_both_shapes(batch: npt.NDArray[np.uint8], words: str) -> None:
    session, recorder = _session((1, 1, 1))
    with pytest.raises(DataError, match=rf"shape \(images, 4, 5, 3\) and type uint8.*{words}"):
        session.run(batch)
    assert recorder.sizes == []


def test_single_image_is_refused_with_the_way_to_give_it() -> None:
    session, _ = _session((1, 1, 1))
    with pytest.raises(DataError) as caught:
        session.run(np.zeros((4, 5, 3), np.uint8))
    assert "image[None]" in caught.value.hint


def test_closed_session_refuses_and_closes_once() -> None:
    session, recorder = _session((1, 1, 1))
    with session:
        pass
    session.close()
    assert recorder.closed == 1
    with pytest.raises(DeviceError, match="closed"):
        session.run(np.zeros((1, 4, 5, 3), np.uint8))


def test_engine_of_an_unknown_library_is_refused(tmp_path: Path) -> None:
    engine = Engine(backend="coreml", device="Orin", precision="fp16", files=("model.plan",), inputs=(), outputs=())
    with pytest.raises(BundleError, match="no coreml engines"):
        open_engine(engine)


@pytest.fixture(scope="module", params=BACKENDS)
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    folder = tmp_path_factory.mktemp("engine")
    return compile_engine(
        write_classifier(folder / "float.onnx", batch="batch"),
        load_target(request.param),
        "fp32",
        folder / "engine",
        batch=(1, 1, 4),
    )


@pytest.mark.parametrize("hint", ["latency", "throughput"])
def test_threads_at_the_same_time_get_their_own_answers(engine: Engine, hint: str) -> None:
    batches = [make_images(1 + i % 4, seed=i) for i in range(24)]
    with open_engine(engine, {"hint": hint, "threads": 2}) as session:
        alone = [session.run(batch) for batch in batches]
        with ThreadPoolExecutor(8) as pool:
            together = list(pool.map(session.run, batches))
    for a, b in zip(alone, together, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_an_answer_stays_when_the_next_is_computed(engine: Engine) -> None:
    with open_engine(engine) as session:
        first = session.run(make_images(2, seed=1))
        kept = first.copy()
        session.run(make_images(2, seed=2))
        np.testing.assert_array_equal(first, kept)


def test_pixels_that_may_not_be_written_are_taken(engine: Engine) -> None:
    images = make_images(1)
    images.setflags(write=False)
    with open_engine(engine) as session:
        assert session.run(images).shape == (1, 10)


def test_settings_are_reported_as_used(engine: Engine) -> None:
    with open_engine(engine, {"threads": 1}) as session:
        assert session.settings["threads"] == 1
        assert session.settings["hint"] == "latency"
        assert session.settings["inference_precision"] == "f32"
        assert session.streams == 1


def test_throughput_has_at_least_the_streams_of_latency(engine: Engine) -> None:
    with open_engine(engine, {"hint": "throughput", "threads": 2}) as session:
        assert session.streams >= 1
        assert session.settings["hint"] == "throughput"


def test_all_cores_of_a_small_machine_are_used(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgevit.core import cores

    if cores.count_logical_cores() < 2:
        pytest.skip("this machine has one core")
    with open_engine(engine) as session:
        assert int(session.settings["threads"]) >= min(2, cores.choose_threads())


def test_unknown_setting_is_refused(engine: Engine) -> None:
    with pytest.raises(DeviceError, match="unknown setting thread") as caught:
        open_engine(engine, {"thread": 2})
    assert caught.value.code == "argument"


@pytest.mark.parametrize("given", [3, ["threads"], {3: 1}])
def test_settings_that_are_no_names_with_values_are_the_callers_mistake(engine: Engine, given: Any) -> None:
    with pytest.raises(DeviceError, match="are not names with values") as caught:
        open_engine(engine, given)
    assert caught.value.code == "argument"


def test_property_that_openvino_does_not_have_is_named(engine: Engine) -> None:
    if engine.backend != "openvino":
        pytest.skip("of OpenVINO")
    with pytest.raises(DeviceError, match="device CPU has no property NOPE") as caught:
        open_engine(engine, {"NOPE": 1, "ENABLE_CPU_PINNING": True})
    assert caught.value.code == "argument"
    assert "PINNING" not in caught.value.message
    assert "Exception" not in caught.value.message
    assert "build" not in caught.value.hint
    with pytest.raises(DeviceError) as caught:
        open_engine(engine, {"ENABLE_CPU_PINNING": "perhaps"})
    assert caught.value.hint.startswith("open it without ENABLE_CPU_PINNING, or build")


def test_the_librarys_own_refusal_is_passed_on(engine: Engine) -> None:
    file = engine.path.with_name(f"damaged{engine.path.suffix}")
    # It begins as the library's own format does, or that would be the refusal: a model with an empty graph in ONNX.
    file.write_bytes(b"<?xml and no more" if engine.backend == "openvino" else b"\x3a\x00")
    with pytest.raises(DeviceError, match=r"cannot open damaged\."):
        open_engine(dataclasses.replace(engine, files=(file.name,)))


def test_file_of_another_format_is_not_offered_to_the_library(engine: Engine) -> None:
    file = engine.path.with_name("other")
    for content in (b"", b"\x28\x00\x00\x00ORTM and more of a file of ONNX Runtime's own", b"PK\x03\x04", b"\x08\x09"):
        file.write_bytes(content)
        with pytest.raises(BundleError, match=r"is not an? (ONNX file|model of OpenVINO's own format)"):
            open_engine(dataclasses.replace(engine, files=(file.name,)))


def test_engine_of_other_shapes_than_the_bundle_says_is_refused_before_it_is_fed(engine: Engine) -> None:
    image, logits = engine.inputs[0], engine.outputs[0]
    large = dataclasses.replace(image, shape=(image.shape[0], 32768, 32768, 3))
    with pytest.raises(BundleError, match=r"its inputs are .*16, 16, 3\), and the bundle says .*32768, 32768, 3\)"):
        open_engine(dataclasses.replace(engine, inputs=(large,)))
    for others in ((), (logits, logits), (dataclasses.replace(logits, shape=(logits.shape[0], 1 << 40)),)):
        with pytest.raises(BundleError, match="its outputs are"):
            open_engine(dataclasses.replace(engine, outputs=others))


def test_absent_device_is_refused_with_both_values(engine: Engine) -> None:
    with pytest.raises(DeviceError, match=r"device NPU9; here: CPU"):
        open_engine(dataclasses.replace(engine, device="NPU9"))


def test_closing_waits_for_calls_and_frees_those_that_wait(engine: Engine) -> None:
    session = open_engine(engine)
    failures: list[BaseException] = []
    started = threading.Barrier(5)

    def call() -> None:
        started.wait()
        try:
            for _ in range(200):
                session.run(make_images(4))
        except Exception as exc:
            failures.append(exc)

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    started.wait()
    session.close()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert all(isinstance(failure, DeviceError) for failure in failures)


@pytest.mark.parametrize("target", BACKENDS)
def test_engine_with_two_outputs_gives_both_in_order_whatever_the_batch(target: str, tmp_path: Path) -> None:
    path = write_classifier(tmp_path / "float.onnx", batch="batch", grid=True)
    engine = compile_engine(path, load_target(target), "fp32", tmp_path / "engine", batch=(2, 2, 3))
    assert [(spec.name, spec.shape) for spec in engine.outputs] == [
        ("grid", ("batch", 32, 4, 4)),
        ("logits", ("batch", 10)),
    ]
    images = make_images(7)
    with open_engine(engine) as session:
        first = session.run_outputs(images)
        session.run_outputs(images[::-1])  # the arrays of the first call are the caller's
        with pytest.raises(DataError, match="2 outputs: grid, logits"):
            session.run(images)
    np.testing.assert_allclose(first[0], compute_grid(images), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(first[1], compute_logits(images), rtol=1e-4, atol=1e-4)
