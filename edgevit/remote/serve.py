"""``python -m edgevit.remote.serve BUNDLE``: a bundle's answers to pixels that come on standard input.

Each question is a JSON line with ``shape`` and the pixels as uint8; each answer a JSON line with ``shapes`` and the
outputs as little-endian float32, one after the other. An error is a JSON line with ``error`` and ``hint``. The first
line says ``ready``, and what the bundle's canary said; ``--check`` is that of ``open_bundle``. With ``--open-only`` the
bundle is opened, and nothing is read. Whoever asks nothing for :data:`IDLE_SECONDS` has gone.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import sys
from typing import BinaryIO

import numpy as np

from edgevit.core.errors import EdgevitError
from edgevit.core.schema import to_data
from edgevit.runtime import Predictor, open_bundle

IDLE_SECONDS = 600.0
"""The next question makes a new connection, if it comes at all."""


def main(arguments: list[str]) -> int:
    """0, or 2 after an error."""
    # A library that prints must not spoil the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    options = argparse.ArgumentParser()
    options.add_argument("bundle")
    options.add_argument("--check", default="auto")
    options.add_argument("--open-only", action="store_true")
    asked = options.parse_args(arguments)
    try:
        with open_bundle(asked.bundle, check=asked.check) as predictor:
            _say(answers, {"ready": True, "canary": to_data(predictor.canary)})
            if not asked.open_only:
                _answer(predictor, sys.stdin.buffer, answers)
    except EdgevitError as exc:
        _say(answers, {"error": exc.message, "hint": exc.hint})
        return 2
    return 0


def _answer(predictor: Predictor, questions: BinaryIO, answers: BinaryIO) -> None:
    # A network that is gone ends no stream, and for as long as this process lives nobody else measures here. Nothing is
    # left in the stream's buffer where select does not see it: a question comes when the last one is answered.
    while select.select([questions], [], [], IDLE_SECONDS)[0] and (line := questions.readline()):
        shape = json.loads(line)["shape"]
        data = questions.read(int(np.prod(shape)))
        outputs = predictor.run_outputs(np.frombuffer(data, np.uint8).reshape(shape))
        _say(answers, {"shapes": [output.shape for output in outputs]})
        for output in outputs:
            answers.write(np.ascontiguousarray(output, "<f4").tobytes())
        answers.flush()


def _say(answers: BinaryIO, data: dict[str, object]) -> None:
    answers.write(json.dumps(data).encode() + b"\n")
    answers.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
