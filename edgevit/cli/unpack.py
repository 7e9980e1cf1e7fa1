"""``edgevit unpack``: a packed bundle as a folder."""

from __future__ import annotations

from pathlib import Path

import click

from edgevit.cli.output import Output, output_options


@click.command("unpack", short_help="Write a packed bundle as a folder.")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="DIR", help="The folder, a new one.")
@output_options
def command(output: Output, file: Path, out: Path) -> None:
    """Write a packed bundle as a folder, after every file of it was checked.

    No command needs this to open a bundle; other programs do, which take an engine's files by their paths.

    \b
    Examples:
      edgevit unpack bundle.edgevit --out ./bundle
    """
    from edgevit.runtime.pack_file import unpack_file

    bundle = unpack_file(file, out)
    output.document({"packed": str(file), "bundle": str(bundle.path), "files": sorted(bundle.manifest.files)})
    output.line(f"unpacked: {bundle.path} ({len(bundle.manifest.files)} files and the manifest)")
