"""The job's own part on the device: its environment and its turn."""

from __future__ import annotations

import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import pytest

from edgevit.remote import runner


def write_wheel(job: Path, *requirements: str) -> None:
    """A wheel with nothing but a module."""
    (job / "input").mkdir(parents=True, exist_ok=True)
    lines = ["Metadata-Version: 2.1", "Name: tiny", "Version: 1.0", "Provides-Extra: finish", *requirements]
    with zipfile.ZipFile(job / "input" / "tiny-1.0-py3-none-any.whl", "w") as archive:
        archive.writestr("tiny.py", "ANSWER = 42\n")
        archive.writestr("tiny-1.0.dist-info/METADATA", "\n".join(lines) + "\n\nRequires-Dist: no-field-here\n")
        archive.writestr("tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("tiny-1.0.dist-info/RECORD", "")


def test_environment_is_made_once_without_a_network_and_kept_until_something_else_is_needed(tmp_path, capsys):
    job = tmp_path / "jobs" / "one"
    write_wheel(job)
    request = {"extras": ["finish"]}
    python = runner.make_environment(str(tmp_path), str(job), request)
    assert Path(python).parents[1].name == f"env-{sys.version_info[0]}.{sys.version_info[1]}-finish"
    answer = subprocess.run(
        [python, "-c", "import tiny; print(tiny.ANSWER)"], capture_output=True, text=True, check=True
    )
    assert answer.stdout == "42\n"
    assert "making" in capsys.readouterr().out
    assert runner.make_environment(str(tmp_path), str(job), request) == python
    assert "installing" not in capsys.readouterr().out
    before = runner.read_requirements(runner.find_wheel(str(job)))
    write_wheel(job, "Requires-Dist: numpy")
    assert runner.read_requirements(runner.find_wheel(str(job))) != before


def test_system_without_ensurepip_lends_its_own_pip(tmp_path, monkeypatch):
    real, commands = runner.run, []

    def run(command):
        commands.append(command)
        if "venv" in command and "--without-pip" not in command:
            return subprocess.CompletedProcess(command, 1, "", "ensurepip is not available")
        if command[-2:] == ["pip", "--version"]:
            return subprocess.CompletedProcess(command, 0, "pip 22.0.2", "")
        return real(command)

    monkeypatch.setattr(runner, "run", run)
    runner.create_environment(str(tmp_path / "env"), str(tmp_path / "env" / "bin" / "python"))
    assert "include-system-site-packages = true" in (tmp_path / "env" / "pyvenv.cfg").read_text()
    assert len(commands) == 3


def test_system_without_any_pip_is_told_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "run", lambda command: subprocess.CompletedProcess(command, 1, "", "no"))
    with pytest.raises(runner.JobError) as caught:
        runner.create_environment(str(tmp_path / "env"), str(tmp_path / "env" / "bin" / "python"))
    assert "python3-venv" in caught.value.hint


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ("[Errno 28] No space left on device", "disk is full"),
        ("SSLError: certificate is not yet valid", "clock there"),
        ("no", "cannot install"),
    ],
)
def test_pip_s_failure_is_told_apart_and_leaves_nothing_that_counts_as_made(tmp_path, monkeypatch, said, error):
    job = tmp_path / "jobs" / "one"
    write_wheel(job)
    pips = []

    def run(command):
        pips.append(command) if "pip" in command else (tmp_path / "env").mkdir(exist_ok=True)
        return subprocess.CompletedProcess(command, int("pip" in command), "", said)

    monkeypatch.setattr(runner, "run", run)
    with pytest.raises(runner.JobError, match=error):
        runner.make_environment(str(tmp_path), str(job), {"extras": ["finish"]})
    assert all("--no-cache-dir" in command for command in pips)  # the one folder is all that is written to
    assert not list(tmp_path.glob("env-*/requirements"))


def test_turn_comes_when_the_holder_has_gone(tmp_path, capsys):
    path = str(tmp_path / "lock")
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys, time; sys.argv = ['']; from edgevit.remote import runner; "
            f"runner.lock({path!r}); print('held', flush=True); time.sleep(60)",
        ],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert holder.stdout is not None
    holder.stdout.readline()
    threading.Timer(0.5, holder.kill).start()  # a dead holder keeps nothing
    runner.wait_for_turn(path)
    holder.wait()
    assert "waiting: another edgevit is at work" in capsys.readouterr().out
