"""What ``edgevit demo`` needs and ships: two small trained models and the handwritten digits that they learned.

See README.md beside this file for where they come from, their licence and their accuracy.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgevit.core.errors import OutputError

FOLDER = Path(__file__).parent
MODELS = {"vit": FOLDER / "vit_digits", "swin": FOLDER / "swin_digits"}
LABELS = tuple("0123456789")
TRAINING = 1200  # the first images trained the models; the others are held out
CALIBRATION_PER_CLASS = 20


@dataclass(frozen=True)
class DigitFiles:
    """Digits written as image files, one folder a class.

    Attributes:
        calibration: Folder with images that the models learned from.
        validation: Folder with images that they never saw.
    """

    calibration: Path
    validation: Path


def load_digits() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """All 1,797 digits: grey ``(1797, 8, 8) uint8`` from 0 (paper) to 255 (ink), and labels ``(1797,) uint8``."""
    with np.load(FOLDER / "digits.npz") as stored:
        levels, labels = stored["levels"], stored["labels"]  # 17 levels, as the origin has them
    return np.round(levels * (255 / 16)).astype(np.uint8), labels


def write_digits(directory: Path) -> DigitFiles:
    """Write the digits as PNG files, so that the line runs on real files.

    Calibration takes the first 20 of each class among the training images; validation all 597 that were held out.

    Args:
        directory: Where ``calibration/<digit>/*.png`` and ``validation/<digit>/*.png`` go; made if missing.

    Raises:
        OutputError: The directory cannot be written.
    """
    files = DigitFiles(directory / "calibration", directory / "validation")
    try:
        _write_files(files)
    except OSError as exc:
        raise OutputError(f"{directory} cannot be written: {exc.strerror or exc}", "choose another --out") from exc
    return files


def _write_files(files: DigitFiles) -> None:
    from PIL import Image

    images, labels = load_digits()
    for folder in (files.calibration, files.validation):
        for label in LABELS:
            (folder / label).mkdir(parents=True, exist_ok=True)
    written = [0] * len(LABELS)
    for index, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
        if index < TRAINING:
            written[label] += 1
            if written[label] > CALIBRATION_PER_CLASS:
                continue
        folder = files.calibration if index < TRAINING else files.validation
        Image.fromarray(image).save(folder / LABELS[label] / f"{index:04d}.png")


def draw_digit(image: NDArray[np.uint8]) -> list[str]:
    """A grey image ``(H, W) uint8`` with even H as text, two rows of pixels a line, in half-block characters."""
    ink = image > 96
    glyphs = {(False, False): " ", (True, False): "▀", (False, True): "▄", (True, True): "█"}
    return [
        "".join(glyphs[bool(upper), bool(lower)] for upper, lower in zip(ink[row], ink[row + 1], strict=True))
        for row in range(0, len(ink), 2)
    ]
