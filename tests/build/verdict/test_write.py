"""The verdict says where and on what it was come to, and does not pass on random pixels."""

from __future__ import annotations

import dataclasses

import pytest

from edgevit.build.verdict.choose import Ruling
from edgevit.build.verdict.write import Grounds, write_verdict
from edgevit.core.report.report import Variant, Verdict
from edgevit.core.report.scores import Accuracy, Parity
from edgevit.core.report.timings import Latency
from edgevit.core.target import Budget

INT8 = Variant("int8", "int8", 1, accuracy=Accuracy(60, False, 60, 0.9, 1.0), status="CHOSEN", reason="the fastest")
RULING = Ruling((Variant("fp32", "fp32", 4), INT8), "fastest", Budget(), INT8)
FOUND = "int8 is chosen: the fastest; parity only, as there are no labels: agreement 100 % on 60 images"
TITLE = "A board with a GPU"


TIMED = dataclasses.replace(INT8, latency=Latency(1, 9, 1, 1.0, 1.0, 1.0, 1.0, 1.0, 0.1, 1.0, "by a stop-watch"))


def test_engine_that_was_measured_here_adds_its_risks_behind_the_others() -> None:
    verdict = write_verdict(RULING, Grounds(title=TITLE, risks=("noisy", "hot")))
    assert (verdict.chosen, verdict.passed, verdict.sentence) == ("int8", True, FOUND)
    assert verdict.warnings[0].startswith("60 images cannot tell an agreement of 100 %")
    assert verdict.warnings[1:] == ("noisy", "hot")


def test_portable_bundle_begins_with_what_it_is_and_leaves_the_next_step_to_the_device() -> None:
    verdict = write_verdict(RULING, Grounds("elsewhere", TITLE))
    where = "judged in ONNX Runtime on this machine, not on A board with a GPU"
    assert verdict.sentence == f"portable: the graphs were {where}; {FOUND}"
    assert (verdict.passed, verdict.next_step) == (True, None)


def test_engine_that_was_not_opened_says_so_and_where_to_measure_it() -> None:
    verdict = write_verdict(RULING, Grounds("compiled here", TITLE))
    where = "judged in ONNX Runtime on this machine, not on A board with a GPU"
    assert verdict.sentence == f"{FOUND}; the graph was {where}, and the engine was not run"
    assert verdict.next_step == "measure on A board with a GPU: edgevit bench BUNDLE"


@pytest.mark.parametrize("precision", ["int8", "fp8"])
def test_random_pixels_that_were_chosen_do_not_pass(precision: str) -> None:
    verdict = write_verdict(RULING, Grounds(title=TITLE, random=precision))
    assert not verdict.passed
    assert verdict.chosen == "int8"
    assert verdict.sentence == f"{FOUND}; calibrated on random pixels: for latency trials, not for use"
    assert verdict.next_step == f"give --calibration DATA for an {precision} engine to use"


def test_device_without_images_recalls_what_the_build_found_on_the_graph() -> None:
    judged = Variant("int8", "int8", 1, accuracy=Accuracy(60, False, 60, 0.9, 1.0))
    verdict = write_verdict(RULING, Grounds(title=TITLE, recalled=judged))
    assert verdict.sentence.startswith(f"{FOUND}; its graph in ONNX Runtime, at the build: parity only")
    assert verdict.next_step == "judge this engine itself with edgevit eval and the validation images"


@pytest.mark.parametrize("where", ["here", "compiled here", "elsewhere"])
def test_nothing_that_can_be_used_is_said_wherever_it_was_tried(where: str) -> None:
    refused = Variant("fp32", "fp32", 0, status="NOT SUPPORTED", reason="no memory")
    verdict = write_verdict(Ruling((refused,), "none", Budget()), Grounds(where, TITLE, ("noisy",)))  # type: ignore[arg-type]
    assert verdict == Verdict(
        None,
        False,
        "no variant can be used: fp32: no memory",
        ("noisy",),
        "try another precision or another version of the engine library, and report the model",
    )


@pytest.mark.parametrize("beside", [Variant("fp32", "fp32", 4), None])
def test_outputs_that_no_class_an_image_judges_are_not_asked_labels_for(beside: Variant | None) -> None:
    """Labels that are there or not by themselves, and numbers: what the set states is not looked at."""
    ruling = (
        Ruling((beside, INT8), "fastest", Budget(), INT8) if beside else Ruling((INT8,), "only one", Budget(), INT8)
    )
    verdict = write_verdict(dataclasses.replace(ruling, best=TIMED), Grounds(title=TITLE, labels=False))
    assert "parity only, as a class an image does not judge such outputs: agreement 100 %" in verdict.sentence
    assert verdict.next_step is None
    labelled = write_verdict(dataclasses.replace(ruling, best=TIMED), Grounds(title=TITLE))
    assert labelled.next_step == "give labelled images with --validation to judge the accuracy"


def test_such_outputs_that_miss_the_budget_are_told_what_helps() -> None:
    missed = Variant("int8", "int8", 1, accuracy=Accuracy(60, False, 30, 0.4, 0.6), reason="agreement is 50 %")
    ruling = Ruling((missed,), "closest", Budget(), missed)
    assert write_verdict(ruling, Grounds(labels=False)).next_step == "build --precision fp32"
    assert "give labelled images" in str(write_verdict(ruling, Grounds()).next_step)


def test_without_any_image_such_outputs_are_asked_images_for() -> None:
    parity = Parity(16, 1e-6, 16, 1e-4, True, "equal")
    timed = dataclasses.replace(TIMED, accuracy=None, parity=parity)
    ruling = Ruling((timed,), "only one", Budget(), timed)
    step = write_verdict(ruling, Grounds(labels=False)).next_step
    assert step == "give images with --validation to judge the accuracy"
