"""Evaluation of the shared photos on nodes of Ray: the figures of one process, to the last digit.

The photos are the 600 validation images of ImageNet's categories and the 1,000 of Imagenette, with ImageNet's numbers;
the bundle is a DeiT-Ti in fp32, and its checkpoint answers every photo too. Nodes are raylets of this machine.
"""

from __future__ import annotations

import csv
import dataclasses
import os
import time
from pathlib import Path
from typing import Any

from edgevit.build.build import build_model
from edgevit.core.recipe import Recipe
from edgevit.core.schema import to_data
from edgevit.core.target import load_target
from edgevit.measure.evaluate import Evaluation, evaluate_bundle
from edgevit.remote.sweep.evaluate_on import evaluate_on

SETS = ("imagenet", "imagenette")


def write_set(assets: Path, folder: Path) -> Path:
    """A CSV of both sets, which lie beside it as links."""
    numbers = {name: i for i, name in enumerate((assets / "imagenet" / "wnids.txt").read_text().split())}
    rows = []
    for name in SETS:
        (folder / name).symlink_to((assets / name).resolve(), target_is_directory=True)
        with (assets / name / "validation.csv").open(newline="", encoding="utf-8") as stream:
            for row in csv.DictReader(stream):
                photo = Path(row["file"])
                label = numbers[photo.name.split("_")[0]] if name == "imagenette" else int(row["label"])
                rows.append((f"{name}/{photo}", label))
    path = folder / "photos.csv"
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([("file", "label"), *rows])
    return path


def evaluate_shared(assets: Path, folder: Path, nodes: tuple[int, ...] = (1, 3)) -> dict[str, Any]:
    """Without Ray, and on so many nodes with nothing kept; what differs from the first is named."""
    from tests.support.small_cluster import start_nodes

    photos, checkpoint = write_set(assets, folder), assets / "deit_tiny_imagenet"
    os.environ |= {"OMP_NUM_THREADS": "1", "EDGEVIT_CACHE": str(folder / "cache")}
    recipe = Recipe(precision="fp32", latency_runs=5, latency_seconds=0.05, tune_settings=False)
    bundle = build_model(checkpoint, load_target("intel-cpu"), out=folder / "bundle", recipe=recipe).bundle
    assert bundle is not None
    begun = time.monotonic()
    expected = evaluate_bundle(bundle, photos, reference=checkpoint)
    rows: list[dict[str, Any]] = [{"nodes": 0, "seconds": time.monotonic() - begun}]
    for count in nodes:
        simulated = start_nodes(count)
        try:
            begun = time.monotonic()
            options: dict[str, Any] = {"resume_folder": folder / f"kept-{count}", "reference": checkpoint}
            found = evaluate_on(simulated.address, bundle, photos, **options)
            seconds = time.monotonic() - begun
        finally:
            simulated.shutdown()
        rows.append({"nodes": count, "seconds": seconds, "differs": list_differences(found, expected)})
        print(rows[-1], flush=True)
    accuracy = expected.accuracy
    assert accuracy is not None
    return {"images": accuracy.images, "top1": accuracy.top1_percent, "sqnr_db": accuracy.sqnr_db, "rows": rows}


def list_differences(found: Evaluation, expected: Evaluation) -> list[str]:
    """Fields that are not equal in every digit, but for how the canary was looked at."""
    ours, theirs = (to_data(dataclasses.replace(e, canary=expected.canary)) for e in (found, expected))
    return sorted(name for name in {*ours, *theirs} if ours.get(name) != theirs.get(name))
