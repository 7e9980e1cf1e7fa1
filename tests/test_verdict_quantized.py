"""What a calibration is worth, in the verdict."""

from __future__ import annotations

import pytest

from edgevit.quantization import QuantizationRecord
from edgevit.report import Verdict
from edgevit.verdict_quantized import judge_calibration

VERDICT = Verdict("int8", True, "int8 is chosen", ("a warning",))


def judge(record, chosen=True, untried=""):
    return judge_calibration(VERDICT, record, chosen=chosen, untried=untried)


def test_enough_images_change_nothing():
    assert judge(QuantizationRecord(32)) == VERDICT


@pytest.mark.parametrize(("images", "words"), [(31, "31 images"), (1, "1 image,")])
def test_few_images_are_a_warning_behind_the_others(images, words):
    verdict = judge(QuantizationRecord(images))
    assert verdict.passed
    assert verdict.warnings[0] == "a warning"
    assert words in verdict.warnings[1]
    assert "fewer than 32" in verdict.warnings[1]


def test_random_pixels_that_were_chosen_do_not_pass():
    verdict = judge(QuantizationRecord(8, random=True))
    assert not verdict.passed
    assert verdict.chosen == "int8"
    assert "random pixels: for latency trials, not for use" in verdict.sentence
    assert "--calibration DATA" in verdict.next_step
    assert len(verdict.warnings) == 2, "that there are few of them does not matter"


def test_random_pixels_of_another_variant_are_a_warning():
    verdict = judge(QuantizationRecord(8, random=True), chosen=False)
    assert verdict.passed
    assert verdict.sentence == VERDICT.sentence
    assert "random pixels" in verdict.warnings[1]


def test_reason_for_not_trying_is_a_warning():
    assert judge(None, chosen=False, untried="int8 was not tried").warnings == ("a warning", "int8 was not tried")
