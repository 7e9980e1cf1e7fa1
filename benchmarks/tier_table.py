"""The results of the benchmark by tier as Markdown: a table a model, a column a tier."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.bars import Outcome, judge_bars
from benchmarks.int8_table import show_figure
from benchmarks.tier_bars import list_bars
from edgevit.core.isa import TIERS, TierName

_PACKAGES = ("openvino", "nncf", "torch", "timm", "edgevit")
_RATIOS = {
    "float32": "int8 over NNCF's faster, float32 around both",
    "default": "int8-bf16 over NNCF's faster, OpenVINO's default",
    "chosen": "chosen over NNCF's fastest of both forms",
    "float in float32": "fp32 over timm's faster, float32",
    "float in default": "bf16 over timm's faster, OpenVINO's default",
    "padding, int8": "int8, padded tokens over not padded",
    "padding, bf16": "bf16, padded tokens over not padded",
    "padding, fp32": "fp32, padded tokens over not padded",
}
_DASH = "–"


def render_table(data: Mapping[str, Any]) -> str:
    """The content of ``results/tiers.md``, from that of ``results/tiers.json``."""
    machine, rows = data["machine"], data["rows"]
    packages = ", ".join(f"{p} {machine['packages'][p]}" for p in _PACKAGES if p in machine["packages"])
    parts = [
        "# Instruction sets, in tiers",
        "",
        f"{machine['cpu']}, {machine['usable_cores']} usable cores{', virtual' if machine['virtual'] else ''}; "
        f"{packages}. Written by `make bench`; how it measures: [benchmarks/README.md](../README.md).",
        "",
        name_absent(data["absent"]),
        *_list_bars(rows),
    ]
    for model, row in rows.items():
        parts += ["", f"## `{model}`", "", *_list_figures(row), *_list_notes(row)]
    return "\n".join(parts) + "\n"


def name_absent(absent: list[TierName]) -> str:
    """Which tiers this machine cannot stand for, with the instructions that it lacks."""
    if not absent:
        return "This machine has all of the usual tiers."
    names = [f"{TIERS[tier].title} ({', '.join(TIERS[tier].flags)})" for tier in absent]
    return f"Not measured, as this machine does not have them: {'; '.join(names)}."


def list_outcomes(rows: Mapping[str, Any]) -> list[Outcome]:
    """The bars of every model under every tier that it was run under."""
    found: list[Outcome] = []
    for model, row in rows.items():
        for tier in _list_tiers(row):
            found += judge_bars(rows, tuple(bar for bar in list_bars(tier) if bar.model == model))
    return found


def show_outcome(outcome: Outcome) -> tuple[str, ...]:
    """Model, tier, figure, bar, measured, status."""
    bar = outcome.bar
    digits = 3 if "over" in bar.label else 2
    measured = show_figure({"value": outcome.value, "low": outcome.low, "high": outcome.high}, digits)
    title = next(tier.title for name, tier in TIERS.items() if name == bar.path[1])
    return (f"`{bar.model}`", title, bar.label, f"{bar.relation} {bar.limit}", measured, outcome.status)


def _list_tiers(row: Mapping[str, Any]) -> list[TierName]:
    return [tier for tier in TIERS if tier in row["tiers"]]


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _head(*cells: str) -> Iterator[str]:
    yield _row(*cells)
    yield _row(*("---" for _ in cells))


def _list_bars(rows: Mapping[str, Any]) -> Iterator[str]:
    outcomes = list_outcomes(rows)
    if outcomes:
        yield from ("", "## Bars", "")
        yield from _head("model", "tier", "figure", "bar", "measured (95 %)", "")
        yield from (_row(*show_outcome(outcome)) for outcome in outcomes)


def _list_figures(row: Mapping[str, Any]) -> Iterator[str]:
    tiers = _list_tiers(row)
    found = [row["tiers"][tier] for tier in tiers]
    yield from _head("", *(TIERS[tier].title for tier in tiers))
    yield _row(
        "load average before", *(f"{tier['load_average'][0]:.1f}" if tier["load_average"] else _DASH for tier in found)
    )
    yield _row("images judged", *(_count_images(tier) for tier in found))
    yield _row("OpenVINO's default computes in", *(tier["default"] for tier in found))
    for name in _unite(found, "engines", "refused", "wrong"):
        yield _row(f"{name}: p50, ms", *(_show_latency(tier, name) for tier in found))
    for key, title in _RATIOS.items():
        if any(key in tier["ratios"] for tier in found):
            yield _row(title, *(_show_ratio(tier["ratios"].get(key), key == "chosen") for tier in found))
    for name in _unite(found, "accuracy"):
        for key, title, digits in (("agreement_percent", "agreement, %", 2), ("sqnr_db", "logit SQNR, dB", 1)):
            yield _row(
                f"{name}: {title}",
                *(show_figure(tier["accuracy"].get(name, {}).get(key), digits) for tier in found),
            )


def _count_images(tier: Mapping[str, Any]) -> str:
    return next((str(figures["images"]) for figures in tier["accuracy"].values()), _DASH)


def _show_latency(tier: Mapping[str, Any], name: str) -> str:
    if name in tier["refused"]:
        return "refused"
    if name in tier["wrong"]:
        return f"wrong (correlation {tier['wrong'][name]:.2f})"
    return f"{tier['engines'][name]['p50_ms']:.2f}" if name in tier["engines"] else _DASH


def _show_ratio(ratio: Mapping[str, Any] | None, named: bool) -> str:
    if ratio is None:
        return _DASH
    return f"{ratio['ours']}: {show_figure(ratio, 3)}" if named else show_figure(ratio, 3)


def _list_notes(row: Mapping[str, Any]) -> Iterator[str]:
    for tier in _list_tiers(row):
        for name, reason in row["tiers"][tier]["refused"].items():
            yield from ("", f"{TIERS[tier].title}, {name} is refused: {reason}.")


def _unite(found: Sequence[Mapping[str, Any]], *sections: str) -> list[str]:
    """In the order of the newest tier, which has most of them."""
    return list(dict.fromkeys(name for tier in reversed(found) for section in sections for name in tier[section]))
