"""Fixtures that several test files use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def assets() -> Path:
    """Real checkpoints and photos, in $EDGEVIT_ASSETS or beside the repository."""
    beside = Path(__file__).resolve().parents[1].parent / "shared" / "assets"
    folder = Path(os.environ.get("EDGEVIT_ASSETS", beside))
    if not folder.is_dir():
        pytest.skip("assets are absent: set EDGEVIT_ASSETS")
    return folder


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A build cache of the tests' own, shared among them."""
    before = os.environ.get("EDGEVIT_CACHE")
    os.environ["EDGEVIT_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    yield
    if before is None:
        del os.environ["EDGEVIT_CACHE"]
    else:
        os.environ["EDGEVIT_CACHE"] = before
