"""Every attack as a folder or a file, made from two tiny bundles: python -m tests.attacks.make DIR.

``DIR/answers.json`` then has for every name ``path`` (below DIR), ``code`` (``opens``: it has to open) and, where they
are to be given, ``public_key`` (a file of DIR) and ``check``. Each attack differs from a sound bundle in one thing, and
its digests and hashes fit, so that nothing else refuses it. The codes are in ``answers.json`` beside this file.
"""

from __future__ import annotations

import copy
import hashlib
import io
import json
import os
import shutil
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.attacks.zips import Entry, write_zip
from tests.support.tiny_bundle import make_bundle

ANSWERS: dict[str, str] = json.loads((Path(__file__).parent / "answers.json").read_text())
SEED, OTHER_SEED = b"edgevit's tests' key, no secret.", b"the key of somebody else: attack"
PUBLIC_KEY = "trusted.public.pem"

Data = dict[str, Any]


def dump(data: Data) -> bytes:
    """A manifest with the digest that fits."""
    data = {key: value for key, value in data.items() if key != "manifest_sha256"}
    canonical = json.dumps(data, sort_keys=True, separators=(",", ":"))
    return json.dumps({**data, "manifest_sha256": hashlib.sha256(canonical.encode()).hexdigest()}).encode()


def read(folder: Path) -> Data:
    """A manifest as plain data."""
    data: Data = json.loads((folder / "manifest.json").read_bytes())
    return data


