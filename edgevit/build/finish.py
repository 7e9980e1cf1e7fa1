"""finish_bundle: compile and measure a portable bundle on the device that it is for."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

from edgevit.build.conclude import BuildResult, add_circumstances, choose_and_start, pack_result
from edgevit.build.lock import lock_output
from edgevit.build.pack import check_output
from edgevit.build.portable import list_quantized, read_portable_evidence, read_portable_graphs, read_portable_recipe
from edgevit.build.precisions import FLOAT_PRECISIONS, choose_precisions
from edgevit.build.rehearsal import read_fusion
from edgevit.build.tiers import plan_tiers
from edgevit.build.verdict.quantized import judge_calibration
from edgevit.build.verdict.sentences import describe_accuracy
from edgevit.core.cache import StageCache
from edgevit.core.errors import BundleError, DeviceError
from edgevit.core.progress import Progress, ignore_progress
from edgevit.core.report.report import Report, Variant, Verdict
from edgevit.engines.availability import target_status
from edgevit.measure.machine.local import describe_machine
from edgevit.runtime.bundle import REPORT_FILE, verify_bundle


def finish_bundle(
    path: Path, *, out: Path | None = None, progress: Progress = ignore_progress, cache: StageCache | None = None
) -> BuildResult:
    """Compile a portable bundle's graph here, check it against the float model's stored answers, and measure it.

    Parity and latency are measured here. Accuracy is not, as the bundle holds no set of images; what the build found on
    the graph goes into the report's notes.

    Args:
        path: The portable bundle.
        out: The finished bundle's folder; the portable one is replaced by default.
        progress: Told about every stage.
        cache: Compiled engines; by default the user's.

    Raises:
        BundleError: It is damaged, has an engine already, or sets what a bundle may not set.
        DeviceError: This machine cannot compile for the bundle's target; everything that is missing is listed.
    """
    cache = cache or StageCache()
    bundle = verify_bundle(path)
    manifest = bundle.manifest
    if not manifest.portable:
        raise BundleError(
            f"{path} is finished: it has an engine for {manifest.target.title}", f"measure it with edgevit bench {path}"
        )
    recipe = read_portable_recipe(bundle)
    status = target_status(manifest.target)
    if not (status.buildable and status.runnable):
        raise DeviceError(
            f"{path} cannot be finished here: {'; '.join(status.missing)}",
            f"run edgevit finish on {manifest.target.title}",
        )
    out = out or path
    before = Report.load(path / REPORT_FILE)
    quantized = list_quantized(manifest)
    tier = plan_tiers(manifest.target).floats
    precisions = choose_precisions(manifest.target, recipe, calibrated=bool(quantized), tier=tier)
    left = tuple(v for v in before.variants if v.precision in quantized and v.status == "ACCURACY DROP")
    tried = tuple(p for p in precisions.tried if p not in [v.precision for v in left])
    # Where the build found all of them outside the budget, what is chosen misses it here as there.
    graphs = read_portable_graphs(bundle, tried or precisions.tried)
    machine, start = describe_machine(), time.perf_counter()
    with lock_output(out) as lock:
        check_output(out)
        evidence = read_portable_evidence(bundle)
        choice = choose_and_start(
            graphs,
            manifest.target,
            recipe,
            before.budget,
            evidence,
            cache,
            labels=manifest.labels,
            progress=progress,
        )
        found, variants, verdict = choice.found, choice.variants, choice.verdict
        chosen = next((v.precision for v in variants if v.name == verdict.chosen), None)
        summary = before.graphs.get("float" if chosen in FLOAT_PRECISIONS else chosen or "")
        for name, record in (("int8", before.quantization), ("fp8", before.fp8)):
            if name in graphs:
                verdict = judge_calibration(verdict, record, chosen=chosen == name, untried="", name=name)
        verdict = _recall_judgement(verdict, before, chosen)
        if tried:
            variants += tuple(_leave_out(v) for v in left)
        report = add_circumstances(
            machine,
            dataclasses.replace(
                before,
                variants=variants,
                verdict=verdict,
                settings_tried=found.settings_tried,
                tiers=choice.tiers,
                conditions=found.conditions,
                fusion=read_fusion(found).fusion or before.fusion,
                passes=summary.passes if summary is not None else before.passes,
                op_counts=summary.op_counts if summary is not None else before.op_counts,
                graphs={},
                notes=(*before.notes, *_recall_accuracy(before)),
                stages={**before.stages, "finish": round(time.perf_counter() - start, 3)},
            ),
        )
        if verdict.chosen is None:
            report.save(out.with_name(f"{out.name}.{REPORT_FILE}"))
            return BuildResult(None, report, None)
        engine = next(t.engine for t in found.trials if t.variant.name == verdict.chosen)
        return pack_result(out, dataclasses.replace(manifest, engine=engine), recipe, report, {}, lock, evidence)


def _recall_judgement(verdict: Verdict, before: Report, precision: str | None) -> Verdict:
    """The device has no images to judge by; the build had, and judged the graph of the precision."""
    judged = next((v for v in before.variants if v.name == precision and v.accuracy is not None), None)
    if judged is None:
        return verdict
    return dataclasses.replace(
        verdict,
        sentence=f"{verdict.sentence}; its graph in ONNX Runtime, at the build: {describe_accuracy(judged)}",
        next_step="judge this engine itself with edgevit eval and the validation images",
    )


def _leave_out(variant: Variant) -> Variant:
    """A variant that missed the accuracy budget at the build, where alone it could be judged."""
    reason = f"not compiled here: at the build, {variant.reason}"
    return dataclasses.replace(variant, accuracy=None, choice_accuracy=None, parity=None, reason=reason)


def _recall_accuracy(before: Report) -> tuple[str, ...]:
    alike: dict[str, list[str]] = {}
    for variant in before.variants:
        if variant.accuracy is not None:
            alike.setdefault(describe_accuracy(variant), []).append(variant.name)
    return tuple(
        f"at the build, the graph of {' and '.join(names)} in ONNX Runtime had {words}"
        for words, names in alike.items()
    )
