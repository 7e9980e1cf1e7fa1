"""Nothing is taken from the working folder: the whole line, among decoys of every file name."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest
from click.testing import CliRunner

from edgevit.cli import main
from tests.support.foreign_exports import export
from tests.support.photos import make_photo
from tests.support.small_checkpoints import write_folder

DECOYS = (
    *("config.json", "preprocessor_config.json", "processor_config.json", "open_clip_config.json", "labels.txt"),
    *("task.json", "preprocessor.json", "image_converter.json", "metadata.json", "adapter_config.json"),
    *("model.safetensors", "pytorch_model.bin", "open_clip_model.safetensors", "model.safetensors.index.json"),
    *("model.onnx", "model.onnx.data", "model.onnx_data", "weights.bin", "float.onnx", "optimized.onnx"),
    *("quantized.onnx", "records.json", "record.json", "result.json", "reference.npz", "model.bin", "model.xml"),
    *("manifest.json", "report.json", "recipe.toml", "canary.npz", "engine.plan", "timing.cache"),
    *("cpu", "cpu.toml", "float.toml", "edgevit.toml", "labels.csv", "images.csv", "classes.txt", "0.png", "1.png"),
)  # fmt: skip
_opened: list[str] = []
_watched: list[str] = []


def _note_opened(event: str, arguments: tuple[Any, ...]) -> None:
    if _watched and event == "open" and isinstance(arguments[0], (str, bytes, os.PathLike)):
        path = os.path.abspath(os.fsdecode(arguments[0]))
        if os.path.dirname(path) == _watched[-1]:
            _opened.append(os.path.basename(path))


sys.addaudithook(_note_opened)


@pytest.fixture
def decoys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The names of decoys that were opened; all of them hold what no reader could take for its own."""
    folder = tmp_path / "here"
    folder.mkdir()
    for name in DECOYS:
        (folder / name).write_bytes(b"\x00a decoy")
    monkeypatch.chdir(folder)
    _watched.append(str(folder))
    _opened.clear()
    yield _opened
    _watched.pop()
    assert sorted(os.listdir(folder)) == sorted(DECOYS)


def write_timm(folder: Path) -> Path:
    return write_folder(folder / "model")


def write_onnx(folder: Path) -> Path:
    """With its weights beside it, under names that are in the working folder too."""
    (folder / "model").mkdir()
    model = onnx.load(str(export("timm_vit", "script").path))
    onnx.save(
        model, str(folder / "model" / "model.onnx"), save_as_external_data=True, location="model.onnx.data",
        size_threshold=0,
    )  # fmt: skip
    return folder / "model" / "model.onnx"


def write_images(folder: Path, classes: int, first: int = 0) -> Path:
    """Photos without labels: a model with random weights is right on none."""
    folder.mkdir()
    for number in range(2 * classes):
        make_photo(32, 32, first + number).save(folder / f"{number}.png")
    return folder


def invoke(*arguments: object) -> Any:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code in (0, 1), f"{arguments}: {result.output}\n{result.exception!r}"
    return result


@pytest.mark.parametrize("write", [write_timm, write_onnx])
def test_the_whole_line_opens_no_file_of_the_working_folder(
    write: Any, tmp_path: Path, decoys: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as elsewhere:  # onnx itself looks there when it saves
        elsewhere.chdir(tmp_path)
        source, bundle = write(tmp_path), tmp_path / "bundle"
    images, calibration = write_images(tmp_path / "images", 4), write_images(tmp_path / "calibration", 5, 100)
    pixels = ["--mean", "0.5,0.5,0.5", "--std", "0.5,0.5,0.5", "--resize", "32x32", "--interpolation", "bicubic"]
    told = pixels if write is write_onnx else []
    quick = tmp_path / "quick.toml"
    quick.write_text("latency_runs = 3\nlatency_seconds = 0.01\ntune_settings = false\nchoice_images = 8\n")
    built = invoke(
        "build", source, "--target", "cpu", "--recipe", quick, "--validation", images, "--calibration", calibration,
        "--out", bundle, *told, "--json",
    )  # fmt: skip
    assert json.loads(built.stdout)["report"]["verdict"]["chosen"]
    invoke("inspect", source)
    invoke("inspect", bundle)
    invoke("check", bundle)
    answers = invoke("run", bundle, images / "0.png", "--json").stdout
    invoke("eval", bundle, "--data", images, "--reference", source)
    assert decoys == []
    shutil.rmtree(tmp_path / "model")
    os.chdir(tmp_path)
    assert invoke("run", bundle, images / "0.png", "--json").stdout == answers
