"""The results of the INT8 benchmark as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.bars import judge_bars
from benchmarks.int8_accuracy import compare_flips

_PACKAGES = ("openvino", "nncf", "onnxruntime", "torch", "timm", "edgevit")

_FLIPS = (
    "",
    "Lost and won: images that only the float model answers right, and only the engine. p: McNemar's exact test of "
    "the two being equally likely.",
)


def render_table(data: Mapping[str, Any]) -> str:
    """The content of ``results/int8.md``, from that of ``results/int8.json``."""
    machine, rows = data["machine"], data["rows"]
    packages = ", ".join(f"{p} {machine['packages'][p]}" for p in _PACKAGES if p in machine["packages"])
    parts = [
        "# INT8 against peers",
        "",
        f"{machine['cpu']}, {machine['usable_cores']} usable cores{', virtual' if machine['virtual'] else ''}; "
        f"{packages}. Written by `make bench`; how it measures: [benchmarks/README.md](../README.md).",
        *_section("Bars", _list_bars(rows)),
        *_section("Accuracy on held-out images", _list_accuracy(rows)),
        *(_FLIPS if any("accuracy" in row for row in rows.values()) else ()),
        *_section("Latency, batch 1", _list_latency(rows)),
        *_section("Distance to the machine", _list_distance(rows)),
        *_section("Cost of quantising", _list_cost(rows)),
    ]
    return "\n".join(parts) + "\n"


def show_figure(figure: Mapping[str, Any] | None, digits: int) -> str:
    """``0.81 (0.80–0.82)``; a dash where there is none."""
    if figure is None or figure.get("value") is None:
        return "–"
    text = f"{figure['value']:.{digits}f}"
    if figure.get("low") is None or figure.get("high") is None:
        return text
    return f"{text} ({figure['low']:.{digits}f} to {figure['high']:.{digits}f})"


def _section(title: str, lines: Iterator[str]) -> list[str]:
    found = list(lines)
    return ["", f"## {title}", "", *found] if len(found) > 2 else []  # two lines are only the head


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _head(*cells: str) -> Iterator[str]:
    yield _row(*cells)
    yield _row(*("---" for _ in cells))


def _list_bars(rows: Mapping[str, Any]) -> Iterator[str]:
    yield from _head("model", "figure", "bar", "measured (95 %)", "")
    for o in judge_bars(rows):
        digits = 3 if "over" in o.bar.label else 2
        limit = f"{o.bar.relation} {o.bar.limit}"
        if isinstance(o.bar.limit, str) and o.limit is not None:
            limit += f" ({o.limit:.{digits}f})"
        measured = show_figure({"value": o.value, "low": o.low, "high": o.high}, digits)
        if o.bar.path[-1] == "drop_points" and o.value is not None:
            measured += f"; {_show_flips(rows[o.bar.model]['accuracy'][o.bar.path[1]])}"
        yield _row(f"`{o.bar.model}`", o.bar.label, limit, measured, o.status)


def _list_accuracy(rows: Mapping[str, Any]) -> Iterator[str]:
    yield from _head(
        "model", "engine", "images", "agreement, %", "logit SQNR, dB", "top-1, %", "drop, points", "answers"
    )
    for model, row in rows.items():
        for engine, found in row.get("accuracy", {}).items():
            if "note" in found:
                yield _row(f"`{model}`", engine, found["note"], *"–––––")
                continue
            yield _row(
                f"`{model}`",
                engine,
                str(found["images"]),
                show_figure(found["agreement_percent"], 2),
                show_figure(found["sqnr_db"], 1),
                show_figure(found["top1_percent"], 2),
                show_figure(found["drop_points"], 2),
                _show_flips(found),
            )


def _show_flips(found: Mapping[str, Any]) -> str:
    lost, gained = found["lost"], found["gained"]
    p = compare_flips(lost, gained)
    return f"{lost} lost, {gained} won, p {f'{p:.2f}' if p >= 0.01 else '< 0.01'}"


def _list_latency(rows: Mapping[str, Any]) -> Iterator[str]:
    yield from _head("model", "engine", "p50, ms", "p90, ms", "ours over it (95 %)")
    for model, row in rows.items():
        latency = row.get("latency", {})
        for engine, found in latency.get("engines", {}).items():
            ratio = show_figure(latency["ratios"].get(engine), 3)
            yield _row(f"`{model}`", engine, f"{found['p50_ms']:.2f}", f"{found['p90_ms']:.2f}", ratio)


def _list_distance(rows: Mapping[str, Any]) -> Iterator[str]:
    yield from _head("model", "GMAC", "best int8 rate, GMAC/s (at M×K×N)", "at that rate, ms", "ours over it (95 %)")
    for model, row in rows.items():
        found = row.get("latency", {}).get("distance")
        if found is not None:
            yield _row(
                f"`{model}`",
                f"{found['gmacs']:.2f}",
                f"{found['best_gmacs_per_second']:.0f} ({found['best_shape']})",
                f"{found['ideal_ms']:.2f}",
                show_figure(found["ratio"], 2),
            )


def _list_cost(rows: Mapping[str, Any]) -> Iterator[str]:
    yield from _head("model", "images", "quantiser", "seconds", "peak memory, MiB")
    for model, row in rows.items():
        cost = row.get("cost", {})
        for engine, found in cost.get("quantisers", {}).items():
            memory = f"{found['peak_bytes'] / 2**20:.0f}"
            yield _row(f"`{model}`", str(cost["images"]), engine, f"{found['seconds']:.1f}", memory)
