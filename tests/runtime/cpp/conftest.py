"""The C++ runtime, built once for all files here."""

from __future__ import annotations

import pytest

from tests.support.cpp_build import build_cpp
from tests.support.cpp_pixels import ONLY_PIXELS, CppPixels


@pytest.fixture(scope="session")
def pixels() -> CppPixels:
    """Its preprocessing."""
    return CppPixels(build_cpp(["edgevit_pixels_test"], ONLY_PIXELS))
