"""What a calibration is worth, in the verdict."""

from __future__ import annotations

import pytest

from edgevit.build.verdict.quantized import explain_set_back, list_calibration_risks
from edgevit.build.verdict.sentences import describe_set_back
from edgevit.core.quantization import QuantizationRecord, SetBack
from edgevit.core.report.report import Variant


def test_enough_images_weaken_nothing():
    assert list_calibration_risks(QuantizationRecord(32)) == ()


@pytest.mark.parametrize(("images", "words"), [(31, "31 images"), (1, "1 image,")])
def test_few_images_are_a_warning(images, words):
    (warning,) = list_calibration_risks(QuantizationRecord(images), "fp8")
    assert warning.startswith(f"fp8 was calibrated on {words}")
    assert "fewer than 32" in warning


def test_random_pixels_are_a_warning_and_that_there_are_few_of_them_does_not_matter():
    (warning,) = list_calibration_risks(QuantizationRecord(8, random=True))
    assert warning == "int8 was calibrated on random pixels: for latency trials, not for use"


MET = SetBack(("a", "b"), 49, 2, 3, 512, 3.125, 0.0, True)
MISSED = SetBack((), 49, 16, 6, 512, 95.0, 98.5, False)


def test_sites_that_were_set_back_are_counted_with_what_that_gained():
    assert describe_set_back(MET, "int8") == (
        "2 of 49 sites set back to float to stay within the accuracy budget: drop 3.12 → 0.00 points "
        "on 512 calibration images"
    )


def test_sites_that_were_set_back_in_vain_are_counted_too():
    words = describe_set_back(MISSED, "int8")
    assert "16 of 49 sites" in words
    assert "agreement 95.00 → 98.50 % on 512 calibration images" in words
    assert words.endswith("none is set back")
    assert "pins them" in describe_set_back(SetBack((), 49, 0, 0, 512, 3.0, 3.0, True), "int8")


def test_reason_of_an_int8_that_lost_accuracy_says_how_far_it_was_taken():
    variants = (
        Variant("fp32", "fp32", 1, status="CHOSEN"),
        Variant("int8", "int8", 1, status="ACCURACY DROP", reason="x"),
    )
    found = explain_set_back(variants, QuantizationRecord(512, set_back=MISSED))
    assert found[0] == variants[0]
    assert found[1].reason == f"x; {describe_set_back(MISSED, 'int8')}"
    for record in (None, QuantizationRecord(512), QuantizationRecord(512, set_back=MET)):
        assert explain_set_back(variants, record) == variants


def test_reason_of_an_fp8_that_lost_accuracy_speaks_of_fp8_and_leaves_int8_alone():
    lost = {name: Variant(name, name, 1, status="ACCURACY DROP", reason="x") for name in ("int8", "fp8")}
    found = explain_set_back(tuple(lost.values()), QuantizationRecord(512, set_back=MISSED), "fp8")
    assert found[0] == lost["int8"]
    assert found[1].reason.endswith("with more fp8 is not worth it: none is set back")
