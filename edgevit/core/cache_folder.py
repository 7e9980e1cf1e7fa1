"""Where edgevit's cache lies, and which names in it are its own.

The user's folder (``~/.cache/edgevit``) is edgevit's by its name. A folder that ``EDGEVIT_CACHE`` names may be
anybody's: it is used as it is where it is new, empty, marked as a cache, or holds nothing but what a cache holds (as
those of an earlier edgevit, which made no mark). In any other a folder of edgevit's own is made, and the rest is not
touched.

Wherever it lies, only names that the cache makes are ever removed, below the folders that it makes, and nothing behind
a link. Only the standard library, as the device runtime reads it; ``remote/agent.py`` has the same rules.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Mapping
from pathlib import Path

from edgevit.core.errors import OutputError

VARIABLE = "EDGEVIT_CACHE"
MARK_FILE = ".edgevit-cache"
OWN_FOLDER = "edgevit-cache"
"""Made in a folder that holds somebody else's files."""

# Below edgevit, by short names: own_source.py takes whole ones for imports, and most modules import this one.
_MODEL = ("checkpoints", "models.select_task")
_GRAPHS = (*_MODEL, "build.make_graphs")

STAGES: Mapping[str, tuple[str, ...]] = {
    "export": _MODEL,
    "optimize": _MODEL,
    "open": _GRAPHS,
    "half_range": _MODEL,
    "reference": _MODEL,
    "whole_export": _MODEL,
    "quantize": _MODEL,
    "set_back": _GRAPHS,
    "typed": _GRAPHS,
    "rehearsal": _GRAPHS,
    "engine": _GRAPHS,
    "accuracy": _GRAPHS,
    "portable": _GRAPHS,
}
"""Every stage of a build that is kept, with the modules that make what it starts from: their code counts as its own.

A stage that runs others inside it stands before them: builds wait for one another in this order (``stage_turn.py``).
"""

RETIRED = ("fp8",)
"""Stages of earlier versions of edgevit, which make room as the others do."""

CONTENTS = (*STAGES, *RETIRED, "canary", "compiled", "tensorrt", "tensorrt_rtx", "device", "evaluations")
"""Everything that lies in a cache, beside its mark."""

_MARK_TEXT = "This is a cache of edgevit, which removes from it what it made itself. You may delete what it made.\n"
_KEY = r"[0-9a-f]{32}"
_FINISHED = re.compile(_KEY)
_PARTIAL = re.compile(rf"\.{_KEY}\.[0-9a-f]+")
_LOCK = re.compile(rf"\.{_KEY}\.lock")


def default_cache_directory() -> Path:
    """The cache: in the folder that ``$EDGEVIT_CACHE`` names, or ``edgevit`` in the user's cache folder.

    An empty variable counts as none. Nothing is written.

    Raises:
        OutputError: There is neither that variable nor a home.
    """
    named = os.environ.get(VARIABLE)
    if named:
        return find_own_folder(Path(os.path.expanduser(named)))
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):  # one that is not is to be ignored: XDG Base Directory Specification
        home = os.path.expanduser("~")
        if not os.path.isabs(home):
            raise OutputError("this user has no home, where the cache would lie", f"set {VARIABLE} to a folder")
        base = os.path.join(home, ".cache")
    return Path(base) / "edgevit"


def find_own_folder(folder: Path) -> Path:
    """The folder itself where the cache may use it, otherwise one in it; see above. Nothing is written."""
    while _holds_others(folder):
        folder = folder / OWN_FOLDER
    return folder


def claim_folder(folder: Path) -> None:
    """Make the folder and mark it as a cache, before anything else is written into it.

    Raises:
        OSError: It cannot be written, or is no folder.
    """
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        mark = os.open(folder / MARK_FILE, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError:
        return
    with os.fdopen(mark, "w", encoding="utf-8") as stream:
        stream.write(_MARK_TEXT)


def list_finished(root: Path) -> list[Path]:
    """Folders with the name of a finished stage."""
    return _list_stages(root, _FINISHED)


def list_partial(root: Path) -> list[Path]:
    """Folders with the name of a stage under way, or left by a build that was killed."""
    return _list_stages(root, _PARTIAL)


def list_locks(root: Path) -> list[Path]:
    """Files with the name of a lock, held by a build that makes a stage, or left by one that was killed."""
    return _list_stages(root, _LOCK, folders=False)


def is_behind_link(root: Path, path: Path) -> bool:
    """Whether a link leads from the cache to the path, or the path is one: what is there may be anybody's."""
    return any(p.is_symlink() for p in (path, *path.parents) if p != root and root in p.parents)


def _holds_others(folder: Path) -> bool:
    try:
        names = os.listdir(folder)
    except OSError:  # it is not there; or it is of no use, which writing to it says
        return False
    # the mark is looked for last: another build may make it, and then a stage, at this moment
    return not set(names) <= set(CONTENTS) and not (folder / MARK_FILE).is_file()


def _list_stages(root: Path, pattern: re.Pattern[str], *, folders: bool = True) -> list[Path]:
    found = []
    for folder in (root / stage for stage in (*STAGES, *RETIRED)):
        if folder.is_symlink():
            continue
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            named = [entry for entry in entries if pattern.fullmatch(entry.name)]
            kept = [e for e in named if (e.is_dir if folders else e.is_file)(follow_symlinks=False)]
            found += [folder / entry.name for entry in kept]
    return found
