"""The device of these tests: this machine, behind a real sshd."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Iterator

import pytest

from edgevit.remote.ssh import PYTHON, Connection
from tests.support.loopback import HOST, Loopback, start_server, write_known_hosts


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loopback]:
    loopback = start_server(tmp_path_factory.mktemp("sshd"))
    yield loopback
    os.kill(loopback.pid, signal.SIGTERM)


@pytest.fixture
def loopback(server: Loopback, monkeypatch: pytest.MonkeyPatch) -> Loopback:
    """The server as its client should see it; this environment's Python, so that nothing is installed."""
    monkeypatch.setenv("PATH", f"{server.folder / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv(PYTHON, sys.executable)
    shutil.rmtree(server.cache / "device", ignore_errors=True)
    server.write_config()
    write_known_hosts(server, "host_key")
    return server


@pytest.fixture
def connection(loopback: Loopback) -> Connection:
    return Connection(HOST)
