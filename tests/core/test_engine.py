from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgevit.core.engine import Engine, GpuRecord, TensorSpec, load_engine, save_engine
from edgevit.core.errors import BundleError


def _engine(folder: Path, **changes: object) -> Engine:
    fields: dict[str, object] = {
        "backend": "openvino",
        "device": "CPU",
        "precision": "fp16",
        "files": ("model.xml", "model.bin"),
        "inputs": (TensorSpec("image", ("batch", 16, 16, 3), "uint8"),),
        "outputs": (TensorSpec("logits", ("batch", 10), "float32"),),
        "batch": (1, 2, 8),
        "settings": {"hint": "latency", "threads": 2, "ENABLE_CPU_PINNING": True, "x.y": 0.5},
        "versions": {"openvino": "2026.4.1"},
        "directory": folder,
    }
    (folder / "model.xml").write_bytes(b"12345")
    (folder / "model.bin").write_bytes(b"123")
    return Engine(**{**fields, **changes})  # type: ignore[arg-type]


def test_saved_engine_loads_as_it_was(tmp_path: Path) -> None:
    engine = _engine(tmp_path)
    save_engine(engine)
    assert load_engine(tmp_path) == engine


def test_saved_engine_loads_from_where_it_was_moved(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    save_engine(_engine(tmp_path / "a"))
    moved = (tmp_path / "a").rename(tmp_path / "b")
    assert load_engine(moved).path == moved / "model.xml"
    assert str(tmp_path) not in (moved / "engine.json").read_text()


def test_size_is_that_of_all_files(tmp_path: Path) -> None:
    assert _engine(tmp_path).size_bytes == 8


@pytest.mark.parametrize("batch", [(0, 1, 1), (2, 1, 4), (1, 5, 4)])
def test_batch_that_is_not_in_order_is_refused(tmp_path: Path, batch: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="batch"):
        _engine(tmp_path, batch=batch)


def test_engine_without_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="files"):
        _engine(tmp_path, files=())


@pytest.mark.parametrize("content", [None, b"", b"{", b"[]", b'{"backend": "openvino"}', b"\xff"])
def test_missing_or_damaged_description_is_refused(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "engine.json").write_bytes(content)
    with pytest.raises(BundleError, match=r"engine\.json"):
        load_engine(tmp_path)


def test_missing_files_are_listed(tmp_path: Path) -> None:
    save_engine(_engine(tmp_path))
    (tmp_path / "model.xml").unlink()
    (tmp_path / "model.bin").unlink()
    with pytest.raises(BundleError, match=r"lacks model\.xml, model\.bin"):
        load_engine(tmp_path)


def test_directory_cannot_be_given_in_the_description(tmp_path: Path) -> None:
    path = save_engine(_engine(tmp_path))
    path.write_text(json.dumps({**json.loads(path.read_text()), "directory": "/etc"}))
    with pytest.raises(BundleError, match="directory"):
        load_engine(tmp_path)


def test_gpu_is_stored_for_nvidia_engines_alone(tmp_path: Path) -> None:
    """Others' descriptions stay as they were, for readers that do not know the key."""
    assert "gpu" not in _engine(tmp_path).to_data()
    for record in (GpuRecord("8.9"), GpuRecord("8.7", "Orin", 8)):
        save_engine(_engine(tmp_path, gpu=record))
        assert load_engine(tmp_path).gpu == record
    assert json.loads((tmp_path / "engine.json").read_text())["gpu"]["multiprocessors"] == 8
