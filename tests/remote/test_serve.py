"""A bundle that answers on standard input and output, as ``edgevit eval --on`` asks it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from edgevit.runtime import open_bundle
from tests.support.tiny_bundle import make_bundle
from tests.support.tiny_onnx import SIZE

ROOT = Path(__file__).parents[2]


def serve(*arguments: str, questions: bytes = b"") -> tuple[int, bytes]:
    command = [sys.executable, "-m", "edgevit.remote.serve", *arguments]
    child = subprocess.run(command, cwd=ROOT, input=questions, capture_output=True, check=False)
    return child.returncode, child.stdout


def test_answers_are_those_of_the_bundle_opened_here(tmp_path: Path) -> None:
    make_bundle(tmp_path / "bundle", tmp_path / "work", batch=(1, 2, 4))
    batches = [np.random.default_rng(n).integers(0, 256, (n, SIZE, SIZE, 3), dtype=np.uint8) for n in (1, 3)]
    questions = b"".join(json.dumps({"shape": b.shape}).encode() + b"\n" + b.tobytes() for b in batches)
    status, said = serve(str(tmp_path / "bundle"), questions=questions)
    assert status == 0
    ready, _, rest = said.partition(b"\n")
    assert json.loads(ready) == {"ready": True, "canary": {"status": "none", "differences": {}, "inferences": 0}}
    with open_bundle(tmp_path / "bundle") as predictor:
        for batch in batches:
            line, _, rest = rest.partition(b"\n")
            (shape,) = json.loads(line)["shapes"]
            size = 4 * int(np.prod(shape))
            np.testing.assert_array_equal(np.frombuffer(rest[:size], "<f4").reshape(shape), predictor.run(batch))
            rest = rest[size:]
    assert rest == b""


def test_client_that_asks_nothing_more_has_gone(tmp_path: Path) -> None:
    """A network that is gone ends no stream."""
    make_bundle(tmp_path / "bundle", tmp_path / "work")
    program = (
        "import sys; from edgevit.remote import serve; serve.IDLE_SECONDS = 0.1; "
        f"sys.exit(serve.main([{str(tmp_path / 'bundle')!r}]))"
    )
    child = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.wait(timeout=60) == 0


def test_bundle_that_cannot_be_opened_is_an_error_line(tmp_path: Path) -> None:
    status, said = serve("--open-only", str(tmp_path / "nowhere"))
    assert status == 2
    assert "nowhere is not there" in json.loads(said)["error"]
