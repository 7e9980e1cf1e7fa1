"""The figures of a page, drawn by matplotlib as SVG that lies in HTML: its text is text, its colours are the page's.

Nothing is told by colour only: series differ by the shape of their marks, and the chosen variant's are filled.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MARKS = ("o", "s", "^", "D", "v", "P", "X", "p")
_INK, _FAINT, _PAPER = "#010203", "#040506", "#070809"
_SERIES = ("#0a0b00", "#0a0b01", "#0a0b02", "#0a0b03")
_COLOURS = {
    _INK: "currentColor",
    _FAINT: "var(--line)",
    _PAPER: "var(--card)",
    **{colour: f"var(--series{place})" for place, colour in enumerate(_SERIES)},
}
"""Colours that stand for those of the style sheet, so that a figure follows it from light to dark."""

_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "text.parse_math": False,  # a dollar in a folder's name is a dollar
    "text.color": _INK,
    "axes.edgecolor": _FAINT,
    "axes.labelcolor": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": True,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "grid.color": _FAINT,
    "grid.linewidth": 0.6,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}
_WIDTH = 4.9  # inches of 72 points: so wide that nothing shrinks much on a telephone
_LONGEST = 26
_CROWDED = 100
"""Points, of more of which each has a smaller mark."""
_WIDE = 12
"""Times the smallest latency, from which on an axis is logarithmic."""


@dataclass(frozen=True)
class Timing:
    """A row of :func:`draw_latency`: percentiles of a call in ms."""

    label: str
    p50: float
    p90: float
    p99: float
    least: float
    chosen: bool = False


@dataclass(frozen=True)
class Point:
    """A variant in :func:`draw_tradeoff`: its p50 in ms, and its quality with the interval's ends where known.

    With an empty label it has only its mark.
    """

    label: str
    latency: float
    quality: float
    low: float | None = None
    high: float | None = None
    chosen: bool = False
    front: bool = False


@dataclass(frozen=True)
class Limits:
    """The budget's lines, where there are any, and what they are called."""

    quality: float | None = None
    latency: float | None = None
    names: tuple[str, str] = ("least of the budget", "most of the budget")


def draw_latency(rows: Sequence[Timing]) -> str:
    """A row a variant, from its fastest call to its p99, with marks at p50, p90 and p99.

    Args:
        rows: From the top; at least one.

    Returns:
        SVG, to stand in HTML as it is.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, 0.85 + 0.3 * len(rows)), layout="constrained")
        axes = figure.add_subplot()
        for height, row in enumerate(reversed(rows)):
            axes.plot([row.least, row.p99], [height, height], color=_INK, linewidth=1, solid_capstyle="butt")
            axes.plot([row.p50, row.p90], [height, height], color=_INK, linewidth=4, solid_capstyle="butt")
            face = _INK if row.chosen else _PAPER
            axes.plot(row.p50, height, "o", color=_INK, markerfacecolor=face, markersize=7)
            axes.plot(row.p90, height, "|", color=_INK, markersize=12, markeredgewidth=1.6)
            axes.plot(row.p99, height, "x", color=_INK, markersize=6)
        axes.set_yticks(range(len(rows)), [_shorten(row.label) for row in reversed(rows)])
        axes.set_ylim(-0.6, len(rows) - 0.4)
        _scale_latency(axes, [row.p99 for row in rows] + [row.least for row in rows], "ms a call")
        if axes.get_xscale() == "linear":
            axes.set_xlim(left=0, right=1.04 * max(row.p99 for row in rows))
        axes.grid(axis="x")
        axes.tick_params(length=0)
        axes.spines["left"].set_visible(False)
        return _save(figure, "latency")


def draw_tradeoff(series: Mapping[str, Sequence[Point]], measure: str, limits: Limits) -> str:
    """Accuracy against latency, with the front and the budget's lines.

    Args:
        series: By bundle; each has a mark of its own.
        measure: The quality and its unit, as ``top-1, %``.
        limits: Of the budget.

    Returns:
        SVG, to stand in HTML as it is.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    points = [point for group in series.values() for point in group]
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, 3.4 + (0.2 * len(series) if len(series) > 1 else 0)), layout="constrained")
        axes = figure.add_subplot()
        front = sorted((p.latency, p.quality) for p in points if p.front)
        ring: dict[str, Any] = {
            "marker": "o",
            "markersize": 13,
            "markerfacecolor": "none",
            "markeredgewidth": 0.8,
            "linewidth": 1,
        }
        axes.plot([x for x, _ in front], [y for _, y in front], color=_INK, label="no other is better", **ring)
        size = 7 if len(points) <= _CROWDED else 3.5
        for place, (name, group) in enumerate(series.items()):
            _draw_group(axes, group, _MARKS[place % len(_MARKS)], _SERIES[place % len(_SERIES)], _shorten(name), size)
        if limits.quality is not None:
            axes.axhline(limits.quality, color=_INK, linestyle=(0, (5, 3)), linewidth=1, label=limits.names[0])
        if limits.latency is not None:
            axes.axvline(limits.latency, color=_INK, linestyle=(0, (1, 2)), linewidth=1, label=limits.names[1])
        axes.margins(0.13, 0.13)
        _scale_latency(axes, [point.latency for point in points], "p50, ms a call")
        axes.set_ylabel(measure)
        axes.grid()
        axes.tick_params(length=0)
        axes.ticklabel_format(axis="y", useOffset=False)
        handles, labels = axes.get_legend_handles_labels()
        shown = [pair for pair in zip(handles, labels, strict=True) if len(series) > 1 or pair[1] not in series]
        handles, labels = [handle for handle, _ in shown], [label for _, label in shown]
        figure.legend(handles, labels, loc="outside upper left", frameon=False, ncols=2, fontsize=8)
        _label_points(figure, axes, points)
        return _save(figure, "tradeoff")


