"""Attacks by the files of a bundle's folder: links and pipes, engines, canaries, signatures."""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from tests.attacks.documents import OTHER_SEED, change_copy, dump, put, read, record, sign
from tests.attacks.manifests import set_field

_STATISTICS = "session.collect_node_memory_stats_to_file"


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x80
    path.write_bytes(content)


def _link(folder: Path, name: str) -> None:
    elsewhere = folder.parent / f"{folder.name}.elsewhere"
    (folder / name).rename(elsewhere)  # the very content, so that no hash tells
    (folder / name).symlink_to(elsewhere.name if os.sep in name else f"../{elsewhere.name}")


def _pipe(folder: Path, name: str) -> None:
    (folder / name).unlink()
    os.mkfifo(folder / name)


def _replace_by_device(folder: Path) -> None:
    (folder / "report.json").unlink()
    (folder / "report.json").symlink_to("/dev/zero")


def _link_folder(folder: Path) -> None:
    elsewhere = folder.parent / f"{folder.name}.elsewhere"
    elsewhere.mkdir()
    (elsewhere / "note.txt").write_bytes(b"note")
    (folder / "below").symlink_to(f"../{elsewhere.name}")
    data = read(folder)
    data["files"]["below/note.txt"] = record(b"note")
    (folder / "manifest.json").write_bytes(dump(data))


def _swap_canary(folder: Path, change: Callable[[dict[str, Any]], bytes]) -> None:
    with np.load(folder / "canary.npz") as stored:
        arrays = dict(stored)
    put(folder, "canary.npz", change(arrays))


def _save(arrays: dict[str, Any], *, compressed: bool = False) -> bytes:
    buffer = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(buffer, **arrays)
    return buffer.getvalue()


def _bomb(arrays: dict[str, Any]) -> bytes:
    buffer = io.BytesIO(_save(arrays))
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.npy", bytes(10 << 20))
    return buffer.getvalue()


def _rename_xml(folder: Path) -> None:
    """A sound ONNX file, of which the manifest says that it is OpenVINO's."""
    content = (folder.parent / "onnx" / "model.onnx").read_bytes()
    put(folder, "model.xml", content)


