"""Why a call over ssh failed, in one sentence, and what to do about it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from edgevit.core.errors import DeviceError, format_last_lines

SSH_FAILED = 255
"""The exit status by which ``ssh`` says that it failed itself; any other is the remote program's."""
NOT_FOUND = (126, 127)
"""A shell's exit statuses for a program that is not there or cannot be started."""
OLD_PYTHON = 3
"""The bootstrap's exit status for a Python that is too old."""

_REFUSALS = (
    # What ssh says on standard error, in lower case; the sentence; what to do. The first that fits is taken.
    (
        ("remote host identification has changed",),
        "its host key is not the one that is known for it",
        "if the device was set up again: ssh-keygen -R 'NAME', then ssh HOST once and compare the key; otherwise "
        "somebody may be in between",
    ),
    (
        ("host key verification failed", "no matching host key"),
        "its host key is not known or not accepted",
        "run ssh HOST once by hand, compare the fingerprint with the device's and accept it",
    ),
    (
        ("permission denied", "too many authentication failures", "no more authentication methods"),
        "permission denied: it does not accept a key of yours",
        "edgevit asks for no password: put your public key there with ssh-copy-id HOST, and load it with ssh-add",
    ),
    (
        ("bad configuration option", "bad owner or permissions", "terminating,"),
        "ssh does not accept its own configuration",
        "correct ~/.ssh/config until ssh HOST works by hand",
    ),
)
_OUT_OF_REACH = (
    (
        ("could not resolve hostname", "name or service not known"),
        "the name cannot be resolved",
        "check the name, or give the device an entry in ~/.ssh/config",
    ),
    (
        ("connection refused",),
        "it refuses the connection",
        "check that the ssh server runs there (sudo systemctl status ssh) and that the port is right",
    ),
    (
        ("timed out", "no route to host", "network is unreachable", "host is down"),
        "it cannot be reached",
        "check that the device is on and in the network: ssh HOST must work by hand",
    ),
)


class OutOfReachError(DeviceError):
    """The connection broke off or cannot be made now; a little later it may be there again."""


def explain_failure(host: str, status: int, stderr: Sequence[str], *, connected: bool, python: str) -> DeviceError:
    """The error for an ``ssh`` that ended before its work was done.

    Args:
        host: As the user wrote it.
        status: The exit status of ``ssh``; negative where a signal ended it.
        stderr: What it and the remote program wrote on standard error, line by line.
        connected: Whether the remote program had begun to answer.
        python: The interpreter that was to run there.
    """
    text = "\n".join(stderr).lower()
    lines = format_last_lines(stderr)
    if status == SSH_FAILED or status < 0 or (connected and status == 0):  # 0: it ended because its stream did
        if connected or status < 0:
            return OutOfReachError(f"the connection to {host} was lost{lines}", "check the network and the device")
        for kind, table in ((DeviceError, _REFUSALS), (OutOfReachError, _OUT_OF_REACH)):
            for phrases, what, hint in table:
                if any(phrase in text for phrase in phrases):
                    hint_here = hint.replace("HOST", host).replace("NAME", _find_known_name(stderr) or host)
                    return kind(f"cannot connect to {host}: {what}{lines}", hint_here)
        # "Connection closed by …", "reset by peer", "kex_exchange_identification: …" and what else may come
        return OutOfReachError(f"cannot connect to {host}{lines}", f"ssh {host} must work by hand")
    if status in NOT_FOUND and not connected:
        return DeviceError(
            f"{host} has no Python: {python} cannot be started there{lines}",
            "install Python 3.10 or later on the device, or name its path in EDGEVIT_DEVICE_PYTHON",
        )
    return DeviceError(
        f"edgevit's part on {host} ended with status {status}{lines}", f"see the lines above; ssh {host} must work"
    )


def _find_known_name(stderr: Sequence[str]) -> str | None:
    """How the file of known hosts calls the device: without the user, with the port, and not by an alias."""
    for line in stderr:
        if found := re.match(r"Host key for (\S+) has changed", line):
            return found[1]
    return None
