from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.cpp_bundle import CppBundle
from tests.support.spoiled_bundle import check_alike, write_manifest


def _write_canary(bundle: Path, **arrays: Any) -> None:
    np.savez(bundle / "canary.npz", **arrays)
    content = (bundle / "canary.npz").read_bytes()
    record = {"sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}
    write_manifest(bundle, lambda data: data["files"].update({"canary.npz": record}))


_ANSWERS = np.linspace(-1, 1, 30, dtype="<f4").reshape(3, 10)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, "ok"),
        ({"more": np.zeros(1)}, "damaged"),
        ({"built.logits": None}, "damaged"),
        ({"built.logits": _ANSWERS[:2]}, "damaged"),
        ({"built.logits": _ANSWERS.astype("<f8")}, "damaged"),
        ({"built.logits": _ANSWERS.astype(">f4")}, "damaged"),
        ({"built.logits": np.asfortranarray(_ANSWERS)}, "damaged"),
        ({"built.logits": np.full((3, 10), np.nan, "<f4")}, "damaged"),
        ({"built.logits": np.full((3, 10), -np.inf, "<f4")}, "damaged"),
        ({"built.logits": np.zeros((3, 10), "<f4")}, "ok"),
        ({"float.logits": np.zeros((3, 10), "<f4")}, "damaged"),
        ({"float.logits": np.full((3, 10), -0.0, "<f4")}, "damaged"),
        ({"pixels": np.zeros((3, 16, 16, 3), "i1")}, "damaged"),
        ({"pixels": np.zeros((3, 16, 16, 300), "u1")}, "damaged"),
    ],
)
def test_canary_is_read_as_in_python(cpp: CppBundle, bundle: Path, changes: dict[str, Any], code: str) -> None:
    pixels = np.zeros((3, 16, 16, 3), "u1")
    arrays = {"pixels": pixels, "float.logits": _ANSWERS, "built.logits": _ANSWERS, **changes}
    _write_canary(bundle, **{name: array for name, array in arrays.items() if array is not None})
    check_alike(cpp, bundle, code)


def test_compressed_canary_is_damaged(cpp: CppBundle, bundle: Path) -> None:
    with zipfile.ZipFile(bundle / "canary.npz") as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(bundle / "canary.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    content = (bundle / "canary.npz").read_bytes()
    record = {"sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}
    write_manifest(bundle, lambda data: data["files"].update({"canary.npz": record}))
    check_alike(cpp, bundle, "damaged")
