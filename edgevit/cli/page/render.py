"""render_page: the document of a page to one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgevit.cli.page.figures import Limits, Point, Timing, draw_latency, draw_tradeoff
from edgevit.cli.tables import MISSING, format_bytes, format_ms, format_percent
from edgevit.core.report.task_figures import describe_figures

_WORST = 12
"""Sites that are shown at once; the others fold out."""


def render_page(document: Mapping[str, Any]) -> str:
    """The page of a document that :func:`edgevit.cli.page.document.make_document` made.

    Every text of a bundle is escaped: labels, names and paths are never markup. The page has no script, and forbids
    itself to load anything.

    Raises:
        ModuleNotFoundError: Jinja2 or matplotlib is not installed.
    """
    from markupsafe import Markup

    shown = clean_text(document)
    several = len(shown["bundles"]) > 1
    letters = {
        b["name"]: chr(ord("A") + place) if place < 26 else str(place) for place, b in enumerate(shown["bundles"])
    }
    template = open_templates().get_template("page.html")
    page: str = template.render(
        document=shown,
        bundles=shown["bundles"],
        comparison=shown["comparison"],
        letters=letters,
        several=several,
        latencies=[Markup(_draw_latencies([b])) for b in shown["bundles"]],
        tradeoffs=[Markup(_draw_tradeoffs([b], letters, None)) for b in shown["bundles"]],
        all_latencies=Markup(_draw_latencies(shown["bundles"], letters)) if several else "",
        all_tradeoffs=Markup(_draw_tradeoffs(shown["bundles"], letters, shown["comparison"])) if several else "",
        worst=_WORST,
        missing=MISSING,
    )
    return page


def open_templates() -> Any:
    """Jinja's environment of the pages' templates, which escapes every text and refuses names that it does not know."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("edgevit.cli", "page"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "ms": _or_dash(format_ms),
        "percent": _or_dash(format_percent),
        "size": _or_dash(format_bytes),
        "ending": lambda path: path if path.count("/") < 2 else "…/" + "/".join(path.split("/")[-2:]),
        "sentence": lambda text: text[:1].upper() + text[1:],
        "told": describe_figures,
        "number": lambda value, spec="g": MISSING if value is None else format(value, spec),
    }
    return environment


def _or_dash(function: Any) -> Any:
    return lambda value: MISSING if value is None else function(value)


def clean_text(value: Any) -> Any:
    """Text without halves of characters, which a file name that is no Unicode leaves and no file of UTF-8 holds."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, Mapping):
        return {clean_text(key): clean_text(item) for key, item in value.items()}
    return [clean_text(item) for item in value] if isinstance(value, list | tuple) else value


def _draw_latencies(bundles: Sequence[Mapping[str, Any]], letters: Mapping[str, str] | None = None) -> str:
    """Of one bundle all variants, of several the chosen ones; empty where nothing was measured."""
    rows = []
    for bundle in bundles:
        for variant in bundle["variants"]:
            latency = variant["latency"]
            if latency is None or (letters is not None and not variant["chosen"]):
                continue
            label = variant["name"] if letters is None else f"{letters[bundle['name']]} {variant['name']}"
            percentiles = (latency["p50_ms"], latency["p90_ms"], latency["p99_ms"], latency["min_ms"])
            rows.append(Timing(label, *percentiles, chosen=variant["chosen"]))
    return draw_latency(rows) if rows else ""


def _draw_tradeoffs(
    bundles: Sequence[Mapping[str, Any]], letters: Mapping[str, str], comparison: Mapping[str, Any] | None
) -> str:
    """Accuracy against latency; empty where no variant has both, or bundles have different measures."""
    measured = [bundle for bundle in bundles if bundle["measure"] is not None]
    if not measured or (comparison is not None and not comparison["one_measure"]):
        return ""
    front = None if comparison is None else {tuple(pair) for pair in comparison["front"]}
    series: dict[str, list[Point]] = {}
    for bundle in measured:
        for variant in bundle["variants"]:
            latency, quality = variant["latency"], variant["quality"]
            if latency is None or quality is None or variant["status"] in ("PARITY FAILED", "NOT SUPPORTED"):
                continue
            letter = letters[bundle["name"]]
            on = variant["on_front"] if front is None else (bundle["name"], variant["name"]) in front
            name = variant["name"] if front is None else f"{letter} {variant['name']}"
            ends = (quality["low"], quality["high"])
            point = Point(name, latency["p50_ms"], quality["value"], *ends, chosen=variant["chosen"], front=on)
            series.setdefault(bundle["name"] if front is None else f"{letter} {bundle['name']}", []).append(point)
    if not series:
        return ""
    measure = measured[0]["measure"]
    leasts = {bundle["measure"]["least"] for bundle in measured}
    mosts = {bundle["budget"]["max_latency_ms"] for bundle in measured}
    limits = Limits(leasts.pop() if len(leasts) == 1 else None, mosts.pop() if len(mosts) == 1 else None)
    return draw_tradeoff(series, ", ".join(filter(None, (measure["name"], measure["unit"]))), limits)
