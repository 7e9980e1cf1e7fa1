"""The rules of the verdict, one by one, and what holds for all builds."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevit.build.verdict.choose import choose_variant
from edgevit.build.verdict.write import Grounds, write_verdict
from edgevit.core.report.report import Accuracy, Latency, Parity, Ratio, Variant, Verdict
from edgevit.core.report.scores import NoisyImage
from edgevit.core.target import Budget
from edgevit.measure.intervals import paired_difference_interval, wilson_interval

PASSED = Parity(16, 1e-6, 16, 1e-4, True, "relative error 1e-06 of at most 0.0001; 16 of 16 images keep their top-1")
FAILED = Parity(16, 0.5, 9, 1e-4, False, "relative error 0.5 of at most 0.0001; 9 of 16 images keep their top-1")


def judge(lost: int = 0, gained: int = 0, images: int = 600, labelled: bool = True, skipped: int = 0) -> Accuracy:
    agreement = images - lost - gained
    low, high = wilson_interval(agreement, images)
    figures = Accuracy(images, labelled, agreement, low, high, sqnr_db=30.0, skipped_images=skipped)
    if not labelled:
        return figures
    drop_low, drop_high = (100 * d for d in paired_difference_interval(lost, gained, images))
    return dataclasses.replace(
        figures,
        top1=512 - lost + gained,
        top5=588,
        reference_top1=512,
        reference_top5=588,
        gained=gained,
        lost=lost,
        drop_points=100 * (lost - gained) / images,
        drop_low=drop_low,
        drop_high=drop_high,
    )


def time(p50_ms: float) -> Latency:
    return Latency(1, 100, 10, 5.0, p50_ms, p50_ms, p50_ms, p50_ms, 0.1, p50_ms, "by a stop-watch")


def make(
    name: str,
    p50_ms: float | None = None,
    size_bytes: int = 100,
    accuracy: Accuracy | None = None,
    choice: Accuracy | None = None,
    parity: Parity | None = PASSED,
) -> Variant:
    latency = None if p50_ms is None else time(p50_ms)
    return Variant(name, name, size_bytes, latency, accuracy=accuracy, choice_accuracy=choice, parity=parity)


def compare_within(variants: list[Variant], width: float) -> Callable[[str, str], Ratio]:
    """Ratios of the medians with an interval of ± ``width``."""
    times = {v.name: v.latency.p50_ms for v in variants if v.latency}

    def ratio(name: str, baseline: str) -> Ratio:
        value = times[name] / times[baseline]
        return Ratio(value, value * (1 - width), value * (1 + width), 20)

    return ratio


def decide(
    *variants: Variant, budget: Budget | None = None, width: float = 0.02, preference: tuple[str, ...] = ()
) -> tuple[dict[str, Variant], Verdict]:
    ruling = choose_variant(
        variants, budget or Budget(), preference=preference, ratio=compare_within(list(variants), width)
    )
    assert [v.name for v in ruling.variants] == [v.name for v in variants]
    return {v.name: v for v in ruling.variants}, write_verdict(ruling, Grounds())


def test_fastest_within_the_budget_is_chosen() -> None:
    fp32 = make("fp32", 20, 400, judge())
    int8 = dataclasses.replace(make("int8", 10, 100, judge(lost=2)), ratio=Ratio(0.5, 0.49, 0.51, 20))
    found, verdict = decide(fp32, int8)
    assert (verdict.chosen, verdict.passed) == ("int8", True)
    assert (found["int8"].status, found["fp32"].status) == ("CHOSEN", "SLOWER")
    assert found["fp32"].reason == "2.00 (1.96–2.04) × the latency of int8"
    assert "0.50 (0.49–0.51) × the latency of fp32" in verdict.sentence
    assert "drop 0.33 points" in verdict.sentence


def test_smallest_is_chosen_when_the_intervals_cannot_tell_them_apart() -> None:
    found, verdict = decide(make("fp32", 20.0, 400, judge()), make("fp16", 20.1, 200, judge()))
    assert verdict.chosen == "fp16"
    assert found["fp16"].reason == "same speed as fp32 within the interval, half the size"
    assert (found["fp32"].status, found["fp32"].reason) == (
        "WITHIN BUDGET",
        "same speed as fp16 within the interval, twice the size",
    )
    assert "half the size" in verdict.sentence


def test_tie_that_noise_alone_made_is_a_warning() -> None:
    variants = make("fp32", 20.0, 400, judge()), make("fp16", 20.1, 200, judge())
    assert not any("noisy" in w for w in decide(*variants, width=0.02)[1].warnings)
    (warning,) = [w for w in decide(*variants, width=0.1)[1].warnings if "noisy" in w]
    assert "tell fp32 from fp16: ratio 1.00 (0.90–1.09)" in warning


PAIRS = {("fp32", "bf16"): (0.99, 1.06), ("int8", "bf16"): (0.98, 1.12), ("int8", "fp32"): (1.09, 1.16)}


def compare_by_pairs(name: str, baseline: str) -> Ratio:
    """The intervals of ``PAIRS``, in which int8 is close to bf16 only because bf16 was noisy."""
    low, high = PAIRS.get((name, baseline)) or tuple(1 / x for x in reversed(PAIRS[baseline, name]))
    return Ratio((low + high) / 2, low, high, 20)


def test_what_is_slower_than_any_other_does_not_count_as_fast_because_a_third_is_noisy() -> None:
    variants = [make("fp32", 10.1, 400), make("bf16", 10.0, 200), make("int8", 10.9, 100)]
    found = {v.name: v for v in choose_variant(variants, Budget(), ratio=compare_by_pairs).variants}
    assert found["bf16"].status == "CHOSEN"
    assert found["bf16"].reason == "same speed as fp32 within the interval, half the size"
    assert found["fp32"].status == "WITHIN BUDGET"
    assert found["int8"].status == "SLOWER"
    assert found["int8"].reason == "1.12 (1.09–1.16) × the latency of fp32"


def test_faster_is_chosen_over_smaller_when_the_interval_tells_them_apart() -> None:
    _, verdict = decide(make("fp32", 20.0, 400, judge()), make("fp16", 20.1, 200, judge()), width=0.001)
    assert verdict.chosen == "fp32"


def test_preference_decides_when_speed_and_size_are_the_same() -> None:
    variants = make("fp32", 20.0, 100, judge()), make("fp16", 20.0, 100, judge())
    assert decide(*variants, preference=("fp16", "fp32"))[1].chosen == "fp16"
    assert decide(*variants, preference=("fp32", "fp16"))[1].chosen == "fp32"


def test_ratios_to_the_baseline_decide_when_pairs_are_not_given() -> None:
    fp32 = dataclasses.replace(make("fp32", 20.0, 400), ratio=Ratio(1, 1, 1, 20))
    near = dataclasses.replace(make("fp16", 20.1, 200), ratio=Ratio(1.005, 0.99, 1.02, 20))
    far = dataclasses.replace(make("fp16", 20.1, 200), ratio=Ratio(1.005, 1.001, 1.02, 20))
    assert choose_variant([fp32, near], Budget()).chosen == "fp16"
    assert choose_variant([fp32, far], Budget()).chosen == "fp32"


def test_accuracy_drop_excludes_the_fastest() -> None:
    found, verdict = decide(make("fp32", 20, 400, judge()), make("int8", 10, 100, judge(lost=4)))
    assert (verdict.chosen, verdict.passed) == ("fp32", True)
    assert found["int8"].status == "ACCURACY DROP"
    assert found["int8"].reason == "top-1 drops by 0.67 points of at most 0.5 on validation images"


def test_drop_of_exactly_the_budget_is_within_it() -> None:
    assert decide(make("int8", 10, 100, judge(lost=3)))[1].passed
    assert not decide(make("int8", 10, 100, judge(lost=3)), budget=Budget(max_drop_points=0.49))[1].passed


def test_gain_makes_up_for_loss_in_the_drop() -> None:
    assert decide(make("int8", 10, 100, judge(lost=9, gained=8)))[1].passed


def test_agreement_judges_when_there_are_no_labels() -> None:
    good, bad = judge(6, labelled=False), judge(7, labelled=False)
    found, verdict = decide(make("fp32", 20, 400, judge(labelled=False)), make("int8", 10, 100, bad))
    assert verdict.chosen == "fp32"
    assert found["int8"].reason == "agreement is 98.83 % of at least 99 % on validation images"
    _, verdict = decide(make("fp32", 20, 400, judge(labelled=False)), make("int8", 10, 100, good))
    assert verdict.chosen == "int8"
    assert "parity only" in verdict.sentence
    assert verdict.next_step == "give labelled images with --validation to judge the accuracy"
    assert any("cannot tell an agreement" in w for w in verdict.warnings)


def test_build_without_a_set_of_images_says_parity_only() -> None:
    _, verdict = decide(make("fp32", 20))
    assert verdict.passed
    assert "parity only: relative error 1e-06" in verdict.sentence
    assert "budget" not in verdict.sentence


def test_build_without_any_images_says_that_nothing_was_judged() -> None:
    _, verdict = decide(make("fp32", 20, parity=None), make("fp16", 10, parity=None))
    assert verdict.chosen == "fp16"
    assert "not judged" in verdict.sentence


def test_parity_failure_excludes_even_the_fastest_and_most_accurate() -> None:
    found, verdict = decide(make("fp32", 20, 400, judge()), make("fp16", 10, 200, parity=FAILED))
    assert verdict.chosen == "fp32"
    assert (found["fp16"].status, found["fp16"].reason) == ("PARITY FAILED", FAILED.reason)


def test_nothing_is_chosen_when_parity_fails_everywhere() -> None:
    found, verdict = decide(make("fp32", parity=FAILED), make("fp16", parity=FAILED))
    assert (verdict.chosen, verdict.passed) == (None, False)
    assert {v.status for v in found.values()} == {"PARITY FAILED"}
    assert "relative error 0.5" in verdict.sentence


def test_unsupported_variant_keeps_its_reason() -> None:
    unsupported = Variant("fp8", "fp8", 0, status="NOT SUPPORTED", reason="needs SM 8.9")
    found, verdict = decide(make("fp32", 20, 400, judge()), unsupported)
    assert found["fp8"] == unsupported
    assert verdict.chosen == "fp32"
    assert "only one within the budget" in found["fp32"].reason
    assert choose_variant([unsupported], Budget()).chosen is None


def test_closest_is_named_and_fails_when_all_drop_too_much() -> None:
    found, verdict = decide(make("int8", 10, 100, judge(lost=9)), make("fp8", 5, 100, judge(lost=20)))
    assert (verdict.chosen, verdict.passed) == ("int8", False)
    assert {v.status for v in found.values()} == {"ACCURACY DROP"}
    assert found["int8"].reason.endswith("comes closest")
    assert verdict.next_step == "allow int8 with --max-drop 1.50, or build --precision fp32"


def test_closest_is_named_and_fails_when_all_are_too_slow() -> None:
    budget = Budget(max_latency_ms=8)
    found, verdict = decide(make("fp32", 20, 400, judge()), make("int8", 10, 100, judge()), budget=budget)
    assert (verdict.chosen, verdict.passed) == ("int8", False)
    assert {v.status for v in found.values()} == {"TOO SLOW"}
    assert "p50 10 ms of at most 8 ms" in verdict.sentence


def test_latency_budget_excludes_a_smaller_one_that_is_as_fast_as_can_be_told() -> None:
    fp32, fp16 = make("fp32", 20.0, 400, judge()), make("fp16", 20.1, 200, judge())
    found, verdict = decide(fp32, fp16, budget=Budget(max_latency_ms=20.05))
    assert (verdict.chosen, verdict.passed) == ("fp32", True)
    assert found["fp16"].status == "TOO SLOW"


def test_targets_order_decides_when_nothing_was_measured() -> None:
    variants = make("fp32", accuracy=judge()), make("fp16", accuracy=judge()), make("int8", accuracy=judge(lost=9))
    found, verdict = decide(*variants, preference=("int8", "fp16", "fp32"), budget=Budget(max_latency_ms=5))
    assert (verdict.chosen, verdict.passed) == ("fp16", True)
    assert {n: v.status for n, v in found.items()} == {
        "fp32": "NOT MEASURED",
        "fp16": "CHOSEN",
        "int8": "ACCURACY DROP",
    }
    assert "not measured" in verdict.sentence
    assert "edgevit finish" in (verdict.next_step or "")
    assert any("5 ms was not judged" in w for w in verdict.warnings)


def test_measured_variant_is_chosen_over_one_that_could_not_be_measured() -> None:
    found, verdict = decide(make("fp32", 20, 400, judge()), make("int8", None, 100, judge()))
    assert verdict.chosen == "fp32"
    assert found["int8"].status == "NOT MEASURED"


def test_choice_is_made_on_calibration_images_and_judged_on_validation_images() -> None:
    fp32 = make("fp32", 20, 400, judge(), judge(images=512))
    bad_to_choose = make("int8", 10, 100, judge(lost=0), judge(lost=9, images=512))
    found, verdict = decide(fp32, bad_to_choose)
    assert (verdict.chosen, verdict.passed) == ("fp32", True)
    assert found["int8"].reason.endswith("on calibration images")
    bad_when_judged = make("int8", 10, 100, judge(lost=9), judge(lost=0, images=512), parity=None)
    other = make("int8b", 15, 100, judge(lost=0), judge(lost=0, images=512), parity=None)
    found, verdict = decide(bad_when_judged, other)
    assert (verdict.chosen, verdict.passed) == ("int8", False)  # choosing again would be choosing on validation images
    assert found["int8"].status == "ACCURACY DROP"
    assert "chosen on calibration images, but on validation images top-1 drops by 1.50" in verdict.sentence


def test_float_takes_the_place_of_a_choice_that_misses_the_budget_on_validation_images() -> None:
    fp32, fp16 = (make(n, ms, 400, judge(), judge(images=512)) for n, ms in (("fp32", 20), ("fp16", 25)))
    missed = make("int8", 10, 100, judge(lost=9), judge(lost=0, images=512), parity=None)
    found, verdict = decide(fp32, fp16, missed)
    assert (verdict.chosen, verdict.passed) == ("fp32", True)
    assert {n: v.status for n, v in found.items()} == {"fp32": "CHOSEN", "fp16": "SLOWER", "int8": "ACCURACY DROP"}
    assert "fp32 is chosen, as int8 was within the budget on calibration images only" in verdict.sentence
    assert "top-1 drops by 1.50" in verdict.sentence
    assert verdict.next_step == "allow int8 with --max-drop 1.50"
    too_slow = Budget(max_latency_ms=15)
    assert decide(fp32, missed, budget=too_slow)[1].chosen == "int8"  # float is no way out


def test_what_may_not_take_the_place_of_such_a_choice_is_not_called_slower() -> None:
    fp32 = make("fp32", 2.0)
    unchecked = make("fp16", 1.0, parity=None)
    int8 = make("int8", 0.5, choice=judge(lost=0), accuracy=judge(lost=4), parity=None)
    found, verdict = decide(fp32, unchecked, int8)
    assert verdict.chosen == "fp32"
    assert (found["fp16"].status, found["fp16"].reason) == ("NOT MEASURED", "parity was not checked")
    assert found["int8"].status == "ACCURACY DROP"


def test_choice_on_validation_images_is_a_warning() -> None:
    variants = make("fp32", 20, 400, judge()), make("int8", 10, 100, judge())
    assert any("chosen by the validation images" in w for w in decide(*variants)[1].warnings)
    assert decide(make("fp32", 20, 400, judge()))[1].warnings == ()


def test_calibration_figures_alone_are_not_called_a_judgement() -> None:
    _, verdict = decide(make("int8", 10, 100, choice=judge(images=512)))
    assert "not judged on validation images" in verdict.sentence


def test_interval_that_reaches_over_the_budget_is_a_warning() -> None:
    _, verdict = decide(make("int8", 10, 100, judge(lost=3)))
    assert any("600 images cannot tell a drop of 0.50 points" in w for w in verdict.warnings)
    assert not decide(make("int8", 10, 100, judge(lost=3, images=60000)))[1].warnings


def test_skipped_images_are_a_warning() -> None:
    _, verdict = decide(make("fp32", 20, 400, judge(skipped=3)))
    assert verdict.warnings == ("3 images could not be read and were not counted",)
    _, verdict = decide(make("fp32", 20, 400, judge(skipped=1)))
    assert verdict.warnings == ("1 image could not be read and was not counted",)


def test_names_must_differ() -> None:
    with pytest.raises(ValueError, match="same name"):
        choose_variant([make("fp32"), make("fp32")], Budget())


ACCURACIES = st.none() | st.builds(judge, st.integers(0, 8), st.integers(0, 4), labelled=st.booleans())
VARIANTS = st.lists(
    st.builds(
        make,
        st.sampled_from(["fp32", "fp16", "int8", "fp8"]),
        st.none() | st.floats(1, 100),
        st.integers(1, 1000),
        ACCURACIES,
        ACCURACIES,
        st.sampled_from([PASSED, PASSED, FAILED, None]),
    ),
    unique_by=lambda v: v.name,
    max_size=4,
)


@given(VARIANTS, st.none() | st.floats(1, 100), st.floats(0, 0.3))
def test_any_build_gets_one_consistent_verdict(variants: list[Variant], limit: float | None, width: float) -> None:
    budget = Budget(max_latency_ms=limit)
    ruling = choose_variant(variants, budget, ratio=compare_within(variants, width))
    found, verdict = ruling.variants, write_verdict(ruling, Grounds())
    assert [v.name for v in found] == [v.name for v in variants]
    assert all(v.reason for v in found)
    chosen = [v.name for v in found if v.status == "CHOSEN"]
    assert chosen == ([verdict.chosen] if verdict.passed else [])
    assert (verdict.chosen is None) == all(v.status == "PARITY FAILED" for v in found)
    if verdict.passed:
        best = next(v for v in found if v.name == verdict.chosen)
        for other in found:
            if other.status == "SLOWER":
                assert best.latency is not None
                assert other.latency is not None
                assert other.latency.p50_ms >= best.latency.p50_ms * (1 - width)
    else:
        assert verdict.next_step


def test_unmeasured_choice_follows_the_preference_and_gives_way_to_float_as_a_measured_one_does() -> None:
    fp32, fp16 = make("fp32", accuracy=judge()), make("fp16", accuracy=judge())
    int8 = make("int8", accuracy=judge(lost=1), choice=judge(lost=0, images=512), parity=None)
    order = ("int8", "fp16", "fp32")
    ruling = choose_variant([fp32, fp16, int8], Budget(), preference=order)
    assert (ruling.chosen, ruling.passed) == ("int8", True)
    missed = dataclasses.replace(int8, accuracy=judge(lost=9))
    ruling = choose_variant([fp32, fp16, missed], Budget(), preference=order)
    verdict = write_verdict(ruling, Grounds())
    assert (verdict.chosen, verdict.passed) == ("fp16", True)
    assert {v.name: v.status for v in ruling.variants} == {
        "fp32": "NOT MEASURED",
        "fp16": "CHOSEN",
        "int8": "ACCURACY DROP",
    }
    assert "int8 was within the budget on calibration images only: top-1 drops by 1.50" in verdict.sentence
    ruling = choose_variant([missed], Budget(), preference=order)
    assert (ruling.chosen, ruling.passed) == ("int8", False)


def test_quantised_engine_that_equals_its_own_graph_does_not_count_as_the_float_model() -> None:
    fp8 = make("fp8", 12, 100, judge(lost=0), judge(lost=0, images=512))
    missed = make("int8", 10, 100, judge(lost=9), judge(lost=0, images=512))
    assert decide(fp8, missed)[1].passed is False
    assert decide(make("fp32", 20, 400, judge()), fp8, missed)[1].chosen == "fp32"


def judge_boxes(kept: float | None, sqnr_db: float = 30.0, **figures: float) -> Accuracy:
    """A detector's figures, of which ``kept`` are with the float model's boxes as truth."""
    found = figures if kept is None else {"kept_ap_percent": kept, **figures}
    return Accuracy(
        50, "ap_percent" in figures, None, None, None, task="detect", level_sqnr_db={"boxes": sqnr_db},
        sqnr_db=sqnr_db, task_figures=found,
    )  # fmt: skip


def test_a_model_whose_answers_are_lost_is_out_whatever_the_noise_of_its_outputs() -> None:
    fp32 = make("fp32", 20, 400, judge_boxes(100))
    found, verdict = decide(fp32, make("int8", 10, 100, judge_boxes(79.9)))
    assert (verdict.chosen, found["int8"].status) == ("fp32", "ACCURACY DROP")
    reason = "AP with the float model's boxes as truth: 79.90 % of at least 80 % on validation images"
    assert found["int8"].reason == reason
    assert decide(fp32, make("int8", 10, 100, judge_boxes(80.0)))[1].chosen == "int8"
    assert decide(fp32, make("int8", 10, 100, judge_boxes(70.0)), budget=Budget(min_kept=0.7))[1].chosen == "int8"


def test_the_noise_of_the_outputs_stays_a_gate_and_the_only_one_where_nothing_is_found() -> None:
    fp32 = make("fp32", 20, 400, judge_boxes(None))
    assert decide(fp32, make("int8", 10, 100, judge_boxes(None)))[1].chosen == "int8"
    found, _ = decide(fp32, make("int8", 10, 100, judge_boxes(100, sqnr_db=19.9)))
    assert found["int8"].reason == "boxes keeps 19.9 dB of at least 20 on validation images"


def test_the_verdict_tells_labels_and_what_is_kept_in_words() -> None:
    figures = judge_boxes(96.5, ap_percent=39.12, reference_ap_percent=39.5)
    _, verdict = decide(make("int8", 10, 100, figures))
    assert verdict.sentence.endswith(
        "; AP 39.12 %, the float model's 39.50 %, AP with the float model's boxes as truth 96.50 %, "
        "SQNR 30.0 dB of the output on 50 validation images"
    )
    _, missed = decide(make("int8", 10, 100, judge_boxes(71.28)))
    assert (missed.passed, "--min-sqnr 30 --min-kept 71.2" in str(missed.next_step)) == (False, True)


@pytest.mark.parametrize(
    ("share", "own_db", "images", "warned"),
    [(0.83, 12.4, 100, True), (0.83, 12.4, 15, False), (0.2, 12.4, 100, False), (0.83, 25, 100, False)],
)
def test_an_image_that_makes_most_of_the_noise_is_named(share: float, own_db: float, images: int, warned: bool) -> None:
    noisy = NoisyImage("birds/3.jpg", share, own_db)
    figures = dataclasses.replace(judge_boxes(99, sqnr_db=26.3), images=images, noisiest=noisy)
    _, verdict = decide(make("fp32", 20, 400, judge_boxes(100)), make("int8", 10, 100, figures))
    told = [warning for warning in verdict.warnings if "birds/3.jpg" in warning]
    assert bool(told) is warned
    if warned:
        assert "83 % of the noise is that of one image of 100, birds/3.jpg, which keeps 12.4 dB where all" in told[0]
