"""A device that OpenSSH's client reaches, with the user's own configuration, keys and known hosts.

Every call is one ``ssh`` whose remote command is always the same: a Python that reads ``agent.py`` from its standard
input and runs it. Requests and files follow on the same stream, so nothing of the user's ever stands on a remote
command line, and nothing has to be installed there before.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import subprocess
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from edgevit.core.errors import DeviceError, MissingPackageError, format_last_lines
from edgevit.remote.ssh_errors import NOT_FOUND, OLD_PYTHON, OutOfReachError, explain_failure

CONNECT_SECONDS = 15
GREETING_SECONDS = 90
"""For a login and the start of a Python, on a slow board that is busy. A hung one accepts connections and no more."""
OPTIONS = (
    "BatchMode=yes",  # never a question: only keys and known hosts decide
    f"ConnectTimeout={CONNECT_SECONDS}",
    "ServerAliveInterval=15",
    "ServerAliveCountMax=4",  # a device that was unplugged is noticed within a minute
    "ClearAllForwardings=yes",  # a forwarded port of the user's may be in use by the user's own session
    "RemoteCommand=none",
    "RequestTTY=no",
    "ControlMaster=no",  # one that is open is used; but to be the user's own would mean to end with the user's sessions
)
PYTHON = "EDGEVIT_DEVICE_PYTHON"
"""In the environment: an interpreter on the device to use as it is, with the packages that it has."""

_AGENT = Path(__file__).with_name("agent.py")
_GREETING = "edgevit-agent "
# One line without apostrophes, for any login shell. What a shell's start-up files print comes before the greeting.
_BOOTSTRAP = (
    "import sys;"
    f'sys.stdout.write("\\n{_GREETING}%d.%d\\n" % sys.version_info[:2]);'
    "sys.stdout.flush();"
    f"sys.version_info < (3, 10) and sys.exit({OLD_PYTHON});"
    "i = sys.stdin.buffer;"
    'exec(compile(i.read(int(i.readline())), "edgevit-agent", "exec"))'
)
_UNSAFE = re.compile(r"""[\s\x00-\x1f\x7f'"`\\$;&|<>(){}*?!#~^]""")

_PORT = re.compile(r"^[^:/\[\]]+(\[[^\]]*\])?:\d+$")
"""``user@board:2222``, which ``ssh`` takes for a name; an address of IPv6 has more colons."""


def check_host(host: str) -> str:
    """A destination as ``ssh`` takes it: ``user@board``, ``board``, an alias, or ``ssh://user@board:2222``.

    Raises:
        DeviceError: It is none; above all it does not begin with ``-``, which ``ssh`` would take for an option.
    """
    user, at, name = host.rpartition("@")
    if (
        not host
        or host.startswith("-")
        or (at and not user)
        or not name
        or name.startswith("-")
        or _UNSAFE.search(host)
    ):
        raise DeviceError(f"{host!r} is not the name of a host", "give user@host, or an alias of ~/.ssh/config")
    if _PORT.search(host):
        raise DeviceError(f"{host!r} is not the name of a host", f"give a port as ssh does: ssh://{host}")
    return host


class Connection:
    """A host and how it is called; nothing is kept open between calls."""

    def __init__(self, host: str) -> None:
        self.host = check_host(host)
        self.own_python = os.environ.get(PYTHON)
        self.python = self.own_python or "python3"
        self._ssh = shutil.which("ssh")
        if self._ssh is None:
            raise MissingPackageError("OpenSSH's client is not installed: there is no ssh", "install openssh-client")

    @contextlib.contextmanager
    def call(self, verb: str, request: Mapping[str, Any]) -> Iterator[Exchange]:
        """Run a verb of ``agent.py`` and talk with it; leaving the context ends the call.

        Raises:
            DeviceError: The host cannot be reached or has no usable Python, or the verb failed, with the last lines.
            OutOfReachError: The connection broke off.
        """
        assert self._ssh is not None
        options = [word for option in OPTIONS for word in ("-o", option)]
        remote = f"{shlex.quote(self.python)} -c {shlex.quote(_BOOTSTRAP)}"
        process = subprocess.Popen(
            [self._ssh, "-T", *options, "--", self.host, remote],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # a Ctrl-C is ours: the device is told what it means
        )
        exchange = Exchange(self, process)
        try:
            exchange.begin({**request, "verb": verb})
            yield exchange
        finally:
            exchange.close()

    def ask(self, verb: str, **request: Any) -> dict[str, Any]:
        """One question, one answer."""
        with self.call(verb, request) as exchange:
            return exchange.receive()


class Exchange:
    """One call under way: JSON lines and raw bytes, both ways."""

    def __init__(self, connection: Connection, process: subprocess.Popen[bytes]) -> None:
        self._connection = connection
        self._process = process
        self._connected = False
        self._stderr: deque[str] = deque(maxlen=200)
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        self._in: IO[bytes] = process.stdin
        self._out: IO[bytes] = process.stdout
        self._reader = threading.Thread(target=self._collect, args=(process.stderr,), daemon=True)
        self._reader.start()

    def begin(self, request: Mapping[str, Any]) -> None:
        """Hand over the agent and the request, and wait for the greeting."""
        agent = _AGENT.read_bytes()
        try:
            self._in.write(f"{len(agent)}\n".encode() + agent)
            self.send_line(request)
        except OSError:
            pass  # the reason is on the way: what was said before the stream broke is read below
        late = threading.Event()

        def end() -> None:
            late.set()
            self._process.kill()

        timer = threading.Timer(GREETING_SECONDS, end)
        timer.start()
        try:
            while True:
                line = self._out.readline().decode(errors="replace")
                if not line:
                    if late.is_set():
                        raise OutOfReachError(
                            f"{self._connection.host} did not start {self._connection.python} within "
                            f"{GREETING_SECONDS} s{format_last_lines(list(self._stderr))}",
                            f"see what keeps the device busy: ssh {self._connection.host} must work by hand",
                        )
                    raise self._explain()
                if line.startswith(_GREETING):
                    break
        finally:
            timer.cancel()
        self._connected = True
        version = line.removeprefix(_GREETING).strip()
        if tuple(map(int, version.split("."))) < (3, 10):
            raise DeviceError(
                f"{self._connection.host} has Python {version}; edgevit needs 3.10 or later",
                "install a later Python on the device and name its path in EDGEVIT_DEVICE_PYTHON",
            )

    def send_line(self, data: Mapping[str, Any]) -> None:
        """A JSON line."""
        self.send(json.dumps(data).encode() + b"\n")

    def send(self, data: bytes) -> None:
        """Raw bytes.

        Raises:
            DeviceError: The other end has gone.
        """
        try:
            self._in.write(data)
            self._in.flush()
        except OSError as exc:
            if not self._connected:
                raise
            while True:  # it has said why before it closed the stream, or has gone without a word
                try:
                    self.receive()
                except DeviceError as error:
                    raise error from exc

    def receive(self) -> dict[str, Any]:
        """The next JSON line.

        Raises:
            DeviceError: The agent says what went wrong, or has gone.
        """
        line = self._out.readline()
        if not line.endswith(b"\n"):
            raise self._explain()
        try:
            answer = json.loads(line)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise DeviceError(
                f"{self._connection.host} answered with something else than edgevit's agent: {line[:200]!r}",
                "keep what the device's login prints off standard output",
            )
        if "error" in answer:
            raise DeviceError(f"{self._connection.host}: {answer['error']}", str(answer.get("hint", "")))
        return answer

    def read(self, size: int) -> bytes:
        """At most ``size`` raw bytes, at least one.

        Raises:
            DeviceError: The other end has gone.
        """
        data = self._out.read1(size)  # type: ignore[attr-defined]
        if not data:
            raise self._explain()
        return bytes(data)

    def close(self) -> None:
        """End the call; the agent's verbs end when their stream does."""
        with contextlib.suppress(OSError):
            self._in.close()
        try:
            self._process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(timeout=2)
        self._out.close()

    def _explain(self) -> DeviceError:
        try:
            status = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:  # it closed its output and lives on
            self._process.kill()
            status = self._process.wait()
        self._reader.join(timeout=2)
        connected = self._connected and status not in NOT_FOUND
        return explain_failure(
            self._connection.host, status, list(self._stderr), connected=connected, python=self._connection.python
        )

    def _collect(self, stream: IO[bytes]) -> None:
        for line in stream:
            self._stderr.append(line.decode(errors="replace").rstrip())
