"""What is asked for is refused before anything is read, and where engines are made is decided once."""

from __future__ import annotations

import dataclasses

import pytest

from edgevit.build import order as orders
from edgevit.build.order import RANDOM, Inputs, Order, Place, find_place, plan_order
from edgevit.core.errors import CompileError
from edgevit.core.recipe import Recipe
from edgevit.core.target import Budget, Target, load_target
from edgevit.engines.availability import Status

CPU = load_target("cpu")


def plan(target: Target = CPU, recipe: Recipe | None = None, *, portable: bool = False) -> Order:
    return plan_order(target, recipe or Recipe(), Budget(), calibrated=True, portable=portable)


@pytest.mark.parametrize(
    ("status", "place", "compiles", "measures"),
    [
        (Status(True, True, ()), Place("here"), True, True),
        (Status(True, False, ("a GPU",)), Place("compiled here", ("a GPU",)), True, False),
        (Status(False, False, ("tensorrt",)), Place("elsewhere", ("tensorrt",)), False, False),
    ],
)
def test_place_is_what_this_machine_can_do(
    monkeypatch: pytest.MonkeyPatch, status: Status, place: Place, compiles: bool, measures: bool
) -> None:
    monkeypatch.setattr(orders, "target_status", lambda target: status)
    found = find_place(CPU)
    assert found == place
    assert (found.compiles, found.measures) == (compiles, measures)
    assert find_place(CPU, portable=True) == Place("elsewhere", ("it is left to the device",))


def test_order_has_the_targets_export_form_and_what_is_tried() -> None:
    order = plan()
    assert order.recipe.export == CPU.export
    assert order.place == Place("here")
    assert "int8" in order.precisions.tried
    assert plan(portable=True).place.where == "elsewhere"


def test_batch_and_precision_that_the_target_does_not_take_are_refused() -> None:
    fixed = dataclasses.replace(CPU, dynamic_batch=False)
    with pytest.raises(CompileError, match="one fixed batch") as caught:
        plan(fixed, Recipe(batch=(1, 2, 4)))
    assert caught.value.hint == "give --batch 2"
    with pytest.raises(CompileError, match="does not support fp8"):
        plan(CPU, Recipe(precision="fp8"))


def test_random_pixels_are_no_images_to_choose_by() -> None:
    assert Inputs("model", calibration=RANDOM).choice is None
    assert Inputs("model", calibration="images").choice == "images"
