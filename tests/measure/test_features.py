"""Figures of feature maps, level by level."""

from __future__ import annotations

import numpy as np
import pytest

from edgevit.build.verdict.choose import find_miss
from edgevit.core.errors import CompileError, DataError
from edgevit.core.target import Budget
from edgevit.measure.features import FeatureMeter

RNG = np.random.default_rng(0)
LEVELS = tuple(RNG.normal(size=(6, c, s, s)).astype(np.float32) for c, s in ((4, 8), (8, 4)))


def measure(features, size=2, files=None):
    meter = FeatureMeter(["level0", "level1"])
    for start in range(0, 6, size):
        at = slice(start, start + size)
        names = None if files is None else files[at]
        meter.update(tuple(v[at] for v in features), tuple(v[at] for v in LEVELS), names)
    return meter.result()


def test_every_level_has_its_sqnr_and_the_worst_is_judged() -> None:
    found = measure((LEVELS[0] * np.float32(1.01), LEVELS[1] * np.float32(1.1)))
    assert found.level_sqnr_db == pytest.approx({"level0": 40, "level1": 20}, abs=0.01)
    assert found.worst_level is not None
    assert found.worst_level[0] == "level1"
    # The mean of the levels' noise over signal, so that a level with many numbers counts no more than another.
    assert found.sqnr_db == pytest.approx(-10 * np.log10((1e-4 + 1e-2) / 2), abs=0.01)
    assert (found.images, found.agreement, found.labelled) == (6, None, False)
    assert find_miss(found, Budget(min_level_sqnr_db=19)) is None
    assert "level1 keeps 20.0 dB of at least 21" in str(find_miss(found, Budget(min_level_sqnr_db=21)))


def test_batches_change_nothing_and_equal_levels_have_no_figure() -> None:
    features = (LEVELS[0], LEVELS[1] + np.float32(0.1))
    assert measure(features, 1) == measure(features, 6)
    assert measure(features).level_sqnr_db["level0"] is None
    assert measure(LEVELS).worst_level is None


@pytest.mark.parametrize("size", [1, 2, 6])
def test_the_noisiest_image_is_named_with_its_share_and_its_own_ratio(size: int) -> None:
    noisy = LEVELS[1] + np.float32(0.01)
    noisy[4] = 1.5 * LEVELS[1][4]
    features = (LEVELS[0] * np.float32(1.001), noisy)
    found = measure(features, size, [f"{number}.png" for number in range(6)]).noisiest
    errors = np.square(noisy - LEVELS[1], dtype=np.float64).sum(axis=(1, 2, 3))
    assert found is not None
    assert found.file == "4.png"
    assert found.share == pytest.approx(errors[4] / errors.sum())
    assert found.sqnr_db == pytest.approx(20 * np.log10(2), abs=1e-4)
    nameless = measure(features, size).noisiest
    assert nameless is not None
    assert nameless.file == "4"
    assert measure(LEVELS).noisiest is None


def test_wrong_or_broken_levels_are_refused_by_name() -> None:
    with pytest.raises(CompileError, match="the engine's level1 gave answers of shape"):
        measure((LEVELS[0], LEVELS[1][:, :4]))
    broken = LEVELS[0].copy()
    broken[3] = np.inf
    with pytest.raises(CompileError, match="the engine's level0 gave answers that are not finite for 1 image:"):
        measure((broken, LEVELS[1]))
    with pytest.raises(CompileError, match="1 levels, not 2"):
        measure(LEVELS[:1])
    with pytest.raises(DataError, match="no images"):
        FeatureMeter(["level0"]).result()
