"""Question: which of many builds is wanted; and the builds that none beats in everything."""

from __future__ import annotations

import difflib
import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from edgevit.core.errors import count_things
from edgevit.core.schema import refuse

if TYPE_CHECKING:
    from edgevit.remote.sweep.result import CellResult

Want: TypeAlias = Literal["fastest", "most-accurate", "smallest"]

FIGURES: Mapping[str, str] = {
    "top1": "top-1 on validation images, %",
    "drop_points": "lost top-1 against the float model, points",
    "agreement": "images with the float model's top-1, %",
    "cosine": "mean cosine with the float model's embeddings",
    "sqnr_db": "signal over noise against the float model, dB",
    "kept": "share of the float model's answers that is kept, %",
    "latency_p50_ms": "median of the engine's calls, ms",
    "latency_p90_ms": "nine calls in ten take no longer, ms",
    "latency_p99_ms": "99 calls in a hundred take no longer, ms",
    "answer_p50_ms": "from an image file to the answer, median, ms",
    "size_mb": "of the engine, 10⁶ bytes",
}
"""What a condition may name, with what it means."""

ACCURACIES = ("top1", "kept", "agreement", "cosine", "sqnr_db")
"""What *most accurate* compares: the first of them that all cells have."""

_OPERATORS: Mapping[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
    "==": operator.eq,
}
_CONDITION = re.compile(r"\s*(\w+)\s*(>=|<=|==|>|<)\s*([-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)\s*")


@dataclass(frozen=True)
class Condition:
    """A bound on a figure.

    Attributes:
        figure: One of :data:`FIGURES`.
        sign: ``>=``, ``<=``, ``>``, ``<`` or ``==``.
        value: In the figure's unit.
    """

    figure: str
    sign: str
    value: float

    def holds(self, figures: Mapping[str, float]) -> bool:
        """Whether a cell's figures keep it; one that was not measured does not."""
        return self.figure in figures and _OPERATORS[self.sign](figures[self.figure], self.value)

    @property
    def bound(self) -> str:
        """Without the figure's name."""
        short = f"{self.value:g}"
        return f"{self.sign} {short if float(short) == self.value else self.value}"

    def __str__(self) -> str:
        return f"{self.figure} {self.bound}"


def read_condition(text: str) -> Condition:
    """``top1 >= 82`` as a condition.

    Raises:
        ValueError: It is none, or of no figure.
    """
    match = _CONDITION.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a condition such as 'top1 >= 82'")
    figure, sign, value = match.groups()
    if figure not in FIGURES:
        close = difflib.get_close_matches(figure, FIGURES, n=1)
        guess = f" (did you mean {close[0]}?)" if close else f"; the figures are {', '.join(FIGURES)}"
        raise ValueError(f"{text!r} names no figure{guess}")
    return Condition(figure, sign, float(value))


@dataclass(frozen=True)
class Question:
    """Which of the cells is wanted.

    Attributes:
        want: ``fastest`` by p50 of the latency, ``most-accurate`` or ``smallest``; of those that are equal in it the
            faster, then the smaller.
        where: Conditions such as ``top1 >= 82``, all of which it keeps.
    """

    want: Want = "fastest"
    where: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        problems = []
        if self.want not in get_args(Want):
            problems.append(f"want = {self.want!r} is not one of {', '.join(get_args(Want))}")
        for text in self.where:
            try:
                read_condition(text)
            except ValueError as exc:
                problems.append(f"where: {exc}")
        if not problems:
            problems += [f"where: no {figure} is {text}" for figure, text in _find_contradictions(self.conditions)]
        refuse(*((True, problem) for problem in problems))

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """``where``, read."""
        return tuple(map(read_condition, self.where))

    def explain(self, result: CellResult) -> str:
        """Why a cell is not fit, in a few words; empty where it is."""
        if result.failed:
            return "failed"
        if result.bundle is None:
            return "no bundle"
        if not result.passed:
            return "budget missed"
        lost = [c for c in self.conditions if not c.holds(result.figures)]
        return ", ".join(f"{c.figure} not {c.bound}" if c.figure in result.figures else f"no {c.figure}" for c in lost)

    def __str__(self) -> str:
        bounds = f" with {', '.join(map(str, self.conditions))}" if self.where else ""
        return f"the {self.want.replace('-', ' ')}{bounds}"


def _find_contradictions(conditions: Sequence[Condition]) -> Iterable[tuple[str, str]]:
    """Figures that no value keeps within their bounds, with these."""
    for figure in dict.fromkeys(c.figure for c in conditions):
        own = [c for c in conditions if c.figure == figure]
        ends = sorted({c.value for c in own})
        tried = [ends[0] - 1, *ends, *((a + b) / 2 for a, b in pairwise(ends)), ends[-1] + 1]
        if not any(all(_OPERATORS[c.sign](value, c.value) for c in own) for value in tried):
            yield figure, " and ".join(c.bound for c in own)


