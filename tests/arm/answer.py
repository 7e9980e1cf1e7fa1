"""Runs under the emulator, where only numpy, Pillow and an engine library are: a bundle's answers to some images.

answer.py BUNDLE OUT.npz IMAGE …
"""

from __future__ import annotations

import platform
import sys

import numpy as np

from edgevit.runtime import open_bundle


def main(bundle: str, out: str, *images: str) -> None:
    with open_bundle(bundle, settings={"threads": 1}) as predictor:
        pixels = np.stack([predictor.preprocess.apply(image) for image in images])
        logits = np.concatenate([predictor.run(image[None]) for image in pixels])
    np.savez(out, pixels=pixels, logits=logits, machine=platform.machine())


if __name__ == "__main__":
    main(*sys.argv[1:])
