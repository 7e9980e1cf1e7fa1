"""The bars of the benchmark by tier, and the ratios that they are set on.

A row of ``results/tiers.json`` is a model; ``row["tiers"][tier]`` has ``engines`` (latencies), ``ratios`` and
``accuracy`` (by engine).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from benchmarks.bars import Bar
from benchmarks.tier_files import UNPADDED
from benchmarks.tier_timing import FORMS, NNCF, TIMM, Found
from edgevit.core import schema
from edgevit.core.isa import TIERS, TierName
from edgevit.core.target import Budget

JUDGED = ("deit_tiny_imagenet", "swin_imagenette")
TIMED = ("deit_tiny_imagenet", "deit_small_patch16_224", "vit_base_patch16_224", "swin_tiny_patch4_window7_224")
DEFAULT_TIERS: tuple[TierName, ...] = ("avx2", "avx2_vnni", "avx512_vnni", "avx512_bf16", "amx")
FLOAT32, DEFAULT = FORMS
OURS = ("int8", "int8-bf16", "bf16", "fp32")


def list_bars(tier: TierName) -> Iterator[Bar]:
    """What figures under a tier must reach; see ``benchmarks/README.md``."""
    properties = TIERS[tier]
    at = ("tiers", tier)
    for model in JUDGED:
        yield Bar(model, (*at, "accuracy", "int8", "agreement_percent"), "int8: agreement, %", "≥", 99.0)
        yield Bar(
            model,
            (*at, "accuracy", "int8", "sqnr_db"),
            "int8: logit SQNR, dB",
            "≥",
            24.0 if properties.saturates else 26.0,
        )
        if properties.bf16:
            yield Bar(model, (*at, "accuracy", "bf16", "agreement_percent"), "bf16: agreement, %", "≥", 99.0)
            yield Bar(model, (*at, "accuracy", "bf16", "sqnr_db"), "bf16: logit SQNR, dB", "≥", 35.0)
    for model in TIMED:
        if "amx_int8" in properties.flags:
            yield Bar(model, (*at, "ratios", "chosen"), "chosen over NNCF's faster form", "≤", 0.75)
        elif not properties.saturates:
            yield Bar(model, (*at, "ratios", "float32"), "int8 over NNCF, float32 around both", "≤", 0.78)
            if properties.bf16:
                yield Bar(model, (*at, "ratios", "default"), "int8-bf16 over NNCF, OpenVINO's default", "≤", 0.78)


def compare_engines(found: Found, accuracy: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The ratios of a tier, each with the names of both engines.

    Args:
        found: Its timings.
        accuracy: By engine, as :func:`benchmarks.int8_accuracy.summarize_accuracy` gives it; empty for random weights.
    """
    timed = found.latency.latencies
    chosen = choose_engine({name: value.p50_ms for name, value in timed.items()}, accuracy)
    pairs = {
        "float32": ("int8", _find_fastest(found, NNCF, FLOAT32)),
        "default": (f"int8-{found.default}", _find_fastest(found, NNCF, DEFAULT)),
        "chosen": (chosen, _find_fastest(found, NNCF)),
        "float in float32": ("fp32", _find_fastest(found, TIMM, FLOAT32)),
        "float in default": (found.default, _find_fastest(found, TIMM, DEFAULT)),
        **{f"padding, {name}": (name, f"{name} {UNPADDED}") for name in ("int8", "bf16", "fp32")},
    }
    return {
        key: {**schema.to_data(found.latency.ratio(ours, other)), "ours": ours, "other": other}
        for key, (ours, other) in pairs.items()
        if ours in timed and other in timed
    }


def choose_engine(p50_ms: Mapping[str, float], accuracy: Mapping[str, Any]) -> str:
    """The fastest of ours that keeps the agreement of a build's budget, where that was measured; empty for none."""
    least = 100 * Budget().min_agreement
    able = [
        name
        for name in OURS
        if name in p50_ms and (name not in accuracy or accuracy[name]["agreement_percent"]["value"] >= least)
    ]
    return min(able, key=lambda name: p50_ms[name], default="")


def list_absent(asked: Collection[TierName], able: Collection[TierName]) -> tuple[TierName, ...]:
    """Tiers, of those asked for and the usual ones, that a machine does not have; from the oldest."""
    return tuple(tier for tier in TIERS if tier in {*asked, *DEFAULT_TIERS} and tier not in able)


def _find_fastest(found: Found, kind: str, form: str = "") -> str:
    """Empty where none was timed."""
    latencies = found.latency.latencies
    names = [name for name in latencies if name.startswith(kind) and name.endswith(form)]
    return min(names, key=lambda name: latencies[name].p50_ms, default="")
