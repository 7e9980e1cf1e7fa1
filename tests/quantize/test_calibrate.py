"""Statistics against numpy on all values at once; memory against the number of images."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgevit.core.errors import CalibrationError
from edgevit.graph.graph import Graph
from edgevit.quantize.calibrate import Accumulator, calibrate_graph
from edgevit.quantize.grid import BINS, TensorStatistics
from tests.support.tiny_onnx import make_images, write_classifier

TAPS = ["normed", "hidden", "active", "scores"]


def load(folder: Path, batch: int | str = 1) -> Graph:
    return Graph.load(write_classifier(folder / "tiny.onnx", batch=batch))


def run_all(folder: Path, name: str, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """A value for all images at once, by cutting the model with the onnx package."""
    import onnx

    path = write_classifier(folder / "whole.onnx", batch="n")
    model = onnx.load(path)
    del model.graph.output[:]
    model.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    result: npt.NDArray[np.float32] = session.run(None, {"image": images})[0]
    return result


def check(statistics: TensorStatistics, values: npt.NDArray[np.float32], sampled: bool = False) -> None:
    assert statistics.count == values.size
    assert statistics.low == values.min()
    assert statistics.high == values.max()
    np.testing.assert_allclose(statistics.mean, values.mean(dtype=np.float64), rtol=1e-9, atol=1e-12)
    edges = statistics.edges
    assert len(edges) == BINS + 1
    assert edges[0] <= values.min()
    assert values.max() < edges[-1]
    if not sampled:
        # Bins are half open, while numpy's last one is closed.
        expected = np.histogram(values, np.append(edges, np.inf))[0]
        np.testing.assert_array_equal(statistics.histogram, expected[:-1])


@pytest.mark.parametrize("batch", [1, 3, "n"])
def test_calibrate_graph_equals_numpy_on_all_images_at_once(tmp_path: Path, batch: int | str) -> None:
    images = make_images(12)
    ranges = calibrate_graph(load(tmp_path, batch), TAPS, [images[:5], images[5:6], images[6:]])
    assert ranges.images == 12
    assert list(ranges.tensors) == TAPS
    for name in TAPS:
        whole = run_all(tmp_path, name, images)
        seen = ranges.tensors[name]
        assert seen.count == whole.size
        np.testing.assert_allclose([seen.low, seen.high], [whole.min(), whole.max()], rtol=1e-5)
        np.testing.assert_allclose(seen.mean, whole.mean(dtype=np.float64), rtol=1e-4, atol=1e-6)
        cdf = np.cumsum(seen.histogram) / whole.size
        np.testing.assert_allclose(cdf, [(whole < e).mean() for e in seen.edges[1:]], atol=3 / whole.size)


def test_calibrate_graph_of_input_counts_its_pixels(tmp_path: Path) -> None:
    images = make_images(4)
    ranges = calibrate_graph(load(tmp_path), ["image"], [images])
    check(ranges.tensors["image"], images.astype(np.float32))


def test_calibrate_graph_leaves_the_graph_and_its_outputs_alone(tmp_path: Path) -> None:
    graph = load(tmp_path)
    ranges = calibrate_graph(graph, ["logits", "hidden", "hidden"], [make_images(2)])
    assert list(ranges.tensors) == ["logits", "hidden"]
    assert [v.name for v in graph.model.graph.outputs] == ["logits"]


def test_calibrate_graph_when_images_do_not_fill_a_batch_repeats_the_last(tmp_path: Path) -> None:
    images = make_images(4)
    ranges = calibrate_graph(load(tmp_path, 3), TAPS, [images])
    filled = calibrate_graph(load(tmp_path, 3), TAPS, [images[[0, 1, 2, 3, 3, 3]]])
    assert (ranges.images, filled.images) == (4, 6)
    for name in TAPS:
        np.testing.assert_array_equal(ranges.tensors[name].histogram, filled.tensors[name].histogram)


def test_calibrate_graph_says_how_far_it_is_in_images(tmp_path: Path) -> None:
    steps: list[tuple[str, int, int]] = []
    calibrate_graph(
        load(tmp_path), TAPS[:1], [make_images(3)], images=3, progress=lambda *step: steps.append((step[0], *step[1:]))
    )
    assert steps == [("calibrate", n, 3) for n in range(4)]


def test_calibrate_graph_with_impossible_names_lists_them_all(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError) as caught:
        calibrate_graph(load(tmp_path), ["hidden", "fc1", "nothing"], [make_images(1)])
    assert "fc1 is a constant" in caught.value.message
    assert "nothing is not in the graph" in caught.value.message
    assert "hidden" not in caught.value.message


def test_calibrate_graph_with_values_that_are_not_finite_lists_all_sites(tmp_path: Path) -> None:
    graph = load(tmp_path)
    scale = graph.model.graph.initializers["fc1"]
    import onnx_ir as ir

    assert scale.const_value is not None
    weights = scale.const_value.numpy().copy()
    weights[3, 5] = np.inf
    scale.const_value = ir.tensor(weights, name="fc1")
    with pytest.raises(CalibrationError, match="3 of 4") as caught:
        calibrate_graph(graph, TAPS, [make_images(3)])
    assert [line.split(":")[0].strip() for line in caught.value.message.splitlines()[1:]] == TAPS[1:]


@pytest.mark.parametrize("images", [[], [make_images(0)]])
def test_calibrate_graph_without_images_raises(tmp_path: Path, images: list[npt.NDArray[np.uint8]]) -> None:
    with pytest.raises(CalibrationError, match="no calibration images"):
        calibrate_graph(load(tmp_path), TAPS, images)


@pytest.mark.parametrize("bad", [make_images(1).astype(np.float32), make_images(1)[:, :8], make_images(1)[0]])
def test_calibrate_graph_with_wrong_images_raises(tmp_path: Path, bad: npt.NDArray[np.uint8]) -> None:
    with pytest.raises(CalibrationError, match="the graph takes uint8"):
        calibrate_graph(load(tmp_path), TAPS, [bad])


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.floats(-300, 300), st.floats(-30, 30)), min_size=1, max_size=6), st.integers(0, 99))
def test_accumulator_when_the_range_grows_counts_every_value_in_its_bin(
    runs: list[tuple[float, float]], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    accumulator = Accumulator()
    parts = [(middle + np.exp2(size) * rng.standard_normal((4, 9))).astype(np.float32) for middle, size in runs]
    for part in parts:
        accumulator.add(part)
    check(accumulator.finish(), np.stack(parts))


@pytest.mark.parametrize("value", [0.0, 1.0, -1.0, 1e-45, -1e-45, 1e-30, 3e38, -3e38, 16777217.0, 0.1])
def test_accumulator_of_a_constant_has_it_in_one_bin(value: float) -> None:
    accumulator = Accumulator()
    accumulator.add(np.full((3, 2), value, np.float32))
    statistics = accumulator.finish()
    assert statistics.histogram.max() == statistics.histogram.sum() == 6
    place = int(statistics.histogram.argmax())
    assert statistics.edges[place] <= np.float32(value) <= statistics.edges[place + 1]


def test_accumulator_bins_use_at_least_half_of_the_histogram() -> None:
    rng = np.random.default_rng(0)
    for high in rng.uniform(1e-3, 1e3, 50):
        accumulator = Accumulator()
        accumulator.add(np.linspace(-0.3 * high, high, 10_000, dtype=np.float32))
        assert np.flatnonzero(accumulator.finish().histogram).size >= BINS // 2


def test_accumulator_of_large_values_samples_all_channels_alike() -> None:
    accumulator = Accumulator(sample=1000)
    rng = np.random.default_rng(0)
    # Each channel has values of its own, so that a sample that skips channels would show.
    values = (np.arange(64) + rng.random((20, 100, 64))).astype(np.float32)
    for part in values:
        accumulator.add(part)
    statistics = accumulator.finish()
    check(statistics, values, sampled=True)
    total = int(statistics.histogram.sum())
    assert 10_000 < total <= 20_000
    per_channel = np.histogram(statistics.edges[:-1], np.arange(65), weights=statistics.histogram)[0]
    np.testing.assert_allclose(per_channel, total / 64, rtol=0.05)


def test_calibrate_graph_memory_does_not_grow_with_images(tmp_path: Path) -> None:
    graph = load(tmp_path)

    def stream(count: int) -> Iterator[npt.NDArray[np.uint8]]:
        for seed in range(count):
            yield make_images(1, seed)

    def peak(count: int) -> int:
        tracemalloc.start()
        calibrate_graph(graph, TAPS, stream(count))
        result = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return result

    peak(4)
    assert peak(400) < peak(4) + 100_000  # the taps of one image are 20 kB


@pytest.mark.skipif(sys.platform == "win32", reason="has no module resource")
def test_calibrate_graph_resident_memory_does_not_grow_with_images(tmp_path: Path) -> None:
    """What ONNX Runtime allocates is seen by the operating system alone, so this runs in a process of its own."""
    program = (
        "import sys, resource, numpy as np\n"
        "from pathlib import Path\n"
        "from edgevit.quantize.calibrate import calibrate_graph\n"
        "from edgevit.graph.graph import Graph\n"
        "graph = Graph.load(Path(sys.argv[1]))\n"
        "rng = np.random.default_rng(0)\n"
        "for count in (5, 45):\n"
        "    batches = (rng.integers(0, 256, (1, 512, 512, 3), dtype=np.uint8) for _ in range(count))\n"
        "    calibrate_graph(graph, ['x', 'y'], batches)\n"
        "    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )
    import onnx

    text = '<ir_version: 10, opset_import: ["" : 20]> g (uint8[1,512,512,3] p) => (float[1,512,512,3] y)'
    path = tmp_path / "pixels.onnx"
    onnx.save(onnx.parser.parse_model(text + "{ x = Cast <to = 1> (p) y = Relu (x) }"), path)
    output = subprocess.run([sys.executable, "-c", program, path], check=True, capture_output=True, text=True).stdout
    few, many = (int(line) for line in output.split())
    unit = 1 if sys.platform == "darwin" else 1024
    # One image's taps are 6 MB: 40 more of them would be 250 MB.
    assert (many - few) * unit < 40e6