def _cut_xml(folder: Path) -> None:
    content = (folder / "model.xml").read_bytes()
    put(folder, "model.xml", content[: len(content) // 2])


def _point_beyond(folder: Path) -> None:
    content = (folder / "model.xml").read_bytes()
    put(folder, "model.xml", content.replace(b'offset="0"', b'offset="1099511627776"'))


def _hide_weights(folder: Path) -> None:
    data = read(folder)
    del data["files"]["model.bin"]
    data["engine"]["files"] = ["model.xml"]
    (folder / "manifest.json").write_bytes(dump(data))


FOLDERS: dict[str, Callable[[Path], object]] = {
    "folder-without-manifest": lambda folder: (folder / "manifest.json").unlink(),
    "file-is-missing": lambda folder: (folder / "report.json").unlink(),
    "engine-is-missing": lambda folder: (folder / "model.xml").unlink(),
    "engine-is-cut": lambda folder: (folder / "model.bin").write_bytes((folder / "model.bin").read_bytes()[:-1]),
    "engine-is-altered": lambda folder: _flip(folder / "model.bin"),
    "engine-is-empty": lambda folder: (folder / "model.xml").write_bytes(b""),
    "engine-is-a-link": lambda folder: _link(folder, "model.bin"),
    "manifest-is-a-link": lambda folder: _link(folder, "manifest.json"),
    "file-is-a-pipe": lambda folder: _pipe(folder, "report.json"),
    "manifest-is-a-pipe": lambda folder: _pipe(folder, "manifest.json"),
    "file-is-a-device": _replace_by_device,
    "file-below-a-link": _link_folder,
    "openvino-is-given-onnx": _rename_xml,
    "ir-is-cut": _cut_xml,
    "ir-points-beyond-its-weights": _point_beyond,
    "ir-has-weights-that-are-not-listed": _hide_weights,
    "canary-has-another-shape": lambda folder: _swap_canary(folder, lambda a: _save({**a, "pixels": a["pixels"][:1]})),
    "canary-lacks-an-array": lambda folder: _swap_canary(folder, lambda a: _save({"pixels": a["pixels"]})),
    "canary-is-compressed": lambda folder: _swap_canary(folder, lambda a: _save(a, compressed=True)),
    "canary-is-a-bomb": lambda folder: _swap_canary(folder, _bomb),
    "canary-is-no-zip": lambda folder: _swap_canary(folder, lambda a: b"canary"),
    "canary-has-nan": lambda f: _swap_canary(f, lambda a: _save({**a, "float.logits": a["float.logits"] * np.nan})),
    "canary-is-not-answered": lambda f: _swap_canary(f, lambda a: _save({**a, "float.logits": -a["float.logits"]})),
}
"""What is changed in a folder of OpenVINO's."""


def _refer(location: str) -> Callable[[Path], object]:
    """An ONNX file whose weights lie elsewhere."""

    def change(folder: Path) -> None:
        model = onnx.load(folder / "model.onnx")
        tensor = next(t for t in model.graph.initializer if t.name == "fc1")
        content = tensor.raw_data
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (("location", location), ("offset", "0"), ("length", str(len(content)))):
            tensor.external_data.add(key=key, value=value)
        put(folder, "model.onnx", model.SerializeToString())
        if "/" not in location or location.startswith("../"):
            (folder / location).write_bytes(content)

    return change


ONNX_FOLDERS: dict[str, Callable[[Path], object]] = {
    "onnx-points-up": _refer("../outside.data"),
    "onnx-points-to-an-absolute-path": _refer("/etc/hostname"),
    "onnx-points-to-a-file-that-is-not-listed": _refer("stray.data"),
    "onnxruntime-is-given-ir": lambda folder: put(
        folder, "model.onnx", (folder.parent / "openvino" / "model.xml").read_bytes()
    ),
    "onnxruntime-writes-a-file": lambda folder: (folder / "manifest.json").write_bytes(
        dump(change_copy(read(folder), set_field("engine", "settings", _STATISTICS, to="/tmp/edgevit-attack.csv")))
    ),
}
"""The same of ONNX Runtime's."""


def _rename_in_manifest(folder: Path) -> None:
    data = read(folder)
    data["name"] = "altered"
    (folder / "manifest.json").write_bytes(dump(data))


def _sign_otherwise(**fields: Any) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        data = json.loads((folder / "signature.json").read_bytes())
        (folder / "signature.json").write_text(json.dumps({**data, **fields}))

    return change


def _sign_by_other(folder: Path) -> None:
    made = sign((folder / "manifest.json").read_bytes(), OTHER_SEED)
    (folder / "signature.json").write_text(json.dumps(made))


def _claim_key(folder: Path) -> None:
    """Signed by another, and it says that it was the right one."""
    made, right = sign((folder / "manifest.json").read_bytes(), OTHER_SEED), sign(b"")
    (folder / "signature.json").write_text(json.dumps({**made, "public_key": right["public_key"]}))


def _sign_bare(folder: Path) -> None:
    made = sign((folder / "manifest.json").read_bytes(), domain=b"")
    (folder / "signature.json").write_text(json.dumps(made))


SIGNED: dict[str, Callable[[Path], object]] = {
    "signature-is-missing": lambda folder: (folder / "signature.json").unlink(),
    "signature-is-empty": lambda folder: (folder / "signature.json").write_bytes(b""),
    "signature-of-another-key": _sign_by_other,
    "signature-of-another-key-that-claims-the-right-one": _claim_key,
    "signature-of-another-manifest": _rename_in_manifest,
    "signature-of-bare-manifest": _sign_bare,
    "signature-is-zero": _sign_otherwise(signature="0" * 128),
    "signature-is-short": _sign_otherwise(signature="0" * 126),
    "signature-is-no-text": _sign_otherwise(signature=7),
    "signature-of-another-algorithm": _sign_otherwise(algorithm="none"),
    "signature-has-a-further-key": _sign_otherwise(comment="trust me"),
    "signature-is-huge": lambda folder: (folder / "signature.json").write_bytes(b" " * 100_000),
    "signature-is-a-link": lambda folder: _link(folder, "signature.json"),
    "signature-fits-and-a-file-does-not": lambda folder: _flip(folder / "model.bin"),
}
"""What is changed in a folder that is signed with the trusted key, which is asked for."""
