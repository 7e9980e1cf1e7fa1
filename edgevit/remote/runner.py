"""The job on the device, in a session of its own: waits its turn, sees to an environment, runs edgevit.

Started by ``agent.py`` with the system's Python, so it needs only the standard library. It lives on when the
connection is lost. What it has done is kept: an environment by its stamp, compiled engines in edgevit's own cache.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import signal
import site
import subprocess
import sys
import time
import zipfile
from typing import Any

Status = dict[str, Any]


def main(job: str, ready: int) -> int:
    """Run the job in a folder; its exit status."""
    with open(os.path.join(job, "request.json")) as stream:
        request = json.load(stream)
    alive = take_job(os.path.join(job, "alive"))
    if alive is None:
        return 0
    before = json.loads(read_text(os.path.join(job, "status.json")) or "{}")
    status: Status = {"state": "running", "pid": os.getpid()}
    write_status(job, status, "waiting")
    os.close(ready)
    if before.get("broken_off"):
        log(f"going on with a job that was broken off at stage {before['stage']}: what was finished is kept")
    root = os.path.dirname(os.path.dirname(job))
    turn = wait_for_turn(os.path.join(root, "lock"))
    try:
        write_status(job, status, "environment")
        python = request["python"] or make_environment(root, job, request)
        status["python"] = python
        code = unpack_wheel(job)
        write_status(job, status, "edgevit")
        cache = os.path.join(os.path.dirname(root), request["cache_folder"]) if request["cache_folder"] else None
        if cache is not None:
            copy_new(os.path.join(job, "input", "cache"), cache)
        status["home"] = home = make_home(job)
        with open(os.path.join(job, "output", "result.json"), "wb") as result:
            child = subprocess.Popen(
                [python, *request["arguments"]],
                stdin=subprocess.DEVNULL,
                stdout=result,
                cwd=job,
                env={**os.environ, **home, "PYTHONPATH": code, "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"},
                pass_fds=(alive, turn),  # the locks are held for as long as either lives
            )
        status["code"] = child.wait()
        if cache is not None:
            copy_new(cache, os.path.join(job, "output", "cache"))
    except JobError as error:
        status.update(code=2, error=error.message, hint=error.hint)
    except OSError as exc:
        status.update(code=2, error=str(exc), hint="check the free space and the permissions on the device")
    write_status(job, {**status, "state": "done"}, status["stage"])
    return int(status["code"])


class JobError(Exception):
    """What happened, and what to do."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


def make_home(job: str) -> dict[str, str]:
    """Variables of what runs: a home and a temporary folder inside the job's, which go with it.

    Engine libraries leave numbers of their own for telemetry in the user's home, and a killed process its temporary
    files. What the user has installed there is still found.
    """
    home = os.path.join(job, "home")
    temporary = os.path.join(home, "tmp")
    os.makedirs(temporary, exist_ok=True)
    folders = {f"XDG_{name}_HOME": os.path.join(home, name.lower()) for name in ("CACHE", "CONFIG", "DATA", "STATE")}
    return {**folders, "PYTHONUSERBASE": site.getuserbase(), "HOME": home, "TMPDIR": temporary}


def wait_for_turn(path: str) -> int:
    """The device's lock, once whoever holds it has ended."""
    handle = lock(path)
    if handle is None:
        log("waiting: another edgevit is at work on this device")
        began = time.monotonic()
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        fcntl.flock(handle, fcntl.LOCK_EX)
        log(f"waited {time.monotonic() - began:.0f} s for the other")
    return handle


def take_job(path: str) -> int | None:
    """The job's own lock; ``None`` where another runner was quicker. Whoever asks for it holds it for a moment too."""
    for _ in range(20):
        handle = lock(path)
        if handle is not None:
            return handle
        time.sleep(0.05)
    return None


