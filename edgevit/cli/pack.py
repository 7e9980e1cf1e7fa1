"""``edgevit pack``: a bundle's folder as one file."""

from __future__ import annotations

from pathlib import Path

import click

from edgevit.cli.output import Output, output_options


@click.command("pack", short_help="Write a bundle's folder as one file, NAME.edgevit.")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE", help="The file (NAME.edgevit beside BUNDLE).")
@output_options
def command(output: Output, bundle: Path, out: Path | None) -> None:
    """Write a bundle as one file, after every file of it was checked.

    Every command and runtime that takes a bundle takes that file too, and opens it without unpacking: nothing in it is
    compressed. The same bundle always gives the same file. A signature goes into it. NAME.edgevit beside BUNDLE is
    written anew where it is a packed bundle; any other file that is there is refused.

    \b
    Examples:
      edgevit pack ./bundle
      edgevit pack ./bundle --out camera-7.edgevit
    """
    from edgevit.runtime.pack_file import pack_file

    made = pack_file(bundle, out)
    size = made.stat().st_size
    output.document({"bundle": str(bundle), "packed": str(made), "size_bytes": size})
    output.line(f"packed: {made} ({size / 1e6:.1f} MB)")
