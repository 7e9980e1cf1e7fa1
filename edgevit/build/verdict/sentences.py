"""The verdict's sentences: what the figures say, how much they cover, what weakens them and what to try."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

from edgevit.build.precisions import FLOAT_PRECISIONS
from edgevit.core.isa import TIERS, TierName
from edgevit.core.quantization import SetBack
from edgevit.core.report.report import Accuracy, EndToEnd, Ratio, Report, SettingsTrial, Variant
from edgevit.core.report.task_figures import KEPT, describe_figures, find_figure
from edgevit.core.target import Budget
from edgevit.core.task import DENSE_TASKS

_COLUMNS = 80  # of a terminal
# A warning about one image: its share of the noise of all of them, how far it is below them, and of how many at least.
_MUCH_NOISE, _CLEAR_DB, _FEW_IMAGES = 0.25, 6.0, 16


def describe_win(best: Variant, same: Sequence[Variant], rivals: int) -> str:
    """Why ``best`` won over ``rivals`` others, of which ``same`` are as fast."""
    others = [v for v in same if v.name != best.name]
    judged = best.accuracy is not None or best.choice_accuracy is not None
    if not others:
        return f"the {'fastest' if rivals else 'only one'} {'within the budget' if judged else 'tried'}"
    names = " and ".join(v.name for v in others)
    biggest = max(others, key=lambda v: v.size_bytes)
    if biggest.size_bytes == best.size_bytes:
        return f"same speed and size as {names}; first in order"
    return f"same speed as {names} within the interval, {format_share(best, biggest)} the size"


def describe_accuracy(variant: Variant, *, labels: bool = True) -> str:
    """What the figures say, and how much they cover; ``labels``: whether a class an image could judge the outputs."""
    figures = variant.accuracy
    if figures is not None and figures.task_figures:
        right = describe_figures({k: v for k, v in figures.task_figures.items() if not k.startswith(KEPT)})
        parts = [*(f"{title} {text}" for title, text in right.items()), _describe_closeness(figures)]
        return f"{', '.join(filter(None, parts))} on {figures.images} validation images"
    if figures is not None and figures.labelled and figures.top1 is not None:
        return (
            f"{name_top1(figures)} {figures.top1_percent:.2f} %, "
            f"the float model's {figures.reference_top1_percent:.2f} % "
            f"(drop {figures.drop_points:.2f} points, interval {figures.drop_low:.2f} to {figures.drop_high:.2f}), "
            f"{_describe_closeness(figures)} on {figures.images} validation images"
        )
    if figures is not None:
        why = "there are no labels" if labels else "a class an image does not judge such outputs"
        lead = f"parity only, as {why}: " if figures.task == "classify" else ""
        return f"{lead}{_describe_closeness(figures)} on {figures.images} {'' if lead else 'validation '}images"
    if variant.choice_accuracy is not None:
        by = variant.choice_accuracy
        return f"not judged on validation images; {_describe_closeness(by)} on {by.images} calibration images"
    if variant.parity is not None:
        return f"parity only: {variant.parity.reason}"
    return "accuracy was not judged, as there were no images"


def _describe_closeness(figures: Accuracy) -> str:
    """To the float model, as its task measures it."""
    parts = []
    if figures.cosine_mean is not None and figures.cosine_min is not None:
        parts.append(f"cosine {figures.cosine_mean:.4f} on average and {figures.cosine_min:.4f} at least")
    if figures.agreement is not None:
        parts.append(f"{name_agreement(figures)} {format_agreement(figures)}")
    if figures.kept is not None:
        figure = find_figure(figures.kept[0])
        parts.append(f"{figure.title} {figure.format(figures.kept[1])}")
    if figures.level_sqnr_db:
        worst = figures.worst_level
        several = len(figures.level_sqnr_db) > 1
        exact = "every level equals the float model's" if several else "the output equals the float model's"
        where = f"at {worst[0]}, the worst level," if worst is not None and several else "of the output"
        parts.append(exact if worst is None else f"SQNR {worst[1]:.1f} dB {where}")
    return ", ".join(parts)


def name_top1(figures: Accuracy) -> str:
    """``top-1``, of embeddings ``kNN top-1``."""
    return "kNN top-1" if figures.task == "embed" else "top-1"


def name_agreement(figures: Accuracy) -> str:
    """``agreement``, of embeddings ``recall@1``."""
    return "recall@1" if figures.task == "embed" else "agreement"


def get_least_agreement(figures: Accuracy, budget: Budget) -> float:
    """The budget's, for the task of the figures."""
    return budget.min_recall if figures.task == "embed" else budget.min_agreement


