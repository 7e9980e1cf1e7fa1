from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from edgevit.cli.app.write import write_app
from tests.support.cpp_apps import build_app, install_cpp
from tests.support.photos import make_photo
from tests.support.tiny_bundle import make_bundle


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle for OpenVINO, not to be changed."""
    folder = tmp_path_factory.mktemp("tiny")
    return make_bundle(folder / "bundle", folder / "work", target="intel-cpu", canary=True).path


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The C++ runtime, as CMake finds it."""
    return install_cpp(tmp_path_factory.mktemp("installed"))


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """A folder of JPEG and PNG files of several sizes, one of which lies on its side."""
    folder = tmp_path_factory.mktemp("photos")
    exif = Image.Exif()
    exif[0x0112] = 6
    for number, (height, width) in enumerate([(40, 70), (90, 30), (200, 301), (16, 16)]):
        photo = make_photo(height, width, seed=number)
        photo.save(folder / f"{number}.jpg", exif=exif if number == 2 else b"")
        photo.save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="session")
def bundles(tiny, tmp_path_factory):
    """A bundle of each task."""
    folder = tmp_path_factory.mktemp("tasks")
    changes: dict[str, Any] = {"classes": 0, "labels": None}
    made = {
        task: make_bundle(folder / task, folder / f"{task}-work", target="intel-cpu", task=task, **changes).path
        for task in ("embed", "features")
    }
    return {"classify": tiny, **made}


@pytest.fixture(scope="session")
def apps(bundles, tmp_path_factory, request):
    """The program of an app of this language and task, made and built once; classifiers have a camera."""
    made: dict[tuple[str, str], Path] = {}

    def make(language, task="classify"):
        if (language, task) not in made:
            folder = tmp_path_factory.mktemp("apps") / f"{language}-{task}"
            write_app(folder, bundles[task], language, camera=task == "classify")
            if language == "python":
                made[language, task] = folder / "main.py"
            else:
                made[language, task] = build_app(folder, request.getfixturevalue("installed"))
        return made[language, task]

    return make
