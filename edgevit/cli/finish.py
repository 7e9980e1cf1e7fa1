"""``edgevit finish``: a portable bundle to one with an engine, on the device."""

from __future__ import annotations

from pathlib import Path

import click

from edgevit.cli.options import on_option
from edgevit.cli.output import Output, output_options


@click.command("finish", short_help="Compile and measure a portable bundle on its device.")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="The finished bundle (BUNDLE itself).")
@on_option
@output_options
def command(output: Output, bundle: Path, out: Path | None, host: str | None) -> int:
    """Compile and measure a portable bundle on the device that it is for: this machine, or with --on another one.

    \b
    Examples:
      edgevit finish ./my_model-raspberry-pi-5
      edgevit finish ./my_model-raspberry-pi-5 --out ./finished
      edgevit finish ./my_model-jetson --on user@board
    """
    from edgevit.build.finish import finish_bundle
    from edgevit.cli.verdict import describe_result, exit_status, show_result

    with output.progress() as progress:
        if host is None:
            result = finish_bundle(bundle, out=out, progress=progress)
        else:
            from edgevit.remote.build_on import finish_on

            result = finish_on(host, bundle, out=out, log=output.listen_to(host), progress=progress)
    output.document(describe_result(result))
    show_result(output, result)
    return exit_status(result.report)
