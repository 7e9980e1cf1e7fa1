"""Question: which of many builds is wanted; and the builds that none beats in everything."""

from __future__ import annotations

import difflib
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

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

    def __str__(self) -> str:
        return f"{self.figure} {self.sign} {self.value:g}"


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
        want: ``fastest`` by p50 of the latency, ``most-accurate`` or ``smallest``.
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
        refuse(*((True, problem) for problem in problems))

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """``where``, read."""
        return tuple(map(read_condition, self.where))

    def __str__(self) -> str:
        bounds = f" with {', '.join(map(str, self.conditions))}" if self.where else ""
        return f"the {self.want.replace('-', ' ')}{bounds}"


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
    answers = []
    for target in dict.fromkeys(r.target for r in results):
        mine = [r for r in results if r.target == target]
        answers.append(_answer(question, target, mine))
    return tuple(answers)


def _answer(question: Question, target: str, results: Sequence[CellResult]) -> Answer:
    usable = [r for r in results if r.bundle is not None and r.passed]
    fit = [r for r in usable if all(c.holds(r.figures) for c in question.conditions)]
    figure, sign = _find_figure(question.want, fit)
    ranked = sorted((r for r in fit if figure in r.figures), key=lambda r: (sign * r.figures[figure], r.name))
    if not ranked:
        return Answer(target, None, _explain_none(question, target, results, usable, fit))
    best = ranked[0]
    also = f", of {len(fit)} that are fit" if len(fit) > 1 else ", the only one that is fit"
    figures = ", ".join(f"{name} {best.figures[name]:.6g}" for name in _list_named(question, figure))
    return Answer(target, best.name, f"{target}: {best.name} is {question}{also} ({figures})")


def _find_figure(want: Want, results: Sequence[CellResult]) -> tuple[str, int]:
    """What decides, and 1 where less is better."""
    if want == "fastest":
        return "latency_p50_ms", 1
    if want == "smallest":
        return "size_mb", 1
    shared = (name for name in ACCURACIES if results and all(name in r.figures for r in results))
    return next(shared, ACCURACIES[0]), -1


def _list_named(question: Question, figure: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys((figure, *(c.figure for c in question.conditions))))


def _explain_none(
    question: Question,
    target: str,
    results: Sequence[CellResult],
    usable: Sequence[CellResult],
    fit: Sequence[CellResult],
) -> str:
    if not usable:
        return f"{target}: none of {len(results)} cells has a bundle that passed its verdict"
    if fit:
        return f"{target}: latency was not measured here, so none of {len(fit)} cells is known to be {question}"
    lost = []
    for condition in question.conditions:
        having = [r.figures[condition.figure] for r in usable if condition.figure in r.figures]
        if not having:
            lost.append(f"{condition.figure} was not measured")
        elif not any(condition.holds(r.figures) for r in usable):
            best = max(having) if condition.sign in (">", ">=") else min(having)
            lost.append(f"{condition}: the best has {best:.6g}")
    reason = "; ".join(lost) or "each condition is kept by some, and all of them by none"
    return f"{target}: none of {len(usable)} cells is {question}: {reason}"


def find_front(
    results: Iterable[CellResult], *, less: str = "latency_p50_ms", more: Sequence[str] = ACCURACIES
) -> tuple[str, ...]:
    """Names of the cells that no other beats in both latency and accuracy (the Pareto front), the fastest first.

    Args:
        results: Of one target.
        less: The figure of which less is better.
        more: Figures of which more is better; the first that all cells with ``less`` have counts.
    """
    having = [r for r in results if r.bundle is not None and less in r.figures]
    figure = next((name for name in more if having and all(name in r.figures for r in having)), None)
    if figure is None:
        return ()
    ranked = sorted(having, key=lambda r: (r.figures[less], -r.figures[figure], r.name))
    front: list[CellResult] = []
    for result in ranked:
        if not front or result.figures[figure] > front[-1].figures[figure]:
            front.append(result)
    return tuple(r.name for r in front)
