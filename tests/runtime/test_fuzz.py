"""Drawn bundles: whatever is in one, its reader gives an EdgevitError and nothing else, and reads nothing beside it.

`make fuzz` draws by the ten thousand, and keeps what fails in tests/attacks/corpus/, which is read here in every run.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import shutil
import tempfile
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevit.core.errors import CODES, BundleError, EdgevitError
from edgevit.core.json_text import parse_json
from edgevit.runtime.bundle import Bundle, load_bundle, verify_bundle
from edgevit.runtime.canary_file import read_canary
from edgevit.runtime.folder import is_safe_name
from edgevit.runtime.manifest import parse_manifest
from edgevit.runtime.onnx_references import list_references
from edgevit.runtime.pack_file import pack_file
from edgevit.runtime.packed import PackedContents
from edgevit.runtime.signature import read_signature
from tests.attacks.documents import dump
from tests.attacks.zips import Entry, write_zip
from tests.support.mutations import mutate
from tests.support.opened_files import list_opened
from tests.support.tiny_bundle import make_bundle

CORPUS = Path(__file__).parents[1] / "attacks" / "corpus"
KEEP = "EDGEVIT_KEEP_FOUND"
MOST_BYTES = 64 << 20


@functools.cache
def home() -> Path:
    """A bundle as ``bundle`` and ``bundle.edgevit``, with what it must not lead to beside it; for the whole process."""
    folder = Path(tempfile.mkdtemp(prefix="edgevit-fuzz-"))
    make_bundle(folder / "bundle", folder / "work", canary=True)
    shutil.rmtree(folder / "work")
    pack_file(folder / "bundle")
    (folder / "outside.bin").write_bytes(b"not to be read")
    return folder


@pytest.fixture(scope="module", autouse=True)
def clean() -> Iterator[None]:
    yield
    if home.cache_info().currsize:
        shutil.rmtree(home())
        home.cache_clear()


@contextlib.contextmanager
def kept(content: bytes, ending: str) -> Iterator[None]:
    """Where somebody asks for it, what makes the reader fail becomes a file of the corpus."""
    try:
        yield
    except Exception:
        if os.environ.get(KEEP):
            (CORPUS / f"{hashlib.sha256(content).hexdigest()[:16]}{ending}").write_bytes(content)
        raise


def look_at(path: Path) -> str:
    """All of a bundle that is read without an engine library; the error's code, or ``fits``."""
    try:
        bundle = verify_bundle(load_bundle(path))
        read_signature(bundle.contents)
        if bundle.manifest.canary is not None:
            read_canary(bundle, bundle.manifest.canary)
    except EdgevitError as exc:
        return exc.code
    return "fits"


def look_closely(path: Path) -> str:
    """The same; nothing beside it may be opened, and little memory taken."""
    tracemalloc.start()
    try:
        with list_opened() as opened:
            code = look_at(path)
        assert tracemalloc.get_traced_memory()[1] < MOST_BYTES
    finally:
        tracemalloc.stop()
    assert code in ("fits", *CODES[:-1])  # the last is for what nobody thought of
    near = [Path(name) for name in opened if Path(name).is_relative_to(home()) or name.startswith(("/etc", "/dev"))]
    assert [name for name in near if name != path and path not in name.parents] == []
    return code


def read_manifest() -> dict[str, Any]:
    data: dict[str, Any] = json.loads((home() / "bundle" / "manifest.json").read_bytes())
    return data


@given(st.data())
def test_folder_with_a_mutated_manifest(drawn: st.DataObject) -> None:
    content = dump(drawn.draw(mutate(read_manifest())))
    folder = home() / "mutated"
    if not folder.exists():
        shutil.copytree(home() / "bundle", folder)
    (folder / "manifest.json").write_bytes(content)
    with kept(content, ".json"):
        look_closely(folder)


def mutate_bytes(content: bytes) -> st.SearchStrategy[bytes]:
    """A few bytes changed, left out, put in, said twice, or all behind a place left out."""
    place = st.integers(0, len(content))

    def change(parts: list[tuple[str, int, int, bytes]]) -> bytes:
        data = bytearray(content)
        for kind, drawn, length, new in parts:
            first = min(drawn, len(data))
            if kind == "change":
                data[first : first + len(new)] = new
            elif kind == "cut":
                del data[first : first + length]
            elif kind == "insert":
                data[first:first] = new
            elif kind == "repeat":
                data[first:first] = data[first : first + length]
            else:
                del data[first:]
        return bytes(data)

    kinds = st.sampled_from(["change", "change", "cut", "insert", "repeat", "end"])
    part = st.tuples(kinds, place, st.integers(1, 64), st.binary(min_size=1, max_size=8))
    return st.lists(part, min_size=1, max_size=4).map(change)


@given(st.data())
def test_manifest_of_mutated_bytes(drawn: st.DataObject) -> None:
    original = (home() / "bundle" / "manifest.json").read_bytes()
    content = drawn.draw(mutate_bytes(original))
    with kept(content, ".json"), contextlib.suppress(BundleError):  # blanks may differ
        assert parse_manifest(content, Path("bundle")) == parse_manifest(original, Path("bundle"))


def near_directory(content: bytes) -> st.SearchStrategy[bytes]:
    """Mutations of the last kilobyte, where the directory is, behind what is sound."""
    return mutate_bytes(content[-1000:]).map(lambda end: content[:-1000] + end)


