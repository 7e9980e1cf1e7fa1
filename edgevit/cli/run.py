"""``edgevit run``: what a bundle sees in images."""

from __future__ import annotations

from pathlib import Path

import click

from edgevit.cli.output import Output, output_options


@click.command("run", short_help="Classify images with a bundle.")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="IMAGE...")
@click.option("--top-k", type=click.IntRange(1), default=5, show_default=True, metavar="K", help="Answers an image.")
@output_options
def command(output: Output, bundle: Path, images: tuple[Path, ...], top_k: int) -> None:
    """Classify images with a bundle.

    \b
    Examples:
      edgevit run ./bundle photo.jpg
      edgevit run ./bundle *.jpg --top-k 1 --json
    """
    from edgevit.cli.tables import make_table
    from edgevit.errors import DataError, format_offenders
    from edgevit.runtime import open_bundle
    from edgevit.schema import to_data

    missing = [str(image) for image in images if not image.is_file()]
    if missing:
        raise DataError(f"{len(missing)} of {len(images)} images are not there:\n" + format_offenders(missing), "")
    with open_bundle(bundle) as classifier:
        for difference in classifier.differences:
            output.note(f"note: {difference}")
        answers = {str(image): classifier.classify(image, top_k=top_k) for image in images}
    output.document([{"image": image, "predictions": to_data(answer)} for image, answer in answers.items()])
    table = make_table(["image", "class", "label", "probability"], right={"class", "probability"})
    for image, answer in answers.items():
        for rank, found in enumerate(answer):
            name = "" if rank else image
            table.add_row(name, str(found.index), found.label or "", f"{found.probability:.2%}")
    output.show(table)
