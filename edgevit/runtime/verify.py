"""examine_bundle: whether a bundle is as it was built, and who says to have signed it; no engine is opened."""

from __future__ import annotations

import os
from dataclasses import dataclass

from edgevit.runtime.bundle import load_bundle, verify_bundle
from edgevit.runtime.signature import read_signature


@dataclass(frozen=True)
class Examination:
    """What was found; a bundle with a fault gives an error instead.

    Attributes:
        bundle: As it was given.
        name: Of the model.
        schema_version: Of the manifest.
        files: Whose size and content were compared with the manifest.
        size_bytes: Of them.
        packed: Whether it is one file.
        signed_by: The public key that its signature names, as hexadecimal digits; ``None`` where it has none.
        signature: ``valid``: it fits the key that was given. ``not checked``: there is one, and no key was given.
            ``none``: there is none.
    """

    bundle: str
    name: str
    schema_version: int
    files: int
    size_bytes: int
    packed: bool
    signed_by: str | None
    signature: str


def examine_bundle(
    path: str | os.PathLike[str], public_key: str | bytes | os.PathLike[str] | None = None
) -> Examination:
    """Hold a bundle against its manifest: its form, every file's size and hash, and that nothing else lies in it.

    Args:
        path: Its folder, or a packed bundle.
        public_key: Of whoever has to have signed it; see :func:`edgevit.runtime.open_bundle`.

    Raises:
        BundleError: What is wrong with it; all files that are not as built are listed.
        EdgevitError: The key cannot be used.
    """
    bundle = verify_bundle(load_bundle(path, public_key=public_key))
    found = read_signature(bundle.contents)
    return Examination(
        bundle=os.fspath(path),
        name=bundle.manifest.name,
        schema_version=bundle.manifest.schema_version,
        files=len(bundle.manifest.files),
        size_bytes=bundle.size_bytes,
        packed=bundle.contents.packed,
        signed_by=found.public_key if found is not None else None,
        signature="valid" if public_key is not None else "none" if found is None else "not checked",
    )
