"""This edgevit as a wheel for a device, whether it is installed or runs from a checkout.

The wheel is packed from the files that are running: neither a build backend nor the network is needed, and the device
gets the same code. Equal files give equal bytes.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import tempfile
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from edgevit.core.packages import find_shipped

_TAG = "py3-none-any"
_HERE_ONLY = ("runtime/cpp", "cli/app", "cli/page", "cli/demo_models")
"""Sources of apps, the page and the demonstration's weights: no job on a device opens them, and they are most bytes."""
_WHEEL = f"Wheel-Version: 1.0\nGenerator: edgevit\nRoot-Is-Purelib: true\nTag: {_TAG}\n"


def make_wheel(folder: Path) -> Path:
    """Write the wheel into a folder.

    Raises:
        importlib.metadata.PackageNotFoundError: edgevit is imported from a place that was never installed.
    """
    distribution = metadata.distribution("edgevit")
    version = distribution.version
    info = f"edgevit-{version}.dist-info"
    path = folder / f"edgevit-{version}-{_TAG}.whl"
    files = {name: file.read_bytes() for name, file in _list_files()}
    for name, text in (
        (
            "METADATA",
            distribution.read_text("METADATA") or f"Metadata-Version: 2.1\nName: edgevit\nVersion: {version}\n",
        ),
        ("WHEEL", _WHEEL),
        ("entry_points.txt", "[console_scripts]\nedgevit = edgevit.cli:main\n"),
    ):
        files[f"{info}/{name}"] = text.encode()
    record = "".join(f"{name},{_digest(content)},{len(content)}\n" for name, content in files.items())
    files[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name)  # its date is 1980, not today
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            archive.writestr(entry, content)
    return path


@contextlib.contextmanager
def pack_wheel() -> Iterator[Path]:
    """The wheel in a folder that goes with the context."""
    with tempfile.TemporaryDirectory(prefix="edgevit-") as folder:
        yield make_wheel(Path(folder))


def _list_files() -> Iterator[tuple[str, Path]]:
    """Name in the wheel and file, in order; the data of a checkout goes where an installed package has it."""
    package = Path(__file__).resolve().parents[1]
    data = {name: find_shipped(name) for name in ("targets", "calibration")}
    for path in sorted(package.rglob("*")):
        parts = path.relative_to(package).parts
        if not path.is_file() or "__pycache__" in parts or parts[0] == "_data":
            continue
        if path.suffix == ".py" or "/".join(parts[:2]) not in _HERE_ONLY:
            yield "/".join(("edgevit", *parts)), path
    for name, source in data.items():
        for path in sorted(source.rglob("*")):
            if path.is_file():
                yield f"edgevit/_data/{name}/{path.relative_to(source).as_posix()}", path


def _digest(content: bytes) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
