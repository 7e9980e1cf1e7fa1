"""The whole of quantisation on a small ViT: which sites become INT8, and how close the result stays."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from edgevit.core.errors import CalibrationError, RecipeError
from edgevit.core.quantization import Quantization
from edgevit.graph.graph import Graph, constant_of
from edgevit.quantize.plan import QuantizationPlan
from edgevit.quantize.quantize import match_sites, plan_quantization
from edgevit.quantize.sensitivity import choose_float
from tests.support.quantized import fit_sites, quantize_graph
from tests.support.small_graphs import Images, find_node, make_graph, make_pixels, run_graph

SITES = ["patch_embed.proj", "blocks.0.mlp.fc1", "blocks.0.mlp.fc2", "blocks.1.mlp.fc1", "blocks.1.mlp.fc2", "head"]


@pytest.fixture(scope="module")
def graph() -> Graph:
    return make_graph("vit")


@pytest.fixture(scope="module")
def images() -> Images:
    return make_pixels("vit")


def measure_db(graph: Graph, quantized: Graph) -> float:
    """SQNR of the logits on images that calibration did not see."""
    images = make_pixels("vit", 16, seed=77)
    wanted, found = run_graph(graph, images)[0], run_graph(quantized, images)[0]
    return float(10 * np.log10(np.square(wanted).sum() / np.square(found - wanted).sum()))


def test_match_sites_when_patterns_overlap_lets_the_later_win() -> None:
    assert match_sites(SITES, {"blocks.*": "float", "*.fc2": "int8"}) == {
        "blocks.0.mlp.fc1": "float",
        "blocks.0.mlp.fc2": "int8",
        "blocks.1.mlp.fc1": "float",
        "blocks.1.mlp.fc2": "int8",
    }
    assert match_sites(SITES, {"*.fc2": "int8", "blocks.*": "float"})["blocks.0.mlp.fc2"] == "float"
    assert match_sites(SITES, {"head": "float"}) == {"head": "float"}
    assert match_sites(SITES, {}) == {}


def test_match_sites_with_unknown_names_lists_them_all() -> None:
    with pytest.raises(RecipeError) as caught:
        match_sites(SITES, {"blocks.7.*": "float", "head": "float", "nonsense": "int8"})
    assert "blocks.7.*, nonsense" in caught.value.message
    assert "head" not in caught.value.message


def test_quantize_graph_without_images_raises(graph: Graph) -> None:
    with pytest.raises(CalibrationError, match="no calibration images"):
        quantize_graph(graph, [], Quantization(), "openvino")


@pytest.mark.usefixtures("thawed")
def test_plan_quantization_freezes_nothing_of_the_app_that_calls_it(graph: Graph, images: Images) -> None:
    frozen = set()
    nearest = Quantization(rounding="nearest")
    plan_quantization(graph, images, nearest, "onnxruntime", progress=lambda *_: frozen.add(gc.get_freeze_count()))
    assert frozen == {0}


def test_quantize_graph_with_an_unknown_pin_raises(graph: Graph, images: Images) -> None:
    with pytest.raises(RecipeError, match=r"blocks\.9"):
        quantize_graph(graph, images, Quantization(sites={"blocks.9.*": "float"}), "openvino")


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime", "tensorrt"])
def test_quantize_graph_is_valid_close_and_leaves_its_graph_alone(graph: Graph, images: Images, backend: str) -> None:
    before, logits = graph.op_counts(), run_graph(graph, images)[0]
    seen = make_pixels("vit", 32)  # the head sees one token an image; with fewer it is fitted to these alone
    quantized, plan, record = quantize_graph(graph, seen, Quantization(), backend)
    assert graph.op_counts() == before
    np.testing.assert_array_equal(run_graph(graph, images)[0], logits)
    onnx.checker.check_model(ir.serde.serialize_model(quantized.model), full_check=True)
    # Eight bits of 256 steps each, in some fourteen Linears one after the other, end above 30 dB.
    assert measure_db(graph, quantized) > 30
    assert record.images == len(seen)
    assert [site.name for site in record.sites] == [site.name for site in graph.sites()]
    for site in record.sites:
        assert (site.precision == "float") == bool(site.reason), site
        assert (site.sqnr_db is not None) == (site.name in plan.sites)
    assert {s.name for s in record.sites if s.precision == "int8"} <= set(plan.sites)


def test_quantize_graph_for_tensorrt_has_neither_zero_points_nor_unsigned_codes(graph: Graph, images: Images) -> None:
    # Not even where the recipe pins every site.
    quantization = Quantization(sites={"*": "int8"}, smooth=True)
    quantized, _, record = quantize_graph(graph, images, quantization, "tensorrt")
    pairs = ("QuantizeLinear", "DequantizeLinear")
    zeros = [node.inputs[2] for node in quantized.model.graph if node.op_type in pairs]
    assert zeros
    for zero in zeros:
        numbers = constant_of(zero)
        assert numbers is not None
        assert numbers.dtype == np.int8
        assert not numbers.any()
    embedding = record.sites[0]
    assert (embedding.name, embedding.precision) == ("patch_embed.proj", "float")
    assert embedding.reason == "the engine takes no unsigned input"


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime", "tensorrt"])
def test_quantize_graph_of_weights_alone_quantises_no_activation_and_is_closer(
    graph: Graph, images: Images, backend: str
) -> None:
    recipe = Quantization(activations="float", sqnr_db=-20)
    quantized, plan, record = quantize_graph(graph, images, recipe, backend)
    counts = quantized.op_counts()
    assert "QuantizeLinear" not in counts
    assert counts["DequantizeLinear"] == len(plan.sites) == sum(site.precision == "int8" for site in record.sites)
    assert all(not site.grids and site.weight is not None for site in plan.sites.values())
    assert any("only weights are int" in note for note in record.notes)
    both = quantize_graph(graph, images, Quantization(sqnr_db=-20), backend)[0]
    assert measure_db(graph, quantized) > max(30, measure_db(graph, both))


@pytest.mark.parametrize("family", ["vit", "swin"])
def test_quantize_graph_of_four_bits_is_valid_packed_and_runs_alike_in_openvino(family: str, tmp_path: Path) -> None:
    openvino = pytest.importorskip("openvino")
    float_graph, images = make_graph(family), make_pixels(family)
    recipe = Quantization(activations="float", weight_bits=4, weight_group=16, sqnr_db=-20)
    quantized, plan, record = quantize_graph(float_graph, images, recipe, "openvino")
    path = tmp_path / "quantized.onnx"
    quantized.save(path)
    onnx.checker.check_model(str(path), full_check=True)
    weights = [t for t in onnx.load(path).graph.initializer if t.data_type == onnx.TensorProto.INT4]
    assert len(weights) == len(plan.sites)
    assert all(len(t.raw_data) == np.prod(t.dims) // 2 for t in weights)
    for site in record.sites:
        assert site.precision == "int8" or "/" in site.name or "groups of 16" in site.reason
    wanted, found = run_graph(float_graph, images)[0], run_graph(quantized, images)[0]
    assert np.square(found - wanted).sum() < 0.01 * np.square(wanted).sum()
    config = {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0}
    compiled = openvino.Core().compile_model(str(path), "CPU", config)
    here = np.concatenate([np.array(compiled(image)[0]) for image in images])
    np.testing.assert_allclose(here, found, atol=1e-4 * abs(found).max())


def test_quantize_graph_of_four_bits_where_the_library_has_none_is_refused(graph: Graph, images: Images) -> None:
    with pytest.raises(RecipeError, match="not for onnxruntime") as caught:
        quantize_graph(graph, images, Quantization(activations="float", weight_bits=4), "onnxruntime")
    assert "openvino" in caught.value.hint


def test_quantize_graph_for_tensorrt_leaves_small_matrices_float(graph: Graph, images: Images) -> None:
    _, plan, record = quantize_graph(graph, images, Quantization(), "tensorrt")
    head = record.sites[-1]
    assert (head.name, head.precision) == ("head", "float")
    assert "32 × 7" in head.reason
    assert "head" not in plan.sites


def test_quantize_graph_with_pins_leaves_the_sites_float_and_says_why(graph: Graph, images: Images) -> None:
    quantization = Quantization(sites={"blocks.*.mlp.*": "float", "blocks.1.mlp.fc2": "int8"})
    quantized, plan, record = quantize_graph(graph, images, quantization, "openvino")
    pinned = {s.name: s for s in record.sites if ".mlp." in s.name}
    for name in ("blocks.0.mlp.fc1", "blocks.0.mlp.fc2", "blocks.1.mlp.fc1"):
        assert (pinned[name].precision, pinned[name].reason) == ("float", "the recipe keeps it float")
        assert name not in plan.sites
        weight = find_node(quantized, name).inputs[1]
        assert weight is not None
        assert weight.const_value is not None
        assert weight.const_value.numpy().dtype == np.float32
    assert pinned["blocks.1.mlp.fc2"].precision == "int8"


@pytest.mark.parametrize(
    ("products", "wanted"),
    [("float", set()), ("scores", {"scores"}), ("both", {"scores", "context"})],
)
def test_plan_quantization_takes_the_products_that_the_recipe_says(
    graph: Graph, images: Images, products: Any, wanted: set[str]
) -> None:
    _, plan, record = plan_quantization(graph, images, Quantization(products=products), "openvino")
    assert {name.split("/")[1] for name in plan.sites if "/" in name} == wanted
    int8 = {s.name for s in record.sites if s.precision == "int8"}
    assert int8 == set(plan.sites)


def test_plan_quantization_base_computes_what_the_graph_computes(graph: Graph, images: Images) -> None:
    base, _, _ = fit_sites(graph, images, Quantization(products="both"), "openvino")
    bias = "blocks.0.attn.k/bias"
    outputs = ("logits", bias)
    (wanted, keys), (found, centred) = run_graph(graph, images, outputs), run_graph(base, images, outputs)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)
    assert abs(keys.mean((0, 1))).max() > 0.05
    # The means are those of the model as quantised up to there.
    assert abs(centred.mean((0, 1))).max() < 0.1 * abs(keys.mean((0, 1))).max()


def test_plan_quantization_with_an_observer_takes_its_range(graph: Graph, images: Images) -> None:
    _, plan, _ = fit_sites(graph, images, Quantization(observer="minmax", products="float"), "openvino")
    for site, tensor in (("blocks.0.mlp.fc1", "blocks.0.norm2"), ("blocks.1.mlp.fc2", "blocks.1.mlp/gelu")):
        values = run_graph(graph, images, (tensor,))[0]
        grid = plan.sites[site].grids[0]
        np.testing.assert_allclose(grid.scale, (values.max() - values.min()) / 255, rtol=1e-5)
        assert abs((grid.low_code - grid.zero_point) * grid.scale - values.min()) <= grid.scale


def test_plan_quantization_with_an_observer_looks_at_the_graph_that_it_quantises(graph: Graph, images: Images) -> None:
    """Values are centred and equalised before they are quantised: the range is that of what is left."""
    quantization = Quantization(observer="minmax", products="both")
    base, plan, _ = fit_sites(graph, images, quantization, "openvino")
    for site in ("blocks.0.attn.proj", "blocks.1.attn.proj"):
        values, before = (run_graph(g, images, plan.sites[site].inputs)[0] for g in (base, graph))
        assert abs(values.max() / before.max() - 1) > 0.05
        grid = plan.sites[site].grids[0]
        np.testing.assert_allclose(grid.scale, (values.max() - values.min()) / 255, rtol=1e-5)


def test_plan_quantization_takes_the_observer_that_the_recipe_names_for_a_site(graph: Graph, images: Images) -> None:
    def plan(**recipe: Any) -> Any:
        return fit_sites(graph, images, Quantization(products="float", **recipe), "openvino")[1].sites

    recipe = {"blocks.*.mlp.fc2": "percentile", "blocks.1.mlp.*": "minmax", "blocks.0.attn.k": "minmax"}
    found = plan(percentile=90.0, observers=recipe)
    plain, wide, narrow = plan(), plan(observer="minmax"), plan(observer="percentile", percentile=90.0)
    assert plain["blocks.0.attn.q"].grids != wide["blocks.0.attn.q"].grids
    for site, wanted in {
        "blocks.0.mlp.fc2": narrow,
        "blocks.1.mlp.fc2": wide,  # by the later entry
        "blocks.0.attn.k": wide,
        "blocks.0.attn.q": wide,  # it reads what keys read
        "blocks.1.attn.q": plain,
        "blocks.0.mlp.fc1": plain,
    }.items():
        assert found[site].grids == wanted[site].grids, site
    with pytest.raises(RecipeError, match=r"blocks\.9"):
        plan(observers={"blocks.9.*": "minmax"})


def test_plan_quantization_counts_tokens_for_sites_of_the_loss_alone(graph: Graph, images: Images) -> None:
    generator = np.random.default_rng(0)
    tokens = run_graph(graph, images, ("blocks.0.norm2",))[0].shape[1]
    rows = np.where(np.arange(tokens) == 0, 1e6, 1e-6) * generator.uniform(1, 2, (len(images), tokens))
    importance = {name: rows.astype(np.float32) for name in ("blocks.0.mlp.fc1", "blocks.1.mlp.fc1")}
    quantization = Quantization(products="float", observers={"blocks.0.mlp.fc1": "loss"})
    given = (graph, images, quantization, "openvino")
    counted = fit_sites(*given, importance=importance)[1].sites
    plain = fit_sites(*given)[1].sites
    assert counted["blocks.0.mlp.fc1"].grids != plain["blocks.0.mlp.fc1"].grids
    assert counted["blocks.1.mlp.fc1"].grids == plain["blocks.1.mlp.fc1"].grids


def test_plan_quantization_without_centred_attention_leaves_keys_as_they_are(graph: Graph, images: Images) -> None:
    quantization = Quantization(products="both", center_attention=False, equalize=False)
    base, _, _ = fit_sites(graph, images, quantization, "openvino")
    keys = ("blocks.0.attn.k/bias",)
    np.testing.assert_allclose(run_graph(base, images, keys)[0], run_graph(graph, images, keys)[0], atol=1e-6)


def test_plan_quantization_with_the_same_seed_gives_the_same_plan(graph: Graph, images: Images) -> None:
    quantization = Quantization(sites={"blocks.1.*": "float"}, products="scores")
    first, second = (fit_sites(graph, images, quantization, "openvino", seed=4)[1] for _ in range(2))
    assert list(first.sites) == list(second.sites)
    for name, site in first.sites.items():
        assert site.grids == second.sites[name].grids
        np.testing.assert_array_equal(site.weight, second.sites[name].weight)


@pytest.mark.parametrize("count", [1, 6])
def test_search_for_float_sites_takes_gains_that_its_own_images_had_no_part_in(
    graph: Graph, images: Images, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was fitted to an image's largest probabilities would seem to make less noise there than elsewhere."""
    tried: list[QuantizationPlan] = []
    search = choose_float

    def spy(graph: Graph, plan: QuantizationPlan, *args: Any, **options: Any) -> tuple[str, ...]:
        tried.append(plan)
        return search(graph, plan, *args, **options)

    monkeypatch.setattr("edgevit.quantize.quantize.choose_float", spy)
    _, plan, _ = plan_quantization(graph, images[:count], Quantization(), "openvino")
    judged = tried[0].sites
    assert list(judged) == list(plan.sites)
    gains = {name: site.gain for name, site in plan.sites.items() if site.gain is not None}
    assert gains
    higher = False
    for name, gain in gains.items():
        found = judged[name].gain
        assert found is not None
        assert (found >= gain).all()  # fewer images were seen for it
        higher |= bool((found > gain).any())
    assert higher == (count > 1)  # a single image is fitted and judges


def test_plan_quantization_with_activations_that_are_not_finite_names_them(graph: Graph, images: Images) -> None:
    broken = graph.copy()
    weight = find_node(broken, "blocks.0.mlp.fc1").inputs[1]
    assert weight is not None
    assert weight.const_value is not None
    numbers = weight.const_value.numpy().copy()
    numbers[3, 5] = np.inf
    weight.const_value = ir.tensor(numbers, name=weight.name)
    with pytest.raises(CalibrationError, match=r"blocks\.0\.mlp/gelu"):
        plan_quantization(broken, images, Quantization(), "openvino")


def test_plan_quantization_says_how_far_it_is(graph: Graph, images: Images) -> None:
    steps: list[tuple[str, int, int]] = []
    quantization = Quantization(products="float", sites={"blocks.*": "float"})
    plan_quantization(
        graph, images, quantization, "openvino", progress=lambda *step: steps.append((step[0], *step[1:]))
    )
    fitted = [step for step in steps if step[0] == "quantize"]
    assert fitted == [("quantize", n, 6) for n in range(7)]
    ranked = [step for step in steps if step[0] == "sensitivity"]
    # The worst sites are measured again on more images.
    assert ranked == [("sensitivity", n, 12) for n in (*range(7), *range(6, 13))]
