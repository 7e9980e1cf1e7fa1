"""Reaching a device, and every reason why it cannot be reached, against a real sshd."""

from __future__ import annotations

import dataclasses
import shutil
import sys
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgevit.core.errors import DeviceError, MissingPackageError
from edgevit.core.target import load_target, read_architecture
from edgevit.remote import ssh
from edgevit.remote.probe import probe_device
from edgevit.remote.ssh import PYTHON, Connection, check_host
from edgevit.remote.ssh_errors import OutOfReachError, explain_failure
from tests.support.loopback import HOST, write_known_hosts


@pytest.mark.parametrize(
    "host", ["board", "user@board", "user@192.168.1.7", "user@[fe80::1%eth0]", "ssh://user@board:2222", "a-b.local"]
)
def test_host_as_ssh_takes_it_is_taken(host):
    assert check_host(host) == host


@pytest.mark.parametrize(
    "host", ["", "-oProxyCommand=touch x", "user@-board", "@board", "user@", "a b", "a;b", "a\nb", "$(x)", "a'b", "~"]
)
def test_host_that_is_an_option_or_holds_shell_characters_is_refused(host):
    with pytest.raises(DeviceError, match="is not the name of a host"):
        check_host(host)


@pytest.mark.parametrize("host", ["board:2222", "user@192.168.1.7:22"])
def test_host_with_a_port_is_told_how_ssh_takes_one(host):
    with pytest.raises(DeviceError) as caught:
        check_host(host)
    assert caught.value.hint.endswith(f"ssh://{host}")


@settings(max_examples=50)
@given(st.text(min_size=1, max_size=30))
def test_host_that_is_taken_is_one_word_and_no_option(host):
    try:
        check_host(host)
    except DeviceError:
        return
    assert not host.startswith("-")
    assert host.split() == [host]
    assert not set(host) & set("'\"`\\$;&|<>(){}*?!#~^\0\n")


def test_probe_tells_what_the_device_is(connection):
    found = probe_device(connection, load_target("cpu"))
    assert found.system == "Linux"
    assert found.free_bytes > 0
    assert "Python 3." in found.describe()


def test_own_interpreter_without_packages_is_refused_with_all_that_it_lacks(connection, tmp_path):
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S "$@"\n')
    bare.chmod(0o755)
    connection.own_python = connection.python = str(bare)
    with pytest.raises(DeviceError, match=r"python on board lacks numpy, pillow, onnxruntime\n") as caught:
        probe_device(connection, load_target("cpu"))
    assert "leave EDGEVIT_DEVICE_PYTHON out" in caught.value.hint
    with pytest.raises(DeviceError, match="lacks numpy, pillow, onnxruntime, onnx-ir, tomli-w"):
        probe_device(connection, load_target("cpu"), finishes=True)
    connection.own_python = None  # then an environment is made, with what is missing
    assert probe_device(connection, load_target("cpu"), finishes=True).modules == ()


def test_device_of_another_architecture_is_refused(connection):
    here = read_architecture()
    other: Literal["x86_64", "aarch64"] = "aarch64" if here == "x86_64" else "x86_64"
    with pytest.raises(DeviceError, match=f"target cpu is for {other}, and board has {here}"):
        probe_device(connection, dataclasses.replace(load_target("cpu"), architecture=other))


def test_changed_host_key_is_refused_and_named(loopback, connection):
    write_known_hosts(loopback, "other_key")
    with pytest.raises(DeviceError, match="its host key is not the one that is known") as caught:
        connection.ask("probe")
    assert not isinstance(caught.value, OutOfReachError)
    assert f"ssh-keygen -R '[127.0.0.1]:{loopback.port}'" in caught.value.hint  # what known_hosts calls it


def test_unknown_host_key_is_not_accepted(loopback, connection):
    (loopback.folder / "known_hosts").write_text("")
    with pytest.raises(DeviceError, match="its host key is not known") as caught:
        connection.ask("probe")
    assert "run ssh board once by hand" in caught.value.hint


def test_key_that_the_device_does_not_know_is_denied_without_a_question(loopback, connection):
    loopback.write_config(IdentityFile=str(loopback.folder / "other_key"))
    with pytest.raises(DeviceError, match="permission denied") as caught:
        connection.ask("probe")
    assert "ssh-copy-id board" in caught.value.hint


def test_closed_port_and_unknown_name_are_told_apart(loopback, connection):
    loopback.write_config(Port="1")
    with pytest.raises(DeviceError, match="it refuses the connection"):
        connection.ask("probe")
    loopback.write_config(HostName="nowhere.invalid")
    with pytest.raises(DeviceError, match="the name cannot be resolved"):
        connection.ask("probe")


