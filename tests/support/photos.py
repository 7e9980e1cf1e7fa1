"""Images that tests make: like photos in what resizing is sensitive to, gradients, texture and hard edges."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def make_photo(height: int, width: int, seed: int = 0) -> Image.Image:
    """An RGB image of the given size; the same for the same seed."""
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:height, 0:width]
    pixels = np.empty((height, width, 3))
    for channel in range(3):
        a, b, phase = generator.uniform(0.01, 0.2, 3)
        pixels[..., channel] = 128 + 80 * np.sin(a * rows + b * columns + 6 * phase)
    pixels += generator.normal(0, 12, (height, width, 1))
    for _ in range(6):  # black and white boxes: bicubic overshoots at their edges
        top, left = generator.integers(0, height), generator.integers(0, width)
        bottom, right = top + generator.integers(1, height + 1), left + generator.integers(1, width + 1)
        pixels[top:bottom, left:right] = generator.choice([0, 255])
        pixels[top // 2 : bottom // 3, left:right, 0] = 200
    return Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))


def write_photos(folders: tuple[Path, Path], count: int, height: int, width: int) -> tuple[Path, Path]:
    """PNG files of growing height, by turns into a folder to calibrate on and one to validate on; gives both."""
    for number in range(count):
        make_photo(height + number, width, seed=number).save(folders[number % 2] / f"{number}.png")
    return folders
