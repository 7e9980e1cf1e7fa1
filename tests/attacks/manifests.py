"""Attacks within manifest.json: on its values, and on its bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.attacks.documents import Data, record


def set_field(*path: str | int, to: Any) -> Callable[[Data], None]:
    """Put a value where the path leads."""

    def change(data: Data) -> None:
        inner: Any = data
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = to

    return change


def _list_file(name: str) -> Callable[[Data], None]:
    return set_field("files", name, to=record(b""))


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


def _answer(task: str = "pose", **options: Any) -> Callable[[Data], None]:
    """An answer of keypoints with something wrong, of an output that fits it otherwise."""

    def change(data: Data) -> None:
        for specs in (data["outputs"], data["engine"]["outputs"]):
            specs[0]["shape"][1:] = [10, 4, 4]
        sound = {"form": "heatmaps", "outputs": [data["outputs"][0]["name"]], "edges": [[0, 9]]}
        data["task"], data["answer"] = task, {**sound, **options}

    return change


def _lie_of_size(data: Data) -> None:
    data["files"]["model.bin"]["size_bytes"] += 1


def _many_files(data: Data) -> None:
    data["files"].update({f"file-{i}": record(b"") for i in range(80)})


def _many_settings(data: Data) -> None:
    data["engine"]["settings"].update({f"setting-{i}": i for i in range(100_000)})


def _many_ports(data: Data) -> None:
    data["outputs"] = data["outputs"] * 20_000


MANIFESTS: dict[str, Callable[[Data], None]] = {
    "name-leads-up": _list_file("../outside.bin"),
    "name-leads-up-within": _list_file("a/../../outside.bin"),
    "name-is-absolute": _list_file("/etc/hostname"),
    "name-has-a-drive": _list_file("C:\\outside.bin"),
    "name-has-a-backslash": _list_file("..\\outside.bin"),
    "name-has-a-zero-byte": _list_file("model.bin\0.txt"),
    "engine-leads-up": set_field("engine", "files", to=["../outside.xml", "model.bin"]),
    "engine-is-not-listed": set_field("engine", "files", to=["other.xml", "model.bin"]),
    "engine-writes-a-cache": set_field("engine", "settings", "CACHE_DIR", to="/tmp/edgevit-attack"),
    "engine-of-another-library": set_field("engine", "backend", to="tflite"),
    "target-writes-a-cache": set_field("target", "settings", to={"CACHE_DIR": "/tmp/edgevit-attack"}),
    "too-many-files": _many_files,
    "hash-lies": set_field("files", "model.bin", "sha256", to="0" * 64),
    "hash-is-no-hash": set_field("files", "model.bin", "sha256", to="0" * 63 + "g"),
    "size-lies": _lie_of_size,
    "size-is-negative": set_field("files", "model.bin", "size_bytes", to=-1),
    "size-overflows": set_field("files", "model.bin", "size_bytes", to=1 << 64),
    "image-overflows-32-bits": _resize((1 << 32) + 16),
    "image-overflows-64-bits": _resize(1 << 62),
    "image-has-no-pixels": _resize(0),
    "image-is-negative": _resize(-16),
    "image-is-of-three-gigabytes": _resize(32768),
    "classes-overflow": _widen(1 << 62),
    "classes-are-negative": _widen(-10),
    "batch-overflows": set_field("batch", to=[1, 1, (1 << 32) + 1]),
    "batch-of-a-billion": set_field("batch", to=[1, 1, 10**9]),
    "batch-falls": set_field("batch", to=[4, 2, 1]),
    "batch-of-the-engine-overflows": set_field("engine", "batch", to=[1, 1, 10**9]),
    "labels-are-too-few": set_field("labels", to=["one"]),
    "answer-is-missing": set_field("task", to="detect"),
    "answer-is-of-another-task": _answer("depth"),
    "answer-reads-an-output-that-is-not-there": _answer(outputs=["../outside"]),
    "answer-reads-two-outputs-where-one-is": _answer(outputs=["logits", "logits"]),
    "answer-reads-another-shape": _answer("detect", form="boxes", outputs=["logits", "logits"], edges=[]),
    "answer-has-an-edge-that-leads-out": _answer(edges=[[0, 10]]),
    "answer-has-a-negative-edge": _answer(edges=[[-1, 0]]),
    "answer-has-a-million-edges": _answer(edges=[[0, 1]] * 10_001),
    "answer-has-a-kernel-of-a-billion": _answer(kernel=10**9 + 1),
    "answer-has-an-even-kernel": _answer(kernel=2),
    "answer-has-masks-of-gigapixels": _answer(mask_size=[1 << 20, 1 << 20]),
    "answer-has-a-negative-threshold": _answer(threshold=-1),
    "type-of-answer": _answer(outputs="logits"),
    "image-is-warped-to-another-size": set_field("preprocess", "resize", to="warp"),
    "input-differs-from-the-engines": set_field("engine", "inputs", 0, "shape", to=[1, 32, 32, 3]),
    "type-of-classes": set_field("classes", to="ten"),
    "type-of-name": set_field("name", to=7),
    "type-of-files": set_field("files", to=[]),
    "type-of-batch": set_field("batch", to="111"),
    "type-of-inputs": set_field("inputs", to={}),
    "type-of-shape": set_field("inputs", 0, "shape", to=[1, None, 16, 3]),
    "type-of-mean": set_field("preprocess", "mean", to=["0.5", 0.5, 0.5]),
    "type-of-engine": set_field("engine", to=[]),
    "type-of-version": set_field("schema_version", to="1"),
    "mean-overflows": set_field("preprocess", "std", to=[0.0, 0.0, 0.0]),
    "settings-by-the-hundred-thousand": _many_settings,
    "outputs-by-the-ten-thousand": _many_ports,
    "keys-by-the-hundred-thousand": lambda data: data.update({f"key-{i}": i for i in range(100_000)}),
    "key-of-three-megabytes": lambda data: data.update({"k" * (3 << 20): 1}),
    "files-by-the-hundred-thousand": set_field("engine", "files", to=[f"file-{i}" for i in range(100_000)]),
    "text-of-commas": set_field("source", to={"note": ",[{" * (1 << 20)}),
    "schema-is-newer": set_field("schema_version", to=2),
    "schema-is-far-newer": set_field("schema_version", to=1 << 40),
    "schema-is-zero": set_field("schema_version", to=0),
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
    "json-has-half-a-character": lambda content: content.replace(b'"tiny"', rb'"t\ud800ny"', 1),
    "json-is-deep": lambda content: content[:-1] + b', "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "json-is-deeper-than-32": lambda content: content[:-1] + b', "x": ' + b'{"a":' * 40 + b"1" + b"}" * 41,
    "json-is-only-brackets": lambda content: b"[" * 1_000_000,
    "json-is-huge": lambda content: content + b" " * (17 << 20),
    "json-has-five-megabytes": lambda content: content[:-1] + b" " * 5_000_000 + b"}",
    "json-has-a-million-values": lambda content: content[:-1] + b', "x": [' + b"1," * (1 << 20) + b"1]}",
    "json-breaks-off-after-four-million-lines": lambda content: b"{" + b"\n" * (4_000_000) + b"x",
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
