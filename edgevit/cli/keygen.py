"""``edgevit keygen``: a pair of keys for signing bundles."""

from __future__ import annotations

from pathlib import Path

import click

from edgevit.cli.output import Output, output_options


@click.command("keygen", short_help="Make a pair of keys, to sign bundles and to check them.")
@click.argument("name", type=click.Path(path_type=Path))
@output_options
def command(output: Output, name: Path) -> None:
    """Make a pair of Ed25519 keys: NAME.private.pem, which signs bundles, and NAME.public.pem, which checks them.

    The private key has no password, and only its owner may read the file: whoever has it can sign. The public key goes
    into the app. No file is written over. Keys of openssl genpkey -algorithm ed25519 are taken too.

    \b
    Examples:
      edgevit keygen vendor
      edgevit sign ./bundle --key vendor.private.pem
      edgevit verify ./bundle --public-key vendor.public.pem
    """
    from edgevit.runtime.sign import make_keys

    private, public = make_keys(name)
    output.document({"private_key": str(private), "public_key": str(public)})
    output.line(f"private key: {private} (keep it to yourself)")
    output.line(f"public key: {public} (give it to whoever opens the bundles)")
