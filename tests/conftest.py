"""Fixtures that several test files use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.gpu_double import Machine, install_everywhere

# A deadline and the check of how fast examples are drawn measure the machine, which may be busy.
settings.register_profile("edgevit", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("edgevit")


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


@pytest.fixture
def orin(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """This process, and those that it starts, see a Jetson Orin with TensorRT 10.3."""
    return install_everywhere("orin", monkeypatch)


@pytest.fixture
def rtx_3060(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """This process, and those that it starts, see a GeForce RTX 3060 with TensorRT-RTX 1.7.1."""
    return install_everywhere("rtx-3060", monkeypatch)
