"""Sessions of TensorRT and TensorRT-RTX: on the double of a GPU, and the same on a real one (``make test-gpu``)."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import json
import platform
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgevit.core.engine import Engine, GpuRecord, Setting
from edgevit.core.errors import DeviceError, MissingPackageError
from edgevit.core.packages import install_line
from edgevit.core.report.machine import Gpu
from edgevit.core.target import Target, load_target
from edgevit.engines.tensorrt.backend import TENSORRT, TENSORRT_RTX, TensorRT
from edgevit.runtime.nvidia import read_gpus
from edgevit.runtime.session import get_runtime, open_engine
from edgevit.runtime.tensorrt.open_plan import import_tensorrt
from edgevit.runtime.versions import parse_version
from tests.support.gpu_double import ORIN, RTX_3060, Machine, install
from tests.support.gpu_double.tensorrt import CONTEXT_BYTES, write_plan
from tests.support.tiny_onnx import compute_grid, compute_logits, make_images, write_classifier

TOLERANCE = 1e-3
"""Of logits around 10, in float32; a GPU sums up in another order than numpy."""


@dataclass
class Place:
    """Where a test runs: a library and its target, on a machine that is the double's or, with ``None``, real."""

    backend: TensorRT
    target: Target
    machine: Machine | None

    def compile(self, folder: Path, *, batch: tuple[int, int, int] = (1, 1, 1), grid: bool = False) -> Engine:
        folder.mkdir(exist_ok=True)
        size: int | str = batch[0] if batch[0] == batch[2] else "batch"
        model = write_classifier(folder / "source.onnx", batch=size, grid=grid, opset=min(self.target.opset, 20))
        return self.backend.compile(model, self.target, "fp32", folder, {}, batch=batch)


def find_real_place() -> Place:
    """TensorRT-RTX where it compiles for the GPU here, otherwise TensorRT."""
    capability = read_gpus()[0].compute_capability
    with contextlib.suppress(MissingPackageError):
        if f"SM{capability.replace('.', '')}" in TENSORRT_RTX.capabilities():
            return Place(TENSORRT_RTX, dataclasses.replace(load_target("rtx-30"), compute_capability=capability), None)
    try:
        version = parse_version(get_runtime("tensorrt").read_versions()["tensorrt"], 2)
    except MissingPackageError as exc:
        pytest.skip(f"nothing here compiles for compute capability {capability}: {exc.message}: {exc.hint}")
    target = load_target("nvidia-gpu" if version >= (10, 3) else "jetson-jetpack-6.0")
    return Place(TENSORRT, dataclasses.replace(target, compute_capability=capability), None)


# Both libraries are opened by the same calls; a hundred failures of each take a minute.
EVERY_CALL = pytest.mark.parametrize(
    "place", ["tensorrt", pytest.param("tensorrt_rtx", marks=pytest.mark.slow)], indirect=True
)


@pytest.fixture(params=["tensorrt", "tensorrt_rtx", pytest.param("real", marks=pytest.mark.gpu)])
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Place]:
    monkeypatch.setenv("EDGEVIT_CACHE", str(tmp_path / "cache"))
    if request.param == "real":
        yield find_real_place()
        return
    rtx = request.param == "tensorrt_rtx"
    machine = Machine(RTX_3060 if rtx else ORIN)
    install(machine, {"tensorrt_rtx": "1.7.1.116"} if rtx else {"tensorrt": "10.3.0"}, monkeypatch.setitem)
    yield Place(TENSORRT_RTX if rtx else TENSORRT, load_target("rtx-30" if rtx else "jetson"), machine)
    gc.collect()
    assert machine.held == {}, "everything is given back"


