"""pack_result: write the bundle of what a build came to, or only its report where no variant can be used."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from edgevit.build.canary import make_canary
from edgevit.build.conclude import BuildResult, Findings
from edgevit.build.pack import pack_bundle
from edgevit.build.portable import collect_portable_files
from edgevit.build.tier_process import run_under
from edgevit.build.tiers import plan_tiers
from edgevit.core.report.place import CANARY_FILE
from edgevit.runtime.bundle import RECIPE_FILE, REPORT_FILE
from edgevit.runtime.manifest import Manifest

if TYPE_CHECKING:
    from edgevit.build.bench import Bench
    from edgevit.build.evidence import Evidence
    from edgevit.build.lock import OutputLock
    from edgevit.build.trial import GraphFile


def pack_result(
    findings: Findings, graphs: Mapping[str, GraphFile], bench: Bench, out: Path, lock: OutputLock
) -> BuildResult:
    """Write the bundle: the chosen engine with its canary or, for the device to compile, the graphs.

    Where no variant can be used, only the report is written, beside ``out``.
    """
    report, manifest = findings.report, findings.manifest
    if report.verdict.chosen is None:
        path = out.with_name(f"{out.name}.{REPORT_FILE}")
        report.save(path)
        bench.note(f"no bundle was written; the report is {path}")
        return BuildResult(None, report, None)
    if manifest.engine is None:
        content = collect_portable_files(graphs, manifest.outputs, findings.evidence, bench.cache)
    else:
        manifest, content = _collect_engine_files(manifest, findings.evidence)
    content[RECIPE_FILE] = findings.recipe.dumps().encode()
    content[REPORT_FILE] = report.dumps().encode()
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    bundle = pack_bundle(out, files=content, manifest=dataclasses.replace(manifest, created=now), lock=lock)
    return BuildResult(bundle.path, report, bundle.manifest)


def _collect_engine_files(manifest: Manifest, evidence: Evidence) -> tuple[Manifest, dict[str, Path | bytes]]:
    """The engine's files and its canary, with the canary's record in the manifest."""
    engine = manifest.engine
    assert engine is not None
    content: dict[str, Path | bytes] = {name: engine.directory / name for name in engine.files}
    # where it was judged, and without the sets of images, which need not travel there
    few = dataclasses.replace(evidence, choice=None, validation=None)
    canary = run_under(plan_tiers(manifest.target).ranked, make_canary, engine, few)
    if canary is not None:
        content[CANARY_FILE], record = canary
        manifest = dataclasses.replace(manifest, canary=record)
    return manifest, content