def lock(path: str) -> int | None:
    """An open, locked file; ``None`` where another process has it."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    return handle


def make_environment(root: str, job: str, request: Status) -> str:
    """The interpreter of a virtual environment with what the wheel's extras need, made or brought up to date.

    Packages of the system count, as JetPack brings TensorRT there; the network is asked only for what is missing.
    """
    extras = request["extras"]
    version = "{}.{}".format(*sys.version_info[:2])
    folder = os.path.join(root, f"env-{version}-{'-'.join(extras)}")
    python, stamp = os.path.join(folder, "bin", "python"), os.path.join(folder, "requirements")
    wheel = find_wheel(job)
    needed = read_requirements(wheel)
    if read_text(stamp) == needed and os.path.exists(python):
        log(f"environment: {folder}")
        return python
    if not os.path.exists(stamp):  # never finished
        shutil.rmtree(folder, ignore_errors=True)
        log(f"environment: making {folder}")
        create_environment(folder, python)
    target = f"{wheel}[{','.join(extras)}]"
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", "--no-cache-dir"]
    log("environment: installing what edgevit needs")
    offline = run([*pip, "--no-index", target])
    if offline.returncode != 0:
        online = run([*pip, "--progress-bar", "off", target])
        if online.returncode != 0:
            said = online.stdout + online.stderr
            log(said.strip())
            if "No space left" in said:
                if not os.path.exists(stamp):  # nothing would go on with it
                    shutil.rmtree(folder, ignore_errors=True)
                raise JobError("the disk is full", "make room on the device")
            if "certificate is not yet valid" in said or "certificate has expired" in said:
                raise JobError(
                    f"pip cannot check the package index's certificate; the clock there says {time.ctime()}",
                    "if that is wrong, set the device's clock (timedatectl): boards without a battery lose it",
                )
            raise JobError(
                "pip cannot install what edgevit needs there",
                "connect the device to the network for the first time, or name an interpreter of the device that has "
                "the packages in EDGEVIT_DEVICE_PYTHON",
            )
    with open(stamp, "w") as stream:
        stream.write(needed)
    return python


def create_environment(folder: str, python: str) -> None:
    """With pip of its own, or with the system's where the system's Python comes without ensurepip, as on Debian."""
    command = [sys.executable, "-m", "venv", "--system-site-packages"]
    made = run([*command, folder])
    if made.returncode != 0:
        shutil.rmtree(folder, ignore_errors=True)
        made = run([*command, "--without-pip", folder])
        if made.returncode != 0 or run([python, "-m", "pip", "--version"]).returncode != 0:
            shutil.rmtree(folder, ignore_errors=True)
            raise JobError(
                "a virtual environment cannot be made there",
                "sudo apt-get install python3-venv on the device",
            )


def copy_new(source: str, target: str) -> None:
    """Files of one folder that the other does not have."""
    os.makedirs(target, exist_ok=True)
    for name in os.listdir(source) if os.path.isdir(source) else ():
        path = os.path.join(target, name)
        if name.endswith(".cache") and not os.path.exists(path):
            shutil.copyfile(os.path.join(source, name), path + ".part")
            os.replace(path + ".part", path)


def unpack_wheel(job: str) -> str:
    """edgevit itself, of the very version that sent the job: first on the path, whatever the environment has."""
    folder = os.path.join(job, "code")
    shutil.rmtree(folder, ignore_errors=True)
    with zipfile.ZipFile(find_wheel(job)) as archive:
        archive.extractall(folder)
    return folder


def find_wheel(job: str) -> str:
    """edgevit's wheel among what was sent."""
    folder = os.path.join(job, "input")
    return next(os.path.join(folder, name) for name in os.listdir(folder) if name.endswith(".whl"))


def read_requirements(wheel: str) -> str:
    """A fingerprint of what the wheel asks for: not of its code, which is not taken from the environment."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        lines = archive.read(name).decode().partition("\n\n")[0].splitlines()
    wanted = sorted(line for line in lines if line.startswith("Requires-"))
    return hashlib.sha256("\n".join(wanted).encode()).hexdigest()


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a command and keep what it says; its status is for the caller to judge."""
    return subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False
    )


def read_text(path: str) -> str | None:
    """A file's text; ``None`` where it cannot be read."""
    try:
        with open(path) as stream:
            return stream.read()
    except OSError:
        return None


def write_status(job: str, status: Status, stage: str) -> None:
    """Write the job's status with its stage, in one step."""
    status["stage"] = stage
    path = os.path.join(job, "status.json")
    with open(path + ".part", "w") as stream:
        json.dump(status, stream)
    os.replace(path + ".part", path)


def log(text: str) -> None:
    """Write a line of the job's log."""
    print(text, flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
