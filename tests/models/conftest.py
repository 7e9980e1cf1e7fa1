"""What the comparisons with other libraries' modules share."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder that is removed after the test: hundreds of megabytes go through it."""
    yield tmp_path
    shutil.rmtree(tmp_path)
