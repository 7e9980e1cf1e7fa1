"""``edgevit verify``: whether a bundle is as it was built, and signed by whom."""

from __future__ import annotations

from pathlib import Path

import click

from edgevit.cli.options import key_option
from edgevit.cli.output import Output, output_options


@click.command("verify", short_help="Check a bundle's manifest, files and signature.")
@click.argument("bundle", type=click.Path(path_type=Path))
@key_option
@output_options
def command(output: Output, bundle: Path, public_key: Path | None) -> None:
    """Check a bundle against its manifest: its form, the size and hash of every file, and that nothing else lies in it.

    No engine is opened; edgevit check lets it answer besides. Hashes guard against damage only: whoever can write a
    bundle can write them too. Who made it is told by a signature, which --public-key holds against a key that you have
    from elsewhere.

    Exit status: 0 all is as built, 2 it is not.

    \b
    Examples:
      edgevit verify ./bundle
      edgevit verify bundle.edgevit --public-key vendor.public.pem
    """
    from edgevit.cli.tables import make_pairs
    from edgevit.core.schema import to_data
    from edgevit.runtime.verify import examine_bundle

    found = examine_bundle(bundle, public_key)
    output.document(to_data(found))
    signature = {
        "valid": f"valid, by {public_key}",
        "not checked": f"not checked; it names the key {found.signed_by}",
        "none": "none",
    }[found.signature]
    output.show(
        make_pairs(
            {
                "bundle": f"{found.name}, {'packed' if found.packed else 'a folder'}, schema {found.schema_version}",
                "files": f"{found.files}, all as built ({found.size_bytes / 1e6:.1f} MB)",
                "signature": signature,
            }
        )
    )
    if found.signature == "not checked":
        output.note("note: a signature tells nothing until it is held against a key: --public-key KEY.pem")
