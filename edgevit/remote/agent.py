"""What answers on the device. Sent over ssh and run by ``python3 -c``, so it needs only the standard library.

Everything that it writes lies below one folder, ``device`` in edgevit's cache (by ``$EDGEVIT_CACHE``, or in the user's
cache folder; see ``cache_folder.py``). A job is a folder there, with its input, its log and its result::

    device/lock              held by the job that is at work; the others wait
    device/env-…/            virtual environments
    device/jobs/ID/input/    what was sent; ``.part`` files are not complete
    device/jobs/ID/output/   what is fetched
    device/jobs/ID/log       what the job says
    device/jobs/ID/alive     locked for as long as the job lives, however it ends
    device/jobs/ID/server    locked by the process that answers for it, with its number
    device/jobs/ID/home      home and temporary folder of what runs: libraries leave their own files there
    device/jobs/ID/status.json
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import glob
import hashlib
import importlib.util
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import time
from typing import Any

BLOCK = 1 << 20
ABANDONED_SECONDS = 7 * 24 * 3600
# as in cache_folder.py, which is not here
MARK_FILE, OWN_FOLDER = ".edgevit-cache", "edgevit-cache"
STAGES = (
    "export optimize open half_range reference whole_export quantize set_back typed rehearsal engine accuracy portable"
)
CONTENTS = (*STAGES.split(), "fp8", "canary", "compiled", "tensorrt", "tensorrt_rtx", "device", "evaluations")
JOB = "[0-9a-z-]{8,80}"
SPACE_HINT = "make room on the device, or set EDGEVIT_CACHE there to a folder on a larger disk"


def find_root() -> str:
    """The one folder that is written to, as a whole path: jobs have working folders of their own."""
    cache = os.environ.get("EDGEVIT_CACHE")
    if cache:
        cache = os.path.abspath(os.path.expanduser(cache))
        while holds_others(cache):
            cache = os.path.join(cache, OWN_FOLDER)
    else:
        base = os.environ.get("XDG_CACHE_HOME", "")
        cache = os.path.join(base if os.path.isabs(base) else os.path.expanduser("~/.cache"), "edgevit")
    return os.path.join(os.path.abspath(cache), "device")


def make_root() -> str:
    """The same folder, in a cache that is marked as one."""
    root = find_root()
    os.makedirs(os.path.dirname(root), exist_ok=True)
    with contextlib.suppress(FileExistsError), open(os.path.join(os.path.dirname(root), MARK_FILE), "x"):
        pass
    os.makedirs(root, exist_ok=True)
    return root


def holds_others(folder: str) -> bool:
    """Whether a folder that the user named holds files of others: unmarked, and with more than a cache's files."""
    try:
        names = os.listdir(folder)
    except OSError:
        return False
    return not set(names) <= set(CONTENTS) and not os.path.isfile(os.path.join(folder, MARK_FILE))


def probe(request: dict[str, Any]) -> None:
    """What the device is, as far as it matters before anything is sent."""
    root = make_root()
    say(
        {
            "python": platform.python_version(),
            "architecture": platform.machine(),
            "system": platform.system(),
            "root": root,
            "free_bytes": shutil.disk_usage(root).free,
            "board": read_text("/proc/device-tree/model"),
            "l4t": read_text("/etc/nv_tegra_release"),
            "tensorrt": find_version("tensorrt"),
            "modules": [name for name in request.get("modules", ()) if has_module(name)],
            "environments": sorted(
                name
                for name in os.listdir(root)
                if name.startswith("env-") and os.path.exists(os.path.join(root, name, "requirements"))
            ),
        }
    )


def look(request: dict[str, Any]) -> None:
    """Whether a job is at work here, and what small files of the system say, by their paths below ``root``."""
    paths = [path for pattern in request["files"] for path in glob.glob(pattern, root_dir=request["root"])]
    files = {path: read_text(os.path.join(request["root"], path)) for path in paths}
    say({"at_work": is_alive(find_root(), "lock"), "files": files})


