"""Finished stages of earlier builds, found again by a hash of everything that they depend on.

A stage writes into a folder of its own under a temporary name, which is renamed when the stage is done: a build that
dies leaves no half stage, and the next one goes on behind the last whole stage.
"""

from __future__ import annotations

import errno
import functools
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from edgevit.errors import OutputError

DONE = "done.json"
LIMIT_BYTES = 8 << 30
ABANDONED_SECONDS = 24 * 3600
# A stage's result may change with any of these.
PACKAGES = ("torch", "onnx", "onnx_ir", "onnxscript", "onnxruntime", "openvino", "numpy", "pillow")


class StageCache:
    """A folder of finished stages, the least recently used of which make room for new ones.

    One instance serves one build: what it has given out stays, also above the limit, as later stages read it.
    """

    def __init__(self, root: Path | None = None, limit_bytes: int | None = None) -> None:
        self.root = root or default_cache_directory()
        self.limit_bytes = limit_bytes or _read_limit()
        self._used: set[Path] = set()

    def run(self, stage: str, inputs: Mapping[str, Any], produce: Callable[[Path], None]) -> tuple[Path, bool]:
        """The stage's folder, made by ``produce`` unless an equal stage has been finished before.

        Args:
            stage: Its name.
            inputs: Plain data on which the result depends; versions and edgevit's own code are added.
            produce: Writes the stage's files into an empty folder.

        Returns:
            The folder, and whether it was there already.

        Raises:
            OutputError: The cache cannot be written.
        """
        key = _fingerprint(stage, inputs)
        final = self.root / stage / key
        self._used.add(final)
        if _is_whole(final):
            os.utime(final)
            return final, True
        partial = self.root / stage / f".{key}.{os.getpid()}"
        try:
            partial.mkdir(parents=True)
            produce(partial)
            sizes = {str(p.relative_to(partial)): p.stat().st_size for p in partial.rglob("*") if p.is_file()}
            (partial / DONE).write_text(
                json.dumps({"inputs": dict(inputs), "sizes": sizes}, indent=1), encoding="utf-8"
            )
            shutil.rmtree(final, ignore_errors=True)
            os.replace(partial, final)
        except OSError as exc:
            reason = "the disk is full" if exc.errno == errno.ENOSPC else str(exc.strerror or exc)
            raise OutputError(
                f"the build cache {self.root} cannot be written: {reason}",
                "make room, or set EDGEVIT_CACHE to a folder elsewhere",
            ) from exc
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        self._make_room()
        return final, False

    def _make_room(self) -> None:
        for partial in self.root.glob("*/.*"):  # of a build that was killed; a running one is younger
            if time.time() - partial.stat().st_mtime > ABANDONED_SECONDS:
                shutil.rmtree(partial, ignore_errors=True)
        stages = [p for p in self.root.glob("*/*") if (p / DONE).is_file()]
        sizes = {p: sum(f.stat().st_size for f in p.rglob("*") if f.is_file()) for p in stages}
        total = sum(sizes.values())
        for path in sorted(stages, key=lambda p: p.stat().st_mtime):
            if total <= self.limit_bytes:
                return
            if path not in self._used:
                shutil.rmtree(path, ignore_errors=True)
                total -= sizes[path]


def _read_limit() -> int:
    text = os.environ.get("EDGEVIT_CACHE_BYTES", str(LIMIT_BYTES))
    if not text.isdecimal():
        raise OutputError(f"EDGEVIT_CACHE_BYTES = {text!r} is not a number of bytes", "set it to a whole number")
    return int(text)


def default_cache_directory() -> Path:
    """``$EDGEVIT_CACHE``, or ``edgevit`` in the user's cache folder."""
    if "EDGEVIT_CACHE" in os.environ:
        return Path(os.environ["EDGEVIT_CACHE"])
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "edgevit"


def _is_whole(folder: Path) -> bool:
    try:
        sizes = json.loads((folder / DONE).read_text(encoding="utf-8"))["sizes"]
        return all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, KeyError):
        return False


def _fingerprint(stage: str, inputs: Mapping[str, Any]) -> str:
    text = json.dumps([stage, inputs, _versions(), _code()], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


@functools.cache
def _versions() -> Mapping[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


@functools.cache
def _code() -> str:
    """edgevit's own source: a stage of another version, or of an edited checkout, is not taken for this one's."""
    total = hashlib.sha256()
    package = Path(__file__).parent
    for path in sorted(package.rglob("*.py")):
        if path.relative_to(package).parts[0] not in ("cli", "demo"):
            total.update(path.read_bytes())
    return total.hexdigest()