def describe_set_back(result: SetBack, precision: str) -> str:
    """How many sites went back to float and what that gained, or how far it was taken in vain."""
    change = f"{result.before:.2f} → {result.after:.2f}"
    if result.task in DENSE_TASKS:
        change = f"SQNR of the worst level {change} dB"
    elif result.labelled:
        change = f"{'kNN ' if result.task == 'embed' else ''}drop {change} points"
    else:
        change = f"{'recall@1' if result.task == 'embed' else 'agreement'} {change} %"
    change = f"{change} on {result.images} calibration images"
    if result.sites:
        return (
            f"{len(result.sites)} of {result.quantized} sites set back to float to stay within the accuracy budget: "
            f"{change}"
        )
    if not result.tried:
        return "no site could be set back to float: none was ranked, or the recipe pins them"
    return (
        f"setting back {result.tried} of {result.quantized} sites to float is not enough ({change}), "
        f"and with more {precision} is not worth it: none is set back"
    )


def list_warnings(best: Variant, variants: Sequence[Variant], budget: Budget) -> tuple[str, ...]:
    """What weakens the evidence for ``best``."""
    warnings = []
    figures = best.accuracy
    rivals = [v for v in variants if v.accuracy is not None and v.status != "NOT SUPPORTED"]
    # Where latency was not measured, a float graph that passes parity is not chosen by any images.
    exact = best.precision in FLOAT_PRECISIONS and best.parity is not None and best.parity.passed
    by_order = exact and best.latency is None
    if figures is not None and best.choice_accuracy is None and len(rivals) > 1 and not by_order:
        warnings.append("chosen by the validation images themselves, as there are no calibration images to choose by")
    for used in (figures, best.choice_accuracy):
        if used is not None and used.skipped_images:
            were = "was" if used.skipped_images == 1 else "were"
            warnings.append(f"{_count_images(used.skipped_images)} could not be read and {were} not counted")
        if used is not None and used.no_agreement:
            warnings.append(used.no_agreement)
    if figures is None or best.precision == "fp32":  # whose equality is a matter of arithmetic, not of samples
        return tuple(dict.fromkeys(warnings))
    warnings.extend(_list_noisy(figures))
    drop, high = figures.drop_points, figures.drop_high
    if drop is not None and high is not None and drop <= budget.max_drop_points < high:
        warnings.append(
            f"{figures.images} images cannot tell a {'kNN ' if figures.task == 'embed' else ''}drop "
            f"of {drop:.2f} points from one of {high:.2f}, which is over the budget of {budget.max_drop_points:g}"
        )
    least, low, share = get_least_agreement(figures, budget), figures.agreement_low, figures.agreement_percent
    if not figures.labelled and low is not None and share is not None and low < least <= share / 100:
        what = "a recall@1" if figures.task == "embed" else "an agreement"
        warnings.append(
            f"{figures.images} images cannot tell {what} of {format_agreement(figures)} from one of "
            f"{100 * low:.2f} %, which is under {100 * least:g} %"
        )
    return tuple(dict.fromkeys(warnings))


def _list_noisy(figures: Accuracy) -> list[str]:
    """That one image makes much of the noise of all, as where it has values that calibration has not seen."""
    noisy, worst = figures.noisiest, figures.worst_level
    if noisy is None or noisy.sqnr_db is None or worst is None or figures.images < _FEW_IMAGES:
        return []
    if noisy.share < _MUCH_NOISE or noisy.sqnr_db > worst[1] - _CLEAR_DB:
        return []
    return [
        f"{100 * noisy.share:.0f} % of the noise is that of one image of {figures.images}, {noisy.file}, which keeps "
        f"{noisy.sqnr_db:.1f} dB where all together keep {worst[1]:.1f}: look at its answer, and calibrate with images "
        "like it"
    ]


def _count_images(count: int) -> str:
    return "1 image" if count == 1 else f"{count} images"


def suggest_accuracy(
    best: Variant, figures: Accuracy | None, *, replaced: bool = False, labels: bool = True
) -> str | None:
    """How to get a build whose ``figures`` are within the budget.

    Not by float where it has ``replaced`` the best; nor by labelled images where no ``labels`` judge the outputs.
    """
    steps = []
    worst = figures.worst_level if figures is not None else None
    if worst is not None:
        kept = figures.kept if figures is not None else None
        also = "" if kept is None else f" --min-kept {math.floor(kept[1] * 10) / 10:g}"
        steps.append(f"allow {best.name} with --min-sqnr {math.floor(worst[1] * 10) / 10:g}{also}")
    elif figures is not None and figures.cosine_mean is not None:
        steps.append(f"allow {best.name} with {_allow_embedding(figures)}")
    elif figures is not None and figures.drop_points is not None:
        steps.append(f"allow {best.name} with --max-drop {_round_up(figures.drop_points)}")
    elif labels:
        steps.append("give labelled images, to judge by top-1 instead of agreement")
    if best.precision != "fp32" and not replaced:
        steps.append("build --precision fp32")
    return ", or ".join(steps) or None


def suggest_evidence(best: Variant, *, labels: bool = True) -> str | None:
    """What would let the next build judge more; no labels where none could judge the outputs."""
    if best.accuracy is not None and (best.accuracy.labelled or best.accuracy.task in DENSE_TASKS or not labels):
        return None
    if not labels or (best.accuracy is None and best.parity is not None and best.parity.agreement is None):
        return "give images with --validation to judge the accuracy"
    return "give labelled images with --validation to judge the accuracy"


