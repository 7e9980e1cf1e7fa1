"""Parity of an engine with its module."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgevit.core.errors import CheckpointError, DataError
from edgevit.core.report.report import Parity
from edgevit.measure.parity import PARITY_TOLERANCES, ParityTolerance, check_parity

EXPECTED = np.asarray([[4.0, 1.0, 0.0], [0.0, 2.0, 1.99], [1.0, 0.0, 3.0]])
PIXELS = np.arange(3, dtype=np.uint8).reshape(3, 1, 1, 1)
TOLERANCE = ParityTolerance(relative_error=0.01, tie_margin=0.005)


def check_logits(run: Any, module: Any, batches: list[Any], tolerance: ParityTolerance) -> Parity:
    return check_parity(lambda b: (run(b),), lambda b: (module(b),), batches, tolerance, ["logits"], ranked=True)


def compare(actual: np.ndarray, tolerance: ParityTolerance = TOLERANCE, size: int = 2) -> Parity:
    batches = [PIXELS[i : i + size] for i in range(0, 3, size)]
    return check_logits(
        lambda b: actual[b.ravel()].astype(np.float32), lambda b: EXPECTED[b.ravel()], batches, tolerance
    )


@pytest.mark.parametrize("size", [1, 2, 3])
def test_parity_is_the_largest_difference_over_the_largest_logit(size: int) -> None:
    actual = EXPECTED.copy()
    actual[2, 0] += 0.02
    actual[0, 0] -= 0.03
    found = compare(actual, size=size)
    assert found.passed
    assert found.relative_error == pytest.approx(0.03 / 4, rel=1e-5)
    assert (found.images, found.agreement) == (3, 3)


def test_parity_fails_when_the_difference_is_over_the_tolerance() -> None:
    found = compare(EXPECTED + np.asarray([0.05, 0, 0]))
    assert not found.passed
    assert "0.01" in found.reason


def test_parity_forgives_the_order_of_two_logits_that_tie() -> None:
    swapped = EXPECTED.copy()
    swapped[1] = [0.0, 1.99, 2.0]
    found = compare(swapped)
    assert found.passed
    assert found.agreement == 2
    assert "tie" in found.reason


def test_parity_fails_when_a_clear_first_place_is_lost_within_the_error() -> None:
    flipped = EXPECTED.copy()
    flipped[2] = [2.05, 0.0, 2.0]
    found = compare(flipped, ParityTolerance(relative_error=0.5, tie_margin=0.005))
    assert not found.passed
    assert found.relative_error < 0.5


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_parity_fails_without_an_error_figure_when_the_engine_is_not_finite(value: float) -> None:
    actual = EXPECTED.copy()
    actual[2, 1] = value
    found = compare(actual)
    assert (found.passed, found.relative_error) == (False, None)
    assert "image 2" in found.reason


def test_parity_fails_when_the_shape_differs() -> None:
    assert not compare(EXPECTED[:, :2]).passed


def test_parity_refuses_a_module_that_is_not_finite_and_an_empty_set() -> None:
    with pytest.raises(CheckpointError):
        check_logits(lambda b: EXPECTED, lambda b: EXPECTED * np.float32(np.nan), [PIXELS], TOLERANCE)
    with pytest.raises(DataError):
        check_logits(lambda b: EXPECTED, lambda b: EXPECTED, [], TOLERANCE)


def test_tolerances_let_arithmetic_through_and_stop_mistakes() -> None:
    module = torch_block(tanh=False)
    pixels = np.random.default_rng(0).integers(0, 256, (8, 4, 4, 3), np.uint8)

    def check(run: Any, precision: str) -> bool:
        return check_logits(run, module, [pixels], PARITY_TOLERANCES[precision]).passed

    assert check(lambda b: module(b).astype(np.float16).astype(np.float32), "fp16")
    assert not check(lambda b: module(b).astype(np.float16).astype(np.float32), "fp32")
    assert not check(torch_block(tanh=True), "fp32")
    assert not check(lambda b: module(b[:, ::-1]), "fp16")


def torch_block(tanh: bool) -> Any:
    """A small GELU network with the exact or the approximated GELU."""
    import torch

    generator = torch.Generator().manual_seed(0)
    first, second = torch.randn(48, 64, generator=generator) / 7, torch.randn(64, 10, generator=generator) / 8

    def run(pixels: np.ndarray) -> np.ndarray:
        x = (torch.from_numpy(pixels.copy()).reshape(len(pixels), -1).float() - 127) / 64
        hidden = torch.nn.functional.gelu(x @ first, approximate="tanh" if tanh else "none")
        return (hidden @ second).numpy()

    return run


def test_parity_of_several_outputs_is_that_of_the_worst_over_its_own_scale() -> None:
    fine, coarse = np.full((2, 4), 100.0, np.float32), np.full((2, 3, 5), 1.0, np.float32)

    def check(first: float, second: float) -> Parity:
        return check_parity(
            lambda b: (fine + np.float32(first), coarse + np.float32(second)),
            lambda b: (fine, coarse),
            [PIXELS[:2]],
            TOLERANCE,
            ["level0", "level1"],
            ranked=False,
        )

    near = check(0.5, 0.002)
    assert (near.passed, near.images, near.agreement) == (True, 2, None)
    assert near.relative_error == pytest.approx(0.005, rel=1e-3)
    assert "level0" in near.reason
    far = check(0.0, 0.02)
    assert not far.passed
    assert "level1" in far.reason
    broken = check(0.0, np.inf)
    assert (broken.passed, broken.relative_error) == (False, None)
    assert "level1" in broken.reason
    assert "image 0" in broken.reason


ROWS = {"logits": (40, 6), "boxes": (40, 4)}


def answer_rows(images: int = 3) -> list[Any]:
    generator = np.random.default_rng(0)
    return [generator.normal(size=(images, *shape)) for shape in ROWS.values()]


def compare_rows(
    actual: list[Any], expected: list[Any], *, chooses: bool = True, bound: float = 0.1, least: float = 0.05
) -> Parity:
    tolerance = ParityTolerance(relative_error=bound, tie_margin=0.0, least_rows=least)
    pixels = [PIXELS[:2], PIXELS[2:]]

    def pick(answers: list[Any]) -> Any:
        return lambda b: tuple(values[b.ravel()] for values in answers)

    return check_parity(pick(actual), pick(expected), pixels, tolerance, [*ROWS], ranked=False, chooses=chooses)


def test_float32_moves_few_rows_of_a_model_that_sorts_them() -> None:
    expected, least = answer_rows(), PARITY_TOLERANCES["fp32"].least_rows
    kept = int(least * 40)
    assert compare_rows(swap(expected, kept), expected, least=least).passed
    assert not compare_rows(swap(expected, kept - 1), expected, least=least).passed
    assert all(least > PARITY_TOLERANCES[other].least_rows for other in ("fp16", "bf16"))


def swap(answers: list[Any], kept: int) -> list[Any]:
    """All rows but the first are another query's."""
    return [np.concatenate([v[:, :kept], np.roll(v[:, kept:], 1, axis=1)], axis=1) for v in answers]


