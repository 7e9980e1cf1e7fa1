"""Two boards of a kind: equal, with other answers, slower, and what is said to be the cause."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest

from edgevit.core.report.conditions import Conditions, Platform, PowerMode
from edgevit.core.report.machine import Machine
from edgevit.core.report.place import Place
from edgevit.core.report.report import Latency
from edgevit.remote.fleet.facts import compare_facts
from edgevit.remote.fleet.trial import Trial
from edgevit.remote.fleet.twins import compare_twins
from edgevit.runtime.canary import CanaryCheck

MACHINE = Machine(
    cpu="Cortex-A78AE", isa=("neon",), physical_cores=6, logical_cores=6, usable_cores=6, os="Ubuntu 22.04",
    kernel="5.15", python="3.10.12", architecture="aarch64", packages={"tensorrt": "10.3.0", "numpy": "1.26.4"},
    memory_bytes=8 << 30, load_average=(0.3, 0.2, 0.1),
    platform=Platform(l4t="36.4.3", power_mode=PowerMode("MAXN", 0), gpu_clock_fixed=True),
)  # fmt: skip
PLACE = Place("tensorrt", "10.3.0", "Orin", driver="540.4.0", settings={"inference_precision": "fp16"})
ANSWERS = (np.linspace(-3, 3, 30, dtype=np.float32).reshape(3, 10),)


def make_trial(p50_ms: float = 10.0, seed: int = 0, spread: float = 0.01, **changes: Any) -> Trial:
    """A trial whose rounds vary by one per cent."""
    rounds = p50_ms * (1 + spread * np.random.default_rng(seed).standard_normal(20))
    latency = Latency(1, 40, 10, 2.0, p50_ms, p50_ms * 1.1, p50_ms * 1.2, p50_ms, 0.1, p50_ms * 0.9, "by clock")
    fields: dict[str, Any] = {
        "machine": MACHINE, "place": PLACE, "canary": CanaryCheck("passed", sqnr_db=40.0, finite=True, least_db=30.0),
        "latency": latency, "round_medians_ms": tuple(rounds.tolist()), "conditions": Conditions(2.0, 20),
    }  # fmt: skip
    return Trial(**{**fields, **changes})


def with_platform(**changes: Any) -> Machine:
    assert MACHINE.platform is not None
    return dataclasses.replace(MACHINE, platform=dataclasses.replace(MACHINE.platform, **changes))


def add_noise(size: float) -> tuple[Any, ...]:
    noise = np.random.default_rng(1).standard_normal(ANSWERS[0].shape).astype(np.float32)
    return (ANSWERS[0] + size * noise,)


def test_boards_of_equal_answers_and_times_have_no_warning() -> None:
    (found,) = compare_twins({"a": (make_trial(), ANSWERS), "b": (make_trial(10.1, seed=1), ANSWERS)})
    assert (found.boards, found.warnings, found.equal_answers, found.answers_db) == (("a", "b"), (), True, None)
    assert found.ratio is not None
    assert found.ratio.low < found.ratio.value < found.ratio.high
    assert found.ratio.confidence == 0.99
    assert found.facts == {}


def test_other_answers_are_a_warning_that_names_the_driver_first() -> None:
    other = make_trial(
        place=dataclasses.replace(PLACE, driver="550.1.0"),
        machine=dataclasses.replace(with_platform(power_mode=PowerMode("15W", 2)), kernel="5.16"),
    )
    (found,) = compare_twins({"a": (make_trial(), ANSWERS), "b": (other, add_noise(0.01))})
    assert not found.equal_answers
    assert found.answers_db == pytest.approx(45, abs=2)
    (warning,) = found.warnings
    assert warning == (
        f"a and b answer the canary differently ({found.answers_db:.1f} dB between their answers); what differs: "
        "driver 540.4.0 and 550.1.0; power mode MAXN and 15W; kernel 5.15 and 5.16"
    )


def test_answers_that_differ_in_the_last_bit_are_a_difference() -> None:
    last = (np.nextafter(ANSWERS[0], np.float32(9)),)
    (found,) = compare_twins({"a": (make_trial(), ANSWERS), "b": (make_trial(), last)})
    assert len(found.warnings) == 1
    assert found.answers_db is not None
    assert found.answers_db > 100
    assert "nothing that is recorded of them differs" in found.warnings[0]


def test_engine_that_does_not_repeat_itself_is_not_asked_to_repeat_its_twin() -> None:
    noisy = make_trial(repeat_db=44.0)
    (found,) = compare_twins({"a": (make_trial(), ANSWERS), "b": (noisy, add_noise(0.01))})
    assert found.warnings == ()
    assert not found.equal_answers
    (found,) = compare_twins({"a": (make_trial(), ANSWERS), "b": (noisy, add_noise(0.1))})
    assert len(found.warnings) == 1


@pytest.mark.parametrize("swapped", [False, True])
def test_answers_that_are_no_numbers_or_of_another_shape_are_a_difference(swapped: bool) -> None:
    for strange in ((np.full_like(ANSWERS[0], math.nan),), (ANSWERS[0][:2],), ()):
        pair = [(make_trial(), ANSWERS), (make_trial(), strange)]
        (found,) = compare_twins(dict(zip("ab", reversed(pair) if swapped else pair, strict=True)))
        assert "they cannot be compared" in found.warnings[0]
        assert (found.equal_answers, found.answers_db) == (False, None)


@pytest.mark.parametrize("slow", ["a", "b"])
def test_slower_board_is_named_with_its_interval_and_power_mode(slow: str) -> None:
    slower = make_trial(14.0, seed=1, machine=with_platform(power_mode=PowerMode("15W", 2)))
    pair = {"a": (make_trial(), ANSWERS), "b": (make_trial(), ANSWERS)}
    pair[slow] = (slower, ANSWERS)
    (found,) = compare_twins(pair)
    (warning,) = found.warnings
    fast = "b" if slow == "a" else "a"
    assert warning.startswith(f"{slow} takes 1.4")
    assert f" times as long as {fast} (99 % interval 1.3" in warning
    modes = {fast: "MAXN", slow: "15W"}
    first, second = found.boards
    assert f"; what differs, of {first} and {second}: power mode {modes[first]} and {modes[second]}" in warning
    assert warning.endswith(modes[second])


def test_difference_within_the_noise_or_below_five_per_cent_is_not_warned_of() -> None:
    noisy = {"a": (make_trial(spread=0.3), ANSWERS), "b": (make_trial(11.0, seed=1, spread=0.3), ANSWERS)}
    small = {"a": (make_trial(spread=0.001), ANSWERS), "b": (make_trial(10.4, seed=1, spread=0.001), ANSWERS)}
    for pair in (noisy, small):
        (found,) = compare_twins(pair)
        assert found.warnings == ()
    assert found.ratio is not None
    assert max(found.ratio.low, 1 / found.ratio.high) > 1  # 4 % is beyond what rounds vary, and still not warned of


def test_one_odd_board_of_many_is_in_one_warning() -> None:
    tried = {name: (make_trial(seed=index), ANSWERS) for index, name in enumerate("abcde")}
    tried["a"] = (make_trial(20.0), ANSWERS)
    found = compare_twins(tried)
    assert len(found) == 4
    warned = [pair for pair in found if pair.warnings]
    assert [set(pair.boards) & {"a"} for pair in warned] == [{"a"}]


def test_board_that_was_not_timed_is_compared_by_its_answers() -> None:
    failed = make_trial(latency=None, round_medians_ms=())
    (found,) = compare_twins({"a": (failed, ANSWERS), "b": (make_trial(), ANSWERS)})
    assert (found.boards, found.ratio, found.warnings) == (("b", "a"), None, ())
    assert compare_twins({"a": (failed, ANSWERS)}) == compare_twins({}) == ()


def test_facts_of_boards_are_told_apart_and_what_always_differs_is_left_out() -> None:
    other = make_trial(
        machine=dataclasses.replace(
            with_platform(l4t="36.4.0", gpu_clock_fixed=False),
            load_average=(0.9, 0.1, 0.1), packages={"tensorrt": "10.3.0", "numpy": "2.0.0"}, governor="powersave",
        ),
        place=dataclasses.replace(PLACE, settings={"inference_precision": "fp32"}),
        conditions=Conditions(2.0, 20, throttling=("cpu-throttle-alert active",)),
    )  # fmt: skip
    assert compare_facts(make_trial(), other) == {
        "throttling": ("none seen", "cpu-throttle-alert active"),
        "GPU clock": ("fixed", "free"),
        "inference_precision": ("fp16", "fp32"),
        "Jetson Linux": ("36.4.3", "36.4.0"),
        "numpy": ("1.26.4", "2.0.0"),
        "frequency governor": ("unknown", "powersave"),
    }
    assert next(iter(compare_facts(make_trial(), other, answers=True))) == "inference_precision"
    busy = make_trial(machine=dataclasses.replace(MACHINE, load_average=(5.0, 1.0, 1.0)))
    assert compare_facts(make_trial(), busy) == {"load before": ("low", "5.0")}


def test_many_facts_are_counted_in_the_sentence_and_all_in_the_table() -> None:
    other = make_trial(
        20.0,
        machine=dataclasses.replace(
            with_platform(l4t="36.4.0"), kernel="6", python="3.11", os="Debian", cpu_limit=2.0, usable_cores=4
        ),
    )
    (found,) = compare_twins({"a": (make_trial(), ANSWERS), "b": (other, ANSWERS)})
    assert len(found.facts) == 6
    assert " and 2 more (--json lists all)" in found.warnings[0]


def test_interval_of_the_median_holds_it() -> None:
    low, high = make_trial().interval_ms or (0.0, 0.0)
    assert 9.9 < low < 10.0 < high < 10.1
    assert make_trial(round_medians_ms=()).interval_ms is None
