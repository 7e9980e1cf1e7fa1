"""Bundles with a report of every kind of finding, made without a build; for the page of ``edgevit report``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgevit.build.pack import pack_bundle
from edgevit.core.pass_record import PassRecord, Skip
from edgevit.core.quantization import QuantizationRecord, SetBack, SiteRecord
from edgevit.core.report.fusion_record import FusionRecord
from edgevit.core.report.report import (
    Accuracy,
    ClassChange,
    ColdStart,
    DataUse,
    Latency,
    Machine,
    Ratio,
    Report,
    Throughput,
    Variant,
    Verdict,
)
from edgevit.core.target import Budget
from edgevit.runtime.bundle import Bundle
from tests.support.tiny_bundle import LABELS, make_manifest

MACHINE = Machine(
    "A processor", ("avx2", "fma"), 4, 8, 8, "Debian", "6.1", "3.11.7", "x86_64", {"edgevit": "0.1.0", "numpy": "2.4"}
)


TIMES: dict[str, Any] = {
    **{name: {"p50_ms": ms} for name, ms in (("decode", 2.0), ("resize", 8.0), ("engine", 4.0), ("answer", 2.0))},
    **{"image": "a.jpg", "width": 640, "height": 480, "format": "JPEG", "method": "one by one"},
}


@dataclass(frozen=True)
class AnsweredVariant(Variant):
    """A variant whose report has the times from file to answer."""

    end_to_end: Any = None


def make_latency(p50: float, **changes: Any) -> Latency:
    fields = {"p90_ms": 1.2 * p50, "p99_ms": 1.5 * p50, "mean_ms": p50, "std_ms": 0.1, "min_ms": 0.9 * p50}
    return Latency(1, 100, 10, 1.0, p50, **{**fields, "method": "in turns, from uint8 to float32", **changes})


def make_accuracy(top1: int, *, images: int = 200, **changes: Any) -> Accuracy:
    """Against a float model that has 180 of 200 right."""
    fields: dict[str, Any] = {
        "agreement": 190,
        "agreement_low": 0.91,
        "agreement_high": 0.97,
        "top1": top1,
        "top5": 199,
    }
    fields |= {"reference_top1": 180, "reference_top5": 199, "gained": 2, "lost": 2 + 180 - top1}
    fields |= {"drop_points": 100 * (180 - top1) / images, "drop_low": -1.25, "drop_high": 1.75, "sqnr_db": 31.5}
    return Accuracy(images=images, labelled=True, **{**fields, **changes})


def make_report(**changes: Any) -> Report:
    """Three variants, of which INT8 is chosen."""
    changed = (ClassChange(3, 20, 18, 16),)
    variants = (
        Variant("fp32", "fp32", 4_000_000, make_latency(8.125), Ratio(1.0, 1.0, 1.0, 20), accuracy=make_accuracy(180)),
        Variant("fp16", "fp16", 2_000_000, make_latency(9.25), Ratio(1.14, 1.1, 1.2, 20), accuracy=make_accuracy(180)),
        Variant(
            "int8",
            "int8",
            1_000_000,
            make_latency(4.375),
            Ratio(0.54, 0.5, 0.6, 20),
            ColdStart(100.0, 50.0, 5.0),
            Throughput(400.0, 2, 1.0, 400),
            make_accuracy(179, per_class=changed),
            status="CHOSEN",
            reason="fastest of three",
        ),
    )
    variants = (replace(variants[0], status="SLOWER"), replace(variants[1], status="TOO SLOW"), variants[2])
    sites = (
        SiteRecord("blocks.0.attn.q", "int8", "", 40.0),
        SiteRecord("blocks.0.mlp.fc2", "float", "it makes most noise", 20.0),
        *(SiteRecord(f"blocks.{i}.mlp.fc1", "int8", "", 45.0 + i) for i in range(14)),
    )
    set_back = SetBack(("blocks.0.mlp.fc2",), 16, 2, 3, 64, 1.5, 0.25, True)
    record = QuantizationRecord(
        100, sites=sites, groups={"blocks.*.mlp.fc1": 33.0}, fallback=("blocks.0.mlp.fc2",), set_back=set_back
    )
    passes = (
        PassRecord("split_qkv", "module", ("blocks.0.attn", "blocks.1.attn")),
        PassRecord("layer_scale", "module", (), (Skip("blocks", "the model has no layer scale"),)),
        PassRecord("fuse_gelu", "graph", enabled=False),
    )
    fields: dict[str, Any] = {
        "source": {"path": "checkpoints/tiny", "architecture": "vit_tiny"},
        "target": "cpu",
        "budget": Budget(),
        "machine": MACHINE,
        "variants": variants,
        "verdict": Verdict("int8", True, "int8 is chosen: it is fast", ("it was noisy",), "build again"),
        "preprocess": "resize to 32 × 32",
        "passes": passes,
        "op_counts": {"MatMul": 12, "Softmax": 2},
        "data": {
            "calibration": DataUse("train", 100, True, "a" * 64),
            "validation": DataUse("val", 200, True, "b" * 64, 3),
        },
        "notes": ("a default was assumed",),
        "quantization": {"int8": record},
        "fusion": {"int8": FusionRecord("a compiler 1.0", "SM86", 101, {"blocks.0.attn": "fp16"}, casts=("cast 1",))},
    }
    return Report(**{**fields, **changes})


def make_empty_report() -> Report:
    """What a build for another machine without images leaves: nothing was measured, nothing judged."""
    return make_report(
        variants=(Variant("fp32", "fp32", 0, status="NOT MEASURED"),),
        verdict=Verdict("fp32", True, "parity only"),
        data={},
        passes=(),
        op_counts={},
        quantization={},
        fusion={},
        notes=(),
    )


def write_page_bundle(out: Path, report: Report, labels: Sequence[str] = LABELS, **changes: Any) -> Bundle:
    """A folder with the report; portable, so that it needs no engine."""
    files: dict[str, Path | bytes] = {"model.onnx": b"", "recipe.toml": b"", "report.json": report.dumps().encode()}
    return pack_bundle(out, files=files, manifest=make_manifest(labels=tuple(labels), **changes))