def test_rows_of_queries_that_changed_places_do_not_fail_a_model_that_sorts_them() -> None:
    expected = answer_rows()
    swapped = [values + 0.001 for values in swap(expected, 4)]
    found = compare_rows(swapped, expected)
    assert found.passed
    assert "12 of 120 rows" in found.reason
    assert found.relative_error is not None
    assert 0 < found.relative_error <= 0.1
    assert not compare_rows(swapped, expected, chooses=False).passed
    assert compare_rows(swapped, expected, bound=2.5).reason.startswith("relative error")  # all of them are within it


@pytest.mark.parametrize("case", ["too few", "scaled", "one output", "noisy"])
def test_another_computation_fails_though_the_model_sorts_its_rows(case: str) -> None:
    expected = answer_rows()
    if case == "too few":
        actual = swap(expected, 1)  # 3 of 120
    elif case == "scaled":
        actual = [values * 1.5 for values in expected]
    elif case == "one output":
        actual = [expected[0], np.roll(expected[1], 1, axis=1)]
    else:
        actual = [values + np.random.default_rng(1).normal(0, 1, values.shape) for values in expected]
    found = compare_rows(actual, expected)
    assert not found.passed
    assert found.relative_error is not None
    assert found.relative_error > 0.1


def test_outputs_without_rows_are_judged_as_ever() -> None:
    expected = [*answer_rows()[:1], np.random.default_rng(2).normal(size=(3, 7))]
    actual = [swap(expected[:1], 20)[0], expected[1]]
    found = compare_rows(actual, expected)
    assert not found.passed
