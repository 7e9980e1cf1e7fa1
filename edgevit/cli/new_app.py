"""``edgevit new-app``: an application around a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgevit.cli.output import Output, output_options

if TYPE_CHECKING:
    from edgevit.cli.app.write import Language


@click.command("new-app", short_help="Make a small C++, C or Python app around a bundle.")
@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")
@click.option("--bundle", type=click.Path(path_type=Path), required=True, metavar="BUNDLE", help="Folder or file.")
@click.option("--language", type=click.Choice(["cpp", "c", "python"]), required=True, help="Of the app.")
@click.option("--camera", is_flag=True, help="It answers the frames of a camera too.")
@output_options
def command(output: Output, folder: Path, bundle: Path, language: Language, camera: bool) -> None:
    """Make an app that answers images with a bundle: sources, build file, README and a copy of the bundle.

    In C++ and C the folder also holds the sources of edgevit's runtime, so that it can be copied to a device and built
    there, without Python. DIR must be new or empty.

    \b
    Examples:
      edgevit new-app my-app --bundle ./bundle --language cpp
      edgevit new-app my-app --bundle model.edgevit --language c --camera
      edgevit new-app my-app --bundle ./bundle --language python
    """
    from edgevit.cli.app.write import write_app
    from edgevit.core.command import write_path
    from edgevit.core.schema import to_data

    app = write_app(folder, bundle, language, camera=camera)
    output.document({**to_data(app), "folder": str(app.folder)})
    output.line(f"{app.folder}/")
    for number, name in enumerate(app.files, 1):
        output.line(f"{'└──' if number == len(app.files) else '├──'} {name}")
    output.line()
    output.line(f"next:   cd {write_path(folder)}" + (f" && {app.build}" if app.build else ""))
    output.line(f"        {app.run}")
