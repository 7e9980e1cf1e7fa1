"""``edgevit sign``: a signature for a bundle."""

from __future__ import annotations

from pathlib import Path

import click

from edgevit.cli.output import Output, output_options


@click.command("sign", short_help="Sign a bundle, so that whoever opens it can tell that it is yours.")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--key", type=click.Path(path_type=Path), required=True, metavar="PRIVATE.pem", help="Of edgevit keygen or openssl."
)
@output_options
def command(output: Output, bundle: Path, key: Path) -> None:
    """Sign a bundle, after every file of it was checked; an earlier signature is replaced.

    A folder gets the file signature.json; a packed bundle is written anew and replaced when it is complete. Signed is
    the manifest, which has the hash of every other file: nothing can be changed afterwards.

    \b
    Examples:
      edgevit sign ./bundle --key vendor.private.pem
      edgevit sign bundle.edgevit --key vendor.private.pem
    """
    from edgevit.runtime.sign import sign_bundle

    made = sign_bundle(bundle, key)
    output.document({"bundle": str(bundle), "public_key": made.public_key, "signature": made.signature})
    output.line(f"signed: {bundle}, with the key {made.public_key}")
