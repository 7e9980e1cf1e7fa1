"""Get the headers of ONNX Runtime, which the package of pip does not have, from Debian's libonnxruntime-dev.

    python -m scripts.get_onnxruntime_headers

Nothing is installed, nothing needs root, and the package lists of this machine stay as they are. It needs apt-get, dpkg
and a network, so Debian or what comes from it. ONNX Runtime's C interface only grows, and libedgevit asks for that of
release 1.18, so these headers serve the library of any package of pip from that one on.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

KEPT = Path(__file__).resolve().parents[1] / "build" / "onnxruntime-headers"
"""Not tracked; where tests look for ``include/onnxruntime/onnxruntime_c_api.h``."""

PACKAGE = "libonnxruntime-dev"
SUITES = ("trixie", "sid")
MIRROR = "http://deb.debian.org/debian"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


def get_headers(out: Path) -> bool:
    """Unpack the newest suite's headers below ``out``; ``False``, with the reason on the screen, where it fails."""
    if (out / "include" / "onnxruntime" / "onnxruntime_c_api.h").is_file():
        return True
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            print(f"no headers of ONNX Runtime: {tool} is absent")
            return False
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        work.chmod(0o755)  # apt-get downloads as a user of its own
        for suite in SUITES:
            if _unpack(work / suite, suite):
                (out / "include").mkdir(parents=True, exist_ok=True)
                shutil.copytree(
                    work / suite / "usr/include/onnxruntime", out / "include/onnxruntime", dirs_exist_ok=True
                )
                return True
    print(f"no headers of ONNX Runtime: no {PACKAGE} in Debian's {' or '.join(SUITES)}")
    return False


def _unpack(work: Path, suite: str) -> bool:
    for folder in ("lists/partial", "cache/archives/partial"):
        (work / folder).mkdir(parents=True)
    source = work / "sources.list"
    source.write_text(f"deb [signed-by={KEYRING}] {MIRROR} {suite} main\n")
    options = [f"Dir::Etc::sourcelist={source}", "Dir::Etc::sourceparts=/nonexistent"]
    options += [f"Dir::State::lists={work}/lists", f"Dir::Cache={work}/cache", "Acquire::Languages=none"]
    apt = ["apt-get", "-qq", *(part for option in options for part in ("-o", option))]
    for command in ([*apt, "update"], [*apt, "download", PACKAGE]):
        if subprocess.run(command, cwd=work, check=False, capture_output=True).returncode:
            return False
    (package,) = work.glob("*.deb")
    subprocess.run(["dpkg-deb", "-x", str(package), str(work)], check=True)
    return True


if __name__ == "__main__":
    sys.exit(0 if get_headers(KEPT) else 1)
