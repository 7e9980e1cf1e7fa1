"""What a source must be, and what is said where it is not."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest
from safetensors.torch import save_file

from edgevit.checkpoints import read_checkpoint
from edgevit.checkpoints.files.files import find_files
from edgevit.core.errors import CheckpointError
from tests.support.small_checkpoints import small_tensors, write_config, write_folder

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"


@pytest.mark.parametrize("source", ["no/such/folder/at all", "", "a\0b", "x" * 5000])
def test_read_when_nothing_is_there_says_so(source: str) -> None:
    with pytest.raises(CheckpointError):
        read_checkpoint(source)


def test_read_when_a_path_beside_a_folder_is_not_there_says_how_to_write_a_hub_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "timm").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match=r"does not exist[^§]*hf-hub:timm/vit_tiny"):
        read_checkpoint("timm/vit_tiny")


@pytest.mark.parametrize("name", ["weights.pth", "best.pth.tar", "vit.npz", "net.ckpt"])
def test_read_when_a_folder_has_one_weight_file_reads_it(tmp_path: Path, name: str) -> None:
    write_folder(tmp_path)
    (tmp_path / "config.json").unlink()
    (tmp_path / "model.safetensors").rename(tmp_path / name)  # known by its content
    (tmp_path / "log.txt").write_text("epoch 1")
    assert find_files(tmp_path).weights == (tmp_path / name,)


def test_read_when_a_folder_has_several_weight_files_lists_them(tmp_path: Path) -> None:
    for name in ("last.pth", "best.pth"):
        (tmp_path / name).write_bytes(b"1")
    with pytest.raises(CheckpointError, match=r"2 weight files[^§]*best\.pth[^§]*last\.pth"):
        read_checkpoint(tmp_path)


def test_read_when_the_folder_is_empty_names_the_layouts(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="folder is empty") as caught:
        read_checkpoint(tmp_path)
    assert "timm hub folder" in caught.value.hint
    assert "transformers folder" in caught.value.hint


def test_read_when_the_layout_is_unknown_shows_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "weights.ckpt").write_bytes(b"1")
    (tmp_path / "config.json").write_text('{"embed_dim": 768}')
    with pytest.raises(CheckpointError, match=r"config\.json, weights\.ckpt; config\.json has the keys embed_dim"):
        read_checkpoint(tmp_path)


def test_read_when_the_folder_holds_an_adapter_says_to_merge_it(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="adapter"):
        read_checkpoint(tmp_path)


def test_read_when_weights_are_missing_names_what_cannot_be_read(tmp_path: Path) -> None:
    write_config(tmp_path)
    (tmp_path / "flax_model.msgpack").write_bytes(b"1")
    with pytest.raises(CheckpointError, match=r"flax_model\.msgpack: Flax weights"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize("folder", [False, True])
def test_read_when_weights_are_tensorflows_refuses_them_by_name(tmp_path: Path, folder: bool) -> None:
    (tmp_path / "saved_model.pb").write_bytes(b"1")
    with pytest.raises(CheckpointError, match="TensorFlow") as caught:
        read_checkpoint(tmp_path if folder else tmp_path / "saved_model.pb")
    assert "saved_model.pb" in caught.value.message
    assert "ONNX" in caught.value.hint


def test_read_when_transformers_weights_are_tensorflows_names_them(tmp_path: Path) -> None:
    write_config(tmp_path)
    (tmp_path / "tf_model.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    with pytest.raises(CheckpointError, match=r"tf_model\.h5: TensorFlow weights"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
@pytest.mark.parametrize(
    ("content", "message"),
    [("", "is empty"), (POINTER, "Git LFS pointer"), ("<!DOCTYPE html><html>404</html>", "web page")],
)
def test_read_when_a_file_is_no_data_names_it(tmp_path: Path, name: str, content: str, message: str) -> None:
    write_folder(tmp_path)
    (tmp_path / name).write_text(content)
    with pytest.raises(CheckpointError, match=message) as caught:
        read_checkpoint(tmp_path)
    assert name in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    "content", ["{", "[1]", "null", '{"a": 1', "\ud800".encode("utf-8", "surrogatepass"), "[" * 99999]
)
def test_read_when_config_is_not_a_json_object_says_so(tmp_path: Path, content: str | bytes) -> None:
    write_folder(tmp_path)
    (tmp_path / "config.json").write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(CheckpointError, match=r"config\.json is not"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize(("name", "what"), [("m.onnx", "ONNX"), ("m.gguf", "GGUF"), ("config.json", "configuration")])
def test_read_when_the_file_is_of_another_kind_names_it(tmp_path: Path, name: str, what: str) -> None:
    (tmp_path / name).write_bytes(b"something")
    with pytest.raises(CheckpointError, match=what):
        read_checkpoint(tmp_path / name, arch="vit_tiny_patch16_224")


@pytest.mark.skipif(not hasattr(os, "mkfifo") or os.name == "nt", reason="named pipes are not here")
def test_read_when_the_file_is_a_pipe_does_not_wait(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="not a regular file"):
        read_checkpoint(tmp_path / "model.safetensors", arch="vit_tiny_patch16_224")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_read_when_a_file_may_not_be_read_says_so(tmp_path: Path) -> None:
    write_folder(tmp_path)
    (tmp_path / "model.safetensors").chmod(0)
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_checkpoint(tmp_path)


def test_sha256_is_of_the_lines_that_sha256sum_prints(tmp_path: Path) -> None:
    write_folder(tmp_path)
    (tmp_path / "README.md").write_text("not part of it")
    lines = [
        f"{hashlib.sha256((tmp_path / n).read_bytes()).hexdigest()}  {n}\n"
        for n in ("config.json", "model.safetensors")
    ]
    assert read_checkpoint(tmp_path).source.sha256 == hashlib.sha256("".join(lines).encode()).hexdigest()


def test_sha256_when_a_weight_changes_differs(tmp_path: Path) -> None:
    first = find_files(write_folder(tmp_path / "a")).sha256()
    assert find_files(write_folder(tmp_path / "b")).sha256() == first
    assert find_files(write_folder(tmp_path / "c", small_tensors(seed=1))).sha256() != first
    assert find_files(write_folder(tmp_path / "d", label_names=["x", "y", "z"])).sha256() != first


def write_shards(folder: Path) -> dict[str, str]:
    """Two shards and their index; returns the index's map."""
    tensors = small_tensors()
    names = sorted(tensors)
    halves = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    write_config(folder)
    for file, which in halves.items():
        save_file({name: tensors[name] for name in which}, folder / file)
    shards = {name: file for file, which in halves.items() for name in which}
    write_index(folder, shards)
    return shards


