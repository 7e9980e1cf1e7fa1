"""write_app: an application around a bundle, complete in one folder, whole or not at all."""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Literal, TypeAlias, get_args

import edgevit.runtime
from edgevit.core.errors import BundleError, OutputError
from edgevit.core.libraries import LIBRARIES
from edgevit.core.task import WHOLE_TASKS
from edgevit.runtime.bundle import Bundle, load_bundle, refuse_inside, verify_bundle
from edgevit.runtime.manifest import MANIFEST_FILE
from edgevit.runtime.signature import SIGNATURE_FILE

Language: TypeAlias = Literal["cpp", "c", "python"]
LANGUAGES: tuple[Language, ...] = get_args(Language)

RUNTIME = Path(edgevit.runtime.__file__).parent / "cpp"
"""The sources of the C++ runtime, which go into the app."""

_OURS = Path(__file__).parent
_SHARED = ("shared/decode.h", "shared/decode.c", "shared/output.h", "shared/output.c")
_FILES: Mapping[Language, tuple[str, ...]] = {
    "cpp": ("cpp/main.cpp", "shared/CMakeLists.txt", *_SHARED),
    "c": ("c/main.c", "shared/CMakeLists.txt", *_SHARED),
    "python": ("python/main.py",),
}
_CAMERA_FILES: Mapping[Language, tuple[str, ...]] = {
    "cpp": ("shared/camera.h", "shared/camera.c", "cpp/frame_queue.hpp"),
    "c": ("shared/camera.h", "shared/camera.c", "c/frame_queue.h", "c/frame_queue.c"),
    "python": ("python/camera.py",),
}
_OF_RUNTIME = ("CMakeLists.txt", "cmake", "include", "src")

_OPEN = re.compile(r"\s*(?://|#|<!--) \[\[ ([!\w ]+?)(?: -->)?\s*")
_CLOSE = re.compile(r"\s*(?://|#|<!--) \]\](?: -->)?\s*")


@dataclass(frozen=True)
class App:
    """An app that was written.

    Attributes:
        folder: Where it lies.
        files: Paths in it, sorted; of the bundle and of the runtime's sources only the folder.
        bundle: Name of the bundle in it: ``bundle``, or ``bundle.edgevit`` of a packed one.
        build: The command that builds it, to be run in the folder; empty for Python.
        run: The command that runs it on an image.
    """

    folder: Path
    files: tuple[str, ...]
    bundle: str
    build: str
    run: str


def write_app(
    folder: str | os.PathLike[str], bundle: str | os.PathLike[str], language: Language, *, camera: bool = False
) -> App:
    """Write a small application around a bundle, with everything that building it takes but system libraries.

    Args:
        folder: New, or empty.
        bundle: A finished bundle's folder, or a packed bundle. It is copied after every file of it was checked.
        language: Of the application.
        camera: Whether it also answers the frames of a camera.

    Raises:
        BundleError: The bundle is damaged, is of a whole model, has no engine yet, or one of a library that is not
            known here, or that the C++ runtime does not open.
        OutputError: The folder holds something, lies inside a bundle, or cannot be written.
    """
    folder = Path(folder)
    _refuse_folder(folder)
    opened = load_bundle(bundle)
    backend = opened.engine.backend  # refuses a portable bundle
    if opened.manifest.task in WHOLE_TASKS:
        method = "outputs" if opened.manifest.task == "map" else opened.manifest.task
        raise BundleError(
            f"{opened.path} is for the task {opened.manifest.task}, of which there is no app to start from",
            f"in Python call open_bundle(…).{method}(image); in C and C++ edgevit_run gives its outputs",
            code="argument",
        )
    if backend not in LIBRARIES:
        raise BundleError(
            f"{opened.path} needs the engine library {backend!r}, which is not known here",
            f"known are {', '.join(LIBRARIES)}; make the app with the edgevit that built the bundle",
            code="library",
        )
    if language != "python" and not is_opened_in_cpp(backend):
        raise BundleError(
            f"{opened.path} needs {LIBRARIES[backend].distribution}, whose engines the C++ runtime does not open",
            "make the app with --language python, or build a bundle for another target",
            code="library",
        )
    verify_bundle(opened, extra=False)
    name = "bundle.edgevit" if opened.contents.packed else "bundle"
    traits = {language, opened.manifest.task, backend, *(["camera"] if camera else ())}
    facts = {"bundle": name, "name": _show(opened.manifest.name), "version": _read_version(opened)}
    made, temporary = not folder.exists(), folder / f".edgevit-{secrets.token_hex(4)}"
    try:
        temporary.mkdir(parents=True)
        files = [*_FILES[language], *(_CAMERA_FILES[language] if camera else ())]
        for file in files:
            text = keep_regions((_OURS / file).read_text(encoding="utf-8"), traits)
            (temporary / Path(file).name).write_text(text, encoding="utf-8")
        readme = keep_regions((_OURS / "shared" / "README.md").read_text(encoding="utf-8"), traits)
        (temporary / "README.md").write_text(Template(readme).substitute(facts), encoding="utf-8")
        _copy_bundle(opened, temporary / name)
        if language != "python":
            _copy_runtime(temporary / "edgevit")
        for entry in sorted(temporary.iterdir()):
            os.replace(entry, folder / entry.name)
    except OSError as exc:
        if made:
            shutil.rmtree(folder, ignore_errors=True)
        message = f"{folder} cannot be written: {exc.strerror or exc}"
        raise OutputError(message, "check the path, its permissions and free space") from exc
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    written = sorted(f"{path.name}/" if path.is_dir() else path.name for path in folder.iterdir())
    compiled = language != "python"
    build = "cmake -S . -B build && cmake --build build" if compiled else ""
    program = "build/app" if compiled else "python main.py"
    return App(folder, tuple(written), name, build, f"{program} {name} IMAGE...")


