from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from edgevit.runtime.pack_file import pack_file
from tests.support.cpp_bundle import CppBundle
from tests.support.spoiled_bundle import MANIFEST, write_manifest


class Key:
    """An Ed25519 key that openssl made."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._file = folder / "key.pem"
        _call("genpkey", "-algorithm", "ed25519", "-out", self._file)
        self.private = self._file.read_bytes()
        self.public = _call("pkey", "-in", self._file, "-pubout")
        self.raw = _call("pkey", "-in", self._file, "-pubout", "-outform", "DER")[-32:].hex()

    def sign(self, bundle: Path, **changes: str) -> None:
        message = self._file.with_name("message")
        message.write_bytes(b"edgevit bundle v1\n" + (bundle / MANIFEST).read_bytes())
        signature = _call("pkeyutl", "-sign", "-rawin", "-inkey", self._file, "-in", message).hex()
        data = {"algorithm": "ed25519", "public_key": self.raw, "signature": signature, **changes}
        (bundle / "signature.json").write_text(json.dumps(data))


def _call(*words: object) -> bytes:
    return subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True).stdout


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Key, Key]:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is absent")
    return Key(tmp_path_factory.mktemp("keys") / "ours"), Key(tmp_path_factory.mktemp("keys") / "theirs")


@pytest.mark.parametrize("packed", [False, True])
def test_signed_bundle_opens_with_its_key(
    cpp: CppBundle, bundle: Path, keys: tuple[Key, Key], tmp_path: Path, packed: bool
) -> None:
    keys[0].sign(bundle)
    path = pack_file(bundle, tmp_path / "one.edgevit") if packed else bundle
    assert cpp.open(path, public_key=keys[0].public).code == "ok"
    assert cpp.open(path).code == "ok"
    other = cpp.open(path, public_key=keys[1].public)
    assert other.code == "signature"
    assert "another key" in other.text


def test_signature_that_is_missing_or_does_not_fit_is_refused(
    cpp: CppBundle, bundle: Path, keys: tuple[Key, Key]
) -> None:
    ours, theirs = keys
    assert cpp.open(bundle, public_key=ours.public).code == "signature"
    ours.sign(bundle)
    write_manifest(bundle, lambda data: data["labels"].reverse())
    altered = cpp.open(bundle, public_key=ours.public)
    assert altered.code == "signature"
    assert "altered" in altered.text
    theirs.sign(bundle, public_key=ours.raw)
    assert cpp.open(bundle, public_key=ours.public).code == "signature"
    for changes in ({"algorithm": "none"}, {"signature": "00"}, {"signature": "g" * 128}, {"more": "x"}):
        ours.sign(bundle, **changes)
        assert cpp.open(bundle, public_key=ours.public).code == "signature", changes
    (bundle / "signature.json").write_text(" " * 5000)
    assert cpp.open(bundle, public_key=ours.public).code == "signature"
    (bundle / "signature.json").unlink()
    (bundle / "signature.json").symlink_to(bundle / "report.json")
    assert cpp.open(bundle, public_key=ours.public).code == "unsafe"


def test_signature_is_checked_before_the_manifest_is_parsed_and_files_are_hashed_in_any_case(
    cpp: CppBundle, bundle: Path, keys: tuple[Key, Key]
) -> None:
    (bundle / "report.json").write_bytes(b"[]\n")
    keys[0].sign(bundle)
    assert cpp.open(bundle, public_key=keys[0].public, verify=False).code == "damaged"
    (bundle / MANIFEST).write_text("{")
    assert cpp.open(bundle, public_key=keys[0].public).code == "signature"


def test_key_that_is_none_is_the_callers_mistake(cpp: CppBundle, bundle: Path, keys: tuple[Key, Key]) -> None:
    keys[0].sign(bundle)
    for text in (b"", b"text", keys[0].private, keys[0].public[:60]):
        assert cpp.open(bundle, public_key=text).code == "argument"
