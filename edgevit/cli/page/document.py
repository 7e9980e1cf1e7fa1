"""make_document: everything that a page shows, as one plain document; docs/report.md has its schema."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from edgevit.cli.page.quality import Quality, find_front, measure_quality
from edgevit.cli.page.sources import Source
from edgevit.cli.page.thumbnails import list_changed_images
from edgevit.core.quantization import QuantizationRecord
from edgevit.core.report.report import Report, Variant
from edgevit.core.schema import to_data

SCHEMA_VERSION = 1

PARTS = ("decode", "resize", "engine", "answer")
"""From an image file to the answer, in this order."""


def make_document(sources: Sequence[Source]) -> dict[str, Any]:
    """The document behind a page: only dicts, lists, text, numbers, truth values and ``None``.

    Args:
        sources: The bundles, in the order of the page; at least one.
    """
    bundles = [_describe_bundle(source) for source in sources]
    return {"schema_version": SCHEMA_VERSION, "bundles": bundles, "comparison": _compare(bundles)}


def _describe_bundle(source: Source) -> dict[str, Any]:
    report, manifest = source.report, source.manifest
    variants, measure = _describe_variants(report)
    known = {
        "preprocess": report.preprocess,
        "data": report.data,
        "stages": report.stages,
        "notes": report.notes,
        "settings_tried": report.settings_tried,
        "passes": report.passes,
        "op_counts": report.op_counts,
        "graphs": report.graphs,
        "conditions": report.conditions,
    }
    return {
        "name": source.name,
        "path": source.path,
        "model": manifest.name,
        "task": manifest.task,
        "target": report.target,
        "precision": manifest.precision,
        "portable": manifest.portable,
        "random": manifest.for_trials,
        "created": manifest.created,
        "edgevit_version": manifest.edgevit_version,
        "source": to_data(report.source),
        "verdict": {"next_step": None, **to_data(report.verdict)},
        "budget": {"max_latency_ms": None, **to_data(report.budget)},
        "measure": measure,
        "variants": variants,
        "tiers": {name: [_list_figures(v) for v in tier] for name, tier in report.tiers.items()},
        "quantization": [_describe_quantization(*item) for item in report.quantization.items()],
        "changed_classes": _list_changed_classes(source),
        "changed_images": list_changed_images(source),
        "fusion": {
            precision: {**to_data(record), "summary": record.describe(), "leftovers": to_data(record.leftovers())}
            for precision, record in report.fusion.items()
        },
        "machine": to_data(report.machine),
        "methods": list(dict.fromkeys(v.latency.method for v in report.variants if v.latency is not None)),
        **{name: to_data(value) for name, value in known.items()},
    }


def _list_figures(variant: Variant) -> dict[str, Any]:
    """A variant's own fields, those without a figure as ``None``, and percentages of its counts."""
    names = ("latency", "ratio", "cold_start", "throughput", "parity", "accuracy", "choice_accuracy", "end_to_end")
    data = {**dict.fromkeys(names), **to_data(variant)}
    if data["end_to_end"] is not None:
        data["end_to_end"] |= _share_out(data["end_to_end"])
    for name in ("accuracy", "choice_accuracy"):
        figures = getattr(variant, name)
        if figures is not None:
            shares = ("top1_percent", "reference_top1_percent", "agreement_percent")
            absent = dict.fromkeys(("drop_points", "drop_low", "drop_high", "gained", "lost", "sqnr_db", "cosine_mean"))
            worst = figures.worst_level
            data[name] = {
                **absent,
                **data[name],
                **{share: getattr(figures, share) for share in shares},
                "worst_level": None if worst is None else list(worst),
            }
    return data


def _share_out(times: Mapping[str, Any]) -> dict[str, Any]:
    """What an app waits for, in its parts: their medians, and the share of each in the sum of all."""
    medians = {name: times[name]["p50_ms"] for name in PARTS}
    total = sum(medians.values())
    parts = [
        {"name": name, "p50_ms": p50, "percent": 100 * p50 / total if total else 0.0} for name, p50 in medians.items()
    ]
    return {"total_ms": total, "parts": parts}


