"""Engines of every family under each instruction set that this machine has, against the module and their own graphs.

Float engines are held against the unfolded module in torch. INT8 engines are held against their graph in ONNX Runtime
with Q/DQ pairs in float, so that what a processor's kernels make of it shows apart from what quantising costs.
"""

from __future__ import annotations

import dataclasses
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from edgevit.build.graph_answers import JUDGE_SETTINGS
from edgevit.build.prepare_quantized import choose_form
from edgevit.core.isa import TIERS, TierName, list_tiers
from edgevit.core.quantization import Quantization
from edgevit.core.recipe import Recipe
from edgevit.core.target import load_target
from edgevit.core.task import Task
from edgevit.engines.openvino_faults import list_faults
from edgevit.graph.graph import Graph
from edgevit.graph.passes.optimize import optimize_graph
from edgevit.measure.reference import run_outputs
from edgevit.models.export import export_model
from edgevit.models.model import Model
from edgevit.models.select_task import select_task
from edgevit.models.swin import SwinConfig
from edgevit.models.swin_v2 import SwinV2Config
from edgevit.models.vit import ViTConfig
from edgevit.quantize.placement import PLACEMENTS
from edgevit.quantize.write_quantized import write_quantized
from tests.support.quantized import fit_sites
from tests.support.small_models import SWIN, SWINS, VIT, VITS, make_images, make_model
from tests.support.tier_engines import HERE, REFUSED, Answers, Job, Stored, answer_jobs, measure_sqnr
from tests.support.under_tier import ALL_CORES, run_under_tier

LEAST_DB = {("fp32", "f32"): 90.0, ("fp32", "bf16"): 30.0, ("int8", "f32"): 30.0, ("int8", "bf16"): 24.0}
"""Seen: 120, 36, 38 (codes at ties), 28; engines that saturate have 20 at most, wrong attentions 23."""

pytestmark = pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="tiers of x86-64")

# 66 tokens of which one is hidden by a constant in full, and a last block for two of them
PADDED = dataclasses.replace(VIT, image_size=(72, 56), depth=2, distillation_token=True, distillation_head=True)
SMALL_WINDOWS = dataclasses.replace(SWIN, image_size=(56, 40), depths=(2, 1), heads=(1, 2))
SMALL: dict[str, tuple[ViTConfig | SwinConfig, Task]] = {
    "padded": (PADDED, Task()),
    "siglip": (dataclasses.replace(VITS["siglip"], depth=2), Task()),
    "windows": (SMALL_WINDOWS, Task()),
    "v2": (SwinV2Config(**dataclasses.asdict(SMALL_WINDOWS), pretrained_windows=(0, 0)), Task()),
}
# Every option of every family, and the other tasks
WHOLE: dict[str, tuple[ViTConfig | SwinConfig, Task]] = {
    **{f"vit_{name}": (config, Task()) for name, config in VITS.items()},
    **{f"swin_{name}": (config, Task()) for name, config in SWINS.items()},
    "vit_class_token_padded": (dataclasses.replace(VIT, image_size=(72, 48)), Task()),
    "vit_embed": (VIT, Task("embed", normalize=True)),
    "vit_features": (VITS["registers"], Task("features", layout="tokens")),
    "swin_embed": (SWIN, Task("embed")),
    "swin_features": (SWIN, Task("features")),
}


@dataclass(frozen=True)
class Suite:
    """Graphs on disk with what their engines should answer.

    Attributes:
        jobs: Of all tiers; see :meth:`select`.
        expected: By job.
        folder: For engines.
    """

    jobs: tuple[Job, ...]
    expected: Mapping[str, Answers]
    folder: Path

    def select(self, tier: TierName) -> list[Job]:
        """A tier's: bfloat16 where it has products of it."""
        return [job for job in self.jobs if job.floats == "f32" or TIERS[tier].bf16]

    def measure(self, tier: TierName) -> dict[Job, float]:
        """Decibels of every job of a tier, but for those that are refused there."""
        jobs = self.select(tier)
        found = run_under_tier(tier, answer_jobs, jobs, self.folder / tier)
        figures = {}
        for job in jobs:
            answers = found[job.name]
            if isinstance(answers, str):
                assert tier in REFUSED, f"{job.name}: {answers}"
                assert REFUSED[tier] in answers
            else:
                figures[job] = measure_sqnr(answers, self.expected[job.name])
        return figures


def make_suite(cases: Mapping[str, tuple[ViTConfig | SwinConfig, Task]], folder: Path) -> Suite:
    jobs: list[Job] = []
    expected: dict[str, Answers] = {}
    for name, (config, task) in cases.items():
        model = select_task(make_model(config), task)
        pixels = make_images(config, 3, seed=1).numpy()
        calibration = [image[None] for image in make_images(config, 6).numpy()]
        recipe = Quantization(products="both", sqnr_db=-20, observer="minmax", rounding="nearest")
        add_model(jobs, expected, folder, name, model, pixels, calibration, recipe)
    return Suite(tuple(jobs), expected, folder)


