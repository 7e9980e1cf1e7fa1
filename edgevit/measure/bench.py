"""Latency of bundles, interleaved in one run."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgevit.core.errors import BundleError, DataError, format_offenders
from edgevit.core.progress import Progress, ignore_progress
from edgevit.core.report.conditions import Conditions
from edgevit.core.report.report import ColdStart, EndToEnd, Latency, Machine, Ratio, Throughput
from edgevit.core.report.timings import SYNTHETIC
from edgevit.runtime.canary import CanaryCheck, Check

if TYPE_CHECKING:
    from edgevit.core.engine import Setting
    from edgevit.runtime.manifest import Manifest


@dataclass(frozen=True)
class BundleFigures:
    """One bundle's part of a comparison.

    Attributes:
        ratio: Latency over the first bundle's; ``None`` for the first itself.
        canary: Whether it answers here as where it was judged.
        end_to_end: From an image file to the answer, where that was asked for.
    """

    bundle: str
    model: str
    target: str
    precision: str
    latency: Latency
    ratio: Ratio | None = None
    throughput: Throughput | None = None
    cold_start: ColdStart | None = None
    canary: CanaryCheck | None = None
    end_to_end: EndToEnd | None = None


@dataclass(frozen=True)
class Comparison:
    """Bundles that were measured together, where, and what the sensors said meanwhile."""

    machine: Machine
    bundles: tuple[BundleFigures, ...]
    conditions: Conditions | None = None


def bench_bundles(
    bundles: Sequence[str | Path],
    *,
    runs: int = 100,
    seconds: float = 5.0,
    batch: int | None = None,
    settings: Mapping[str, Setting] | None = None,
    throughput: bool = False,
    cold_start: bool = False,
    end_to_end: str | Path | None = None,
    check: Check = "auto",
    public_key: str | os.PathLike[str] | None = None,
    seed: int = 0,
    progress: Progress = ignore_progress,
) -> Comparison:
    """Time bundles in turns on the same pixels, so that their ratios hold on a machine that is not quiet.

    Args:
        bundles: Folders; the first is what the others are compared with.
        runs: Least number of timed calls each.
        seconds: Least time in them, each.
        batch: Images a call; by default the first bundle's best batch.
        settings: Over the bundles' own; see ``edgevit/runtime/settings.py``.
        throughput: Also measure images a second with several callers.
        cold_start: Also measure load, first inference and memory of fresh processes.
        end_to_end: Also measure the way from an image file to the answer, with this file or, where that is
            ``synthetic``, with a drawn photo of 640 × 480.
        check: Whether each bundle's canary is answered first; see :func:`edgevit.runtime.open_bundle`.
        public_key: Of whoever has to have signed all of them; see :func:`edgevit.runtime.open_bundle`.
        seed: Of the pixels, which are random: the time of these engines does not depend on them.
        progress: Told between turns.

    Raises:
        BundleError: A bundle is damaged, not signed with that key, portable, or takes another image size or batch than
            the first.
        DeviceError: An engine cannot be opened here, or answers something else than where it was judged.
    """
    from edgevit.measure.cold_start import measure_cold_start
    from edgevit.measure.end_to_end import App, measure_end_to_end
    from edgevit.measure.latency import measure_latency, measure_throughput
    from edgevit.measure.machine.local import describe_machine
    from edgevit.measure.machine.watch import Watch
    from edgevit.measure.photo import draw_photo, read_photo
    from edgevit.runtime import open_bundle
    from edgevit.runtime.bundle import load_bundle

    names = [str(bundle) for bundle in bundles]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated or not names:
        raise DataError(f"given twice: {', '.join(repeated)}" if repeated else "no bundles", "name each bundle once")
    photo = None if end_to_end is None else draw_photo() if end_to_end == SYNTHETIC else read_photo(end_to_end)
    opened = {name: load_bundle(name, public_key=public_key) for name in names}
    engines = {name: bundle.engine for name, bundle in opened.items()}
    first = opened[names[0]].manifest
    size = batch or first.batch[1]
    _check_inputs({name: bundle.manifest for name, bundle in opened.items()}, size)
    height, width = first.preprocess.height, first.preprocess.width
    pixels = np.random.default_rng(seed).integers(0, 256, (size, height, width, 3), dtype=np.uint8)
    machine = describe_machine()  # before the load that measuring is
    with contextlib.ExitStack() as stack:
        predictors = {
            name: stack.enter_context(open_bundle(name, settings=settings, check=check, public_key=public_key))
            for name in names
        }
        sessions = {name: predictor.session for name, predictor in predictors.items()}
        watch = Watch(progress)
        measured = measure_latency(sessions, pixels, runs=runs, seconds=seconds, progress=watch)
        apps = {
            name: App(p.session, p.preprocess, p.manifest.task, p.labels, p.manifest.scores)
            for name, p in predictors.items()
        }
        answered = measure_end_to_end(apps, photo, progress=progress) if photo is not None else {}
    rows = []
    for done, name in enumerate(names):
        manifest = opened[name].manifest
        row = BundleFigures(
            bundle=name,
            model=manifest.name,
            target=manifest.target.name,
            precision=manifest.precision,
            latency=measured.latencies[name],
            ratio=measured.ratios.get(name),
            canary=predictors[name].canary,
            end_to_end=answered.get(name),
        )
        if throughput:
            progress("throughput", done, len(names))
            row = dataclasses.replace(row, throughput=measure_throughput(engines[name], pixels, seconds))
        if cold_start:
            progress("cold start", done, len(names))
            row = dataclasses.replace(row, cold_start=measure_cold_start(name))
        rows.append(row)
    for stage, wanted in (("throughput", throughput), ("cold start", cold_start)):
        if wanted:
            progress(stage, len(names), len(names))
    return Comparison(machine, tuple(rows), watch.conditions)


def _check_inputs(manifests: Mapping[str, Manifest], batch: int) -> None:
    """All take the same pixels, or nobody is timed."""
    first, *others = manifests
    shape = manifests[first].inputs[0].shape[1:]
    offenders = [
        f"{name} takes images of shape {manifests[name].inputs[0].shape[1:]}, {first} of {shape}"
        for name in others
        if manifests[name].inputs[0].shape[1:] != shape
    ]
    for name, manifest in manifests.items():
        least, _, largest = manifest.batch
        if not least <= batch <= largest:
            takes = f"{least} to {largest} images" if least < largest else f"{least} image{'s' if least > 1 else ''}"
            offenders.append(f"{name} takes {takes} a call, not {batch}")
    if offenders and not others:
        least, _, largest = manifests[first].batch
        raise BundleError(offenders[0], f"give --batch {least}" + (f" to {largest}" if least < largest else ""))
    if offenders:
        raise BundleError(
            "these bundles cannot be timed on the same pixels:\n" + format_offenders(offenders),
            "compare bundles of one image size and give a --batch that all of them take",
        )