@dataclass(frozen=True)
class Answer:
    """What a question comes to, for one target.

    Attributes:
        target: Its name.
        chosen: Name of the cell; ``None`` where none is fit.
        sentence: The result and its reason.
    """

    target: str
    chosen: str | None
    sentence: str


def answer_question(question: Question, results: Sequence[CellResult]) -> tuple[Answer, ...]:
    """The cell that is wanted, for every target of the results, in their order.

    A cell is fit where it has a bundle, its verdict passed and its figures keep all conditions.
    """
    targets = dict.fromkeys(r.target for r in results)
    return tuple(_answer(question, target, [r for r in results if r.target == target]) for target in targets)


def rank_results(question: Question, results: Sequence[CellResult]) -> tuple[CellResult, ...]:
    """The results of one target, the best first: fit ones, then other bundles, then what an error stopped.

    Within each of these the figure that the question wants decides; those without it are behind.
    """
    figure, sign = find_wanted(question, results)

    def rank(result: CellResult) -> tuple[object, ...]:
        standing = 2 if result.failed else 1 if question.explain(result) else 0
        values = (sign * result.figures[figure] if figure in result.figures else math.inf,
                  *(result.figures.get(name, math.inf) for name in ("latency_p50_ms", "size_mb")))  # fmt: skip
        return standing, *values, result.name

    return tuple(sorted(results, key=rank))


def find_wanted(question: Question, results: Sequence[CellResult]) -> tuple[str, int]:
    """The figure that decides, and 1 where less of it is better, -1 where more is."""
    if question.want == "fastest":
        return "latency_p50_ms", 1
    if question.want == "smallest":
        return "size_mb", 1
    fit = [r for r in results if not question.explain(r)]
    return find_shared(fit) or ACCURACIES[0], -1


def find_shared(results: Sequence[CellResult]) -> str | None:
    """The first of :data:`ACCURACIES` that all of them have; ``None`` where there is none."""
    return next((name for name in ACCURACIES if results and all(name in r.figures for r in results)), None)


def _answer(question: Question, target: str, results: Sequence[CellResult]) -> Answer:
    figure, _ = find_wanted(question, results)
    fit = [r for r in results if not question.explain(r)]
    known = [r for r in rank_results(question, fit) if figure in r.figures]
    if not known:
        return Answer(target, None, _explain_none(question, target, results, fit, figure))
    best = known[0]
    also = f", of {len(known)} that are fit" if len(known) > 1 else ", the only one that is fit"
    if len(fit) > len(known):
        also += f" and have {figure} ({len(fit) - len(known)} more have not)"
    named = dict.fromkeys((figure, *(c.figure for c in question.conditions)))
    figures = ", ".join(f"{name} {best.figures[name]:.6g}" for name in named)
    return Answer(target, best.name, f"{target}: {best.name} is {question}{also} ({figures})")


def _explain_none(
    question: Question, target: str, results: Sequence[CellResult], fit: Sequence[CellResult], figure: str
) -> str:
    usable = [r for r in results if r.bundle is not None and r.passed]
    if not usable:
        return f"{target}: none of {count_things(len(results), 'cell')} has a bundle that passed its verdict"
    if fit:
        cells = count_things(len(fit), "fit cell")
        return f"{target}: {figure} was not measured, so none of {cells} is known to be the one that is wanted"
    lost = []
    for condition in question.conditions:
        having = [r.figures[condition.figure] for r in usable if condition.figure in r.figures]
        if not having:
            lost.append(f"{condition.figure} was not measured")
        elif not any(condition.holds(r.figures) for r in usable):
            lost.append(f"{condition}: the best has {_find_best(condition, having):.6g}")
    reason = "; ".join(lost) or "each condition is kept by some, and all of them by none"
    return f"{target}: none of {count_things(len(usable), 'cell')} is {question}: {reason}"


def _find_best(condition: Condition, values: Sequence[float]) -> float:
    """The value that comes nearest to keeping it."""
    if condition.sign == "==":
        return min(values, key=lambda value: abs(value - condition.value))
    return max(values) if condition.sign.startswith(">") else min(values)


def find_front(results: Iterable[CellResult], *, less: str = "latency_p50_ms") -> tuple[str, ...]:
    """Names of the cells that no other beats in both latency and accuracy (the Pareto front), the fastest first.

    A cell beats another that is not better in either and worse in one; of two that are equal in both neither does.

    Args:
        results: Of one target.
        less: The figure of which less is better. The accuracy is :func:`find_shared` of the cells that have it.
    """
    having = [r for r in results if r.bundle is not None and less in r.figures]
    figure = find_shared(having)
    if figure is None:
        return ()
    ranked = sorted(having, key=lambda r: (r.figures[less], -r.figures[figure], r.name))
    front: list[CellResult] = []
    for result in ranked:
        last = front[-1].figures if front else None
        equal = last is not None and (last[less], last[figure]) == (result.figures[less], result.figures[figure])
        if last is None or equal or result.figures[figure] > last[figure]:
            front.append(result)
    return tuple(r.name for r in front)