def test_answers_are_right_at_every_size_of_batch_in_any_order(place: Place, tmp_path: Path) -> None:
    engine = place.compile(tmp_path / "engine", batch=(1, 2, 4))
    with open_engine(engine) as session:
        for count in (1, 2, 2, 2, 4, 4, 4, 1, 1, 3, 11):
            images = make_images(count, seed=count)
            assert np.abs(session.run(images) - compute_logits(images)).max() < TOLERANCE


def test_engine_of_one_batch_gives_the_same_answers_at_every_launch(place: Place, tmp_path: Path) -> None:
    with open_engine(place.compile(tmp_path / "engine")) as session:
        assert session.settings == {
            "hint": "latency",
            "streams": 1,
            "cuda_graph": True,
            "wait": "spin",
            "transfers": "included",
        }
        for seed in range(5):
            images = make_images(1, seed)
            assert np.abs(session.run(images) - compute_logits(images)).max() < TOLERANCE


def test_answers_are_the_callers_own(place: Place, tmp_path: Path) -> None:
    with open_engine(place.compile(tmp_path / "engine")) as session:
        first = session.run(make_images(1, 1))
        kept = first.copy()
        session.run(make_images(1, 2))
        assert np.array_equal(first, kept)
    assert np.array_equal(first, kept)


def test_several_outputs_come_in_the_engines_order(place: Place, tmp_path: Path) -> None:
    engine = place.compile(tmp_path / "engine", batch=(1, 1, 2), grid=True)
    images = make_images(2)
    with open_engine(engine) as session:
        for _ in range(3):
            grid, logits = session.run_outputs(images)
            assert np.abs(grid - compute_grid(images)).max() < TOLERANCE
            assert np.abs(logits - compute_logits(images)).max() < TOLERANCE


@pytest.mark.parametrize("settings", [{"streams": 3}, {"hint": "throughput"}, {"streams": 1, "wait": "block"}])
def test_many_threads_get_their_own_answers(place: Place, tmp_path: Path, settings: dict[str, str | int]) -> None:
    engine = place.compile(tmp_path / "engine", batch=(1, 2, 4))
    batches = [make_images(1 + i % 4, seed=i) for i in range(24)]
    with open_engine(engine, settings) as session, ThreadPoolExecutor(6) as pool:
        assert session.streams == settings.get("streams", 2)
        for images, logits in zip(batches, pool.map(session.run, batches), strict=True):
            assert np.abs(logits - compute_logits(images)).max() < TOLERANCE


def test_settings_of_a_session_open_the_next_alike(place: Place, tmp_path: Path) -> None:
    engine = place.compile(tmp_path / "engine")
    wanted: dict[str, Setting] = {
        "hint": "throughput",
        "streams": 1,
        "cuda_graph": False,
        "wait": "spin",
    }
    with open_engine(engine, wanted) as session:
        settings = dict(session.settings)
        session.run(make_images(1))
    assert settings == {**wanted, "transfers": "included"}
    with open_engine(engine, settings) as session:
        assert session.settings == settings


def test_closing_waits_for_calls_under_way_and_refuses_later_ones(place: Place, tmp_path: Path) -> None:
    session = open_engine(place.compile(tmp_path / "engine"))
    failures: list[Exception] = []

    def call() -> None:
        try:
            while True:
                session.run(make_images(1))
        except DeviceError as exc:
            failures.append(exc)

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    session.close()
    for thread in threads:
        thread.join()
    assert len(failures) == 4
    assert all("closed" in str(failure) for failure in failures)
    session.close()


def test_settings_that_are_not_a_gpus_are_refused(place: Place, tmp_path: Path) -> None:
    engine = place.compile(tmp_path / "engine")
    with pytest.raises(DeviceError, match="threads is a setting of engines for a CPU"):
        open_engine(engine, {"threads": 2})


def test_damaged_plan_is_refused_with_what_the_library_says(place: Place, tmp_path: Path) -> None:
    engine = place.compile(tmp_path / "engine")
    engine.path.write_bytes(b"x" * 4096)
    with pytest.raises(DeviceError, match=r"cannot read model\.plan") as caught:
        open_engine(engine)
    assert "\n  " in caught.value.message
    assert "build the bundle again" in caught.value.hint


