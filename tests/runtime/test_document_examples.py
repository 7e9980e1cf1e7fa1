"""The examples of docs/bundle.md run as they stand there."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.photos import make_photo
from tests.support.tiny_bundle import LABELS, make_bundle

DOCUMENT = Path(__file__).parents[2] / "docs" / "bundle.md"
SECTION = DOCUMENT.read_text(encoding="utf-8").partition("\n## In Python\n")[2].partition("\n## ")[0]
EXAMPLES = re.findall(r"^```python\n(.*?)^```", SECTION, re.M | re.S)
PHOTOS = 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("app")
    make_bundle(folder / "bundle", folder / "work", target="intel-cpu")
    (folder / "photos").mkdir()
    for i in range(PHOTOS):
        make_photo(30 + i, 50).save(folder / "photos" / f"{i}.jpg", quality=95)
    return folder


def read_bgr(path: str) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))[..., ::-1]


class Camera:
    """OpenCV's, with as many frames as there are photos."""

    def __init__(self, number: int) -> None:
        self.frames = [read_bgr(f"photos/{i}.jpg") for i in range(PHOTOS)]

    def read(self) -> tuple[bool, np.ndarray | None]:
        return (True, self.frames.pop(0)) if self.frames else (False, None)


def test_there_are_examples_of_all_ways() -> None:
    assert len(EXAMPLES) == 5
    for word in ("classify_batch", "submit", ".map(", "run(", "EdgevitError", "warm_up", "bgr=True", "queue_size"):
        assert any(word in example for example in EXAMPLES), word


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_example_of_the_document_runs(
    number: int, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    opencv = types.ModuleType("cv2")
    vars(opencv).update(imread=read_bgr, VideoCapture=Camera)
    monkeypatch.setitem(sys.modules, "cv2", opencv)
    exec(compile(EXAMPLES[number], f"{DOCUMENT.name}, example {number}", "exec"), {"__name__": "app"})
    lines = capsys.readouterr().out.splitlines()
    named = [line for line in lines if any(line.endswith(label) for label in LABELS)]
    if "classify_batch" in EXAMPLES[number]:
        assert len(lines) == 3 + PHOTOS
    elif "camera" in EXAMPLES[number]:
        assert 1 <= len(named) == len(lines) <= PHOTOS
    elif "map(" in EXAMPLES[number]:
        assert [line.split()[0] for line in lines] == [f"{i}.jpg" for i in range(PHOTOS)]
        assert len(named) == PHOTOS
    elif "EdgevitError" in EXAMPLES[number]:
        assert len(named) == 2
        assert len(lines) == 3
        assert "not a JPEG" in lines[1]
    else:
        assert lines == ["True (1, 1, 1)"]