def _draw_group(axes: Axes, group: Sequence[Point], mark: str, colour: str, name: str, size: float) -> None:
    for point in group:
        if point.low is not None and point.high is not None:
            axes.plot([point.latency] * 2, [point.low, point.high], color=colour, linewidth=0.7, alpha=0.6)
    for face, chosen in ((_PAPER, False), (colour, True)):  # at once: a sweep has a thousand
        drawn = [(point.latency, point.quality) for point in group if point.chosen == chosen]
        style: dict[str, Any] = {"color": colour, "markerfacecolor": face, "markersize": 7 if chosen else size}
        axes.plot([x for x, _ in drawn], [y for _, y in drawn], mark, **style)
    axes.plot([], [], mark, color=colour, markerfacecolor=_PAPER, label=name)


def _label_points(figure: Figure, axes: Axes, points: Sequence[Point]) -> None:
    """Each point's label at the first place around it that no other label or mark takes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.text import Text
    from matplotlib.transforms import Bbox

    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # lays the axes out, and measures text
    renderer = canvas.get_renderer()
    centres = [axes.transData.transform((p.latency, p.quality)) for p in points]
    taken = [Bbox.from_extents(x - 5, y - 5, x + 5, y + 5) for x, y in centres]
    rings = [(dx, dy) for d in range(9, 90, 11) for dy in (d, -d) for dx in (5, -5, 26, -26)]
    for point in sorted((p for p in points if p.label), key=lambda p: (not p.chosen, p.latency)):
        places = [(9, -3), (-9, -3), *rings]
        for dx, dy in places:
            text = axes.annotate(
                point.label,
                (point.latency, point.quality),
                (dx, dy),
                textcoords="offset points",
                ha="left" if dx > 0 else "right",
                fontsize=8,
                fontweight="bold" if point.chosen else "normal",
                bbox={"facecolor": _PAPER, "edgecolor": "none", "pad": 0.6},  # no line strikes it through
                arrowprops={"arrowstyle": "-", "color": _FAINT, "lw": 0.7} if abs(dy) > 5 else None,
            )
            text.update_positions(renderer)
            box = Bbox.from_extents(*Text.get_window_extent(text, renderer).extents)  # without its line
            inside = axes.bbox.x0 <= box.x0 and box.x1 <= axes.bbox.x1
            if inside and axes.bbox.y0 <= box.y0 and box.y1 <= axes.bbox.y1 and not box.count_overlaps(taken):
                taken.append(box)
                break
            text.remove()


def _scale_latency(axes: Axes, values: Sequence[float], label: str) -> None:
    """Logarithmic where the largest would push the others together."""
    from matplotlib.ticker import LogLocator, NullFormatter

    if 0 < _WIDE * min(values) < max(values):
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
        label = f"{label} (logarithmic)"
    axes.set_xlabel(label)


def _shorten(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 9]}…{text[-8:]}"


def _save(figure: Figure, name: str) -> str:
    """As an element of HTML: without the file's head, and without ids that another figure of the page has too."""
    import matplotlib as mpl

    stream = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": name + str(id(figure))}):
        figure.savefig(stream, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    text = re.sub(r' xmlns(:\w+)?="[^"]*"', "", text)  # HTML knows both
    text = re.sub(r'<g id="[^"]*"', "<g", text)
    text = re.sub(r' width="[\d.]+pt" height="[\d.]+pt"', "", text, count=1)
    for colour, ours in _COLOURS.items():
        text = text.replace(colour, ours)
    return text.replace("<svg", '<svg aria-hidden="true"', 1)
