"""The arrays of a portable bundle, which anybody may have written."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from edgevit.build import portable
from edgevit.build.evidence import Evidence
from edgevit.build.portable import collect_portable_files, read_portable_evidence
from edgevit.core.cache import StageCache
from edgevit.core.errors import BundleError
from edgevit.runtime.bundle import PARITY_FILE
from tests.support.tiny_bundle import make_portable_bundle


def _zip(name: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not a zip"),
        (b"damaged", "not a zip"),
        (_zip("pixels.npy", b""), "cannot be read"),
        (_zip("logits.npy", b"\x93NUMPY\x01\x00"), "cannot be read"),
        (_zip("pixels.npy", bytes(10_000)), "unpacks to 10000 bytes"),
    ],
)
def test_arrays_that_are_damaged_empty_or_too_large_are_a_bundle_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, words: str
) -> None:
    bundle = make_portable_bundle(tmp_path / "out", tmp_path / "work")
    (bundle.path / PARITY_FILE).write_bytes(content)
    monkeypatch.setattr(portable, "_MOST_BYTES", 5000)
    with pytest.raises(BundleError, match=words) as caught:
        read_portable_evidence(bundle)
    assert PARITY_FILE in caught.value.message


@pytest.mark.parametrize("chooses", [False, True])
def test_a_device_knows_whether_the_model_sorts_its_queries(chooses: bool, tmp_path: Path) -> None:
    bundle = make_portable_bundle(tmp_path / "out", tmp_path / "work")
    specs = bundle.manifest.outputs
    answers = tuple(np.full((2, 3), place, np.float32) for place, _ in enumerate(specs))
    evidence = Evidence(bundle.manifest.preprocess, np.zeros((2, 4, 4, 3), np.uint8), answers, chooses=chooses)
    content = collect_portable_files({}, specs, evidence, StageCache())[PARITY_FILE]
    assert isinstance(content, bytes)
    (bundle.path / PARITY_FILE).write_bytes(content)
    found = read_portable_evidence(bundle)
    assert found.chooses is chooses
    for values, wanted in zip(found.outputs, answers, strict=True):
        np.testing.assert_array_equal(values, wanted)