def test_engine_that_is_described_otherwise_is_refused(place: Place, tmp_path: Path) -> None:
    engine = place.compile(tmp_path / "engine", batch=(1, 2, 4))
    (image,), (logits,) = engine.inputs, engine.outputs
    for changed in (
        dataclasses.replace(engine, outputs=(dataclasses.replace(logits, name="scores"),)),
        dataclasses.replace(engine, outputs=(dataclasses.replace(logits, shape=("batch", 7)),)),
        dataclasses.replace(engine, inputs=(dataclasses.replace(image, dtype="float32"),)),
        dataclasses.replace(engine, inputs=(logits,), outputs=(image,)),
    ):
        with pytest.raises(DeviceError, match="is not the engine that is described: it has"):
            open_engine(changed)
    with pytest.raises(DeviceError, match=r"takes 1 to 4 images a call, and its description says 1 to 8"):
        open_engine(dataclasses.replace(engine, batch=(1, 2, 8)))


@pytest.fixture
def double(place: Place) -> Machine:
    """For what only the double can be made to do."""
    if place.machine is None:
        pytest.skip("not to be done to a real GPU")
    return place.machine


@pytest.fixture
def few_objects() -> None:
    """What other tests left is not looked through again at every collection, of which there are hundreds here."""
    gc.collect()
    gc.freeze()  # for good: to thaw it would mean to thaw all that the session froze


@EVERY_CALL
@pytest.mark.usefixtures("few_objects")
def test_failure_of_any_call_while_opening_leaves_nothing_behind(place: Place, double: Machine, tmp_path: Path) -> None:
    engine = place.compile(tmp_path / "engine", batch=(1, 2, 4))
    settings = {"streams": 2, "cuda_graph": True}
    double.calls.clear()
    session = open_engine(engine, settings)
    total = len(double.calls)
    session.close()
    assert total > 50
    for number in range(1, total + 1):
        double.calls.clear()
        double.fail_at = number
        with pytest.raises(DeviceError) as caught:
            open_engine(engine, settings)
        double.fail_at = None
        name = double.calls[number - 1]
        assert name in caught.value.message or name in ("deserialize_cuda_engine", "create_execution_context")
        assert caught.value.hint
        del caught
        left = list_left(double)
        # what CUDA refuses to take back is the one thing that may stay
        assert left == ([name] if name == "cudaGraphDestroy" else []), f"after a failure of call {number}, {name}"


@EVERY_CALL
@pytest.mark.usefixtures("few_objects")
def test_failure_of_any_call_while_running_or_closing_is_told_and_leaves_nothing_else_behind(
    place: Place, double: Machine, tmp_path: Path
) -> None:
    engine = place.compile(tmp_path / "engine", batch=(1, 2, 4))

    def work(fail_at: int | None) -> list[str]:
        session = open_engine(engine)
        double.calls.clear()
        double.fail_at = fail_at
        try:
            for count in (2, 4, 4, 4, 1):
                images = make_images(count)
                assert np.abs(session.run(images) - compute_logits(images)).max() < TOLERANCE
        finally:
            session.close()
            double.fail_at = None
        return list(double.calls)

    calls, untold = work(None), []
    for number in range(1, len(calls) + 1):
        try:
            work(number)
            untold.append(number)
        except DeviceError:
            pass
        assert len(list_left(double)) <= 1, f"after a failure of call {number}"
    # a graph that cannot be recorded is done without
    begin, end = (calls.index(name) + 1 for name in ("cudaStreamBeginCapture", "cudaGraphDestroy"))
    assert untold == list(range(begin, end + 1))


