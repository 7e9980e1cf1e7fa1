"""TensorRT's part of the C++ runtime, against a double of TensorRT and CUDA: calls, buffers, graphs, errors."""

from __future__ import annotations

import ctypes
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from edgevit.build.pack import pack_bundle
from edgevit.core.engine import Engine, GpuRecord, TensorSpec
from edgevit.core.target import load_target
from tests.support.cpp_build import build_cpp
from tests.support.cpp_engine import Buffer, CppEngine, CppError, bind_library, choose_libraries
from tests.support.tiny_bundle import make_manifest
from tests.support.tiny_onnx import CLASSES, SIZE, make_images

CUDA = 1
MakeBundle = Callable[..., Path]


@pytest.fixture(scope="module")
def library() -> Any:
    build = build_cpp(["edgevit_tensorrt_double"], choose_libraries())
    return bind_library(build / "src/api/libedgevit_tensorrt_double.so")


@pytest.fixture
def make(tmp_path: Path) -> MakeBundle:
    def make_bundle(batch: tuple[int, int, int] = (1, 2, 4), plan: str | None = None, **changes: Any) -> Path:
        fields: dict[str, Any] = {"versions": {"tensorrt": "10.3.0.26"}, "gpu": GpuRecord("8.7", "Orin", 16), **changes}
        engine = Engine(
            backend="tensorrt",
            device="GPU",
            precision="int8",
            files=("model.plan",),
            inputs=(TensorSpec("image", ("batch", SIZE, SIZE, 3), "uint8"),),
            outputs=(TensorSpec("logits", ("batch", CLASSES), "float32"),),
            batch=batch,
            **fields,
        )
        content = plan or f"double {SIZE} {CLASSES} {' '.join(map(str, batch))}"
        target = load_target("jetson")
        manifest = make_manifest(
            engine=engine,
            target=dataclasses.replace(target, architecture=None),
            inputs=engine.inputs,
            outputs=engine.outputs,
            batch=batch,
            precision="int8",
        )
        return pack_bundle(
            tmp_path / "bundle",
            files={"model.plan": content.encode(), "recipe.toml": b"", "report.json": b"{}\n"},
            manifest=manifest,
        ).path

    return make_bundle


def _expect(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    flat = images.reshape(len(images), -1).astype(np.float64)
    return np.stack([flat[:, k::CLASSES].sum(1) / 1000 for k in range(CLASSES)], 1).astype(np.float32)


def test_batches_of_every_size_are_answered(make: MakeBundle, library: Any) -> None:
    images = make_images(11)
    with CppEngine(make(), library=library) as engine:
        for count in (1, 1, 1, 2, 2, 4, 4, 3, 11, 1):  # a graph is recorded at the second of a size
            np.testing.assert_allclose(engine.run(images[:count])[0], _expect(images[:count]), rtol=1e-6)
        assert {"cuda_graph=true", "hint=latency", "streams=1", "transfers=included", "wait=spin"} == set(
            engine.settings()
        )
        assert engine.differences() == []


def test_classes_are_those_of_the_logits(make: MakeBundle, library: Any) -> None:
    image = make_images(1)[0]
    with CppEngine(make(), library=library, settings={"hint": "throughput"}) as engine:
        assert [found.index for found in engine.classify(image, 3)] == np.argsort(-_expect(image[None])[0])[:3].tolist()
        assert {"streams=2", "wait=block"} <= set(engine.settings())


def test_a_graph_that_cannot_be_recorded_is_done_without(
    make: MakeBundle, library: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, images = make(), make_images(2)
    monkeypatch.setenv("EDGEVIT_DOUBLE_NO_GRAPHS", "1")
    with CppEngine(bundle, library=library) as engine:
        assert "cuda_graph=false" in engine.settings()
        np.testing.assert_allclose(engine.run(images)[0], _expect(images), rtol=1e-6)
    with pytest.raises(CppError, match="cudaStreamEndCapture") as caught:
        CppEngine(bundle, library=library, settings={"cuda_graph": True})
    assert caught.value.code == "device"


@pytest.mark.parametrize(
    ("changes", "code", "said"),
    [
        ({"plan": "another library's"}, "device", "the magic number does not fit"),
        ({"plan": f"double {SIZE} {CLASSES} 1 1 1"}, "device", "no profile"),
        ({"plan": f"double {SIZE + 1} {CLASSES} 1 2 4"}, "unsafe", "and the bundle says"),
        ({"versions": {"tensorrt": "10.4.0"}}, "library", "was written by tensorrt 10.4.0, which tensorrt 10.3.0.26"),
        (
            {"gpu": GpuRecord("7.2", "Xavier")},
            "device",
            "the engine is for Xavier, compute capability 7.2; here: Orin, 8.7",
        ),
    ],
)
def test_plans_that_do_not_fit_are_told(
    make: MakeBundle, library: Any, changes: dict[str, Any], code: str, said: str
) -> None:
    with pytest.raises(CppError) as caught:
        CppEngine(make(**changes), library=library)
    assert caught.value.code == code
    assert said in caught.value.message


def test_a_machine_without_a_gpu_and_one_without_memory(
    make: MakeBundle, library: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = make()
    with monkeypatch.context() as patch:
        patch.setenv("EDGEVIT_DOUBLE_GPUS", "0")
        with pytest.raises(CppError, match="CUDA finds no GPU here") as caught:
            CppEngine(bundle, library=library)
    assert caught.value.code == "device"
    with monkeypatch.context() as patch:
        patch.setenv("EDGEVIT_DOUBLE_NO_MEMORY", "1")
        with pytest.raises(CppError, match="cudaMalloc failed: cudaErrorMemoryAllocation") as caught:
            CppEngine(bundle, library=library)
    assert caught.value.code == "device"
    with CppEngine(bundle, library=library) as engine:
        assert engine.info.backend == b"tensorrt"


def test_memory_of_the_device_is_used_in_place(make: MakeBundle, library: Any) -> None:
    images = make_images(4)
    logits = np.zeros((4, CLASSES), np.float32)
    with CppEngine(make(), library=library) as engine:
        for places in ((CUDA, CUDA), (CUDA, 0), (0, CUDA)):
            given = Buffer(images.ctypes.data, images.nbytes, places[0])
            wanted = Buffer(logits.ctypes.data, logits.nbytes, places[1])
            for count in (4, 2):
                logits[:] = -1
                status = library.edgevit_run(engine.handle, ctypes.byref(given), count, ctypes.byref(wanted), 1)
                assert status == 0
                np.testing.assert_allclose(logits[:count], _expect(images[:count]), rtol=1e-6)
                assert (logits[count:] == -1).all()
            np.testing.assert_allclose(engine.run(images)[0], _expect(images), rtol=1e-6)
        assert library.edgevit_run(engine.handle, ctypes.byref(given), 5, ctypes.byref(wanted), 1) == 2
