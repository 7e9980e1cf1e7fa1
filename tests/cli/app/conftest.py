from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.cpp_apps import install_cpp
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
