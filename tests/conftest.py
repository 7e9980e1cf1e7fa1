"""Fixtures that several test files use."""

from __future__ import annotations

import os
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
