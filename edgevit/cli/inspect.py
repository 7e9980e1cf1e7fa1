"""``edgevit inspect``: what a checkpoint or a bundle is; nothing is built."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from edgevit.cli.options import LABELS, TEMPLATES, WEIGHTS, preprocess_options, read_preprocess, read_size
from edgevit.cli.output import Output, output_options
from edgevit.core.task import WHOLE_TASKS

if TYPE_CHECKING:
    from edgevit.build.inspect import BundleInspection, CheckpointInspection
    from edgevit.checkpoints.files.contents import WhichWeights
    from edgevit.core.pass_record import PassRecord

_TEMPLATES = 3


@click.command("inspect", short_help="Show what a checkpoint or a bundle is; nothing is built.")
@click.argument("source")
@click.option("--arch", metavar="NAME", help="Architecture, for a file of bare weights (deit_tiny_patch16_224).")
@click.option(
    "--image-size", type=read_size, metavar="PIXELS|HxW", help="Height and width, instead of the checkpoint's own."
)
@WEIGHTS
@LABELS
@TEMPLATES
@preprocess_options
@output_options
def command(
    output: Output,
    source: str,
    arch: str | None,
    image_size: tuple[int, int] | None,
    weights: WhichWeights | None,
    **options: Any,
) -> int:
    """Show what a checkpoint or a bundle is; nothing is built.

    Of a checkpoint: architecture, parameters, MACs, preprocessing, labels and the sites that can be quantised.
    Of a bundle: its engine, its figures, its files, and what was folded and fused where, or not and why. Every file is
    hashed; exit status 1 says that one is not as built. edgevit check lets the engine answer besides.

    \b
    Examples:
      edgevit inspect ./my_model
      edgevit inspect weights.safetensors --arch deit_tiny_patch16_224
      edgevit inspect ./clip --labels labels.txt
      edgevit inspect model.onnx
      edgevit inspect ./my_model-intel-cpu
    """
    from edgevit.build.inspect import CheckpointInspection, inspect_source
    from edgevit.core.schema import to_data

    found = inspect_source(
        source,
        arch=arch,
        image_size=image_size,
        weights=weights,
        preprocess=read_preprocess(options),
        labels=options["labels"],
        templates=options["templates"],
    )
    if isinstance(found, CheckpointInspection):
        output.document(to_data(found))
        _show_checkpoint(output, found)
        return 0
    output.document({**to_data(found), "manifest": found.manifest.to_data()})
    _show_bundle(output, found)
    return 1 if found.damage else 0


def _show_checkpoint(output: Output, found: CheckpointInspection) -> None:
    from edgevit.cli.tables import format_count, make_pairs, make_table

    labels = found.labels or ()
    some = ", ".join(labels[:3]) + (", …" if len(labels) > 3 else "")
    share = found.attention_macs / max(found.macs, 1)
    classes = f"{len(labels) or found.classes}" + (f": {some}" if labels else ", without names")
    pairs = {
        "checkpoint": found.source.path,
        "revision": found.source.revision,
        "layout": found.source.layout,
        "architecture": f"{found.source.architecture} ({found.family})",
        "task": found.task,
        "input": f"{found.input_size[0]} × {found.input_size[1]} pixels",
        "preprocessing": found.preprocess,
        "classes": None if found.task in WHOLE_TASKS and not labels else classes,
        "templates": _list_templates(found.source.templates),
        "parameters": format_count(found.parameters),
        "MACs": f"{format_count(found.macs)} an image, {share:.1%} of them in the products of attention",
        "note": "\n".join(found.source.notes),
    }
    output.show(make_pairs(pairs))
    output.line()
    output.line(f"Quantizable sites ({len(found.sites)}):")
    table = make_table(["site", "layer", "shape", "parameters", "MACs"], right={"parameters", "MACs"})
    for site in found.sites:
        shape = f"{site.shape[0]} → {site.shape[1]}" + "".join(f", {k}" for k in site.shape[2:3])
        table.add_row(site.name, site.kind, shape, format_count(site.parameters), format_count(site.macs))
    output.show(table)
    if found.passes:
        output.line()
        output.line("How the graph was read:")
        for record in found.passes:
            show_pass(output, record)


def _show_bundle(output: Output, found: BundleInspection) -> None:
    from edgevit.cli.tables import format_bytes, make_pairs, make_table, make_verdict_table
    from edgevit.cli.verdict import describe_engine, show_end_to_end

    manifest, report = found.manifest, found.report
    origin = {key: manifest.source.get(key, "unknown") for key in ("architecture", "path", "layout")}
    pairs = {
        "bundle": found.path,
        "model": f"{origin['architecture']} from {origin['path']} ({origin['layout']})",
        "target": f"{manifest.target.name} ({manifest.target.title})",
        "engine": describe_engine(manifest),
        "input": ", ".join(f"{s.name} {s.dtype} {_shape(s.shape)}" for s in manifest.inputs),
        "output": ", ".join(f"{s.name} {s.dtype} {_shape(s.shape)}" for s in manifest.outputs),
        "images a call": _describe_batch(manifest.batch),
        "preprocessing": manifest.preprocess.describe(),
        "classes": str(manifest.classes),
        "templates": _list_templates(manifest.templates),
        "canary": _describe_canary(found),
        "files": "\n".join(("not as built:", *found.damage)) if found.damage else "all as built",
        "created": f"{manifest.created}, edgevit {manifest.edgevit_version}",
        "note": "\n".join(report.notes),
    }
    output.show(make_pairs(pairs))
    if report.variants:
        output.line()
        output.show(make_verdict_table(report), "")
        show_end_to_end(output, report)
        output.show(report.verdict.sentence)
    output.line()
    output.line("Folded and fused:")
    for record in report.passes:
        show_pass(output, record)
    if report.fusion:
        output.line()
        output.line("What the engine library made of it:")
        for precision, fusion in report.fusion.items():
            output.line(f"  {precision}, {fusion.compiler} for {fusion.device}: {fusion.describe()}")
            for text, sites in fusion.leftovers().items():
                output.line(f"    {text}: {len(sites)} ({_range(sites)})")
            for note in fusion.notes:
                output.line(f"    {note}")
    output.line()
    files = make_table(["file", "size", "SHA-256"], right={"size"})
    for name, file in manifest.files.items():
        files.add_row(name, format_bytes(file.size_bytes), file.sha256[:16] + "…")
    output.show(files)


def _list_templates(templates: Sequence[str]) -> str:
    """The first ones, a line each."""
    rest = len(templates) - _TEMPLATES
    return "\n".join([*templates[:_TEMPLATES], *([f"and {rest} more"] if rest > 0 else [])])


def _describe_canary(found: BundleInspection) -> str:
    """What it holds, and whether the next opening answers it."""
    from edgevit.runtime.canary import name_db

    record = found.manifest.canary
    if record is None:
        return "" if found.manifest.portable else "none: nothing tells whether it answers here as where it was built"
    count = f"{record.images} image{'' if record.images == 1 else 's'}"
    if record.place is None:
        return f"{count}, at least {record.least_db:.1f} dB; the engine was not run at the build"
    held = f"{count}, {name_db(record.sqnr_db)} at the build, at least {record.least_db:.1f} dB"
    if found.differences is None:
        return f"{held}; it does not open here"
    if not found.differences:
        return f"{held}; this is the place where it was judged"
    differs = "; ".join(f"{part} {here}, at the build {built}" for part, (here, built) in found.differences.items())
    return f"{held}\nthis place differs, so its first opening here answers it: {differs}"


def _describe_batch(batch: tuple[int, int, int]) -> str:
    least, usual, largest = batch
    return str(least) if least == largest else f"{least} to {largest}, {usual} at its best"


def _shape(shape: tuple[int | str, ...]) -> str:
    return "(" + ", ".join(str(side) for side in shape) + ")"


def show_pass(output: Output, record: PassRecord) -> None:
    """One line, and one for each reason why places were left alone."""
    if not record.enabled:
        output.prose(f"{record.name}: switched off", indent=2)
        return
    places = len(record.applied)
    which = f" ({_range(record.applied)})" if places else ""
    output.prose(f"{record.name}: {places} place{'' if places == 1 else 's'}{which}", indent=2)
    reasons: dict[str, list[str]] = {}
    for skip in record.skipped:
        reasons.setdefault(skip.reason, []).append(skip.site)
    for reason, sites in reasons.items():
        count = f"{len(sites)} ({_range(tuple(sites))})" if len(sites) > 2 else _range(tuple(sites))
        output.prose(f"left alone: {count}: {reason}", indent=4)


def _range(sites: tuple[str, ...]) -> str:
    return ", ".join(sites) if len(sites) <= 2 else f"{sites[0]} … {sites[-1]}"