def list_left(double: Machine) -> list[str]:
    """What was not given back, by the call that should have done it; forgotten with this."""
    double.handles.clear()  # a graph of the double refers to what it computes with
    gc.collect()
    frees = {"graph": "cudaGraphDestroy"}
    left = [frees.get(item.kind, item.kind) for item in double.held.values()]
    double.held.clear()
    return left


def test_small_memory_is_said_with_what_is_needed_and_what_to_do(place: Place, double: Machine, tmp_path: Path) -> None:
    engine = place.compile(tmp_path / "engine", batch=(1, 2, 4))
    double.gpu = dataclasses.replace(double.gpu, memory_bytes=2 * CONTEXT_BYTES)
    with pytest.raises(DeviceError, match="needs 4 MiB of GPU memory") as caught:
        open_engine(engine)
    assert "smaller largest --batch" in caught.value.hint
    assert "OutOfMemory" in caught.value.message
    double.gpu = dataclasses.replace(double.gpu, memory_bytes=100)
    with pytest.raises(DeviceError, match=r"cudaMalloc failed on GPU 0: cudaErrorMemoryAllocation") as caught:
        open_engine(engine)
    assert "smaller largest --batch" in caught.value.hint


def test_lost_gpu_is_said_at_every_call_and_closing_keeps_quiet(place: Place, double: Machine, tmp_path: Path) -> None:
    session = open_engine(place.compile(tmp_path / "engine"))
    double.sticky = 700
    for _ in range(2):
        with pytest.raises(DeviceError, match="cudaErrorIllegalAddress") as caught:
            session.run(make_images(1))
        assert "start the program again" in caught.value.hint
    session.close()
    double.held.clear()
    double.handles.clear()


def test_steady_batches_are_launched_as_one_graph_and_others_are_not(
    place: Place, double: Machine, tmp_path: Path
) -> None:
    def count_calls(*sizes: int) -> list[str]:
        double.calls.clear()
        for size in sizes:
            session.run(make_images(size))
        return [c for c in double.calls if c in ("execute_async_v3", "cudaGraphLaunch", "cudaStreamBeginCapture")]

    with open_engine(place.compile(tmp_path / "engine", batch=(1, 2, 4))) as session:
        assert count_calls(2) == ["cudaGraphLaunch"]
        assert count_calls(4) == ["execute_async_v3"]
        # recorded at the second batch, which is launched then
        assert count_calls(4) == ["cudaStreamBeginCapture", "execute_async_v3", "cudaGraphLaunch"]
        assert count_calls(4, 4) == ["cudaGraphLaunch"] * 2
        assert count_calls(1, 2, 1) == ["execute_async_v3"] * 3
    graphs = [item for item in double.held.values() if item.kind.startswith("graph")]
    assert graphs == []


def test_graph_that_cannot_be_recorded_is_done_without_and_said(place: Place, double: Machine, tmp_path: Path) -> None:
    engine = place.compile(tmp_path / "engine")
    double.calls.clear()
    open_engine(engine).close()
    double.fail_at = double.calls.index("cudaStreamEndCapture") + 1
    double.calls.clear()
    with open_engine(engine) as session:
        assert session.settings["cuda_graph"] is False
        images = make_images(1)
        assert np.abs(session.run(images) - compute_logits(images)).max() < TOLERANCE
    double.calls.clear()
    with pytest.raises(DeviceError, match="cudaStreamEndCapture failed"):
        open_engine(engine, {"cuda_graph": True})


def test_waiting_spins_or_sleeps_as_asked(place: Place, double: Machine, tmp_path: Path) -> None:
    engine = place.compile(tmp_path / "engine")
    double.flags = 8 | 4  # other flags stay, the choice of waiting is replaced
    with open_engine(engine):
        assert (double.flags, double.sleeps) == (8 | 1, False)
    double.flags = 8
    with open_engine(engine, {"wait": "block"}):
        assert (double.flags, double.sleeps) == (8, True)