def keep_regions(text: str, traits: Set[str]) -> str:
    """A text without the regions that are for other apps, and without the lines that mark regions.

    A region is what lies between the lines ``// [[ TRAITS`` and ``// ]]`` (``#`` or ``<!-- … -->`` in place of ``//``).
    It stays where the app has each of the traits, and none that stands after ``!``; regions may lie in one another.
    """
    lines: list[str] = []
    kept = [True]
    for line in text.splitlines():
        if (opened := _OPEN.fullmatch(line)) is not None:
            fits = all((trait.removeprefix("!") in traits) != trait.startswith("!") for trait in opened[1].split())
            kept.append(kept[-1] and fits)
        elif _CLOSE.fullmatch(line) is not None:
            kept.pop()
        elif kept[-1]:
            lines.append(line)
    return "\n".join(lines) + "\n"


def is_opened_in_cpp(backend: str) -> bool:
    """Whether the C++ runtime can be built with an engine library: its build files know the switch."""
    builds = [path for path in (RUNTIME / "src" / "engines").iterdir() if path.suffix in (".txt", ".cmake")]
    switch = re.compile(rf"\bEDGEVIT_{backend.upper()}\b")
    return any(switch.search(path.read_text(encoding="utf-8")) for path in builds)


def _refuse_folder(folder: Path) -> None:
    hint = "name a new folder for the app"
    refuse_inside(folder)
    if folder.is_symlink() and not folder.exists():
        raise OutputError(f"{folder} is a link to what is not there", hint, code="argument")
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file", hint, code="argument")
    if folder.is_dir() and (there := sorted(os.listdir(folder))):
        more = " and more" if there[1:] else ""
        raise OutputError(f"{folder} is not empty: it holds {there[0]}{more}", hint, code="argument")


def _copy_bundle(bundle: Bundle, to: Path) -> None:
    """What the manifest lists, and the signature, byte for byte; other files of the folder stay behind."""
    if bundle.contents.packed:
        shutil.copyfile(bundle.path, to)
        return
    for name in [MANIFEST_FILE, *bundle.manifest.files, SIGNATURE_FILE]:
        if name == SIGNATURE_FILE and name not in bundle.contents.list_names():
            continue
        (to / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(bundle.path / name, to / name)


def _copy_runtime(to: Path) -> None:
    to.mkdir()
    for name in _OF_RUNTIME:
        if (RUNTIME / name).is_dir():
            shutil.copytree(RUNTIME / name, to / name)
        else:
            shutil.copyfile(RUNTIME / name, to / name)


def _read_version(bundle: Bundle) -> str:
    """Of the engine library at the build, without the builder's own marks."""
    text = next(iter(bundle.engine.versions.values()), "")
    return found[0] if (found := re.match(r"\d+(\.\d+)*", text)) else "of a version that is not recorded"


def _show(text: str) -> str:
    """Of a bundle, in a document: plain characters only, as it may hold anything."""
    return re.sub(r"[^\w.+-]+", " ", text)[:80].strip() or "a model"
