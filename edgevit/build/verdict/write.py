"""write_verdict: the verdict of a report in words, from what the figures came to and what they rest on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgevit.build.verdict.choose import Ruling, find_late_miss
from edgevit.build.verdict.sentences import (
    compare_baseline,
    describe_accuracy,
    format_ratio,
    list_end_to_end_risks,
    list_warnings,
    suggest_accuracy,
    suggest_evidence,
)
from edgevit.core.quantization import RANDOM_MARK
from edgevit.core.report.report import Variant, Verdict

if TYPE_CHECKING:
    from edgevit.build.order import Where


@dataclass(frozen=True)
class Grounds:
    """What a verdict rests on besides the figures.

    Attributes:
        where: Where the engines are made and measured.
        title: The target's.
        risks: What weakens the evidence, a warning each.
        random: The chosen precision, where it was calibrated on random pixels; else empty.
        recalled: What the build found on the chosen precision's graph, where this is the device, which has no images.
        labels: Whether a class an image could judge the outputs.
    """

    where: Where = "here"
    title: str = ""
    risks: tuple[str, ...] = ()
    random: str = ""
    recalled: Variant | None = None
    labels: bool = True


def write_verdict(ruling: Ruling, grounds: Grounds) -> Verdict:
    """The verdict in words; what was calibrated on random pixels does not pass."""
    best = ruling.best
    if best is None:
        failed = "; ".join(f"{v.name}: {v.reason}" for v in ruling.variants)
        return Verdict(
            chosen=None,
            passed=False,
            sentence=f"no variant can be used: {failed}" if failed else "there is no variant to choose from",
            warnings=grounds.risks,
            next_step="try another precision or another version of the engine library, and report the model",
        )
    parts = [_tell_cause(ruling, best), describe_accuracy(best, labels=grounds.labels)]
    judged = f"judged in ONNX Runtime on this machine, not on {grounds.title}"
    if grounds.where == "elsewhere":
        parts.insert(0, f"portable: the graphs were {judged}")
    elif grounds.where == "compiled here":
        parts.append(f"the graph was {judged}, and the engine was not run")
    if grounds.random:
        parts.append(RANDOM_MARK)
    if grounds.recalled is not None:
        recalled = describe_accuracy(grounds.recalled, labels=grounds.labels)
        parts.append(f"its graph in ONNX Runtime, at the build: {recalled}")
    return Verdict(
        chosen=best.name,
        passed=ruling.passed and not grounds.random,
        sentence="; ".join(parts),
        warnings=(*_list_weaknesses(ruling, best), *grounds.risks),
        next_step=_suggest_step(ruling, best, grounds),
    )


def _tell_cause(ruling: Ruling, best: Variant) -> str:
    if ruling.cause == "closest":
        return f"no variant is within the accuracy budget; {best.name} comes closest"
    if ruling.cause == "too slow":
        return f"over the latency budget: {best.name} comes closest with {best.reason}"
    if ruling.cause == "late miss":
        miss = find_late_miss(best, ruling.budget)
        return f"{best.name} was chosen on calibration images, but on validation images {miss}"
    if ruling.beaten is not None:
        alone = f"{ruling.beaten.name} was within the budget on calibration images only"
        rest = "; latency was not measured" if best.latency is None else ""
        return f"{best.name} is chosen, as {alone}: {ruling.beaten.reason}{rest}"
    if ruling.cause == "first in order":
        return f"{best.name} is chosen by the target's order of precisions, as latency was not measured"
    if ruling.cause == "only one":
        return f"{best.name} is {'within the budget' if best.accuracy else 'the only one tried'}"
    return f"{best.name} is chosen: {best.reason}{compare_baseline(ruling.variants, best)}"


def _list_weaknesses(ruling: Ruling, best: Variant) -> tuple[str, ...]:
    """What weakens the evidence of the figures themselves."""
    if ruling.cause == "closest":
        return list_warnings(best, [best], ruling.budget) + list_end_to_end_risks(best)
    warnings = list_warnings(best, ruling.variants, ruling.budget)
    warnings += tuple(
        f"too noisy to tell {name} from {best.name}: ratio {format_ratio(ratio)}; measure again on a quiet machine"
        for name, ratio in ruling.blurred
    )
    limit = ruling.budget.max_latency_ms
    if best.latency is None and limit is not None:
        warnings += (f"the latency budget of {limit:g} ms was not judged: nothing was measured",)
    return warnings + list_end_to_end_risks(best)


def _suggest_step(ruling: Ruling, best: Variant, grounds: Grounds) -> str | None:
    if grounds.recalled is not None:
        return "judge this engine itself with edgevit eval and the validation images"
    if grounds.random:
        return f"give --calibration DATA for an {grounds.random} engine to use"
    if grounds.where == "elsewhere":
        return None
    if grounds.where == "compiled here":
        return f"measure on {grounds.title}: edgevit bench BUNDLE"
    if ruling.cause == "closest":
        return suggest_accuracy(best, best.choice_accuracy or best.accuracy, labels=grounds.labels)
    if ruling.cause == "too slow":
        return "allow more latency, or build a smaller model or for a faster target"
    if ruling.cause == "late miss":
        return suggest_accuracy(best, best.accuracy, labels=grounds.labels)
    if best.latency is None:
        return "measure on the device: edgevit finish BUNDLE"
    if ruling.beaten is not None:
        return suggest_accuracy(ruling.beaten, ruling.beaten.accuracy, replaced=True, labels=grounds.labels)
    return suggest_evidence(best, labels=grounds.labels)
