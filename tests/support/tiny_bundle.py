"""A tiny bundle of a tiny classifier."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgevit.build.canary import make_canary
from edgevit.build.evidence import Evidence
from edgevit.build.pack import pack_bundle
from edgevit.core.engine import TensorSpec
from edgevit.core.report.place import CANARY_FILE
from edgevit.core.target import load_target
from edgevit.engines.compile import compile_engine
from edgevit.pixels.preprocess import Preprocess
from edgevit.runtime.bundle import Bundle
from edgevit.runtime.manifest import Manifest
from tests.support.tiny_onnx import CLASSES, SIZE, compute_logits, make_images, write_classifier

PREPROCESS = Preprocess(SIZE, SIZE, "shortest", SIZE, SIZE, "bicubic", (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
LABELS = tuple(f"class {i}" for i in range(CLASSES))


def make_manifest(**changes: Any) -> Manifest:
    """A manifest without files; portable unless an engine is given."""
    fields: dict[str, Any] = {
        "name": "tiny",
        "task": "classify",
        "created": "2026-01-01T00:00:00+00:00",
        "edgevit_version": "0.1.0",
        "target": load_target("cpu"),
        "inputs": (TensorSpec("image", (1, SIZE, SIZE, 3), "uint8"),),
        "outputs": (TensorSpec("logits", (1, CLASSES), "float32"),),
        "preprocess": PREPROCESS,
        "classes": CLASSES,
        "labels": LABELS,
        "source": {"path": "checkpoints/tiny", "layout": "timm hub folder"},
        "figures": {"top1_percent": 85.33, "latency_p50_ms": 1.5},
    }
    return Manifest(**{**fields, **changes})


def make_bundle(
    out: Path,
    work: Path,
    *,
    target: str = "cpu",
    precision: str = "fp32",
    batch: tuple[int, int, int] | None = None,
    canary: bool = False,
    seed: int = 0,
    **changes: Any,
) -> Bundle:
    """Compile the tiny classifier, of weights by ``seed``, in ``work`` and pack it; with a canary on demand."""
    work.mkdir(parents=True, exist_ok=True)
    model = write_classifier(work / "optimized.onnx", batch="batch" if batch else 1, seed=seed)
    engine = compile_engine(model, load_target(target), precision, work / "engine", batch=batch)
    files: dict[str, Path | bytes] = {name: engine.directory / name for name in engine.files}
    files |= {"recipe.toml": b'name = "float"\n', "report.json": b"{}\n"}
    if canary:
        made = make_canary(engine, make_evidence())
        assert made is not None
        files[CANARY_FILE], changes["canary"] = made
    manifest = make_manifest(
        engine=engine, target=load_target(target), precision=precision, batch=engine.batch, **changes
    )
    return pack_bundle(out, files=files, manifest=manifest)


def make_evidence(images: int = 5) -> Evidence:
    """Pixels, and what the classifier makes of them in numpy."""
    pixels = make_images(images)
    return Evidence(PREPROCESS, pixels, (compute_logits(pixels).astype(np.float32),))


def make_portable_bundle(out: Path, work: Path) -> Bundle:
    """A bundle without an engine, for a Jetson."""
    work.mkdir(parents=True, exist_ok=True)
    model = write_classifier(work / "optimized.onnx")
    files: dict[str, Path | bytes] = {"model.onnx": model, "recipe.toml": b"", "report.json": b"{}\n"}
    return pack_bundle(out, files=files, manifest=make_manifest(target=load_target("jetson")))
