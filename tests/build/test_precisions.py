"""What a build tries: every case of target, recipe and calibration, and the reason where INT8 is left out."""

from __future__ import annotations

import dataclasses

import pytest

from edgevit.build.precisions import Arithmetic, choose_precisions, list_arithmetics
from edgevit.core.errors import CalibrationError, CompileError
from edgevit.core.recipe import Recipe
from edgevit.core.target import load_target

CPU = load_target("cpu")


def choose(target=CPU, precision="auto", calibrated=True):
    return choose_precisions(target, Recipe(precision=precision), calibrated=calibrated)


def test_auto_with_calibration_images_tries_all_in_the_order_of_the_table():
    assert choose().tried == ("fp32", "fp16", "int8")
    assert choose().untried == ""


def test_auto_without_calibration_images_tries_the_float_ones_and_says_what_int8_needs():
    found = choose(calibrated=False)
    assert found.tried == ("fp32", "fp16")
    assert "int8 was not tried" in found.untried
    assert "--calibration DATA" in found.untried


def test_target_without_int8_has_nothing_to_say_about_it():
    found = choose(dataclasses.replace(CPU, precisions=("fp16",)), calibrated=False)
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


@pytest.mark.parametrize(
    ("name", "tried"),
    [
        ("jetson", ("fp32", "fp16", "int8")),
        ("jetson-thor", ("fp32", "fp16", "int8", "fp8")),
        ("rtx-30", ("fp32", "fp16", "int8")),
        ("rtx-40", ("fp32", "fp16", "int8", "fp8")),
        ("raspberry-pi-5", ("fp32", "fp16", "int8")),
    ],
)
def test_every_precision_of_a_target_is_tried_wherever_its_engines_are_compiled(name, tried):
    assert choose(load_target(name)).tried == tried
    assert choose(load_target(name)).quantized == tried[2:]


def test_two_quantised_precisions_without_images_are_named_in_one_sentence():
    found = choose(load_target("rtx-40"), calibrated=False)
    assert found.tried == ("fp32", "fp16")
    assert found.untried == "int8 and fp8 were not tried: they need calibration images, --calibration DATA"


def test_fp8_is_refused_where_the_device_has_none():
    with pytest.raises(CompileError, match="jetson-orin-nano does not support fp8"):
        choose(load_target("jetson"), precision="fp8")


def test_precision_that_the_target_lacks_is_refused_with_those_that_it_has():
    with pytest.raises(CompileError, match="does not support fp32") as caught:
        choose(load_target("intel-npu"), precision="fp32")
    assert "fp16, int8" in caught.value.hint


OPENVINO = load_target("intel-cpu")


@pytest.mark.parametrize(
    ("tier", "expected"),
    [
        (None, ["fp32", "fp16", "int8"]),
        ("avx2", ["fp32", "fp16", "int8"]),
        ("avx512_vnni", ["fp32", "fp16", "int8"]),
        ("avx512_bf16", ["fp32", "fp16", "bf16", "int8", "int8-bf16"]),
        ("amx", ["fp32", "fp16", "fp16-f16", "bf16", "int8", "int8-bf16"]),
    ],
)
def test_every_float_type_that_the_processor_multiplies_in_is_a_variant(tier, expected):
    tried = choose_precisions(OPENVINO, Recipe(), calibrated=True, tier=tier).tried
    found = list_arithmetics(tried, OPENVINO, Recipe(), tier)
    assert list(found) == expected
    assert found["int8"] == Arithmetic("int8", "f32")
    if "int8-bf16" in found:
        assert found["int8-bf16"] == Arithmetic("int8", "bf16")
        assert found["bf16"] == Arithmetic("bf16", "bf16")


def test_a_setting_settles_the_float_type():
    recipe = Recipe(settings={"inference_precision": "f32"})
    tried = choose_precisions(OPENVINO, recipe, calibrated=True, tier="amx").tried
    assert tried == ("fp32", "fp16", "int8")
    assert list_arithmetics(tried, OPENVINO, recipe, "amx") == {p: Arithmetic(p) for p in tried}
    recipe = Recipe(precision="bf16", settings={"inference_precision": "bf16"})  # as a bundle's own recipe has it
    assert choose_precisions(OPENVINO, recipe, calibrated=False, tier="amx").tried == ("bf16",)


def test_other_libraries_choose_their_own_float_type():
    assert list_arithmetics(("fp32", "int8"), CPU, Recipe(), "amx") == {
        "fp32": Arithmetic("fp32"),
        "int8": Arithmetic("int8"),
    }


@pytest.mark.parametrize(("tier", "why"), [("avx2", "AVX2 has no products of it"), (None, "no processor")])
def test_bf16_that_was_asked_for_is_refused_where_the_processor_has_none(tier, why):
    with pytest.raises(CompileError, match=why):
        choose_precisions(OPENVINO, Recipe(precision="bf16"), calibrated=False, tier=tier)


@pytest.mark.parametrize("floats", ["bf16", "f16"])
def test_a_float_type_that_is_settled_and_not_there_is_refused_before_anything_is_compiled(floats):
    recipe = Recipe(settings={"inference_precision": floats})
    with pytest.raises(CompileError, match=f"{floats} is settled, and AVX2"):
        choose_precisions(OPENVINO, recipe, calibrated=True, tier="avx2")
