"""Weights that keep their products with u8 inside 16 bits: against vpmaddubsw itself, written out in numpy."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edgevit.quantize.methods.gptq import round_gptq
from edgevit.quantize.methods.weight_pairs import limit_pairs
from edgevit.quantize.methods.weight_scale import choose_weight_scale


def multiply_in_16_bits(activation: npt.NDArray[np.uint8], codes: npt.NDArray[np.int8]) -> npt.NDArray[np.int64]:
    """``(T, K) · (K, N)`` as processors without VNNI compute it: sums of two products end at the ends of 16 bits."""
    products = activation.astype(np.int64)[:, :, None] * codes.astype(np.int64)[None]
    pairs = products[:, 0::2] + np.pad(products[:, 1::2], ((0, 0), (0, codes.shape[0] % 2), (0, 0)))
    return np.clip(pairs, -(2**15), 2**15 - 1).sum(axis=1)


def make_case(seed: int, rows: int = 48, columns: int = 24) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float64]]:
    generator = np.random.default_rng(seed)
    weight = generator.standard_t(4, (rows, columns)).astype(np.float32)
    inputs = generator.normal(size=(400, rows)) @ generator.normal(size=(rows, rows))
    return weight, inputs.T @ inputs / len(inputs)


@given(arrays.arrays(np.int16, (7, 5), elements=st.integers(-127, 127)))
def test_limited_pairs_never_overflow_and_those_inside_stay(codes: npt.NDArray[np.int16]) -> None:
    found = limit_pairs(codes.astype(np.float64))
    for row in range(0, 6, 2):
        before, after = codes[row : row + 2], found[row : row + 2]
        assert (np.abs(after.sum(axis=0)) <= 128).all()
        inside = np.abs(before.sum(axis=0)) <= 128
        assert (after[:, inside] == before[:, inside]).all()
        assert (np.sign(after) * np.sign(before) >= 0).all()
        assert (np.abs(after) <= np.abs(before)).all()
    assert (found[6] == codes[6]).all()  # the last of an odd number has no neighbour


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("rows", [48, 47])
def test_gptq_codes_of_pairs_are_right_in_16_bits_where_full_ones_are_not(seed: int, rows: int) -> None:
    weight, hessian = make_case(seed, rows)
    activation = np.random.default_rng(seed).choice([0, 255], (64, rows)).astype(np.uint8)
    wrong = {}
    for paired in (False, True):
        scale = choose_weight_scale(weight, np.diag(hessian), paired=paired)
        codes = round_gptq(weight, scale, hessian, paired=paired)
        exact = activation.astype(np.int64) @ codes.astype(np.int64)
        wrong[paired] = int((multiply_in_16_bits(activation, codes) != exact).sum())
    assert wrong[True] == 0
    assert wrong[False] > 0


def test_pairs_cost_less_than_seven_bits() -> None:
    losses = {"full": 0.0, "pairs": 0.0, "seven bits": 0.0}
    for seed in range(8):
        weight, hessian = make_case(seed)
        for name, options in (
            ("full", {}),
            ("pairs", {"paired": True}),
            ("seven bits", {"largest_code": 64}),
        ):
            scale = choose_weight_scale(weight, np.diag(hessian), **options)
            error = round_gptq(weight, scale, hessian, **options) * scale - weight
            losses[name] += float(np.einsum("kn,kl,ln->", error, hessian, error))
    assert losses["full"] <= losses["pairs"] < 0.7 * losses["seven bits"]


def test_dead_inputs_are_rounded_to_the_nearest_within_the_limit() -> None:
    weight = np.array([[1.0, 1.0], [1.0, -1.0]], np.float32)
    codes = round_gptq(weight, np.full(2, 1 / 127, np.float32), np.zeros((2, 2)), paired=True)
    np.testing.assert_array_equal(codes, [[64, 127], [64, -127]])