def test_option_that_ssh_does_not_know_is_its_configuration_s_fault(loopback, connection):
    loopback.write_config(NoSuchOption="1")
    with pytest.raises(DeviceError, match="does not accept its own configuration"):
        connection.ask("probe")


def test_device_without_python_is_refused(loopback, monkeypatch):
    monkeypatch.setenv(PYTHON, "/nowhere/python 3")
    with pytest.raises(DeviceError, match="board has no Python: /nowhere/python 3 cannot be started") as caught:
        Connection(HOST).ask("probe")
    assert PYTHON in caught.value.hint


def test_device_with_an_old_python_is_refused_with_its_version(loopback, monkeypatch, tmp_path):
    # What the bootstrap does there: it says its version and goes.
    old = tmp_path / "python3.8"
    old.write_text("#!/bin/sh\nprintf '\\nedgevit-agent 3.8\\n'\nexit 3\n")
    old.chmod(0o755)
    monkeypatch.setenv(PYTHON, str(old))
    with pytest.raises(DeviceError, match=r"board has Python 3\.8; edgevit needs 3\.10"):
        Connection(HOST).ask("probe")


def test_what_a_login_prints_does_not_disturb(loopback, monkeypatch, tmp_path):
    noisy = tmp_path / "python"
    noisy.write_text(
        f'#!/bin/sh\necho Welcome to the board; echo mind the step >&2\nexec {shutil.which("python3")} "$@"\n'
    )
    noisy.chmod(0o755)
    monkeypatch.setenv(PYTHON, str(noisy))
    assert Connection(HOST).ask("probe")["system"] == "Linux"


def test_board_that_accepts_the_connection_and_hangs_is_given_up(loopback, monkeypatch, tmp_path):
    hung = tmp_path / "python"
    hung.write_text("#!/bin/sh\nexec sleep 60\n")
    hung.chmod(0o755)
    monkeypatch.setenv(PYTHON, str(hung))
    monkeypatch.setattr(ssh, "GREETING_SECONDS", 1)
    with pytest.raises(OutOfReachError, match=f"board did not start {hung} within 1 s"):
        Connection(HOST).ask("probe")


def test_call_does_not_become_the_master_of_the_user_s_own_sessions(loopback, connection, tmp_path):
    loopback.write_config(ControlMaster="auto", ControlPersist="60", ControlPath=str(tmp_path / "master"))
    assert connection.ask("probe")["system"] == "Linux"
    assert not (tmp_path / "master").exists()


class JetsonBoard:
    """A Jetson's answers to the probe; no such board is here."""

    host, own_python, python = "board", None, "python3"

    def __init__(self, tensorrt):
        self.found = {
            "python": "3.10.12", "architecture": "aarch64", "system": "Linux", "root": "/r", "free_bytes": 1,
            "l4t": "# R36", "tensorrt": tensorrt,
        }  # fmt: skip

    def ask(self, verb, **request):
        return self.found


def test_board_with_an_older_tensorrt_is_refused_before_the_build():
    board: Any = JetsonBoard("8.6.2")
    with pytest.raises(DeviceError, match=r"for TensorRT 10\.3 or later, and board has 8\.6\.2"):
        probe_device(board, load_target("jetson"))


@pytest.mark.parametrize(("found", "target"), [("8.6.2", "jetson-jetpack-6.0"), ("10.3.0", "jetson")])
def test_board_with_the_target_s_tensorrt_is_taken(found, target):
    board: Any = JetsonBoard(found)
    assert probe_device(board, load_target(target)).tensorrt == found


def test_error_of_the_agent_comes_with_its_last_lines(connection):
    with pytest.raises(DeviceError, match="not the name of a job"):
        connection.ask("get", job="../../etc")


def test_without_a_client_the_package_is_named(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(MissingPackageError) as caught:
        Connection("board")
    assert "openssh-client" in caught.value.hint


@pytest.mark.parametrize(
    ("status", "said", "connected", "lost"),
    [
        (255, "client_loop: send disconnect: Broken pipe", True, True),
        (255, "Connection reset by 10.0.0.7 port 22", False, True),
        (-9, "", True, True),
        (255, "ssh: connect to host x port 22: No route to host", False, True),
        (255, "ssh: connect to host x port 22: Connection timed out", False, True),
        (255, "user@x: Permission denied (publickey).", False, False),
        (255, "Host key verification failed.", False, False),
        (1, "Traceback", True, False),
    ],
)
def test_a_device_that_is_out_of_reach_is_worth_another_try_and_a_refusal_is_not(status, said, connected, lost):
    error = explain_failure("x", status, [said], connected=connected, python="python3")
    assert isinstance(error, OutOfReachError) is lost
    assert said in error.message