def put(request: dict[str, Any]) -> None:
    """Take the job's files: says how much of each is here already, then reads the rest from the stream."""
    job, files = job_folder(request), request["files"]
    prune(request["job"])
    offsets = {}
    for name, record in files.items():
        path = os.path.join(job, "input", name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if os.path.exists(path) and hash_file(path) == record["sha256"]:
            continue
        half = os.path.getsize(path + ".part") if os.path.exists(path + ".part") else 0
        offsets[name] = half if half <= record["size_bytes"] else 0
    needed = sum(files[name]["size_bytes"] - offset for name, offset in offsets.items()) + request["reserve_bytes"]
    free = shutil.disk_usage(job).free
    if free < needed:
        fail(
            f"not enough space: {job} has {free / 1e6:,.0f} MB free, and about {needed / 1e6:,.0f} MB are needed",
            SPACE_HINT,
        )
    say({"offsets": offsets})
    for name, offset in offsets.items():
        path, record = os.path.join(job, "input", name), files[name]
        with open(path + ".part", "r+b" if offset else "wb") as stream:
            stream.seek(offset)
            copy(sys.stdin.buffer, stream, record["size_bytes"] - offset)
        if hash_file(path + ".part") != record["sha256"]:
            os.unlink(path + ".part")
            fail(f"{name} arrived damaged", "run the command again: the file is sent anew")
        os.replace(path + ".part", path)
        say({"stored": name})


def start(request: dict[str, Any]) -> None:
    """Start the job, unless it is alive or has been done; what it does not finish now it goes on with next time."""
    job = job_folder(request)
    status = read_status(job)
    alive, offset = is_alive(job), 0
    finished = status.get("state") == "done" and status.get("code") in request["finished_codes"]
    if not alive and not finished:
        with open(os.path.join(job, "request.json"), "w") as stream:
            json.dump(request, stream)
        broken_off = status.get("state") in ("starting", "running")
        write_status(job, {"state": "starting", "broken_off": broken_off, "stage": status.get("stage", "start")})
        offset = log_size(job)
        # Its own session: it outlives this connection. Its lock is taken before this answers.
        reader, writer = os.pipe()
        with open(os.path.join(job, "log"), "ab") as log:
            subprocess.Popen(
                [sys.executable, os.path.join(job, "input", "runner.py"), job, str(writer)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=job,
                start_new_session=True,
                pass_fds=(writer,),
                # what this has found is what the job uses; and what it says is UTF-8, whatever the login's language
                env={**os.environ, "EDGEVIT_CACHE": os.path.dirname(find_root()), "PYTHONUTF8": "1"},
            )
        os.close(writer)
        with os.fdopen(reader, "rb") as stream:
            stream.read()
    say({"attached": alive, "finished": finished, "offset": offset})


def follow(request: dict[str, Any]) -> None:
    """The log from an offset on, as it grows, and the status once the job has ended."""
    job, offset, heard = job_folder(request), request["offset"], time.monotonic()
    with open(os.path.join(job, "log"), "rb") as log:
        log.seek(offset)
        while True:
            alive = is_alive(job)
            text = log.read(BLOCK)
            if alive and not text.endswith(b"\n"):  # a line that is being written, perhaps a letter of it
                text = text[: text.rfind(b"\n") + 1]
                log.seek(offset + len(text))
            if text:
                offset, heard = offset + len(text), time.monotonic()
                say({"log": text.decode(errors="replace"), "offset": offset})
            elif not alive:
                break
            else:
                time.sleep(0.1)
                if time.monotonic() - heard > 5:  # whoever has gone is noticed by writing
                    heard = time.monotonic()
                    say({"log": "", "offset": offset})
    status = read_status(job)
    ended = status if status.get("state") == "done" else {**status, "state": "killed"}
    say({"status": {**ended, "free_bytes": shutil.disk_usage(job).free}})


def serve(request: dict[str, Any]) -> None:
    """Become ``edgevit.remote.serve``, with the code and the environment of a job that has been done."""
    job = job_folder(request)
    status = read_status(job)
    end_server(job)  # of a connection that was lost, which may not have noticed: it would keep this one waiting
    server = os.open(os.path.join(job, "server"), os.O_RDWR | os.O_CREAT, 0o666)
    fcntl.flock(server, fcntl.LOCK_EX)
    os.ftruncate(server, 0)
    os.write(server, str(os.getpid()).encode())
    lock = os.open(os.path.join(find_root(), "lock"), os.O_RDWR | os.O_CREAT, 0o666)
    for handle in (server, lock):  # for as long as it answers, nobody else measures here
        os.set_inheritable(handle, True)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say({"waiting": True})
        fcntl.flock(lock, fcntl.LOCK_EX)
    os.chdir(job)
    environment = {**os.environ, **status["home"], "PYTHONPATH": os.path.join(job, "code")}
    os.execve(status["python"], [status["python"], *request["arguments"]], environment)


def get(request: dict[str, Any]) -> None:
    """Give the job's results: the list, then, once told how much of each is there, the rest of their bytes."""
    folder = os.path.join(job_folder(request), "output")
    files = {}
    for root, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(root, name)
            record = {"sha256": hash_file(path), "size_bytes": os.path.getsize(path)}
            files[os.path.relpath(path, folder).replace(os.sep, "/")] = record
    say({"files": files})
    for name, offset in read_line()["offsets"].items():
        with open(os.path.join(folder, name), "rb") as stream:
            stream.seek(offset)
            copy(stream, sys.stdout.buffer, files[name]["size_bytes"] - offset)
    sys.stdout.buffer.flush()


def remove(request: dict[str, Any]) -> None:
    """End the job, if it lives, and delete its folder."""
    job = job_folder(request)
    end_server(job)
    pid = read_status(job).get("pid")
    for number in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + 5
        while pid and is_alive(job) and time.monotonic() < deadline:
            try:
                os.killpg(pid, number)
            except ProcessLookupError:
                break
            time.sleep(0.1)
    shutil.rmtree(job, ignore_errors=True)
    say({"removed": request["job"]})


def prune(keep: str) -> None:
    """Delete what jobs left that nobody came back for."""
    jobs = os.path.join(find_root(), "jobs")
    for name in os.listdir(jobs):
        job = os.path.join(jobs, name)
        if name == keep or not re.fullmatch(JOB, name) or os.path.islink(job):
            continue
        if not os.path.isdir(os.path.join(job, "input")):  # somebody else's
            continue
        if time.time() - os.path.getmtime(job) > ABANDONED_SECONDS and not is_alive(job):
            shutil.rmtree(job, ignore_errors=True)


def job_folder(request: dict[str, Any]) -> str:
    """The job's folder, made if it is not there."""
    if not re.fullmatch(JOB, request["job"]):
        raise ValueError("not the name of a job")
    path = os.path.join(make_root(), "jobs", request["job"])
    for name in ("input", "output"):
        os.makedirs(os.path.join(path, name), exist_ok=True)
    return path


def end_server(job: str) -> None:
    """End the process that answers for the job, if there is one."""
    deadline = time.monotonic() + 5
    while is_alive(job, "server") and time.monotonic() < deadline:
        with contextlib.suppress(OSError, ValueError), open(os.path.join(job, "server")) as stream:
            os.kill(int(stream.read()), signal.SIGKILL)
        time.sleep(0.05)


def is_alive(job: str, name: str = "alive") -> bool:
    """Whether a process holds the job's lock; the system frees it when the last one ends, however it ends."""
    try:
        handle = os.open(os.path.join(job, name), os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def read_status(job: str) -> dict[str, Any]:
    """``status.json``; empty where the job has never begun."""
    try:
        with open(os.path.join(job, "status.json")) as stream:
            return dict(json.load(stream))
    except (OSError, ValueError):
        return {}


def write_status(job: str, status: dict[str, Any]) -> None:
    """Whole or not at all."""
    path = os.path.join(job, "status.json")
    with open(path + ".part", "w") as stream:
        json.dump(status, stream)
    os.replace(path + ".part", path)


def log_size(job: str) -> int:
    """Bytes of a job's log; 0 where it has none."""
    path = os.path.join(job, "log")
    return os.path.getsize(path) if os.path.exists(path) else 0


def has_module(name: str) -> bool:
    """Whether this interpreter can import it."""
    try:
        return importlib.util.find_spec(name) is not None
    except ValueError:  # it is loaded, and nothing says from where
        return name in sys.modules


def find_version(package: str) -> str | None:
    """Of a package of this interpreter's."""
    from importlib import metadata  # half of what importing takes, and one verb of eight asks

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def read_text(path: str) -> str | None:
    """A file's text without blanks at its ends; ``None`` where it is empty or cannot be read."""
    try:
        with open(path, errors="replace") as stream:
            return stream.read().strip("\0 \n\t") or None
    except OSError:
        return None


def hash_file(path: str) -> str:
    """SHA-256, in hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def copy(source: Any, sink: Any, size: int) -> None:
    """``size`` bytes; ends the process where the source ends before."""
    while size:
        block = source.read1(min(size, BLOCK)) if hasattr(source, "read1") else source.read(min(size, BLOCK))
        if not block:
            sys.exit(0)
        sink.write(block)
        size -= len(block)


def say(data: dict[str, Any]) -> None:
    """Answer with a line of JSON."""
    sys.stdout.buffer.write(json.dumps(data).encode() + b"\n")
    sys.stdout.buffer.flush()


def read_line() -> dict[str, Any]:
    """The next line that was sent; empty where the stream has ended."""
    return dict(json.loads(sys.stdin.buffer.readline() or b"{}"))


def fail(message: str, hint: str) -> None:
    """Answer with an error, and end."""
    say({"error": message, "hint": hint})
    sys.exit(1)


VERBS = {verb.__name__: verb for verb in (probe, look, put, start, follow, get, serve, remove)}


def main() -> None:
    """One request."""
    try:
        request = read_line()
        VERBS[request["verb"]](request)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # nobody listens any more
    except OSError as exc:
        full = exc.errno in (errno.ENOSPC, errno.EDQUOT)
        fail(
            "its disk is full" if full else str(exc),
            SPACE_HINT
            if full
            else "it must belong to the user who logs in there; EDGEVIT_CACHE on the device names another place",
        )


if __name__ == "__main__":
    main()
