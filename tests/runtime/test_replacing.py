"""A bundle that is replaced under an app that has it open: files are swapped and never written to."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import numpy as np
import pytest

from edgevit.runtime import open_bundle
from edgevit.runtime.bundle import Bundle
from tests.support.tiny_bundle import make_bundle
from tests.support.tiny_onnx import make_images

TARGETS = ["cpu", "intel-cpu"]


def make(out: Path, work: Path, target: str, seed: int) -> Bundle:
    return make_bundle(out, work, target=target, seed=seed)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("by", ["edgevit", "names"])
def test_opened_bundle_answers_as_before_while_another_takes_its_name(tmp_path: Path, target: str, by: str) -> None:
    """By a build into the same folder, and by the line of docs/bundle.md."""
    out, (image, *_) = tmp_path / "bundle", make_images(4)
    make(out, tmp_path / "first", target, 0)
    with open_bundle(out) as app:
        before = app.run_outputs(image[None])[0]
        stop, others = threading.Event(), []

        def ask() -> None:
            while not stop.is_set():
                others.append(bool(np.array_equal(app.run_outputs(image[None])[0], before)))

        asking = threading.Thread(target=ask)
        asking.start()
        try:
            if by == "edgevit":
                make(out, tmp_path / "second", target, 1)
            else:
                make(tmp_path / "bundle.new", tmp_path / "second", target, 1)
                os.rename(out, tmp_path / "bundle.old")
                os.rename(tmp_path / "bundle.new", out)
        finally:
            stop.set()
            asking.join()
        assert others
        assert all(others)
        assert np.array_equal(app.run_outputs(image[None])[0], before)
    with open_bundle(out) as app:
        assert not np.allclose(app.run_outputs(image[None])[0], before)


@pytest.mark.parametrize("target", TARGETS)
def test_no_file_of_an_earlier_bundle_is_written_to(tmp_path: Path, target: str) -> None:
    out = tmp_path / "bundle"
    first = make(out, tmp_path / "first", target, 0)
    kept = {name: tmp_path / f"kept-{place}" for place, name in enumerate(first.manifest.files)}
    for name, place in kept.items():
        os.link(out / name, place)  # another name of the very file that an app may have mapped
    contents = {name: place.read_bytes() for name, place in kept.items()}
    make(out, tmp_path / "second", target, 1)
    assert {name: place.read_bytes() for name, place in kept.items()} == contents
    assert not any((out / name).samefile(place) for name, place in kept.items())
