"""finish_bundle: compile and measure a portable bundle on the device that it is for."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from edgevit.build.bench import Bench, Stages
from edgevit.build.conclude import Background, BuildResult, conclude
from edgevit.build.here import try_here
from edgevit.build.lock import lock_output
from edgevit.build.order import Order, find_place
from edgevit.build.pack import check_output
from edgevit.build.pack_result import pack_result
from edgevit.build.portable import list_quantized, read_portable_evidence, read_portable_graphs, read_portable_recipe
from edgevit.build.precisions import Precisions, choose_precisions
from edgevit.build.tiers import plan_tiers
from edgevit.build.verdict.sentences import describe_accuracy
from edgevit.core.cache import StageCache
from edgevit.core.command import write_command
from edgevit.core.errors import BundleError, DeviceError, OutputError
from edgevit.core.progress import Progress, ignore_progress
from edgevit.core.report.report import GraphSummary, Report, Variant
from edgevit.measure.machine.local import describe_machine
from edgevit.pixels.class_names import takes_labels
from edgevit.runtime.bundle import REPORT_FILE, Bundle, load_bundle, verify_bundle
from edgevit.runtime.manifest import Manifest
from edgevit.runtime.pack_file import lend_folder


def finish_bundle(
    path: Path, *, out: Path | None = None, progress: Progress = ignore_progress, cache: StageCache | None = None
) -> BuildResult:
    """Compile a portable bundle's graph here, check it against the float model's stored answers, and measure it.

    Parity and latency are measured here. Accuracy is not, as the bundle holds no set of images; what the build found on
    the graph goes into the report's notes.

    Args:
        path: The portable bundle; of a packed one ``out`` has to be given.
        out: The finished bundle's folder; the portable one is replaced by default.
        progress: Told about every stage.
        cache: Compiled engines; by default the user's.

    Raises:
        BundleError: It is damaged, has an engine already, or sets what a bundle may not set.
        DeviceError: This machine cannot compile for the bundle's target; everything that is missing is listed.
    """
    refuse_finished(path)
    with lend_folder(path) as folder:
        if out is None and folder != path:
            raise OutputError(f"{path} is a packed bundle, which finish does not replace", "give --out, a folder")
        return _finish(folder, out or path, progress, cache or StageCache())


def refuse_finished(path: Path, *options: str) -> None:
    """Refuse a bundle that has an engine, before anything else is asked of it.

    Args:
        path: As the user gave it.
        options: For ``edgevit bench``, which is suggested.

    Raises:
        BundleError: It has one, or its manifest cannot be read.
    """
    manifest = load_bundle(path).manifest
    if not manifest.portable:
        raise BundleError(
            f"{path} is finished: it has an engine for {manifest.target.title}",
            f"measure it with {write_command('bench', path, *options)}",
        )


def _finish(path: Path, out: Path, progress: Progress, cache: StageCache) -> BuildResult:
    bundle = verify_bundle(path)
    manifest = bundle.manifest
    recipe = read_portable_recipe(bundle)
    place = find_place(manifest.target)
    if not place.measures:
        raise DeviceError(
            f"the bundle of {manifest.name} cannot be finished here: {'; '.join(place.missing)}",
            f"run edgevit finish on {manifest.target.title}",
        )
    before = Report.load(path / REPORT_FILE)
    quantized = list_quantized(manifest)
    tier = plan_tiers(manifest.target).floats
    precisions = choose_precisions(manifest.target, recipe, calibrated=bool(quantized), tier=tier)
    left = tuple(v for v in before.variants if v.precision in quantized and v.status == "ACCURACY DROP")
    tried = tuple(p for p in precisions.tried if p not in [v.precision for v in left])
    # Where the build found all of them outside the budget, what is chosen misses it here as there.
    order = Order(manifest.target, recipe, before.budget, place, Precisions(tried or precisions.tried))
    graphs = read_portable_graphs(bundle, before, order.precisions.tried)
    background = _describe(bundle, before, left if tried else ())
    stages = Stages(before.stages)
    with lock_output(out) as lock:
        check_output(out)
        with stages.time("finish"):
            bench = Bench(read_portable_evidence(bundle), cache, progress, stages=stages)
            outcome = try_here(graphs, order, bench)
        findings = conclude(outcome, graphs, order, bench, background)
        return pack_result(findings, graphs, bench, out, lock)


def _describe(bundle: Bundle, before: Report, left: tuple[Variant, ...]) -> Background:
    return Background(
        manifest=bundle.manifest,
        source=before.source,
        preprocess=before.preprocess,
        base=GraphSummary(before.passes, before.op_counts),
        machine=describe_machine(),
        data=before.data,
        notes=(*before.notes, *_recall_accuracy(before, bundle.manifest)),
        before=before,
        left=tuple(_leave_out(v) for v in left),
    )


def _leave_out(variant: Variant) -> Variant:
    """A variant that missed the accuracy budget at the build, where alone it could be judged."""
    reason = f"not compiled here: at the build, {variant.reason}"
    return dataclasses.replace(variant, accuracy=None, choice_accuracy=None, parity=None, reason=reason)


def _recall_accuracy(before: Report, manifest: Manifest) -> tuple[str, ...]:
    labels = takes_labels(manifest.scores, manifest.classes)
    alike: dict[str, list[str]] = {}
    for variant in before.variants:
        if variant.accuracy is not None:
            alike.setdefault(describe_accuracy(variant, labels=labels), []).append(variant.name)
    return tuple(
        f"at the build, the graph of {' and '.join(names)} in ONNX Runtime had {words}"
        for words, names in alike.items()
    )
