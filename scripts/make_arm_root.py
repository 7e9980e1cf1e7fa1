"""Make a folder that runs Python, ONNX Runtime and OpenVINO of aarch64 on this machine, under qemu's user mode.

    python -m scripts.make_arm_root                      # into ~/.cache/edgevit-arm
    python -m scripts.make_arm_root --out /tmp/arm-root

Debian's arm64 packages are unpacked beside the wheels that pip has for aarch64, and qemu itself beside them: nothing is
installed, nothing needs root, and the machine's own package lists stay as they are. It needs apt-get and dpkg, so
Debian or what comes from it, and a network. A root that is there with the same pins is left alone.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from edgevit.core.errors import EdgevitError, OutputError

SUITE = "bookworm"
MIRROR = "http://deb.debian.org/debian"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
PACKAGES = ("python3.11-minimal", "libpython3.11-stdlib", "libstdc++6")
# What apps link with. Their headers too, so that the root is a sysroot of Debian's aarch64-linux-gnu-g++.
LIBRARIES = ("libc6-dev", "libssl-dev", "nlohmann-json3-dev", "libjpeg62-turbo-dev", "libpng-dev")
PYTHON = "3.11"
# ONNX Runtime 1.24 and later cannot be imported here: no vendor of the processor is found in qemu's user mode.
WHEELS = (
    "numpy==2.4.6",
    "pillow==13.0.0",
    "onnxruntime==1.23.2",
    "openvino==2026.4.1",
)
GLIBC = range(17, 37)  # bookworm's is 2.36; pip takes no other tag than those that it is given
EMULATORS = ("qemu-aarch64-static", "qemu-x86_64-static")
MADE = "made.json"
"""Written last: the pins and what was unpacked for them."""


def make_arm_root(out: Path) -> dict[str, list[str]]:
    """Make the root, unless it is there.

    Args:
        out: The folder; made, or made anew where its pins are others. ``out/qemu`` has the emulators, ``out/wheels``
            the packages of Python, the rest is Debian's.

    Returns:
        Under ``pins`` what was asked for, under ``unpacked`` the files that it came from.

    Raises:
        EdgevitError: A tool is missing, or apt or pip failed.
        OutputError: The folder has other files, or cannot be written.
    """
    pins = [SUITE, *PACKAGES, *LIBRARIES, *WHEELS, *EMULATORS]
    made = _read_made(out)
    if made is not None and made["pins"] == pins:
        return made
    if made is None and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise OutputError(f"{out} is there and was not made by this script", "give another folder with --out")
    _check_tools()
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as name:
            work, root = Path(name), Path(name) / "root"
            made = {"pins": pins, "unpacked": [*_unpack_debian(work, root), *_unpack_wheels(root / "wheels")]}
            (root / MADE).write_text(json.dumps(made, indent=1) + "\n")
            if out.exists():
                out.rename(work / "old")
            root.rename(out)
    except OSError as exc:
        raise OutputError(f"{out} cannot be written: {exc.strerror or exc}", "give another folder with --out") from exc
    return made


def default_folder() -> Path:
    """``edgevit-arm`` in the user's cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgevit-arm"


def _read_made(out: Path) -> dict[str, list[str]] | None:
    try:
        made: dict[str, list[str]] = json.loads((out / MADE).read_text())
    except (OSError, ValueError):
        return None
    return made


def _check_tools() -> None:
    missing = [tool for tool in ("apt-get", "dpkg") if shutil.which(tool) is None]
    if missing:
        raise EdgevitError(
            f"{' and '.join(missing)} not found: the root comes from Debian's packages",
            "run it on Debian or Ubuntu, or in a container of one",
        )
    if not KEYRING.is_file():
        raise EdgevitError(
            f"{KEYRING} is missing: Debian's packages could not be checked", "install debian-archive-keyring"
        )


def _unpack_debian(work: Path, root: Path) -> list[str]:
    """Debian's Python and what it needs into ``root``, the emulators into ``root/qemu``; names of the archives."""
    state = work / "apt"
    for folder in ("lists/partial", "archives/partial"):
        (state / folder).mkdir(parents=True)
    (state / "status").touch()  # as if nothing were installed: apt then finds all that is needed
    (state / "sources.list").write_text(f"deb [signed-by={KEYRING}] {MIRROR} {SUITE} main\n")
    host = _run(["dpkg", "--print-architecture"]).strip()
    (state / "apt.conf").write_text(
        f'APT::Architecture "arm64"; APT::Architectures {{ "arm64"; "{host}"; }}; APT::Sandbox::User "root";\n'
        f'Dir::State "{state}"; Dir::State::status "{state}/status"; Dir::Cache "{state}";\n'
        f'Dir::Etc::sourcelist "{state}/sources.list"; Dir::Etc::sourceparts "/dev/null"; Debug::NoLocking "true";\n'
    )
    environment = {**os.environ, "APT_CONFIG": str(state / "apt.conf")}
    _run(["apt-get", "--quiet", "--error-on=any", "update"], environment)
    download = ["apt-get", "--quiet", "--yes", "--no-install-recommends", "--download-only", "install"]
    _run([*download, *PACKAGES, *LIBRARIES], environment)
    archives = sorted((state / "archives").glob("*.deb"))
    root.mkdir()
    for archive in archives:
        _run(["dpkg", "-x", str(archive), str(root)])
    _run(["apt-get", "--quiet", "download", f"qemu-user-static:{host}"], environment, work)
    (emulator,) = work.glob("qemu-user-static_*.deb")
    _run(["dpkg", "-x", str(emulator), str(work / "emulator")])
    (root / "qemu").mkdir()
    for name in EMULATORS:
        (work / "emulator/usr/bin" / name).rename(root / "qemu" / name)
    return [archive.name for archive in (*archives, emulator)]


def _unpack_wheels(folder: Path) -> list[str]:
    """Wheels of aarch64 without what they ask for: the device runtime imports none of it."""
    tags = [f"--platform=manylinux_2_{minor}_aarch64" for minor in GLIBC]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    where = ["--target", str(folder), "--only-binary=:all:", "--implementation=cp", f"--python-version={PYTHON}"]
    _run([*pip, *where, *tags, *WHEELS])
    return list(WHEELS)


def _run(command: Sequence[str], environment: dict[str, str] | None = None, folder: Path | None = None) -> str:
    """Standard output of a command.

    Raises:
        EdgevitError: It failed, with its last lines.
    """
    done = subprocess.run(command, check=False, env=environment, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        lines = "\n".join((done.stderr or done.stdout).strip().splitlines()[-4:])
        raise EdgevitError(f"{' '.join(command[:3])} … failed:\n{lines}", "see what it says; a network is needed")
    return done.stdout


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Make a folder that runs Python of aarch64 under qemu.")
    parser.add_argument("--out", type=Path, default=default_folder(), help="where it goes (%(default)s)")
    out: Path = parser.parse_args(arguments).out.absolute()
    before = _read_made(out)
    try:
        made = make_arm_root(out)
    except EdgevitError as error:
        print(f"error: {error.message}\nhint: {error.hint}", file=sys.stderr)
        return 2
    did = "is there" if made == before else "made"
    print(f"{out}: {did}, {len(made['unpacked'])} packages of {SUITE} and PyPI, on {platform.machine()}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
