"""Bundle: the folder that a device app opens, and whether it is as it was built."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edgevit.core.command import write_command
from edgevit.core.engine import Engine
from edgevit.core.errors import BundleError, OutputError, format_offenders
from edgevit.core.report.place import CANARY_FILE
from edgevit.runtime.bundle_settings import check_manifest_settings
from edgevit.runtime.manifest import MANIFEST_FILE, Manifest, hash_file, is_irregular, load_manifest

RECIPE_FILE = "recipe.toml"
REPORT_FILE = "report.json"
PORTABLE_MODEL_FILE = "model.onnx"
PARITY_FILE = "parity.npz"
"""In a portable bundle: images and the float model's logits, by which the device checks its engine."""


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk."""

    path: Path
    manifest: Manifest

    @property
    def engine(self) -> Engine:
        """The engine, ready for ``open_engine``.

        Raises:
            BundleError: The bundle is portable: its engine is still to be compiled on the device.
        """
        if self.manifest.engine is None:
            raise BundleError(
                f"{self.path} is a portable bundle for {self.manifest.target.title}: it has no engine yet",
                f"run `{write_command('finish', self.path)}` on the device",
            )
        return dataclasses.replace(self.manifest.engine, directory=self.path)

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


def load_bundle(path: str | os.PathLike[str]) -> Bundle:
    """Read a bundle's manifest, without looking at the other files.

    Raises:
        BundleError: The manifest is missing, damaged or of a newer edgevit, or sets what a bundle may not set.
    """
    path = Path(path)
    manifest = load_manifest(path)
    check_manifest_settings(path, manifest)
    if manifest.engine is not None:
        needed = [*manifest.engine.files, *([CANARY_FILE] if manifest.canary is not None else [])]
        unlisted = [name for name in needed if name not in manifest.files]
        if unlisted:
            raise BundleError(f"{path}: the manifest lists no file {', '.join(unlisted)}", "build the bundle again")
    return Bundle(path, manifest)


def refuse_inside(path: str | os.PathLike[str]) -> None:
    """Refuse to write a file or a folder inside a bundle, which holds only its own.

    Raises:
        OutputError: With the bundle.
    """
    around = next((folder for folder in Path(path).resolve().parents if (folder / MANIFEST_FILE).is_file()), None)
    if around is not None:
        raise OutputError(f"{path} lies inside the bundle {around}", "write it beside: a bundle holds only its own")


def find_damage(bundle: Bundle, *, contents: bool = True) -> tuple[Damage, ...]:
    """Every file that is not as the manifest says; only presence and size are checked without ``contents``."""
    damage: list[Damage] = []
    for name, record in sorted(bundle.manifest.files.items()):
        file = bundle.path / name
        expected = f"{record.size_bytes} bytes"
        try:
            if is_irregular(bundle.path, name):
                damage.append(Damage(name, "irregular"))
                continue
            size = file.stat().st_size
            if size != record.size_bytes:
                damage.append(Damage(name, "size", expected, f"{size} bytes"))
            elif contents and (digest := hash_file(file).sha256) != record.sha256:
                damage.append(Damage(name, "content", record.sha256, digest))
        except (FileNotFoundError, NotADirectoryError):
            damage.append(Damage(name, "missing", expected))
        except OSError as exc:
            damage.append(Damage(name, "unreadable", expected, exc.strerror or str(exc)))
    known = {*bundle.manifest.files, MANIFEST_FILE}
    damage.extend(Damage(name, "extra") for name in list_files(bundle.path) if name not in known)
    return tuple(damage)


def verify_bundle(path: str | os.PathLike[str], *, contents: bool = True, extra: bool = True) -> Bundle:
    """Check a bundle against its manifest.

    Args:
        path: The bundle's folder.
        contents: Hash the files; otherwise only their presence and size are checked.
        extra: Whether a file that the manifest does not list is a fault.

    Raises:
        BundleError: Listing every missing, damaged and extra file, with both values.
    """
    bundle = load_bundle(path)
    damage = [d for d in find_damage(bundle, contents=contents) if extra or d.kind != "extra"]
    if damage:
        count = f"{len(damage)} files are" if len(damage) > 1 else "a file is"
        lines = format_offenders([str(d) for d in damage])
        raise BundleError(
            f"{path}: {count} not as built:\n{lines}",
            "copy the bundle again, or build it again",
        )
    return bundle


def list_files(folder: Path) -> list[str]:
    """Paths of all files below a folder; links are not followed."""
    found: list[str] = []
    for root, folders, names in os.walk(folder):
        links = [name for name in folders if os.path.islink(os.path.join(root, name))]
        found.extend(Path(root, name).relative_to(folder).as_posix() for name in (*names, *links))
    return sorted(found)
