"""Bundle: the folder that a device app opens, and whether it is as it was built."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from edgevit.core.arguments import check_switch, read_path
from edgevit.core.command import write_command
from edgevit.core.contents import Contents
from edgevit.core.engine import Engine
from edgevit.core.errors import BundleError, EdgevitError, ErrorCode, OutputError, format_offenders
from edgevit.core.report.place import CANARY_FILE
from edgevit.runtime.bundle_settings import check_manifest_settings
from edgevit.runtime.folder import is_safe_name
from edgevit.runtime.manifest import MANIFEST_FILE, Manifest, parse_manifest, read_manifest, shorten_name
from edgevit.runtime.packed import SUFFIX, open_contents
from edgevit.runtime.signature import SIGNATURE_FILE, check_signature

RECIPE_FILE = "recipe.toml"
REPORT_FILE = "report.json"
_REBUILD = "copy the bundle again, or build it again"
PORTABLE_MODEL_FILE = "model.onnx"
PARITY_FILE = "parity.npz"
"""In a portable bundle: images and the float model's logits, by which the device checks its engine."""


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk.

    Attributes:
        path: Its folder, or the packed file.
        manifest: What it is.
        contents: Its files, wherever they lie.
    """

    path: Path
    manifest: Manifest
    contents: Contents = field(compare=False, repr=False)

    @property
    def engine(self) -> Engine:
        """The engine, ready for ``open_engine``.

        Raises:
            BundleError: The bundle is portable: its engine is still to be compiled on the device.
        """
        if self.manifest.engine is None:
            out: list[str | Path] = ["--out", self.folder] if self.contents.packed else []
            raise BundleError(
                f"{self.path} is a portable bundle for {self.manifest.target.title}: it has no engine yet",
                f"run `{write_command('finish', self.path, *out)}` on the device",
                code="portable",
            )
        within = self.contents if self.contents.packed else None
        return dataclasses.replace(self.manifest.engine, directory=self.path, contents=within)

    def read(self, name: str) -> bytes:
        """A file's bytes.

        Raises:
            BundleError: It cannot be read, or is no file of the bundle's own.
            EdgevitError: It is no name that a bundle's file may have.
        """
        if not isinstance(name, str) or not is_safe_name(name):
            hint = "give a name that the manifest lists"
            raise EdgevitError(f"{ascii(name)[:80]} is not the name of a bundle's file", hint, code="argument")
        try:
            if self.contents.is_irregular(name):
                raise BundleError(
                    f"{self.path / name} is a link, a folder or a device, not a file", _REBUILD, code="unsafe"
                )
            return self.contents.read(name)
        except OSError as exc:
            raise BundleError(
                f"{self.path / name} cannot be read: {exc.strerror or exc}", _REBUILD, code="damaged"
            ) from exc

    @property
    def folder(self) -> Path:
        """Where a command can write its like: in its place, or beside a packed one, which no command replaces."""
        if not self.contents.packed:
            return self.path
        plain = self.path.name.removesuffix(SUFFIX)
        return self.path.with_name(plain if plain not in ("", self.path.name) else f"{self.path.name}.folder")

    @property
    def manifest_sha256(self) -> str:
        """Of the bytes of its ``manifest.json``, as they are on disk now."""
        return hashlib.sha256(self.contents.read(MANIFEST_FILE)).hexdigest()

    @property
    def size_bytes(self) -> int:
        """Size of all files but the manifest."""
        return sum(record.size_bytes for record in self.manifest.files.values())


@dataclass(frozen=True)
class Damage:
    """A file of a bundle that is not as the manifest says.

    Attributes:
        name: The file's path in the bundle.
        kind: ``extra`` files cannot change what a bundle answers.
        expected: Size or hash in the manifest.
        found: Size or hash on disk.
    """

    name: str
    kind: Literal["missing", "irregular", "size", "content", "unreadable", "extra"]
    expected: str = ""
    found: str = ""

    def __str__(self) -> str:
        text = {
            "missing": f"missing; the manifest lists it with {self.expected}",
            "irregular": "a link, a folder or a device, not a file of the bundle's own",
            "size": f"{self.found}, the manifest says {self.expected}",
            "content": f"SHA-256 {self.found}, the manifest says {self.expected}",
            "unreadable": f"cannot be read: {self.found}",
            "extra": "not in the manifest",
        }
        return f"{self.name}: {text[self.kind]}"


def load_bundle(path: str | os.PathLike[str], *, public_key: str | bytes | os.PathLike[str] | None = None) -> Bundle:
    """Read a bundle's manifest, without looking at the other files.

    Args:
        path: The bundle's folder, or a packed bundle.
        public_key: Of whoever has to have signed the bundle, as a PEM file or its content as bytes. It is held against
            the manifest before that is read.

    Raises:
        BundleError: The manifest is missing, damaged or of a newer edgevit, or sets what a bundle may not set; or it is
            not signed with that key.
        EdgevitError: The path is none, or the key cannot be used.
    """
    path = read_path(path, "path")
    contents = open_contents(path)
    content = read_manifest(contents)
    if public_key is not None:
        check_signature(contents, content, public_key)
    manifest = parse_manifest(content, path)
    check_manifest_settings(path, manifest)
    if manifest.engine is not None:
        needed = [*manifest.engine.files, *([CANARY_FILE] if manifest.canary is not None else [])]
        unlisted = [name for name in needed if name not in manifest.files]
        if unlisted:
            lines = format_offenders([shorten_name(name) for name in unlisted])
            message = f"{path}: the manifest does not list what its engine needs:\n{lines}"
            raise BundleError(message, "build the bundle again", code="unsafe")
    if contents.packed:
        _refuse_unlisted(path, contents, manifest)
    return Bundle(path, manifest, contents)


def _refuse_unlisted(path: Path, contents: Contents, manifest: Manifest) -> None:
    """Into a folder a system may put files of its own, but nothing comes into a packed bundle by chance."""
    unlisted = [name for name in contents.list_names() if name not in {*manifest.files, MANIFEST_FILE, SIGNATURE_FILE}]
    if unlisted:
        lines = format_offenders([shorten_name(name) for name in unlisted])
        raise BundleError(
            f"{path} holds files that its manifest does not list:\n{lines}",
            f"delete {'it' if len(unlisted) == 1 else 'them'} from the bundle's folder, and pack that again",
            code="unsafe",
        )


def refuse_inside(path: str | os.PathLike[str]) -> None:
    """Refuse to write a file or a folder inside a bundle, which holds only its own.

    Raises:
        OutputError: With the bundle.
        EdgevitError: The path is none.
    """
    path = read_path(path, "path")
    if "\0" in str(path):
        raise EdgevitError("a path has a zero byte", "give another", code="argument")
    around = next((folder for folder in path.resolve().parents if (folder / MANIFEST_FILE).is_file()), None)
    if around is not None:
        raise OutputError(f"{path} lies inside the bundle {around}", "write it beside: a bundle holds only its own")


def find_damage(bundle: Bundle, *, contents: bool = True) -> tuple[Damage, ...]:
    """Every file that is not as the manifest says; only presence and size are checked without ``contents``."""
    check_switch(contents, "contents")
    damage: list[Damage] = []
    found = bundle.contents
    for name, record in sorted(bundle.manifest.files.items()):
        expected = f"{record.size_bytes} bytes"
        try:
            if found.is_irregular(name):
                damage.append(Damage(name, "irregular"))
                continue
            size = found.measure(name)
            if size != record.size_bytes:
                damage.append(Damage(name, "size", expected, f"{size} bytes"))
            elif contents and (digest := found.hash(name)[0]) != record.sha256:
                damage.append(Damage(name, "content", record.sha256, digest))
        except (FileNotFoundError, NotADirectoryError):
            damage.append(Damage(name, "missing", expected))
        except OSError as exc:
            damage.append(Damage(name, "unreadable", expected, exc.strerror or str(exc)))
    names, known = found.list_names(), {*bundle.manifest.files, MANIFEST_FILE, SIGNATURE_FILE}
    if SIGNATURE_FILE in names and found.is_irregular(SIGNATURE_FILE):
        damage.append(Damage(SIGNATURE_FILE, "irregular"))
    damage.extend(Damage(name, "extra") for name in names if name not in known)
    return tuple(damage)


def verify_bundle(path: str | os.PathLike[str] | Bundle, *, contents: bool = True, extra: bool = True) -> Bundle:
    """Check a bundle against its manifest.

    Args:
        path: The bundle's folder, a packed bundle, or one that was loaded already.
        contents: Hash the files; otherwise only their presence and size are checked.
        extra: Whether a file that the manifest does not list is a fault.

    Raises:
        BundleError: Listing every missing, damaged and extra file, with both values.
        EdgevitError: An argument is not of its kind.
    """
    check_switch(contents, "contents")
    check_switch(extra, "extra")
    bundle = path if isinstance(path, Bundle) else load_bundle(path)
    damage = [d for d in find_damage(bundle, contents=contents) if extra or d.kind != "extra"]
    if damage:
        count = f"{len(damage)} files are" if len(damage) > 1 else "a file is"
        lines = format_offenders([str(d) for d in damage])
        code: ErrorCode = "unsafe" if any(d.kind == "irregular" for d in damage) else "damaged"
        hint = _REBUILD
        if all(d.kind == "extra" for d in damage):
            hint = f"delete {'it' if len(damage) == 1 else 'them'}: everything else is as built"
        raise BundleError(f"{bundle.path}: {count} not as built:\n{lines}", hint, code=code)
    return bundle
