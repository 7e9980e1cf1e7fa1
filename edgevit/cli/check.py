"""``edgevit check``: whether a bundle answers here as where it was judged."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgevit.cli.options import key_option
from edgevit.cli.output import Output, output_options

if TYPE_CHECKING:
    from edgevit.measure.check import BundleCheck


@click.command("check", short_help="Verify a bundle's files, and its answers on this machine.")
@click.argument("bundle", type=click.Path(path_type=Path))
@key_option
@output_options
def command(output: Output, bundle: Path, public_key: Path | None) -> int:
    """Verify a bundle's files, and let its engine answer the bundle's canary on this machine.

    The canary is up to three images with the float model's answers. The other commands answer it by themselves where
    processor, library, driver or settings are others than at the build; this one always does.

    Exit status: 0 passed, 1 the engine answers something else here, 2 the bundle is damaged or cannot be opened.

    \b
    Examples:
      edgevit check ./bundle
      edgevit check ./bundle --json
      ONEDNN_MAX_CPU_ISA=AVX2 edgevit check ./bundle
    """
    from edgevit.core.schema import to_data
    from edgevit.measure.check import check_bundle

    found = check_bundle(bundle, public_key)
    output.document(to_data(found))
    _show(output, found)
    return 0 if found.passed else 1


def _show(output: Output, found: BundleCheck) -> None:
    from edgevit.cli.tables import MISSING, make_pairs, make_table

    output.show(make_pairs({"files": f"{found.files}, all as built", "canary": found.canary.describe()}))
    here, built = found.here.parts, found.built.parts if found.built is not None else {}
    table = make_table(["place", "here", "at the build", ""])
    for part in [*here, *(part for part in built if part not in here)]:
        mark = "differs" if part in found.canary.differences else ""
        table.add_row(part, here.get(part, MISSING), built.get(part, MISSING), mark)
    output.line()
    output.show(table)
    if found.built is None:
        output.note("note: the engine was not run at the build; the graph's answers stand in for it")
