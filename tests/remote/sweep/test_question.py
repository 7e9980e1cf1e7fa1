"""Questions: what a condition is, who is fit, who is chosen, and which cells none beats."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevit.core.schema import FieldError
from edgevit.remote.sweep.question import (
    FIGURES,
    Condition,
    Question,
    answer_question,
    find_front,
    rank_results,
    read_condition,
)
from tests.support.sweeps import make_cell, make_failed

SIGNS = {
    ">=": lambda a, b: a >= b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    "<": lambda a, b: a < b,
    "==": lambda a, b: a == b,
}
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
BLANKS = st.sampled_from(["", " ", "\t ", "  "])


@given(st.sampled_from(sorted(FIGURES)), st.sampled_from(sorted(SIGNS)), NUMBERS)
def test_condition_as_text_is_the_condition(figure, sign, value) -> None:
    condition = Condition(figure, sign, value)
    assert read_condition(str(condition)) == condition


@given(st.sampled_from(sorted(FIGURES)), st.sampled_from(sorted(SIGNS)), NUMBERS, NUMBERS, st.data())
def test_condition_holds_as_its_sign_says_whatever_the_blanks(figure, sign, bound, value, data) -> None:
    a, b, c, d = (data.draw(BLANKS) for _ in range(4))
    condition = read_condition(f"{a}{figure}{b}{sign}{c}{bound!r}{d}")
    assert condition.holds({figure: value}) == SIGNS[sign](value, bound)
    assert condition.holds({figure: bound}) == ("=" in sign)
    assert not condition.holds({}), "what was not measured keeps no condition"


@given(st.text(max_size=30))
def test_any_text_is_a_condition_or_refused_with_a_sentence(text) -> None:
    problem = ""
    try:
        assert read_condition(text).figure in FIGURES
    except ValueError as exc:
        problem = str(exc)
    assert not problem or repr(text) in problem


@pytest.mark.parametrize(
    "text",
    [
        "",
        "top1",
        "top1 >=",
        ">= 82",
        "top1 >= 82 %",
        "top1 => 82",
        "top1 = 82",
        "top1 >= x",
        "top1 >= nan",
        "82 <= top1",
    ],
)
def test_no_condition_is_refused(text) -> None:
    with pytest.raises(ValueError, match="is not a condition such as 'top1 >= 82'"):
        read_condition(text)


def test_figure_that_is_misspelt_is_guessed_and_another_gets_the_list() -> None:
    with pytest.raises(ValueError, match=r"did you mean latency_p90_ms\?"):
        read_condition("latency_p90 <= 10")
    with pytest.raises(ValueError, match="the figures are top1, drop_points"):
        read_condition("colour >= 1")


def test_question_lists_all_that_is_wrong_with_it() -> None:
    with pytest.raises(FieldError) as caught:
        Question(want="cheapest", where=("top1 >= 82", "top2 >= 1", "nothing"))  # type: ignore[arg-type]
    assert len(caught.value.problems) == 3
    assert all(word in str(caught.value) for word in ("cheapest", "top2", "nothing"))


@pytest.mark.parametrize(
    ("where", "impossible"),
    [
        (("top1 >= 90", "top1 < 90"), True),
        (("top1 > 90", "top1 <= 90"), True),
        (("top1 >= 90", "top1 <= 90"), False),
        (("top1 > 90", "top1 < 90.1"), False),
        (("size_mb == 3", "size_mb > 3"), True),
        (("size_mb == 3", "size_mb >= 3", "latency_p50_ms < 1"), False),
        (("size_mb == 3", "size_mb == 4"), True),
    ],
)
def test_bounds_that_nothing_keeps_are_refused(where: tuple[str, ...], impossible: bool) -> None:
    if not impossible:
        assert Question(where=where).where == where
        return
    with pytest.raises(FieldError, match=f"where: no {where[0].split()[0]} is .* and "):
        Question(where=where)


def test_question_in_words() -> None:
    assert str(Question()) == "the fastest"
    assert str(Question("most-accurate", ("size_mb<=50", "top1 > 1e1"))) == (
        "the most accurate with size_mb <= 50, top1 > 10"
    )


@pytest.mark.parametrize(
    ("cell", "why"),
    [
        (make_cell("a"), ""),
        (make_failed("a"), "failed"),
        (make_cell("a", bundle=None), "no bundle"),
        (make_cell("a", passed=False), "budget missed"),
        (make_cell("a", figures={"top1": 81.0}), "top1 not >= 82"),
        (make_cell("a", figures={"top1": 81.0, "latency_p90_ms": None}), "top1 not >= 82, no latency_p90_ms"),
    ],
)
def test_why_a_cell_is_not_fit(cell, why) -> None:
    assert Question(where=("top1 >= 82", "latency_p90_ms <= 10")).explain(cell) == why


CELLS = [
    make_cell("slow", figures={"latency_p50_ms": 9.0, "top1": 99.0, "size_mb": 9.0}),
    make_cell("fast", figures={"latency_p50_ms": 1.0, "top1": 80.0, "size_mb": 5.0}),
    make_cell("middle", figures={"latency_p50_ms": 3.0, "top1": 90.0, "size_mb": 1.0}),
    make_cell("missed", passed=False, figures={"latency_p50_ms": 0.1, "top1": 99.9, "size_mb": 0.1}),
    make_failed("broken"),
]


@pytest.mark.parametrize(
    ("want", "where", "chosen"),
    [
        ("fastest", (), "fast"),
        ("fastest", ("top1 >= 85",), "middle"),
        ("fastest", ("top1 >= 85", "size_mb > 2"), "slow"),
        ("most-accurate", (), "slow"),
        ("most-accurate", ("latency_p50_ms < 9",), "middle"),
        ("smallest", (), "middle"),
        ("smallest", ("top1 >= 95",), "slow"),
    ],
)
def test_the_cell_that_is_wanted_is_chosen(want, where, chosen) -> None:
    (answer,) = answer_question(Question(want, where), CELLS)
    assert (answer.target, answer.chosen) == ("cpu", chosen)
    assert answer.sentence.startswith(f"cpu: {chosen} is the {want.replace('-', ' ')}")


def test_each_target_has_its_own_answer_in_the_order_of_the_cells() -> None:
    other = [make_cell("b", "jetson"), make_cell("a", "intel-cpu")]
    answers = answer_question(Question(), [*other, *CELLS])
    assert [(a.target, a.chosen) for a in answers] == [("jetson", "b"), ("intel-cpu", "a"), ("cpu", "fast")]


def test_of_equally_accurate_cells_the_faster_is_chosen_and_of_equally_small_ones_too() -> None:
    cells = [make_cell("a", figures={"latency_p50_ms": 5.0}), make_cell("b", figures={"latency_p50_ms": 4.0})]
    for want in ("most-accurate", "smallest"):
        (answer,) = answer_question(Question(want), cells)
        assert answer.chosen == "b"


def test_most_accurate_compares_by_a_figure_that_all_fit_cells_have() -> None:
    cells = [
        make_cell("a", figures={"top1": None, "agreement": 99.0}),
        make_cell("b", figures={"top1": 99.9, "agreement": 98.0}),
        make_failed("c"),
    ]
    (answer,) = answer_question(Question("most-accurate"), cells)
    assert answer.chosen == "a"
    assert "agreement 99" in answer.sentence


@pytest.mark.parametrize(
    ("cells", "question", "words"),
    [
        ([make_failed("a"), make_cell("b", passed=False)], Question(), "none of 2 cells has a bundle that passed"),
        ([make_cell("a", figures={"latency_p50_ms": None})], Question(), "latency_p50_ms was not measured"),
        ([make_cell("a")], Question(where=("top1 >= 99",)), "top1 >= 99: the best has 97.5"),
        ([make_cell("a")], Question(where=("latency_p90_ms < 1",)), "latency_p90_ms < 1: the best has 2.5"),
        ([make_cell("a", figures={"cosine": None})], Question(where=("cosine > 0",)), "cosine was not measured"),
        (
            [make_cell("a", figures={"top1": 80.0}), make_cell("b", figures={"size_mb": 90.0})],
            Question(where=("top1 >= 90", "size_mb <= 50")),
            "each condition is kept by some, and all of them by none",
        ),
        (
            [make_cell("a", figures=dict.fromkeys(("top1", "agreement"), None))],
            Question("most-accurate"),
            "top1 was not measured",
        ),
    ],
)
def test_without_an_answer_the_sentence_says_why(cells, question, words) -> None:
    (answer,) = answer_question(question, cells)
    assert answer.chosen is None
    assert words in answer.sentence


def test_fit_cells_that_were_not_measured_are_counted() -> None:
    cells = [make_cell("a"), make_cell("b", figures={"latency_p50_ms": None})]
    (answer,) = answer_question(Question(), cells)
    assert answer.chosen == "a"
    assert "1 more have not" in answer.sentence


def make_points(pairs):
    return [make_cell(f"c{i}", figures={"latency_p50_ms": x, "top1": y}) for i, (x, y) in enumerate(pairs)]


FEW = st.integers(0, 6).map(float)  # so that many are equal


@given(st.lists(st.tuples(FEW, FEW), max_size=12))
def test_front_is_what_brute_force_finds(pairs) -> None:
    cells = make_points(pairs)

    def beats(other, one) -> bool:
        return other != one and other[0] <= one[0] and other[1] >= one[1]

    expected = {cell.name for cell, one in zip(cells, pairs, strict=True) if not any(beats(o, one) for o in pairs)}
    front = find_front(cells)
    assert set(front) == expected
    assert len(front) == len(expected)
    latencies = [next(c for c in cells if c.name == name).figures["latency_p50_ms"] for name in front]
    assert latencies == sorted(latencies)


@given(st.lists(st.tuples(FEW, FEW), min_size=1, max_size=12), st.sampled_from(["fastest", "most-accurate"]))
def test_what_is_chosen_without_conditions_lies_on_the_front(pairs, want) -> None:
    cells = make_points(pairs)
    (answer,) = answer_question(Question(want), cells)
    chosen = next(c for c in cells if c.name == answer.chosen).figures
    front = {name: next(c for c in cells if c.name == name).figures for name in find_front(cells)}
    ends = [(f["latency_p50_ms"], f["top1"]) for f in front.values()]
    if want == "fastest":
        assert chosen["latency_p50_ms"] == min(x for x, _ in ends)
    else:
        assert (chosen["latency_p50_ms"], chosen["top1"]) in ends


def test_front_leaves_out_what_was_not_measured_or_has_no_bundle() -> None:
    cells = [
        make_cell("a"),
        make_failed("b"),
        make_cell("c", bundle=None),
        make_cell("d", figures={"latency_p50_ms": None}),
    ]
    assert find_front(cells) == ("a",)
    assert find_front([]) == ()
    assert find_front([make_cell("a", figures=dict.fromkeys(("top1", "agreement"), None))]) == ()


@given(st.permutations(CELLS))
def test_ranking_begins_with_the_fit_ends_with_the_failed_and_loses_none(cells) -> None:
    question = Question(where=("top1 >= 85",))
    names = [cell.name for cell in rank_results(question, cells)]
    assert names[:2] == ["middle", "slow"]
    assert names[-1] == "broken"
    assert sorted(names) == sorted(cell.name for cell in CELLS)
    assert names[0] == answer_question(question, cells)[0].chosen


def test_ranking_puts_what_lacks_the_figure_behind() -> None:
    cells = [make_cell("a", figures={"latency_p50_ms": None}), make_cell("b", figures={"latency_p50_ms": 1e9})]
    assert [cell.name for cell in rank_results(Question(), cells)] == ["b", "a"]
