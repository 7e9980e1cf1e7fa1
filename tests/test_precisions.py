"""What a build tries: every case of target, recipe and calibration, and the reason where INT8 is left out."""

from __future__ import annotations

import dataclasses

import pytest

from edgevit.errors import CalibrationError, CompileError
from edgevit.precisions import choose_precisions
from edgevit.recipe import Recipe
from edgevit.target import load_target

CPU = load_target("cpu")


def choose(target=CPU, precision="auto", calibrated=True, portable=False):
    return choose_precisions(target, Recipe(precision=precision), calibrated=calibrated, portable=portable)


def test_auto_with_calibration_images_tries_all_in_the_order_of_the_table():
    assert choose().tried == ("fp32", "fp16", "int8")
    assert choose().untried == ""


def test_auto_without_calibration_images_tries_the_float_ones_and_says_what_int8_needs():
    found = choose(calibrated=False)
    assert found.tried == ("fp32", "fp16")
    assert "int8 was not tried" in found.untried
    assert "--calibration DATA" in found.untried


def test_target_without_int8_has_nothing_to_say_about_it():
    found = choose(dataclasses.replace(CPU, precisions=("fp16", "fp8")), calibrated=False)
    assert (found.tried, found.untried) == (("fp16",), "")


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_float_precision_that_was_asked_for_is_tried_alone(precision):
    assert choose(precision=precision, calibrated=False) == choose(precision=precision)
    assert (choose(precision=precision).tried, choose(precision=precision).untried) == ((precision,), "")


def test_int8_that_was_asked_for_is_tried_alone():
    assert choose(precision="int8").tried == ("int8",)


def test_int8_without_calibration_images_is_refused_with_both_ways_out():
    with pytest.raises(CalibrationError) as caught:
        choose(precision="int8", calibrated=False)
    assert "--calibration DATA" in caught.value.hint
    assert "--calibration random" in caught.value.hint


def test_auto_for_a_target_with_int8_alone_is_refused_without_calibration_images():
    with pytest.raises(CalibrationError):
        choose(dataclasses.replace(CPU, precisions=("int8",)), calibrated=False)


def test_portable_bundle_holds_float_alone_and_says_so():
    found = choose(portable=True)
    assert found.tried == ("fp32", "fp16")
    assert "portable" in found.untried
    with pytest.raises(CompileError, match="portable"):
        choose(precision="int8", portable=True)


@pytest.mark.parametrize("name", ["jetson", "rtx-40"])
def test_engine_library_that_is_not_quantised_for_is_named(name):
    target = load_target(name)
    assert target.backend in choose(target).untried
    with pytest.raises(CompileError, match=target.backend) as caught:
        choose(target, precision="int8")
    assert caught.value.hint == "give --precision fp32 or fp16"  # the device's edgevit is no better off


def test_portable_bundle_of_a_library_that_is_quantised_for_is_sent_to_the_device():
    with pytest.raises(CompileError) as caught:
        choose(load_target("raspberry-pi-5"), precision="int8", portable=True)
    assert caught.value.hint == "build on the device itself, or give --precision fp32 or fp16"


def test_precision_that_the_target_lacks_is_refused_with_those_that_it_has():
    with pytest.raises(CompileError, match="does not support fp32") as caught:
        choose(load_target("intel-npu"), precision="fp32")
    assert "fp16, int8" in caught.value.hint
