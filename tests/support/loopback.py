"""A real sshd on the loopback interface, with a key, a configuration and a cache folder of its own."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

HOST = "board"


@dataclass(frozen=True)
class Loopback:
    """What a test needs of the server.

    Attributes:
        folder: With everything below.
        cache: ``$EDGEVIT_CACHE`` of the device's side.
        port: Of 127.0.0.1.
        pid: Of the server.
    """

    folder: Path
    cache: Path
    port: int
    pid: int

    @property
    def jobs(self) -> list[Path]:
        """Folders of jobs that are on the device."""
        return sorted((self.cache / "device" / "jobs").glob("*"))

    def drop_connections(self) -> int:
        """End every session of the server, as a broken network does; how many there were."""
        children = [pid for pid, parent in _list_processes() if parent == self.pid]
        sessions = [pid for pid, parent in _list_processes() if parent in children]  # of an unprivileged monitor
        for pid in (*sessions, *children):
            # the job is a session of its own, which must live on: only sshd's own processes are ended
            if "sshd" in (Path(f"/proc/{pid}/comm").read_text() if Path(f"/proc/{pid}").exists() else ""):
                os.kill(pid, signal.SIGKILL)
        return len(children)

    def write_config(self, **changes: str) -> None:
        """The client's configuration, with other values for some keys."""
        (self.folder / "config").write_text(self.describe_host(HOST, **changes))

    def describe_host(self, host: str, **changes: str) -> str:
        """The part of a client's configuration that calls this server by some name."""
        options = {
            "HostName": "127.0.0.1",
            "Port": str(self.port),
            "User": getpass.getuser(),
            "IdentityFile": str(self.folder / "id"),
            "IdentitiesOnly": "yes",
            "UserKnownHostsFile": str(self.folder / "known_hosts"),
            "GlobalKnownHostsFile": "/dev/null",
            "StrictHostKeyChecking": "yes",
            "KexAlgorithms": "curve25519-sha256",  # others guard against machines of the future, and take longer
            **changes,
        }
        lines = [f"Host {host}", *(f"  {key} {value}" for key, value in options.items())]
        return "\n".join(lines) + "\n"


def start_server(folder: Path, home: Path | None = None) -> Loopback:
    """Start sshd, or skip with the reason; its cache is the default one of a ``home`` where that is given.

    What this machine's user has a shell do at its start is not the device's matter, and can take longer than a call.
    """
    server, client, keygen = (shutil.which(n, path=f"{os.environ['PATH']}:/usr/sbin") for n in _PROGRAMS)
    if server is None or client is None or keygen is None:
        pytest.skip("openssh-server and openssh-client are not installed")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # where a privileged sshd wants to lock itself in
    folder.chmod(0o700)
    for name in ("host_key", "id", "other_key"):
        subprocess.run([keygen, "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    (folder / "authorized_keys").write_text((folder / "id.pub").read_text())
    cache = folder / "cache" if home is None else home / ".cache" / "edgevit"
    place = f"HOME={folder} EDGEVIT_CACHE={cache}" if home is None else f"HOME={home}"
    port = _find_port()
    (folder / "sshd_config").write_text(
        f"ListenAddress 127.0.0.1\nPort {port}\nHostKey {folder}/host_key\nPidFile {folder}/pid\n"
        f"AuthorizedKeysFile {folder}/authorized_keys\nStrictModes no\nUsePAM no\nPermitRootLogin yes\n"
        f"PasswordAuthentication no\nKbdInteractiveAuthentication no\nMaxStartups 100\n"
        f"SetEnv {place} OMP_NUM_THREADS=1\n"
    )
    process = subprocess.Popen([server, "-D", "-f", folder / "sshd_config", "-E", folder / "sshd.log"])
    loopback = Loopback(folder, cache, port, process.pid)
    write_known_hosts(loopback, "host_key")
    loopback.write_config()
    write_client(folder, client)
    for _ in range(100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return loopback
        if process.poll() is not None:
            pytest.skip(f"sshd does not start here: {(folder / 'sshd.log').read_text()}")
        time.sleep(0.05)
    pytest.fail("sshd does not answer")


def write_client(folder: Path, client: str | None = None) -> None:
    """An ``ssh`` in the folder's ``bin`` that has the folder's configuration."""
    (folder / "bin").mkdir()
    (folder / "bin" / "ssh").write_text(f'#!/bin/sh\nexec {client or shutil.which("ssh")} -F {folder}/config "$@"\n')
    (folder / "bin" / "ssh").chmod(0o755)


_PROGRAMS = ("sshd", "ssh", "ssh-keygen")


def write_known_hosts(loopback: Loopback, key: str) -> None:
    """Take the named public key for the server's."""
    kind, public = (loopback.folder / f"{key}.pub").read_text().split()[:2]
    (loopback.folder / "known_hosts").write_text(f"[127.0.0.1]:{loopback.port} {kind} {public}\n")


def _find_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _list_processes() -> list[tuple[int, int]]:
    """(process, parent) of all."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            found.append((int(path.parent.name), int(path.read_text().rpartition(")")[2].split()[1])))
        except OSError:
            continue
    return found
