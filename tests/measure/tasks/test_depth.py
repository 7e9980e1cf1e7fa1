"""Figures of depth, against formulas written out and against a solver of least squares."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edgevit.measure.tasks.depth import DepthAgreement, DepthMeter, align
from edgevit.runtime.tasks.answers import Depth

RNG = np.random.default_rng(0)


def make_truth(far: float = 8.0) -> np.ndarray:
    truth = RNG.uniform(1, far, (12, 16)).astype(np.float32)
    truth[:3, :4] = 0
    truth[5, 5] = np.nan
    truth[6, 6] = -1
    return truth


def test_metric_depth_is_judged_image_by_image_where_it_was_measured() -> None:
    meter = DepthMeter()
    errors, roots, within = [], [], []
    for factor in (1.1, 1.3):
        truth = make_truth()
        found = np.where(np.isfinite(truth), truth, 1) * np.float32(factor)
        meter.update(Depth(found, metric=True), truth)
        valid = np.nan_to_num(truth) > 0
        # What is beyond the farthest measured distance counts as that distance.
        cut = np.minimum(found[valid], truth[valid].max())
        errors.append(np.mean(np.abs(cut - truth[valid]) / truth[valid]))
        roots.append(np.sqrt(np.mean((cut - truth[valid]) ** 2)))
        within.append(np.mean(np.maximum(cut / truth[valid], truth[valid] / cut) < 1.25))
    figures = meter.result()
    assert figures["abs_rel"] == pytest.approx(np.mean(errors), rel=1e-5)
    assert figures["rmse_m"] == pytest.approx(np.mean(roots), rel=1e-5)
    assert figures["delta1_percent"] == pytest.approx(100 * np.mean(within), rel=1e-5)
    assert 0 < figures["delta1_percent"] < 100
    # A wrong scale is no error of an aligned map.
    assert figures["aligned_abs_rel"] == pytest.approx(0, abs=1e-5)
    assert figures["aligned_delta1_percent"] == 100


def test_relative_depth_is_aligned_in_disparity_as_midas_does() -> None:
    truth = make_truth()
    valid = np.nan_to_num(truth) > 0
    inverse = np.divide(1, truth, out=np.zeros_like(truth), where=valid)
    exact, meter = DepthMeter(), DepthMeter()
    exact.update(Depth(7 * inverse - 0.2), truth)
    assert exact.result() == pytest.approx(
        {"aligned_abs_rel": 0, "aligned_rmse_m": 0, "aligned_delta1_percent": 100}, abs=2e-5
    )
    noisy = 7 * inverse - 0.2 + RNG.normal(0, 1, truth.shape).astype(np.float32)
    meter.update(Depth(noisy), truth)
    # torch's solver of [values, 1] · (scale, shift) = 1 / truth is the reference.
    values = torch.from_numpy(noisy[valid].astype(np.float64))
    system = torch.stack([values, torch.ones_like(values)], dim=1)
    answer = torch.linalg.lstsq(system, torch.from_numpy(1 / truth[valid].astype(np.float64))[:, None]).solution
    disparity = (system @ answer)[:, 0].numpy().clip(1 / truth[valid].max())
    expected = np.mean(np.abs(1 / disparity - truth[valid]) / truth[valid])
    assert meter.result()["aligned_abs_rel"] == pytest.approx(expected, rel=1e-6)
    assert "abs_rel" not in meter.result()


def test_what_is_farther_than_the_farthest_does_not_count() -> None:
    truth = np.array([[1.0, 2.0, 4.0, 100.0]], np.float32)
    meter = DepthMeter(farthest=10)
    meter.update(Depth(np.array([[1.0, 2.0, 4.0, 1.0]], np.float32), metric=True), truth)
    assert meter.result()["abs_rel"] == 0
    meter.update(Depth(np.array([[1.0, 2.0, 50.0, 1.0]], np.float32), metric=True), truth)
    assert meter.result()["abs_rel"] == pytest.approx((0 + (10 - 4) / 4 / 3) / 2)


def test_a_flat_map_and_one_below_zero_have_figures_too() -> None:
    truth = make_truth()
    for depth in (Depth(np.zeros_like(truth)), Depth(np.full_like(truth, -3), metric=True)):
        meter = DepthMeter()
        meter.update(depth, truth)
        assert np.isfinite(list(meter.result().values())).all()
    assert meter.result()["delta1_percent"] == 0


def test_images_without_a_measured_pixel_are_passed_over() -> None:
    meter = DepthMeter()
    meter.update(Depth(np.ones((2, 2), np.float32)), np.zeros((2, 2), np.float32))
    assert (meter.images, meter.result()) == (1, {})


def test_what_the_model_was_not_shown_does_not_count() -> None:
    truth, found = np.full((2, 2), 2, np.float32), np.array([[2, np.nan], [4, np.nan]], np.float32)
    meter, agreement = DepthMeter(farthest=10), DepthAgreement()
    meter.update(Depth(found, metric=True), truth)
    assert meter.result()["abs_rel"] == 0.5
    agreement.update(Depth(found), Depth(found))
    assert agreement.result() == {"kept_delta1_percent": 100, "kept_abs_rel": 0}


def test_align_with_one_value_gives_the_mean() -> None:
    assert align(np.full(3, 5.0), np.array([1.0, 2.0, 6.0])).tolist() == [3, 3, 3]


def test_agreement_with_the_float_map_is_at_its_own_scale() -> None:
    theirs = np.array([[0.0, 0.001, 1.0, 2.0, 4.0]], np.float32)
    ours = np.array([[9.0, 9.0, 1.2, 2.6, 4.0]], np.float32)
    meter = DepthAgreement()
    meter.update(Depth(ours), Depth(theirs))
    # Of a relative map what is fainter than 1 % of the largest is as good as infinitely far: two of three are within.
    assert meter.result() == pytest.approx({"kept_delta1_percent": 200 / 3, "kept_abs_rel": (0.2 + 0.3) / 3}, rel=1e-6)
    metric = DepthAgreement()
    metric.update(Depth(ours, metric=True), Depth(theirs, metric=True))
    assert metric.result()["kept_delta1_percent"] == pytest.approx(50)
    scaled = DepthAgreement()
    scaled.update(Depth(theirs * 2), Depth(theirs))
    assert scaled.result() == pytest.approx({"kept_delta1_percent": 0, "kept_abs_rel": 1})


def test_empty_maps_have_no_agreement_and_other_sizes_are_refused() -> None:
    meter = DepthAgreement()
    meter.update(Depth(np.ones((2, 2), np.float32)), Depth(np.zeros((2, 2), np.float32)))
    assert meter.result() == {}
    with pytest.raises(ValueError, match=r"\(2, 2\) for one of \(2, 3\)"):
        meter.update(Depth(np.ones((2, 2), np.float32)), Depth(np.zeros((2, 3), np.float32)))