def record(content: bytes) -> Data:
    """What a manifest says of a file with this content."""
    return {"sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}


def put(folder: Path, name: str, content: bytes, *, engine: bool = False) -> None:
    """Give a bundle a file, and its manifest the hash of it."""
    (folder / name).write_bytes(content)
    data = read(folder)
    data["files"][name] = record(content)
    if engine and name not in data["engine"]["files"]:
        data["engine"]["files"].append(name)
    (folder / "manifest.json").write_bytes(dump(data))


def sign(manifest: bytes, seed: bytes = SEED, domain: bytes = b"edgevit bundle v1\n") -> Data:
    """What ``signature.json`` holds."""
    key = Ed25519PrivateKey.from_private_bytes(seed)
    signature = key.sign(domain + manifest).hex()
    return {"algorithm": "ed25519", "public_key": key.public_key().public_bytes_raw().hex(), "signature": signature}


def _set(*path: str | int, to: Any) -> Callable[[Data], None]:
    def change(data: Data) -> None:
        inner: Any = data
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = to

    return change


def _list_file(name: str) -> Callable[[Data], None]:
    return _set("files", name, to=record(b""))


def _resize(side: int) -> Callable[[Data], None]:
    """Everything that has the image's size agrees."""

    def change(data: Data) -> None:
        for specs in (data["inputs"], data["engine"]["inputs"]):
            specs[0]["shape"][1:3] = [side, side]
        for name in ("height", "width", "resize_height", "resize_width"):
            data["preprocess"][name] = side

    return change


def _widen(classes: int) -> Callable[[Data], None]:
    def change(data: Data) -> None:
        for specs in (data["outputs"], data["engine"]["outputs"]):
            specs[0]["shape"][-1] = classes
        data["classes"] = classes
        data.pop("labels", None)

    return change


def _lie_of_size(data: Data) -> None:
    data["files"]["model.bin"]["size_bytes"] += 1


def _many_files(data: Data) -> None:
    data["files"].update({f"file-{i}": record(b"") for i in range(80)})


MANIFESTS: dict[str, Callable[[Data], None]] = {
    "name-leads-up": _list_file("../outside.bin"),
    "name-leads-up-within": _list_file("a/../../outside.bin"),
    "name-is-absolute": _list_file("/etc/hostname"),
    "name-has-a-drive": _list_file("C:\\outside.bin"),
    "name-has-a-backslash": _list_file("..\\outside.bin"),
    "name-has-a-zero-byte": _list_file("model.bin\0.txt"),
    "engine-leads-up": _set("engine", "files", to=["../outside.xml", "model.bin"]),
    "engine-is-not-listed": _set("engine", "files", to=["other.xml", "model.bin"]),
    "engine-writes-a-cache": _set("engine", "settings", "CACHE_DIR", to="/tmp/edgevit-attack"),
    "engine-of-another-library": _set("engine", "backend", to="tflite"),
    "target-writes-a-cache": _set("target", "settings", to={"CACHE_DIR": "/tmp/edgevit-attack"}),
    "too-many-files": _many_files,
    "hash-lies": _set("files", "model.bin", "sha256", to="0" * 64),
    "hash-is-no-hash": _set("files", "model.bin", "sha256", to="0" * 63 + "g"),
    "size-lies": _lie_of_size,
    "size-is-negative": _set("files", "model.bin", "size_bytes", to=-1),
    "size-overflows": _set("files", "model.bin", "size_bytes", to=1 << 64),
    "image-overflows-32-bits": _resize((1 << 32) + 16),
    "image-overflows-64-bits": _resize(1 << 62),
    "image-has-no-pixels": _resize(0),
    "image-is-negative": _resize(-16),
    "image-is-of-three-gigabytes": _resize(32768),
    "classes-overflow": _widen(1 << 62),
    "classes-are-negative": _widen(-10),
    "batch-overflows": _set("batch", to=[1, 1, (1 << 32) + 1]),
    "batch-of-a-billion": _set("batch", to=[1, 1, 10**9]),
    "batch-falls": _set("batch", to=[4, 2, 1]),
    "batch-of-the-engine-overflows": _set("engine", "batch", to=[1, 1, 10**9]),
    "labels-are-too-few": _set("labels", to=["one"]),
    "input-differs-from-the-engines": _set("engine", "inputs", 0, "shape", to=[1, 32, 32, 3]),
    "type-of-classes": _set("classes", to="ten"),
    "type-of-name": _set("name", to=7),
    "type-of-files": _set("files", to=[]),
    "type-of-batch": _set("batch", to="111"),
    "type-of-inputs": _set("inputs", to={}),
    "type-of-shape": _set("inputs", 0, "shape", to=[1, None, 16, 3]),
    "type-of-mean": _set("preprocess", "mean", to=["0.5", 0.5, 0.5]),
    "type-of-engine": _set("engine", to=[]),
    "type-of-version": _set("schema_version", to="1"),
    "mean-overflows": _set("preprocess", "std", to=[0.0, 0.0, 0.0]),
    "schema-is-newer": _set("schema_version", to=2),
    "schema-is-far-newer": _set("schema_version", to=1 << 40),
    "schema-is-zero": _set("schema_version", to=0),
}
"""What is changed in the manifest, whose digest is made to fit."""


def _repeat_key(content: bytes) -> bytes:
    return content.replace(b'"name": ', b'"name": "another", "name": ', 1)


def _repeat_inner_key(content: bytes) -> bytes:
    other = b'"model.bin": {"sha256": "' + b"0" * 64 + b'", "size_bytes": 1}, "model.bin": '
    return content.replace(b'"model.bin": ', other, 1)


def _replace_version(text: bytes) -> Callable[[bytes], bytes]:
    return lambda content: content.replace(b'"classes": 10', b'"classes": ' + text, 1)


RAW: dict[str, Callable[[bytes], bytes]] = {
    "json-is-empty": lambda content: b"",
    "json-is-text": lambda content: b"a bundle",
    "json-is-null": lambda content: b"null",
    "json-is-a-list": lambda content: b"[]",
    "json-is-cut": lambda content: content[: len(content) // 2],
    "json-is-utf-16": lambda content: content.decode().encode("utf-16"),
    "json-has-a-byte-that-is-no-text": lambda content: content.replace(b'"tiny"', b'"t\xffny"', 1),
    "json-is-deep": lambda content: content[:-1] + b', "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "json-is-deeper-than-32": lambda content: content[:-1] + b', "x": ' + b'{"a":' * 40 + b"1" + b"}" * 41,
    "json-is-only-brackets": lambda content: b"[" * 1_000_000,
    "json-is-huge": lambda content: content + b" " * (17 << 20),
    "json-has-nan": _replace_version(b"NaN"),
    "json-has-infinity": _replace_version(b"-Infinity"),
    "json-has-a-number-too-large": _replace_version(b"1e999"),
    "json-has-an-integer-too-large": _replace_version(b"1" + b"0" * 60),
    "json-has-an-integer-of-a-million-digits": _replace_version(b"9" * 1_000_000),
    "json-repeats-a-key": _repeat_key,
    "json-repeats-a-file": _repeat_inner_key,
    "json-was-changed": lambda content: content.replace(b'"tiny"', b'"tony"', 1),
}
"""What is changed in the bytes of manifest.json."""


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
        dump(_changed(read(folder), _set("engine", "settings", _STATISTICS, to="/tmp/edgevit-attack.csv")))
    ),
}
"""The same of ONNX Runtime's."""
_STATISTICS = "session.collect_node_memory_stats_to_file"


def _changed(data: Data, change: Callable[[Data], None]) -> Data:
    data = copy.deepcopy(data)
    change(data)
    return data


Entries = list[Entry]


def _edit(index: int, edit: Callable[[Entry], Entry]) -> Callable[[Entries], bytes]:
    return lambda entries: write_zip([*entries[:index], edit(entries[index]), *entries[index + 1 :]])


def _add(*more: Entry) -> Callable[[Entries], bytes]:
    return lambda entries: write_zip([*entries, *more])


def _tell(**fields: Any) -> Callable[[Entry], Entry]:
    return lambda entry: Entry(entry.name, entry.data, central=fields)


def _deflate(entry: Entry) -> Entry:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(entry.data) + packer.flush()
    true = {"crc": zlib.crc32(entry.data), "size": len(entry.data)}
    return Entry(entry.name, packed).both(method=8, **true)


def _overlap(entries: Entries) -> bytes:
    """The last file begins within the one before it, where it has a header of its own."""
    *first, last = entries
    header = 30
    inner = write_zip([last])[: header + len(last.name) + len(last.data)]
    offset = sum(header + len(entry.name) + len(entry.data) for entry in first[:-1]) + header + len(first[-1].name)
    host = Entry(first[-1].name, inner + first[-1].data)
    ghost = Entry(last.name, last.data, central={"offset": offset})
    return write_zip([*first[:-1], host, ghost])


def _cut(entries: Entries, share: float) -> bytes:
    whole = write_zip(entries)
    return whole[: int(len(whole) * share)]


def _flip_packed(entries: Entries) -> bytes:
    content = bytearray(write_zip(entries))
    weights = next(entry for entry in entries if entry.name == b"model.bin").data
    content[content.index(weights) + len(weights) // 2] ^= 0x80
    return bytes(content)


_MANIFEST, _BIN = 0, 2
ZIPS: dict[str, Callable[[Entries], bytes]] = {
    "zip-is-empty": lambda entries: b"",
    "zip-is-text": lambda entries: b"a packed bundle, which it is not\n" * 100,
    "zip-has-no-manifest": lambda entries: write_zip(entries[1:]),
    "zip-is-cut-early": lambda entries: _cut(entries, 0.01),
    "zip-is-cut-in-half": lambda entries: _cut(entries, 0.5),
    "zip-lacks-its-end": lambda entries: write_zip(entries)[:-22],
    "zip-lacks-its-last-byte": lambda entries: write_zip(entries)[:-1],
    "zip-lacks-a-file": lambda entries: write_zip(entries[:-1]),
    "zip-is-altered": _flip_packed,
    "zip-has-a-further-file": _add(Entry(b"further.bin", b"?")),
    "zip-name-leads-up": _add(Entry(b"../outside.bin", b"?")),
    "zip-name-is-absolute": _add(Entry(b"/etc/hostname", b"?")),
    "zip-name-has-a-backslash": _add(Entry(b"..\\outside.bin", b"?")),
    "zip-name-is-no-text": _add(Entry(b"\xff\xfe", b"?")),
    "zip-name-is-empty": _add(Entry(b"", b"?")),
    "zip-name-is-there-twice": lambda entries: write_zip([*entries, entries[_BIN]]),
    "zip-manifest-is-there-twice": lambda entries: write_zip([*entries, entries[_MANIFEST]]),
    "zip-has-a-link": _edit(_BIN, _tell(attributes=0o120777 << 16)),
    "zip-has-a-device": _edit(_BIN, _tell(attributes=0o020644 << 16)),
    "zip-has-a-folder": _add(Entry(b"below/", b"").both(attributes=0o040755 << 16)),
    "zip-is-compressed": _edit(_BIN, _deflate),
    "zip-is-a-bomb": _add(_deflate(Entry(b"bomb.bin", bytes(10 << 20)))),
    "zip-is-encrypted": _edit(_BIN, lambda entry: entry.both(flags=1)),
    "zip-describes-a-file-after-its-end": _edit(_BIN, lambda entry: entry.both(flags=8)),
    "zip-header-has-another-name": _edit(_BIN, lambda e: Entry(e.name, e.data, local={"name": b"model.xyz"})),
    "zip-header-has-another-size": _edit(_BIN, lambda e: Entry(e.name, e.data, local={"size": 1, "packed": 1})),
    "zip-header-has-another-sum": _edit(_BIN, lambda entry: Entry(entry.name, entry.data, local={"crc": 1})),
    "zip-header-has-another-method": _edit(_BIN, lambda entry: Entry(entry.name, entry.data, local={"method": 8})),
    "zip-sizes-differ": _edit(_BIN, lambda entry: entry.both(size=len(entry.data) + 1)),
    "zip-file-ends-outside": _edit(_BIN, lambda entry: entry.both(size=1 << 30, packed=1 << 30)),
    "zip-file-begins-outside": _edit(_BIN, _tell(offset=1 << 30)),
    "zip-file-is-of-four-gigabytes": _edit(_BIN, lambda entry: entry.both(size=0xFFFFFFFF, packed=0xFFFFFFFF)),
    "zip-files-overlap": _overlap,
    "zip-has-too-many-files": _add(*(Entry(f"file-{i}".encode(), b"") for i in range(80))),
    "zip-directory-is-elsewhere": lambda entries: write_zip(entries, shift=-1),
    "zip-directory-has-more-than-it-says": lambda entries: write_zip(entries, count=len(entries) - 1),
    "zip-directory-has-less-than-it-says": lambda entries: write_zip(entries, count=len(entries) + 1),
}
"""A packed bundle of OpenVINO's, from its files in their order: manifest, canary, weights, IR, recipe, report."""


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


def make_attacks(out: Path) -> dict[str, Data]:
    """Write all of them into a new folder, and say how each is opened and answered; see the module's first lines."""
    openvino = make_bundle(out / "openvino", out / "work", target="intel-cpu", canary=True).path
    onnx_folder = make_bundle(out / "onnx", out / "work-onnx", canary=True).path
    shutil.rmtree(out / "work")
    shutil.rmtree(out / "work-onnx")
    made: dict[str, Data] = {"openvino": {}, "onnx": {}}

    def copy_to(name: str, source: Path = openvino, **options: str) -> Path:
        made[name] = options
        return Path(shutil.copytree(source, out / name))

    for name, change in MANIFESTS.items():
        folder = copy_to(name)
        (folder / "manifest.json").write_bytes(dump(_changed(read(folder), change)))
    for name, replace in RAW.items():
        folder = copy_to(name)
        (folder / "manifest.json").write_bytes(replace(dump(read(folder))))
    for name, work in FOLDERS.items():
        options: dict[str, str] = {"check": "always"} if name.startswith("canary-") else {}
        work(copy_to(name, openvino, **options))
    for name, work in ONNX_FOLDERS.items():
        work(copy_to(name, onnx_folder))
    names = ["manifest.json", *sorted(read(openvino)["files"])]
    entries = [Entry(name.encode(), (openvino / name).read_bytes()) for name in names]
    for name, write in {"packed": write_zip, **ZIPS}.items():
        made[name] = {"path": f"{name}.edgevit"}
        (out / f"{name}.edgevit").write_bytes(write(entries))
    key = Ed25519PrivateKey.from_private_bytes(SEED).public_key()
    (out / PUBLIC_KEY).write_bytes(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    signature = json.dumps(sign((openvino / "manifest.json").read_bytes())).encode()
    for name, work in {"signed": lambda folder: None, **SIGNED}.items():
        folder = copy_to(name, public_key=PUBLIC_KEY)
        (folder / "signature.json").write_bytes(signature)
        work(folder)
    for name, more in {"packed-signed": [Entry(b"signature.json", signature)], "packed-unsigned": []}.items():
        made[name] = {"path": f"{name}.edgevit", "public_key": PUBLIC_KEY}
        (out / f"{name}.edgevit").write_bytes(write_zip([*entries, *more]))
    made["path-that-is-not-there"] = {}
    answers = {name: {"path": name, "code": ANSWERS[name], **options} for name, options in made.items()}
    (out / "answers.json").write_text(json.dumps(answers, indent=1) + "\n")
    return answers


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True)
    print(f"{len(make_attacks(folder))} bundles, and answers.json")
