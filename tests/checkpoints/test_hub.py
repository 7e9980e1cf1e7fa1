"""Hub ids, with the download replaced: no network."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch

from edgevit.checkpoints import read_checkpoint
from edgevit.errors import CheckpointError, MissingPackageError
from tests.checkpoints.small import small_tensors, write_folder


@pytest.mark.parametrize("prefix", ["hf-hub:", "hf_hub:"])
def test_hub_id_is_downloaded_and_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prefix: str) -> None:
    calls: list[tuple[str, Any]] = []

    def download(repository: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        calls.append((repository, revision))
        assert not any("*.bin" in p or p.endswith(".py") for p in allow_patterns)
        return str(write_folder(tmp_path))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    model = read_checkpoint(f"{prefix}org/name@abc")
    assert calls == [("org/name", "abc")]
    assert model.source.path == f"{prefix}org/name@abc"


def test_hub_id_without_safetensors_downloads_the_pickle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(repository: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        if any("pytorch_model" in p for p in allow_patterns):
            torch.save(small_tensors(), tmp_path / "pytorch_model.bin")
        return str(tmp_path)

    write_folder(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert read_checkpoint("hf-hub:org/name").classes == 3


def test_hub_id_when_the_download_fails_gives_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def download(*_: Any, **__: Any) -> str:
        raise OSError("first line\nno route to host")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(CheckpointError, match="org/name cannot be downloaded: no route to host"):
        read_checkpoint("hf-hub:org/name")


@pytest.mark.parametrize(
    ("package", "source"), [("torch", "anything"), ("safetensors", "anything"), ("huggingface_hub", "hf-hub:org/name")]
)
def test_read_when_a_package_is_missing_names_the_install_line(
    monkeypatch: pytest.MonkeyPatch, package: str, source: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingPackageError, match=package) as caught:
        read_checkpoint(source)
    assert caught.value.hint == 'pip install "edgevit[build]"'
