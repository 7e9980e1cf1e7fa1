"""GPTQ's rounding against rounding to the nearest."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from edgevit.quantize.methods.gptq import round_gptq

Weights = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]


def make_case(seed: int, inputs: int = 160, outputs: int = 24) -> tuple[Weights, Weights, Floats]:
    """Weight, scale and correlated inputs; more input channels than one of GPTQ's blocks."""
    rng = np.random.default_rng(seed)
    weight = rng.standard_normal((inputs, outputs)).astype(np.float32)
    scale = (abs(weight).max(0) / 7).astype(np.float32)  # as coarse as four bits, so that errors are large
    mixing = rng.standard_normal((12, inputs))
    tokens = rng.standard_normal((2000, 12)) @ mixing + 0.1 * rng.standard_normal((2000, inputs))
    return weight, scale, tokens


def output_error(codes: npt.NDArray[np.int8], weight: Weights, scale: Weights, tokens: Floats) -> Floats:
    """Squared error of each output channel."""
    return np.asarray(np.square(tokens @ (codes * scale.astype(np.float64) - weight)).sum(0))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_round_gptq_on_correlated_inputs_loses_less_than_the_nearest(seed: int) -> None:
    weight, scale, tokens = make_case(seed)
    codes = round_gptq(weight, scale, tokens.T @ tokens / len(tokens))
    nearest = np.rint(weight / scale).astype(np.int8)
    ours, theirs = (output_error(c, weight, scale, tokens) for c in (codes, nearest))
    assert ours.sum() < 0.2 * theirs.sum()
    assert (ours < theirs).all()


def test_round_gptq_with_a_diagonal_hessian_is_the_nearest() -> None:
    weight, scale, _ = make_case(0)
    hessian = np.diag(np.random.default_rng(1).uniform(0.1, 10, len(weight)))
    np.testing.assert_array_equal(round_gptq(weight, scale, hessian), np.rint(weight / scale))


def test_round_gptq_equals_the_papers_algorithm_without_blocks() -> None:
    weight, scale, tokens = make_case(3, inputs=150, outputs=5)
    hessian = tokens.T @ tokens / len(tokens)
    # Frantar et al., equation 3, one channel at a time with the inverse of what is left.
    damped = hessian + 0.01 * np.diag(hessian).mean() * np.eye(len(hessian))
    left = list(np.argsort(-np.diag(damped), kind="stable"))
    work, wanted = weight / scale.astype(np.float64), np.zeros(weight.shape)
    while left:
        inverse = np.linalg.inv(damped[np.ix_(left, left)])
        first, rest = left[0], left[1:]
        wanted[first] = np.clip(np.rint(work[first]), -127, 127)
        error = (work[first] - wanted[first]) / inverse[0, 0]
        work[rest] -= np.outer(inverse[0, 1:], error)
        left = rest
    # A tie decided by the last bit may go either way and change what follows.
    assert (round_gptq(weight, scale, hessian) == wanted).mean() > 0.99


def test_round_gptq_codes_stay_inside_127() -> None:
    weight, scale, tokens = make_case(0)
    codes = round_gptq(weight, (scale / 40).astype(np.float32), tokens.T @ tokens)
    assert codes.dtype == np.int8
    assert codes.min() == -127
    assert codes.max() == 127


def test_round_gptq_with_dead_channels_rounds_these_to_the_nearest() -> None:
    weight, scale, tokens = make_case(0)
    tokens[:, [3, 77]] = 0
    codes = round_gptq(weight, scale, tokens.T @ tokens / len(tokens))
    np.testing.assert_array_equal(codes[[3, 77]], np.rint(weight / scale)[[3, 77]])
    silent = round_gptq(weight, scale, np.zeros((len(weight), len(weight))))
    np.testing.assert_array_equal(silent, np.rint(weight / scale))


def test_round_gptq_leaves_its_arguments_alone() -> None:
    weight, scale, tokens = make_case(0)
    hessian = tokens.T @ tokens
    before = weight.copy(), scale.copy(), hessian.copy()
    round_gptq(weight, scale, hessian)
    for found, wanted in zip((weight, scale, hessian), before, strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_round_gptq_of_four_bits_in_groups_loses_less_than_the_nearest() -> None:
    weight, _, tokens = make_case(4)
    groups = weight.reshape(10, 16, -1)
    steps = np.repeat((abs(groups).max(1) / 7).astype(np.float32), 16, axis=0)
    codes = round_gptq(weight, steps, tokens.T @ tokens / len(tokens), largest_code=7)
    assert abs(codes).max() == 7
    nearest = np.rint(weight / steps).astype(np.int8)
    ours, theirs = (np.square(tokens @ (c * np.float64(steps) - weight)).sum() for c in (codes, nearest))
    assert ours < 0.2 * theirs


def test_round_gptq_with_equal_scales_in_all_groups_is_that_without_groups() -> None:
    weight, scale, tokens = make_case(5)
    hessian = tokens.T @ tokens / len(tokens)
    whole = np.broadcast_to(scale, weight.shape)
    np.testing.assert_array_equal(round_gptq(weight, whole, hessian), round_gptq(weight, scale, hessian))
