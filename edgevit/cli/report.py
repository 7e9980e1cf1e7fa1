"""``edgevit report``: a page to look at, of one bundle or of several side by side."""

from __future__ import annotations

from pathlib import Path

import click

from edgevit.cli.output import Output, output_options
from edgevit.core.errors import BundleError
from edgevit.remote.sweep.result import SWEEP_FILE


@click.command("report", short_help="Write a page that shows what a build found, for one bundle or several.")
@click.argument("bundles", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="BUNDLE…|SWEEP")
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("report.html"), show_default=True, metavar="FILE.html"
)
@output_options
def command(output: Output, bundles: tuple[Path, ...], out: Path) -> int:
    """Write one HTML file that shows what a build found, for one bundle or for several side by side.

    The verdict and why, latencies, accuracy against latency with the budget, noise by site, what was folded and fused,
    machine and method. The file needs no network and nothing beside it, and runs no script.

    Of the folder of a sweep it is the page that the sweep ended with: its answer, and all cells.

    Nothing is measured: every figure is from the bundles' report.json, or the sweep's sweep.json. --json prints the
    document behind the page.

    \b
    Examples:
      edgevit report ./bundle
      edgevit report ./bundle --out bundle.html
      edgevit report ./vit ./swin ./deit --out comparison.html
      edgevit report ./plan-sweep --out sweep.html
    """
    from edgevit.cli.page.write import write_page, write_sweep_page

    sweeps = [path for path in bundles if (path / SWEEP_FILE).is_file()]
    if sweeps and len(bundles) > 1:
        raise BundleError(f"{sweeps[0]} is a sweep, which has a page of its own", "give it without others")
    document = write_sweep_page(sweeps[0], out) if sweeps else write_page(bundles, out)
    output.document({"page": str(out), "document": document})
    output.line(f"report: {out} ({out.stat().st_size / 1000:.0f} kB)")
    return 0
