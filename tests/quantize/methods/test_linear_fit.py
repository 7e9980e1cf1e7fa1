"""Fitted Linears on tokens: what the engine would compute, in numpy, against the float Linear."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import pytest

from edgevit.core.libraries import BackendName
from edgevit.core.quantization import Quantization
from edgevit.quantize.grid import Grid
from edgevit.quantize.methods.linear_fit import choose_factors, fit_linears
from edgevit.quantize.placement import PLACEMENTS
from edgevit.quantize.plan import SitePlan

Values = npt.NDArray[np.float32]
NEAREST = Quantization(rounding="nearest", bias_correction=False)


def make_linear(weight: Values, bias: Values | None) -> ir.Node:
    """MatMul, with an Add behind it where there is a bias."""
    constants = []
    for name, numbers in (("weight", weight), ("bias", bias)):
        if numbers is not None:
            tensor = ir.tensor(numbers, name=name)
            constants.append(ir.Value(name=name, shape=ir.Shape(numbers.shape), const_value=tensor))
    product = ir.node("MatMul", [ir.Value(name="x"), constants[0]], name="linear")
    if bias is not None:
        ir.node("Add", [product.outputs[0], constants[1]], name="linear/bias")
    return product


def make_case(seed: int = 0, channels: int = 16) -> tuple[Values, Values, Values]:
    """Tokens as behind GELU, correlated; weight and bias."""
    rng = np.random.default_rng(seed)
    hidden = rng.standard_normal((3000, channels)) @ rng.standard_normal((channels, channels)) / 3
    tokens = hidden / (1 + np.exp(-1.702 * hidden))
    weight, bias = rng.standard_normal((channels, 12)), rng.standard_normal(12)
    return tokens.astype(np.float32), weight.astype(np.float32), bias.astype(np.float32)


def simulate(site: SitePlan, tokens: Values, bias: Values | None = None) -> npt.NDArray[np.float64]:
    assert site.weight is not None
    assert site.scale is not None
    if site.affine is not None:
        tokens = (tokens - site.affine.center) * site.affine.factor
    product = site.grids[0].apply(tokens).astype(np.float64) @ (site.weight * site.scale.astype(np.float64))
    own = site.bias if site.bias is not None else bias
    return product if own is None else product + own


def measure_error(found: npt.NDArray[np.float64], wanted: npt.NDArray[np.float64]) -> float:
    """Noise over signal; the signal without its mean."""
    return float(np.square(found - wanted).sum() / np.square(wanted - wanted.mean(0)).sum())


@pytest.mark.parametrize("backend", ["openvino", "tensorrt"])
@pytest.mark.parametrize("smooth", [False, True])
def test_fit_linears_computes_nearly_what_the_float_linear_does(backend: str, smooth: bool) -> None:
    tokens, weight, bias = make_case()
    node = make_linear(weight, bias)
    quantization = Quantization(smooth=smooth)
    (site,) = fit_linears([node], tokens, PLACEMENTS[backend], quantization, scalable=True)
    wanted = tokens.astype(np.float64) @ weight + bias
    assert measure_error(simulate(site, tokens), wanted) < 1e-3
    # Bias correction keeps each mean, whatever else is lost.
    np.testing.assert_allclose(simulate(site, tokens).mean(0), wanted.mean(0), atol=1e-4)


@pytest.mark.parametrize("backend", ["openvino", "tensorrt"])
def test_fit_linears_undoes_centre_and_factors_in_weight_and_bias(backend: str) -> None:
    tokens, weight, bias = make_case(1)
    tokens *= np.asarray([0.02, 3] * 8, np.float32)  # so unlike that smoothing pays
    quantization = Quantization(smooth=True, rounding="nearest", bias_correction=False)
    (site,) = fit_linears([make_linear(weight, bias)], tokens, PLACEMENTS[backend], quantization, scalable=True)
    assert site.affine is not None
    assert site.weight is not None
    assert site.scale is not None
    assert site.bias is not None
    own = weight / site.affine.factor[:, None]
    # Each weight is at most half a step away, clipped ones aside, so it is this weight that was rounded.
    clipped = abs(site.weight.astype(int)) == 127
    assert (abs(site.weight * site.scale - own) <= 0.501 * site.scale)[~clipped].all()
    moved = (tokens.astype(np.float64) - site.affine.center) * site.affine.factor
    np.testing.assert_allclose(moved @ own + site.bias, tokens.astype(np.float64) @ weight + bias, rtol=1e-3, atol=1e-3)


def test_fit_linears_for_symmetric_engines_centres_what_is_one_sided() -> None:
    tokens, weight, bias = make_case()
    node, placement = make_linear(weight, bias), PLACEMENTS["tensorrt"]
    wanted = tokens.astype(np.float64) @ weight + bias
    errors = {}
    for center in (False, True):
        (site,) = fit_linears([node], tokens, placement, Quantization(center=center), scalable=True)
        assert (site.affine is not None) == center
        errors[center] = measure_error(simulate(site, tokens), wanted)
    assert errors[True] < errors[False]


def test_fit_linears_without_a_bias_takes_no_centre() -> None:
    tokens, weight, _ = make_case()
    node, placement = make_linear(weight, None), PLACEMENTS["tensorrt"]
    (site,) = fit_linears([node], tokens, placement, Quantization(smooth=True), scalable=True)
    assert site.bias is None
    # Nothing could make up for a constant that was taken out.
    assert site.affine is None or not site.affine.center.any()
    assert measure_error(simulate(site, tokens), tokens.astype(np.float64) @ weight) < 1e-3


def test_fit_linears_that_may_not_scale_have_no_affine() -> None:
    tokens, weight, bias = make_case()
    (site,) = fit_linears([make_linear(weight, bias)], tokens, PLACEMENTS["tensorrt"], Quantization(smooth=True))
    assert site.affine is None


def test_fit_linears_of_one_activation_share_its_grid() -> None:
    tokens, weight, bias = make_case()
    group = [make_linear(weight, bias), make_linear(3 * weight[:, :5], bias[:5])]
    first, second = fit_linears(group, tokens, PLACEMENTS["openvino"], NEAREST)
    assert first.grids == second.grids
    assert first.weight is not None
    assert second.weight is not None
    assert (first.weight.shape, second.weight.shape) == ((16, 12), (16, 5))


def test_fit_linears_of_the_image_keeps_its_bytes() -> None:
    rng = np.random.default_rng(0)
    _, weight, bias = make_case()
    pixels = rng.integers(0, 256, (500, 16)).astype(np.float32)
    (site,) = fit_linears([make_linear(weight, bias)], pixels, PLACEMENTS["openvino"], NEAREST, image=True)
    assert site.grids == (Grid(1.0, 0, 0, 255),)
    np.testing.assert_array_equal(site.grids[0].apply(pixels), pixels)
    np.testing.assert_array_equal(site.bias, bias)


def test_fit_linears_keeps_the_mean_of_what_it_is_given() -> None:
    tokens, weight, bias = make_case()
    rng = np.random.default_rng(5)
    shifted = (tokens + 0.1 + 0.02 * rng.standard_normal(tokens.shape)).astype(np.float32)
    (site,) = fit_linears([make_linear(weight, bias)], shifted, PLACEMENTS["openvino"], Quantization())
    # An error that was there before it is another site's to correct: that one may be set back to float.
    wanted = shifted.astype(np.float64) @ weight + bias
    np.testing.assert_allclose(simulate(site, shifted).mean(0), wanted.mean(0), atol=1e-4)


@pytest.mark.parametrize("backend", ["openvino", "tensorrt"])
def test_choose_factors_of_uneven_channels_lowers_the_error_of_the_linear(backend: BackendName) -> None:
    placement = PLACEMENTS[backend]
    rng = np.random.default_rng(0)
    spread = np.exp(rng.normal(size=32)).astype(np.float32)
    tokens = (rng.standard_normal((3000, 32)) * spread).astype(np.float32)
    weight = rng.standard_normal((32, 24)).astype(np.float32)
    factors = choose_factors(tokens, weight, placement, Quantization())
    assert factors.shape == (32,)

    def quantise(x: Values, w: Values) -> float:
        (site,) = fit_linears([make_linear(w, None)], x, placement, NEAREST)
        return measure_error(simulate(site, x), tokens.astype(np.float64) @ weight)

    assert quantise(tokens * factors, weight / factors[:, None]) < 0.8 * quantise(tokens, weight)


def test_choose_factors_of_even_channels_is_off() -> None:
    rng = np.random.default_rng(0)
    tokens, weight = (rng.uniform(-1, 1, shape).astype(np.float32) for shape in ((3000, 16), (16, 12)))
    np.testing.assert_array_equal(choose_factors(tokens, weight, PLACEMENTS["openvino"], Quantization()), np.ones(16))
