"""The C++ runtime, built once for all files here, and bundles for it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support.cpp_bundle import CppBundle, build_cpp_bundle
from tests.support.cpp_engine import build_part
from tests.support.cpp_pixels import ONLY_PIXELS, CppPixels
from tests.support.tiny_bundle import make_bundle, make_portable_bundle


@pytest.fixture(scope="session")
def pixels() -> CppPixels:
    """Its preprocessing."""
    return CppPixels(build_part(["edgevit_pixels_test"], ONLY_PIXELS))


@pytest.fixture(scope="session")
def cpp() -> CppBundle:
    """Its reader of bundles."""
    return build_cpp_bundle()


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Bundles by their target, not to be changed."""
    folder = tmp_path_factory.mktemp("bundles")
    made = {
        name: make_bundle(folder / name, folder / f"{name}-work", target=name, canary=True).path
        for name in ("cpu", "intel-cpu")
    }
    return {**made, "jetson": make_portable_bundle(folder / "jetson", folder / "jetson-work").path}


@pytest.fixture
def bundle(built: dict[str, Path], tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return shutil.copytree(built["cpu"], tmp_path / "bundle")