def _describe_variants(report: Report) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """The variants with what is drawn of them, and what the measure is: by one set of images for all of them."""
    images = "validation" if any(v.accuracy is not None for v in report.variants) else "calibration"
    judged = [v.accuracy if images == "validation" else v.choice_accuracy for v in report.variants]
    found = [None if figures is None else measure_quality(figures, report.budget) for figures in judged]
    first = next((quality for quality in found if quality is not None), None)
    points = [_place(v, quality) for v, quality in zip(report.variants, found, strict=True)]
    rows = []
    for variant, quality, front in zip(report.variants, found, find_front(points), strict=True):
        drawn = None if quality is None else {"value": quality.value, "low": quality.low, "high": quality.high}
        chosen = variant.name == report.verdict.chosen
        rows.append({**_list_figures(variant), "chosen": chosen, "quality": drawn, "on_front": front})
    if first is None:
        return rows, None
    return rows, {"name": first.measure, "unit": first.unit, "least": first.least, "images": images}


def _place(variant: Variant, quality: Quality | None) -> tuple[float, float] | None:
    """Where a variant is drawn; ``None`` without a latency or a quality, and of one that computes something else."""
    if variant.latency is None or quality is None or variant.status in ("PARITY FAILED", "NOT SUPPORTED"):
        return None
    return variant.latency.p50_ms, quality.value


def _describe_quantization(precision: str, record: QuantizationRecord) -> dict[str, Any]:
    """A record, with the noise of every site and group as a share of the logits: 10^(-dB/20) in percent."""
    data = to_data(replace(record, sites=()))
    sites = [
        {
            "name": site.name,
            "precision": site.precision,
            "reason": site.reason,
            "sqnr_db": site.sqnr_db,
            "noise_percent": _to_percent(site.sqnr_db),
        }
        for site in record.sites
    ]
    groups = [
        {"name": name, "sqnr_db": sqnr_db, "noise_percent": _to_percent(sqnr_db)}
        for name, sqnr_db in sorted(record.groups.items(), key=lambda item: item[1])
    ]
    quantized = sum(site.precision == precision for site in record.sites)
    extra = {"precision": precision, "sites": sites, "groups": groups, "quantized": quantized}
    return {"set_back": None, **data, **extra}


def _to_percent(sqnr_db: float | None) -> float | None:
    return None if sqnr_db is None else 100 * 10 ** (-sqnr_db / 20)


def _list_changed_classes(source: Source) -> list[dict[str, Any]]:
    """Classes in which the chosen variant's right answers are more or fewer than the float model's."""
    report, labels = source.report, source.manifest.labels
    chosen = next((v for v in report.variants if v.name == report.verdict.chosen), None)
    if chosen is None or chosen.accuracy is None:
        return []
    return [
        {**to_data(change), "name": labels[change.label] if labels and change.label < len(labels) else None}
        for change in chosen.accuracy.per_class
    ]


def _compare(bundles: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Of several bundles: whether their measure is one, the front over all variants, and what weakens a comparison."""
    if len(bundles) < 2:
        return None
    cautions = ["each bundle was measured in its own build; edgevit bench with all of them lets them take turns"]
    if len({_name_machine(b) for b in bundles}) > 1:
        cautions.append("they were measured on different machines")
    validations = {b["data"].get(b["measure"]["images"], {}).get("sha256") for b in bundles if b["measure"]}
    if len(validations) > 1:
        cautions.append("they were judged by different images")
    batches = {v["latency"]["batch"] for b in bundles for v in b["variants"] if v["latency"]}
    if len(batches) > 1:
        cautions.append("their latencies are of calls with different numbers of images")
    measures = {(b["measure"]["name"], b["measure"]["unit"]) for b in bundles if b["measure"]}
    if len(measures) > 1:
        cautions.append("their accuracies are different measures, so no front is drawn over all of them")
    drawn = len(measures) == 1
    rows = [(b, v) for b in bundles for v in b["variants"]]
    front = find_front([_find_point(v) if drawn else None for _, v in rows])
    beaten_by_none = [[b["name"], v["name"]] for (b, v), on in zip(rows, front, strict=True) if on]
    return {"one_measure": drawn, "front": beaten_by_none, "cautions": cautions}


def _find_point(variant: Mapping[str, Any]) -> tuple[float, float] | None:
    if variant["latency"] is None or variant["quality"] is None:
        return None
    if variant["status"] in ("PARITY FAILED", "NOT SUPPORTED"):
        return None
    return variant["latency"]["p50_ms"], variant["quality"]["value"]


def _name_machine(bundle: Mapping[str, Any]) -> tuple[str, ...]:
    machine = bundle["machine"]
    return (machine["cpu"], str(machine["usable_cores"]), *(gpu["name"] for gpu in machine["gpus"]))