def test_session_that_is_never_closed_is_freed_with_its_last_reference(
    place: Place, double: Machine, tmp_path: Path
) -> None:
    session = open_engine(place.compile(tmp_path / "engine"))
    session.run(make_images(1))
    assert double.held
    del session
    gc.collect()
    assert double.held == {}


def test_profile_that_is_best_for_a_batch_computes_it(place: Place, double: Machine, tmp_path: Path) -> None:
    """A plan with a profile for single images and one for many."""
    engine = place.compile(tmp_path / "engine", batch=(1, 2, 8))
    image = engine.inputs[0].shape[1:]
    shapes: list[list[Any]] = [[(size, *image) for size in sizes] for sizes in ((1, 1, 2), (2, 8, 8))]
    version = engine.versions[place.backend.name]
    assert place.target.compute_capability is not None
    plan = write_plan(tmp_path / "engine" / "typed.onnx", version, place.target.compute_capability, shapes)
    engine.path.write_bytes(plan)
    with open_engine(engine, {"streams": 2}) as session:
        for count in (1, 1, 8, 2, 5, 1):
            images = make_images(count)
            double.calls.clear()
            for _ in range(2):  # both streams
                assert np.abs(session.run(images) - compute_logits(images)).max() < TOLERANCE
        assert "set_optimization_profile_async" in double.calls
    engine.path.write_bytes(
        write_plan(tmp_path / "engine" / "typed.onnx", version, place.target.compute_capability, shapes[:1])
    )
    with pytest.raises(DeviceError, match="takes 1 to 2 images a call, and its description says 1 to 8"):
        open_engine(engine)


# What fits which machine


def test_release_of_the_library_has_to_be_the_plans(place: Place, double: Machine, tmp_path: Path) -> None:
    engine = place.compile(tmp_path / "engine")
    name, runtime = engine.backend, get_runtime(engine.backend)
    here = engine.versions[name]
    assert runtime.find_mismatch(engine) is None
    assert runtime.find_differences(engine) == ()
    major, minor, patch = (int(part) for part in here.split(".")[:3])
    for other in (f"{major + 1}.{minor}.{patch}", f"{major}.{minor + 1}.{patch}", f"{major}.{minor}.{patch + 1}"):
        changed = dataclasses.replace(engine, versions={name: other})
        message = f"the plan was written by {name} {other}, which {name} {here} here does not read"
        assert runtime.find_mismatch(changed) == message
        with pytest.raises(DeviceError, match="does not read"):
            open_engine(changed)
    rebuilt = dataclasses.replace(engine, versions={name: f"{major}.{minor}.{patch}.99"})
    assert runtime.find_mismatch(rebuilt) is None
    assert runtime.find_differences(rebuilt) == (f"measured with {name} {major}.{minor}.{patch}.99; here is {here}",)


def test_plan_of_another_release_is_refused_by_the_library_where_the_description_is_wrong(
    place: Place, double: Machine, tmp_path: Path
) -> None:
    engine = place.compile(tmp_path / "engine")
    shape: Any = engine.inputs[0].shape
    assert place.target.compute_capability is not None
    plan = write_plan(tmp_path / "engine" / "typed.onnx", "9.9.9", place.target.compute_capability, [[shape] * 3])
    engine.path.write_bytes(plan)
    with pytest.raises(DeviceError, match=r"got 9\.9\.9, please rebuild") as caught:
        open_engine(engine)
    if engine.backend == "tensorrt_rtx":  # which can look at a plan's header
        assert "it is of another version of the library" in caught.value.message


