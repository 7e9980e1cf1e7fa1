"""``edgevit eval``: accuracy of a bundle on images."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgevit.cli.options import check_option, key_option, on_option, read_source, refuse_missing
from edgevit.cli.output import WHOLE_LISTS, Output, output_options

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgevit.core.report.report import Accuracy
    from edgevit.measure.evaluate import Evaluation
    from edgevit.runtime.canary import Check


@click.command("eval", short_help="Measure accuracy, and agreement with the float model.")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--data", required=True, type=click.Path(path_type=Path), metavar="DATA", help="Images to judge by.")
@click.option(
    "--reference", metavar="CHECKPOINT", help="The checkpoint, to compare every answer with its float model's."
)
@click.option("--arch", metavar="NAME", help="Its architecture, where it is a file of bare weights.")
@click.option("--skip-bad-images", is_flag=True, help="Go on without images that cannot be read, and count them.")
@click.option(
    "--address", metavar="ADDR", help="Of a Ray cluster whose nodes answer; local: a Ray of this machine's own."
)
@click.option(
    "--resume-folder",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="With --address: where answers are kept, which a later run uses again; all nodes have to see it.",
)
@check_option
@key_option
@on_option
@output_options
def command(
    output: Output,
    bundle: Path,
    data: Path,
    reference: str | None,
    arch: str | None,
    skip_bad_images: bool,
    address: str | None,
    resume_folder: Path | None,
    check: Check,
    public_key: Path | None,
    host: str | None,
) -> None:
    """Measure a bundle's accuracy, and its agreement with the float model.

    Embeddings and features are compared with the float model's, so they need --reference.

    DATA is a folder with a folder per class, a CSV with the columns file and label, or tar or parquet files: one, a
    folder of them or a pattern. For boxes, keypoints and masks it is a COCO file; for depth and classes of pixels a
    folder with images and maps.

    With --address the images are answered on Ray, and a run that was interrupted goes on where it ended.

    \b
    Examples:
      edgevit eval ./bundle --data val/
      edgevit eval ./bundle --data val.csv --reference ./my_model
      edgevit eval ./bundle --data val.csv --on user@board
      edgevit eval ./bundle --data 'val-{000..049}.tar' --address local
      edgevit eval ./detector --data annotations/instances_val2017.json
    """
    from edgevit.core.errors import format_offenders, shorten_lists
    from edgevit.core.quantization import RANDOM_MARK
    from edgevit.core.schema import to_data
    from edgevit.measure.evaluate import evaluate_bundle
    from edgevit.runtime.manifest import load_manifest

    if address is not None and host is not None:
        raise click.UsageError("--address and --on are two places: give one of them")
    if address is None and resume_folder is not None:
        raise click.UsageError("--resume-folder is for --address; a Ray of this machine's own is --address local")
    refuse_missing({"bundle": bundle, "--data": data, "--reference": read_source(reference)})
    with output.progress() as progress:
        evaluate: Callable[..., Evaluation] = evaluate_bundle
        if address is not None:
            from edgevit.remote.sweep.evaluate_on import evaluate_on

            evaluate = partial(evaluate_on, address, resume_folder=resume_folder)
        elif host is not None:
            from edgevit.remote.answers import open_on
            from edgevit.remote.ssh import check_host

            open_with = partial(
                open_on,
                check_host(host),
                check=check,
                public_key=public_key,
                log=output.listen_to(host),
                progress=progress,
            )
            evaluate = partial(evaluate_bundle, open_with=open_with)
        result = evaluate(
            bundle,
            data,
            reference=reference,
            arch=arch,
            skip_bad_images=skip_bad_images,
            check=check,
            public_key=public_key,
            progress=progress,
        )
    if result.data.skipped:
        output.note("left out:\n" + shorten_lists(format_offenders(result.data.skipped), WHOLE_LISTS))
    output.document(to_data(result))
    _show(output, result)
    if load_manifest(bundle).for_trials:
        output.note(f"warning: {bundle} was {RANDOM_MARK}")
    for doubt in result.doubts:
        output.note(f"warning: {doubt}")
    for change in result.changes:
        if change.beyond_chance:
            output.note(f"warning: {change.describe()}")


def _show(output: Output, result: Evaluation) -> None:
    from edgevit.cli.tables import format_percent, make_pairs, make_table
    from edgevit.core.report.task_figures import describe_figures

    images, accuracy = result.data.images, result.accuracy
    skipped = f", {result.data.skipped_images} skipped" if result.data.skipped_images else ""
    pairs = {"images": f"{images}{skipped}"}
    for name, count in (("top-1", result.top1), ("top-5", result.top5)):
        if count is not None:
            pairs[name] = f"{100 * count / images:.2f} % ({count} of {images})"
    pairs.update(describe_figures(result.task_figures))
    if accuracy is not None:
        pairs.update(_describe_closeness(accuracy))
        if accuracy.task == "embed" and accuracy.top1_percent is not None:
            theirs = f"the float model's {accuracy.reference_top1_percent:.2f} %"
            pairs["kNN top-1"] = f"{accuracy.top1_percent:.2f} %, {theirs}"
        if accuracy.drop_points is not None:
            pairs["drop"] = (
                f"{accuracy.drop_points:.2f} points "
                f"(95 % interval {accuracy.drop_low:.2f} to {accuracy.drop_high:.2f}); "
                f"{accuracy.lost} lost, {accuracy.gained} gained"
            )
        low, high = accuracy.agreement_low, accuracy.agreement_high
        if accuracy.agreement_percent is not None and low is not None and high is not None:
            pairs["recall@1" if accuracy.task == "embed" else "agreement"] = (
                f"{format_percent(accuracy.agreement_percent)} % (95 % interval {100 * low:.2f} to {100 * high:.2f})"
            )
        if accuracy.sqnr_db is not None:
            pairs["SQNR"] = f"{accuracy.sqnr_db:.1f} dB"
    pairs["canary"] = result.canary.describe()
    output.show(make_pairs(pairs))
    if accuracy is None:
        output.note("agreement: give --reference CHECKPOINT to compare with the float model")
    elif accuracy.per_class:
        output.line()
        table = make_table(
            ["class", "images", "float right", "right"], right={"class", "images", "float right", "right"}
        )
        for change in accuracy.per_class:
            table.add_row(*map(str, (change.label, change.images, change.reference_correct, change.correct)))
        output.show(table)


def _describe_closeness(accuracy: Accuracy) -> dict[str, str]:
    """What embeddings and features have besides, by name."""
    pairs = {}
    if accuracy.cosine_mean is not None and accuracy.cosine_min is not None:
        pairs["cosine"] = f"{accuracy.cosine_mean:.4f} on average, {accuracy.cosine_min:.4f} at least"
    if accuracy.recall10 is not None:
        pairs["recall@10"] = f"{100 * accuracy.recall10:.2f} %"
    for name, sqnr_db in accuracy.level_sqnr_db.items():
        pairs[name] = "equal" if sqnr_db is None else f"{sqnr_db:.1f} dB"
    return pairs
