"""Hub ids, with the download replaced: no network."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from huggingface_hub import HfApi, constants, errors
from safetensors.torch import save_file

from edgevit.checkpoints import read_checkpoint
from edgevit.core.errors import CheckpointError, MissingPackageError
from edgevit.core.packages import install_line
from tests.support.small_checkpoints import small_tensors, write_folder


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


def test_hub_id_of_a_kerashub_preset_downloads_what_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    preset = Path(__file__).parents[1] / "keras" / "vit"

    def download(repository: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        for path in preset.iterdir():
            if any(path.match(pattern) for pattern in allow_patterns):
                shutil.copy(path, tmp_path)
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    model = read_checkpoint("hf-hub:keras/vit")
    assert model.classes == 3
    assert model.preprocess.mean == (0.5, 0.5, 0.5)
    assert not any("assumed" in note for note in model.source.notes)


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
    assert caught.value.hint == install_line("build")


COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's cache as its own library keeps it, with ``org/name`` in it, and no network."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    repository = tmp_path / "models--org--name"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    write_folder(repository / "snapshots" / COMMIT)
    return repository


@pytest.mark.parametrize("source", ["org/name", "hf-hub:org/name", "org/name@main", f"hf_hub:org/name@{COMMIT}"])
def test_hub_id_without_a_network_is_read_from_the_cache_with_its_commit(hub_cache: Path, source: str) -> None:
    model = read_checkpoint(source)
    assert model.labels == ("one", "two", "three")
    assert (model.source.path, model.source.revision) == (source, COMMIT)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Whatever is asked of the hub, none of which answers."""
    names: list[str] = []

    def refuse(self: object, *args: object, **kwargs: object) -> None:
        names.append(str(args))
        raise ConnectionError("no network")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(HfApi, "repo_info", refuse)
    monkeypatch.setattr(HfApi, "list_repo_tree", refuse)
    return names


def test_commit_that_is_in_the_cache_is_not_asked_for(hub_cache: Path, asked: list[str]) -> None:
    assert read_checkpoint(f"org/name@{COMMIT}").source.revision == COMMIT
    assert asked == []


@pytest.mark.parametrize("broken", ["weights", "shard", "config"])
def test_commit_whose_download_broke_off_is_asked_for_again(hub_cache: Path, asked: list[str], broken: str) -> None:
    snapshot = hub_cache / "snapshots" / COMMIT
    if broken == "shard":
        index = {"weight_map": {"a": "model.safetensors", "b": "model-00002-of-00002.safetensors"}}
        (snapshot / "model.safetensors.index.json").write_text(json.dumps(index))
    else:
        (snapshot / ("config.json" if broken == "config" else "model.safetensors")).unlink()
    with pytest.raises(CheckpointError):
        read_checkpoint(f"org/name@{COMMIT}")
    assert asked


def test_hub_id_of_a_local_folder_is_that_folder(
    hub_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path / "org" / "name", label_names=["a", "b", "c"])
    model = read_checkpoint("org/name")
    assert (model.labels, model.source.revision) == (("a", "b", "c"), None)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("org/other", "there is no file or folder 'org/other'; as a hub id, org/other is not in the hub's cache"),
        ("hf-hub:org/name@v2", "org/name@v2 is not in the hub's cache, and the hub cannot be reached"),
    ],
)
def test_hub_id_without_a_network_that_is_not_cached_says_so(hub_cache: Path, source: str, message: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(source)
    assert message in caught.value.message
    assert "hf download org/" in caught.value.hint


def test_hub_id_whose_cache_lacks_the_weights_says_so(hub_cache: Path) -> None:
    (hub_cache / "snapshots" / COMMIT / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="no weights that can be read") as caught:
        read_checkpoint("org/name")
    assert "download it once" in caught.value.hint


@pytest.mark.parametrize(
    ("error", "message", "hint"),
    [
        ("RepositoryNotFoundError", "neither a path here nor a model of the hub", "hf auth login"),
        ("RevisionNotFoundError", "org/name has no revision 'v2'", "a branch, a tag or a commit"),
        ("GatedRepoError", "is gated", "accept them"),
    ],
)
def test_hub_id_that_the_hub_refuses_says_why(
    monkeypatch: pytest.MonkeyPatch, error: str, message: str, hint: str
) -> None:
    kind = getattr(errors, error)

    def download(*_: Any, **__: Any) -> str:
        raise kind.__new__(kind)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(CheckpointError, match=message) as caught:
        read_checkpoint("org/name@v2")
    assert hint in caught.value.hint


def test_hub_id_that_is_not_cached_names_the_revision_to_download(hub_cache: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint("org/name@v2")
    assert "`hf download org/name --revision v2`" in caught.value.hint


def test_hub_id_of_an_adapter_downloads_it_and_its_base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside a model's own weights it is left alone: they may have it merged."""
    folders = {"org/base": write_folder(tmp_path / "base"), "org/lora": tmp_path / "lora"}
    folders["org/lora"].mkdir()
    config = {"peft_type": "LORA", "base_model_name_or_path": "hf-hub:org/base", "lora_alpha": 4}
    (folders["org/lora"] / "adapter_config.json").write_text(json.dumps(config))
    change = {f"base_model.model.blocks.0.attn.proj.lora_{part}.weight" for part in "AB"}
    save_file({n: torch.ones((2, 16) if "_A" in n else (16, 2)) for n in change}, tmp_path / "adapter.safetensors")
    asked: list[str] = []

    def download(repository: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        folder = folders[repository]
        if "adapter_model.safetensors" in allow_patterns:
            asked.append(repository)
            shutil.copy(tmp_path / "adapter.safetensors", folder / "adapter_model.safetensors")
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    model = read_checkpoint("hf-hub:org/lora")
    assert asked == ["org/lora"]
    assert "a LoRA adapter is merged into 1 layer" in model.source.notes


def test_hub_id_without_weights_says_what_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a network, that it lacks one is not the cause."""
    (tmp_path / "config.json").write_text("{}")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: str(tmp_path))
    with pytest.raises(CheckpointError, match="no weights that can be read") as caught:
        read_checkpoint("hf-hub:org/name")
    assert "look at its files on the hub" in caught.value.hint
    assert "model.safetensors" in caught.value.hint