@given(st.data())
def test_packed_file_of_mutated_bytes(drawn: st.DataObject) -> None:
    original = (home() / "bundle.edgevit").read_bytes()
    content = drawn.draw(st.one_of(mutate_bytes(original), near_directory(original)))
    path = home() / "mutated.edgevit"
    path.write_bytes(content)
    with kept(content, ".edgevit"):
        if look_closely(path) == "fits":
            read_alike(path)


def read_alike(path: Path) -> None:
    """A file that is taken holds what the sound one holds."""
    sound, found = PackedContents(home() / "bundle.edgevit"), PackedContents(path)
    data = [json.loads(contents.read("manifest.json")) for contents in (sound, found)]
    assert data[0] == data[1]
    assert all(sound.read(name) == found.read(name) for name in data[0]["files"])


LIES: st.SearchStrategy[dict[str, Any]] = st.dictionaries(
    st.sampled_from(["flags", "method", "crc", "packed", "size", "offset", "attributes", "name", "extra", "comment"]),
    st.none(),
    max_size=2,
).flatmap(
    lambda names: st.fixed_dictionaries(
        {
            name: st.sampled_from([b"", b"manifest.json", b"../outside.bin", b"/etc/hostname", b"a/b", b"a"])
            if name in ("name", "extra", "comment")
            else st.sampled_from([0, 1, 8, 0x0800, 0xFFFF])
            if name in ("flags", "method")
            else st.one_of(st.integers(0, 40_000), st.sampled_from([0, 0xFFFFFFFF, 0x80000000, 0o120777 << 16]))
            for name in names
        }
    )
)


@given(st.data())
def test_packed_file_whose_fields_lie(drawn: st.DataObject) -> None:
    folder = home() / "bundle"
    names = ["manifest.json", *sorted(read_manifest()["files"])]
    chosen = drawn.draw(st.one_of(st.just(names), st.permutations(names), st.lists(st.sampled_from(names), max_size=7)))
    entries = [
        Entry(name.encode(), (folder / name).read_bytes(), local=drawn.draw(LIES), central=drawn.draw(LIES))
        if drawn.draw(st.integers(0, 3)) == 0
        else Entry(name.encode(), (folder / name).read_bytes())
        for name in chosen
    ]
    count = drawn.draw(st.one_of(st.none(), st.integers(0, 70)))
    shift = drawn.draw(st.sampled_from([0, 0, 0, 1, -1, 46, -46]))
    content = write_zip(entries, comment=drawn.draw(st.sampled_from([b"", b"", b"?"])), count=count, shift=shift)
    path = home() / "lying.edgevit"
    path.write_bytes(content)
    with kept(content, ".edgevit"):
        if look_closely(path) == "fits":
            read_alike(path)


@given(st.data())
def test_signature_of_mutated_bytes(drawn: st.DataObject) -> None:
    fields = {"algorithm": "ed25519", "public_key": "0" * 64, "signature": "0" * 128}
    content = drawn.draw(mutate_bytes(json.dumps(fields).encode()))
    folder = home() / "signed"
    folder.mkdir(exist_ok=True)
    (folder / "manifest.json").write_bytes(b"{}")
    (folder / "signature.json").write_bytes(content)
    with kept(content, ".signature.json"), contextlib.suppress(BundleError):
        read_signature(open_folder(folder))


def open_folder(folder: Path) -> Any:
    from edgevit.runtime.packed import open_contents

    return open_contents(folder)


@given(st.data())
def test_canary_of_mutated_bytes(drawn: st.DataObject) -> None:
    bundle = load_bundle(home() / "bundle")
    content = drawn.draw(mutate_bytes((home() / "bundle" / "canary.npz").read_bytes()))
    folder = home() / "canary"
    folder.mkdir(exist_ok=True)
    (folder / "canary.npz").write_bytes(content)
    assert bundle.manifest.canary is not None
    with kept(content, ".npz"), contextlib.suppress(BundleError):
        read_canary(Bundle(folder, bundle.manifest, open_folder(folder)), bundle.manifest.canary)


@given(st.data())
def test_references_of_mutated_onnx_files(drawn: st.DataObject) -> None:
    content = drawn.draw(mutate_bytes((home() / "bundle" / "model.onnx").read_bytes()))
    with kept(content, ".onnx"), contextlib.suppress(ValueError):
        list_references(memoryview(content))


@given(st.one_of(st.binary(max_size=200), st.text(alphabet='{}[]",:0123456789eE+-.truefalsn \\u', max_size=200)))
def test_json_of_any_bytes(content: str | bytes) -> None:
    with contextlib.suppress(ValueError):
        parse_json(content, most_levels=32, unique=True)


@given(st.text(max_size=40))
def test_safe_name_stays_below_the_folder(name: str) -> None:
    if is_safe_name(name):
        path = Path(os.path.normpath(Path("/bundle") / name))
        assert path.is_relative_to("/bundle")
        assert path != Path("/bundle")
        assert path.relative_to("/bundle").as_posix() == name


def test_corpus(tmp_path: Path) -> None:
    """What was found once: a manifest, a packed bundle, or a file of one."""
    for file in sorted(CORPUS.iterdir()):
        content = file.read_bytes()
        if file.name.endswith(".signature.json"):
            (tmp_path / "signature.json").write_bytes(content)
            with contextlib.suppress(BundleError):
                read_signature(open_folder(tmp_path))
        elif file.suffix == ".json":
            with contextlib.suppress(BundleError):
                parse_manifest(content, file)
        elif file.suffix == ".edgevit":
            look_at(file)
        elif file.suffix == ".onnx":
            with contextlib.suppress(ValueError):
                list_references(memoryview(content))