def test_gpu_of_another_capability_is_refused_and_another_model_is_told(
    place: Place, double: Machine, tmp_path: Path
) -> None:
    engine = place.compile(tmp_path / "engine")
    runtime, gpu = get_runtime(engine.backend), double.gpu
    double.gpu = Gpu("NVIDIA GeForce RTX 4090", "8.9", 24 << 30, 128)
    mismatch = runtime.find_mismatch(engine)
    assert mismatch is not None
    assert mismatch.endswith(
        f"compute capability {gpu.compute_capability}{')' if engine.gpu.name else ''}; here: "
        "NVIDIA GeForce RTX 4090, 8.9"
    )
    double.gpu = dataclasses.replace(gpu, name="NVIDIA RTX A2000")
    assert runtime.find_mismatch(engine) is None
    built_here = engine.gpu is not None and engine.gpu.name is not None
    told = (f"compiled and measured on {gpu.name}; here is NVIDIA RTX A2000",) if built_here else ()
    assert runtime.find_differences(engine) == told
    double.gpu = dataclasses.replace(gpu, multiprocessors=16)
    told = ("compiled and measured on Orin with 8 multiprocessors; here it has 16",) if built_here else ()
    assert runtime.find_differences(engine) == told


def test_machine_without_a_driver_gets_a_reason_and_the_library_is_not_touched(
    place: Place, double: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = place.compile(tmp_path / "engine")

    def refuse() -> None:
        raise DeviceError("no NVIDIA driver: libcuda.so.1 is not there", "install the NVIDIA driver")

    monkeypatch.setattr("edgevit.runtime.nvidia._load_driver", refuse)
    monkeypatch.setattr(
        "edgevit.runtime.tensorrt.open_plan.import_tensorrt", lambda name: pytest.fail("it was touched")
    )
    runtime = get_runtime(engine.backend)
    assert runtime.list_devices() == ()
    with pytest.raises(DeviceError, match="here is none: no NVIDIA driver"):
        open_engine(engine)


def test_engine_that_names_no_gpu_opens_on_any(place: Place, tmp_path: Path) -> None:
    engine = dataclasses.replace(place.compile(tmp_path / "engine"), gpu=None)
    with open_engine(engine) as session:
        assert session.run(make_images(1)).shape == (1, 10)


def test_second_gpu_is_used_where_it_is_the_engines(place: Place, double: Machine, tmp_path: Path, monkeypatch) -> None:
    engine = place.compile(tmp_path / "engine")
    first = Gpu("NVIDIA T4", "7.5", 16 << 30, 40, 0)
    double.gpu = dataclasses.replace(double.gpu, index=1)
    monkeypatch.setattr("edgevit.runtime.tensorrt.open_plan.read_gpus", lambda: (first, double.gpu))
    with open_engine(engine) as session, ThreadPoolExecutor(1) as pool:  # every thread has to choose it
        assert pool.submit(session.run, make_images(1)).result().shape == (1, 10)


def test_second_gpu_is_compiled_on_where_it_is_the_targets(orin: Machine, tmp_path: Path, monkeypatch) -> None:
    """TensorRT's builder compiles for the calling thread's GPU, which is the first unless somebody chooses."""
    first = Gpu("NVIDIA T4", "7.5", 16 << 30, 40, 0)
    orin.gpu = dataclasses.replace(ORIN, index=1)
    for module in ("edgevit.engines.tensorrt.backend", "edgevit.runtime.nvidia"):
        monkeypatch.setattr(f"{module}.read_gpus", lambda: (first, orin.gpu))
    model = write_classifier(tmp_path / "source.onnx")
    engine = TENSORRT.compile(model, load_target("jetson"), "fp16", tmp_path, {})
    assert engine.gpu == GpuRecord("8.7", "Orin", 8)


def test_missing_package_of_cuda_says_which_extra_brings_it(
    place: Place, double: Machine, tmp_path: Path, monkeypatch
) -> None:
    engine = place.compile(tmp_path / "engine")
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", None)
    monkeypatch.setitem(sys.modules, "cuda.cudart", None)
    with pytest.raises(MissingPackageError, match="cuda-bindings") as caught:
        open_engine(engine)
    extra = "rtx" if engine.backend == "tensorrt_rtx" else "tensorrt"
    assert caught.value.hint == install_line(extra)


@pytest.mark.parametrize(("machine", "words"), [("aarch64", "--system-site-packages"), ("x86_64", "pip install")])
def test_missing_tensorrt_is_found_in_a_jetsons_own_packages(monkeypatch, machine: str, words: str) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    with pytest.raises(MissingPackageError, match="tensorrt") as caught:
        import_tensorrt("tensorrt")
    assert words in caught.value.hint
    assert install_line("tensorrt") in caught.value.hint


def test_plan_that_is_not_there_is_named(place: Place, tmp_path: Path) -> None:
    engine = place.compile(tmp_path / "engine")
    engine.path.unlink()
    with pytest.raises(DeviceError, match=r"model\.plan cannot be read: No such file"):
        open_engine(engine)


def test_plan_that_was_cut_off_is_refused(place: Place, tmp_path: Path) -> None:
    engine = place.compile(tmp_path / "engine")
    engine.path.write_bytes(engine.path.read_bytes()[:3000])
    with pytest.raises(DeviceError, match=r"cannot read model\.plan"):
        open_engine(engine)


# Kernels that TensorRT-RTX compiles when it opens a plan


def list_kernels(folder: Path) -> list[Path]:
    return sorted((folder / "cache" / "tensorrt_rtx" / "kernels").glob("*"))


def test_compiled_kernels_are_kept_for_the_next_start(rtx_3060: Machine, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("EDGEVIT_CACHE", str(tmp_path / "cache"))
    place = Place(TENSORRT_RTX, load_target("rtx-30"), rtx_3060)
    engine = place.compile(tmp_path / "engine", batch=(1, 2, 4))
    with open_engine(engine) as session:
        (path,) = list_kernels(tmp_path)  # already, for a process that will be killed
        assert json.loads(path.read_bytes())["shapes"] == [2]
        session.run(make_images(3))
    assert json.loads(path.read_bytes())["shapes"] == [2, 3]
    written = path.stat().st_mtime_ns
    with open_engine(engine) as session:
        session.run(make_images(3))
    assert path.stat().st_mtime_ns == written, "nothing new was compiled"
    assert list_kernels(tmp_path) == [path]


def test_kernels_that_do_not_fit_are_compiled_again_and_replaced(
    rtx_3060: Machine, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setenv("EDGEVIT_CACHE", str(tmp_path / "cache"))
    engine = Place(TENSORRT_RTX, load_target("rtx-30"), rtx_3060).compile(tmp_path / "engine")
    open_engine(engine).close()
    (path,) = list_kernels(tmp_path)
    for damage in (b"damaged", b'{"version": "1.6", "shapes": [1]}'):
        path.write_bytes(damage)
        open_engine(engine).close()
        assert json.loads(path.read_bytes()) == {"version": "1.7.1.116", "shapes": [1]}


def test_folder_that_cannot_be_written_is_no_error(rtx_3060: Machine, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "cache").write_bytes(b"a file where the folder should be")
    monkeypatch.setenv("EDGEVIT_CACHE", str(tmp_path / "cache"))
    engine = Place(TENSORRT_RTX, load_target("rtx-30"), rtx_3060).compile(tmp_path / "engine")
    with open_engine(engine) as session:
        assert session.run(make_images(1)).shape == (1, 10)


def test_record_of_the_gpu_is_the_libraries_own(orin: Machine, rtx_3060: Machine, tmp_path: Path) -> None:
    """TensorRT compiles on a GPU, TensorRT-RTX for a compute capability."""
    engine = Place(TENSORRT_RTX, load_target("rtx-40"), rtx_3060).compile(tmp_path / "rtx")
    assert engine.gpu == GpuRecord("8.9")
    with pytest.raises(DeviceError, match=r"a GPU of compute capability 8\.9; here: NVIDIA GeForce RTX 3060, 8\.6"):
        open_engine(engine)