def write_index(folder: Path, shards: object) -> None:
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))


def test_read_when_sharded_takes_all_shards(tmp_path: Path) -> None:
    write_shards(tmp_path)
    model = read_checkpoint(tmp_path)
    assert set(model.module.state_dict()) == set(small_tensors())


def test_read_when_a_shard_is_missing_names_it(tmp_path: Path) -> None:
    write_shards(tmp_path)
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"lacks 1 of 2 shards[^§]*model-00002-of-00002"):
        read_checkpoint(tmp_path)


def test_read_when_a_shard_lacks_a_tensor_of_the_index_names_it(tmp_path: Path) -> None:
    shards = write_shards(tmp_path)
    write_index(tmp_path, {**shards, "blocks.9.extra": "model-00001-of-00002.safetensors"})
    with pytest.raises(CheckpointError, match=r"blocks\.9\.extra: not in model-00001"):
        read_checkpoint(tmp_path)


def test_read_when_a_tensor_is_in_two_shards_names_it(tmp_path: Path) -> None:
    write_shards(tmp_path)
    save_file(small_tensors(), tmp_path / "model-00002-of-00002.safetensors")
    with pytest.raises(CheckpointError, match=r"again in model-00002"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize("name", ["../secret.safetensors", "/etc/passwd", "a/b.safetensors", "..", "", "a\\b", "x\0"])
def test_read_when_the_index_points_outside_its_folder_refuses(tmp_path: Path, name: str) -> None:
    shards = write_shards(tmp_path)
    save_file(small_tensors(), tmp_path.parent / "secret.safetensors")
    write_index(tmp_path, {**shards, "head.weight": name})
    with pytest.raises(CheckpointError, match="outside its folder"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize("shards", [None, {}, [], {"a": 1}, "x"])
def test_read_when_the_index_has_no_map_says_so(tmp_path: Path, shards: object) -> None:
    write_shards(tmp_path)
    write_index(tmp_path, shards)
    with pytest.raises(CheckpointError, match="weight_map"):
        read_checkpoint(tmp_path)


def test_read_when_files_are_links_as_in_the_hubs_cache_follows_them(tmp_path: Path) -> None:
    write_folder(tmp_path / "blobs")
    (tmp_path / "snapshot").mkdir()
    for name in ("config.json", "model.safetensors"):
        (tmp_path / "snapshot" / name).symlink_to(tmp_path / "blobs" / name)
    assert read_checkpoint(tmp_path / "snapshot").labels == ("one", "two", "three")