def add_model(jobs, expected, folder, name, model: Model, pixels, calibration, recipe: Quantization) -> None:
    """Its float graph and that of INT8, with the answers to ``pixels``."""
    target = load_target("intel-cpu")
    graph = optimize_graph(export_model(model, target.export)[0])[0]
    np.save(folder / f"{name}.npy", pixels)
    wanted: dict[Stored, Answers] = {"fp32": run_outputs(model)(pixels)}
    graph.save(folder / f"{name}.fp32.onnx")
    form = choose_form(
        target, Recipe(quantization=recipe)
    )  # as builds have it: rotated, the class token's attention shared
    base, plan, record = fit_sites(optimize_graph(export_model(model, form)[0])[0], calibration, recipe, "openvino")
    quantized = write_quantized(base, plan, record, PLACEMENTS["openvino"])
    quantized.save(folder / f"{name}.int8.onnx")
    wanted["int8"] = answer_graph(folder / f"{name}.int8.onnx", pixels)
    for precision, answers in wanted.items():
        path = folder / f"{name}.{precision}.onnx"
        for floats in ("f32", "bf16"):
            if list_faults(Graph.load(path), floats):  # a build refuses it
                continue
            jobs.append(Job(f"{name}.{precision}.{floats}", path, precision, floats, folder / f"{name}.npy"))
            expected[jobs[-1].name] = answers


def answer_graph(path: Path, pixels) -> Answers:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    for key, value in JUDGE_SETTINGS.items():
        options.add_session_config_entry(key, value)
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    parts = [session.run(None, {"image": image[None]}) for image in pixels]
    return tuple(np.concatenate(values) for values in zip(*parts, strict=True))


def assert_right(found: Mapping[Job, float], precision: str) -> None:
    judged = {job: db for job, db in found.items() if job.precision == precision}
    wrong = {job.name: round(db, 1) for job, db in judged.items() if db < LEAST_DB[job.precision, job.floats]}
    assert not wrong, wrong


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Suite:
    return make_suite(SMALL, tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module", params=HERE)
def measured(request: pytest.FixtureRequest, small: Suite) -> tuple[TierName, dict[Job, float]]:
    """A process for a tier answers for all tests."""
    return request.param, small.measure(request.param)


def test_float_engines_answer_as_the_module_does(measured, record_property):
    tier, found = measured
    record_property("instruction set", tier)
    # each in float and in INT8
    assert tier in REFUSED or len(found) == 2 * len(SMALL) * (2 if TIERS[tier].bf16 else 1)
    assert_right(found, "fp32")


def test_int8_engines_answer_as_their_graphs_do(measured):
    _, found = measured
    assert_right(found, "int8")


def test_int8_weights_that_share_no_limit_saturate_without_vnni(small, tmp_path):
    """What the test above would see, were the weights as large as eight bits allow."""
    job = next(job for job in small.jobs if job.name == "windows.int8.f32")
    graph = Graph.load(job.graph)
    for node in graph.model.graph:
        weight = node.inputs[0].const_value if node.op_type == "DequantizeLinear" else None
        if weight is not None and weight.dtype == ir.DataType.INT8:
            full = np.where(weight.numpy() < 0, -127, 127).astype(np.int8)
            node.inputs[0].const_value = ir.tensor(full, name=weight.name)
    graph.save(tmp_path / "full.onnx")
    expected = answer_graph(tmp_path / "full.onnx", np.load(job.pixels))
    full = dataclasses.replace(job, graph=tmp_path / "full.onnx")
    for tier in set(HERE) & {"avx2", "avx512", "avx512_vnni"}:
        answers = run_under_tier(tier, answer_jobs, [full], tmp_path / tier)[full.name]
        assert not isinstance(answers, str), answers
        assert (measure_sqnr(answers, expected) < LEAST_DB["int8", "f32"]) == TIERS[tier].saturates


def test_padding_is_among_what_is_run(small):
    job = next(job for job in small.jobs if job.name == "padded.fp32.f32")
    shapes = {tuple(v.const_value.shape.numpy()) for v in Graph.load(job.graph).model.graph.initializers.values()}
    assert (1, 4, 1, 66) in shapes


def test_an_attention_that_is_shared_with_copies_of_the_class_token_is_among_what_is_run_in_int8(small):
    job = next(job for job in small.jobs if job.name == "padded.int8.f32")
    constants = [v.const_value.numpy() for v in Graph.load(job.graph).model.graph.initializers.values()]
    shares = next(c for c in constants if c.shape == (1, 4, 1, 66))
    np.testing.assert_allclose(np.exp(shares[..., [0, -1]]), 0.5, rtol=1e-6)
    assert (shares[..., 1:-1] == 0).all()


def test_a_process_computes_with_the_tier_that_it_is_limited_to():
    assert [run_under_tier(tier, list_tiers)[-1] for tier in HERE] == HERE


def list_cores() -> set[int]:
    return os.sched_getaffinity(0)


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system does not bind processes to cores")
def test_a_process_under_a_tier_has_all_cores_of_the_run():
    cores = os.environ.get(ALL_CORES)
    expected = {int(core) for core in cores.split(",")} if cores else os.sched_getaffinity(0)
    assert run_under_tier(HERE[0], list_cores) == expected


def test_an_error_under_a_tier_is_shown():
    with pytest.raises(AssertionError, match=r"under .*, status 1:(.|\n)*cannot reshape"):
        run_under_tier(HERE[0], np.reshape, [1, 2, 3], (2, 2))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Suite:
    return make_suite(WHOLE, tmp_path_factory.mktemp("whole"))


@pytest.mark.slow
@pytest.mark.parametrize("tier", HERE)
def test_every_option_of_every_family_is_right_in_every_precision(tier, whole, record_property):
    record_property("instruction set", tier)
    found = whole.measure(tier)
    kinds = [f"{name}.{kind}" for name in WHOLE for kind in ("fp32.f32", "fp32.bf16", "int8.f32", "int8.bf16")]
    # Windows of four tokens, and four heads
    assert {*kinds} - {job.name for job in whole.jobs} == {"swin_window_is_grid.fp32.bf16"}
    assert_right(found, "fp32")
    assert_right(found, "int8")
