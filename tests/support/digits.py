"""The demonstration's digits as files, with few of those that are held out."""

from __future__ import annotations

from pathlib import Path

from edgevit.cli.demo_models import DigitFiles, write_digits


def write_few(folder: Path, of_each: int = 10) -> DigitFiles:
    """All calibration images, and the first ``of_each`` held-out ones of every digit."""
    files = write_digits(folder)
    for digit in files.validation.iterdir():
        for path in sorted(digit.glob("*.png"))[of_each:]:
            path.unlink()
    return files
