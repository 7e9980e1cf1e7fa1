"""Two boards, both this machine, each behind an sshd and in a home of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from edgevit.runtime.bundle import Bundle
from tests.support.boards import FakeBoards, start_boards, use_boards
from tests.support.tiny_bundle import make_bundle


@pytest.fixture(scope="session")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeBoards]:
    with start_boards(tmp_path_factory.mktemp("boards"), ["pi-1", "pi-2"]) as boards:
        yield boards


@pytest.fixture
def boards(started: FakeBoards, monkeypatch: pytest.MonkeyPatch) -> FakeBoards:
    """Idle, cool, in reach and empty."""
    return use_boards(started, monkeypatch)


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A tiny classifier for ONNX Runtime, with a canary."""
    folder = tmp_path_factory.mktemp("tiny")
    return make_bundle(folder / "bundle", folder / "work", canary=True)