def compare_baseline(variants: Sequence[Variant], best: Variant) -> str:
    """``best`` against the first variant, for the end of a sentence; nothing where they are the same."""
    baseline = variants[0]
    if best.ratio is None or best.ratio.low <= 1 <= best.ratio.high:
        return ""
    return f", {format_ratio(best.ratio)} × the latency of {baseline.name}"


def format_ratio(ratio: Ratio) -> str:
    """``0.62 (0.60–0.64)``."""
    return f"{ratio.value:.2f} ({ratio.low:.2f}–{ratio.high:.2f})"


def describe_tiers(report: Report) -> tuple[str, ...]:
    """A line an instruction set that engines were judged under: ``under AVX2: int8 28.1 dB and agreement 99.50 %``."""
    return tuple(
        f"under {TIERS[cast(TierName, tier)].title if tier in TIERS else tier}: "
        + ", ".join(f"{v.name} {_describe_under(v)}" for v in variants)
        for tier, variants in report.tiers.items()
    )


def _describe_under(variant: Variant) -> str:
    if variant.status == "NOT SUPPORTED":
        return "does not run"
    if variant.parity is not None and not variant.parity.passed:
        return "computes something else"
    figures = variant.accuracy or variant.choice_accuracy
    if figures is None:
        return "passes parity"
    parts = [] if figures.sqnr_db is None else [f"{figures.sqnr_db:.1f} dB"]
    if figures.agreement is not None:
        parts.append(f"{name_agreement(figures)} {format_agreement(figures)}")
    return " and ".join(parts) or "equals the float model"


def describe_settings(trial: SettingsTrial, *, alone: bool = True) -> str:
    """``settings: threads = 2, 0.81 (0.79–0.83) of the latency of the engine library's own choice``.

    The library is named, unless it is ``alone``: that of all variants.
    """
    named = ", ".join(f"{key} = {value}" for key, value in trial.settings.items())
    library = "the engine library" if alone else trial.library
    return f"settings: {named}, {format_ratio(trial.ratio)} of the latency of {library}'s own choice"


def describe_end_to_end(found: EndToEnd, name: str) -> str:
    """``end to end: 8.5 ms = decode 1.1 + resize 1.4 + int8 engine 5.9 + answer 0.1``, in 80 columns.

    Args:
        found: The times.
        name: The variant's, left out where it would not fit.
    """
    total = found.total_ms
    digits = 2 if total < 1 else 1 if total < 100 else 0

    def write(engine: str) -> str:
        parts = {engine if part == "engine" else part: ms for part, ms in found.parts_ms.items()}
        summands = " + ".join(f"{part} {ms:.{digits}f}" for part, ms in parts.items())
        return f"end to end: {total:.{digits}f} ms = {summands}"

    named = write(f"{name} engine")
    return named if len(named) <= _COLUMNS else write("engine")


def list_end_to_end_risks(best: Variant) -> tuple[str, ...]:
    """That the engine is not what an app waits for, where it is less than half of that."""
    found = best.end_to_end
    if found is None or found.shares["engine"] >= 0.5:
        return ()
    others = sorted((part for part in found.parts_ms if part != "engine"), key=lambda part: -found.parts_ms[part])
    shares = [f"{part} {100 * found.shares[part]:.0f} %" for part in ("engine", *others)]
    return (
        f"the engine is less than half of what an app waits for ({found.photo}: {', '.join(shares)}): "
        "a faster engine gains little",
    )


def format_share(variant: Variant, other: Variant) -> str:
    """``half``, ``twice``, ``0.26 of``, ``3.9 times`` the size."""
    share = variant.size_bytes / max(1, other.size_bytes)
    for value, word in ((0.5, "half"), (2.0, "twice")):
        if abs(share / value - 1) < 0.05:
            return word
    return f"{share:.2f} of" if share < 1 else f"{share:.2g} times"


def format_agreement(figures: Accuracy) -> str:
    """100 % only where it is all of them."""
    whole = figures.agreement == figures.images
    return "100 %" if whole else f"{min(figures.agreement_percent or 0.0, 99.99):.2f} %"


def _allow_embedding(figures: Accuracy) -> str:
    """The options that let these figures pass."""
    assert figures.cosine_mean is not None
    options = [f"--min-cosine {math.floor(figures.cosine_mean * 1e4) / 1e4:g}"]
    if figures.drop_points is not None:
        options.append(f"--max-drop {_round_up(max(0.0, figures.drop_points))}")
    elif figures.agreement_percent is not None:
        options.append(f"--min-recall {math.floor(figures.agreement_percent * 10) / 10:g}")
    return " ".join(options)


def _round_up(points: float) -> str:
    return f"{math.ceil(points * 100 - 1e-6) / 100:.2f}"
