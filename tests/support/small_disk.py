"""A small file system on a folder, where this machine lets one be mounted."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest


class small_disk:  # noqa: N801
    """A file system of a few bytes on a folder; skips where it may not be mounted."""

    def __init__(self, folder: Path, size: int) -> None:
        self.folder, self.size = folder, size

    def __enter__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={self.size}", "tmpfs", str(self.folder)]
        if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode != 0:
            pytest.skip("a small file system may not be mounted here")

    def __exit__(self, *_: object) -> None:
        subprocess.run(["umount", "-l", str(self.folder)], check=True)
