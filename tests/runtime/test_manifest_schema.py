"""docs/manifest.schema.json: every manifest that is written fits it, and what it refuses is refused by the reader."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevit.core.errors import BundleError
from edgevit.core.target import list_targets
from edgevit.runtime.manifest import dump_manifest, load_manifest, parse_manifest
from scripts.write_manifest_schema import PATH, dump_schema
from tests.attacks.documents import dump
from tests.attacks.manifests import MANIFESTS
from tests.support.mutations import mutate
from tests.support.tiny_bundle import make_bundle, make_manifest, make_portable_bundle

SCHEMA = json.loads(PATH.read_text(encoding="utf-8"))
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def test_file_is_what_the_script_writes_and_a_schema_itself() -> None:
    assert PATH.read_text(encoding="utf-8") == dump_schema(), "run python -m scripts.write_manifest_schema"
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@functools.cache
def list_manifests() -> tuple[str, ...]:
    """Of real builds, for two libraries, with a canary and without an engine; as JSON."""
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        made = [
            make_bundle(base / "openvino", base / "a", target="intel-cpu", canary=True),
            make_bundle(base / "onnx", base / "b", batch=(1, 2, 4), task_options={"scores": "sigmoid"}),
            make_portable_bundle(base / "portable", base / "c"),
        ]
        return tuple((bundle.path / "manifest.json").read_text() for bundle in made)


def test_manifests_of_builds_fit() -> None:
    for text in list_manifests():
        VALIDATOR.validate(json.loads(text))


@pytest.mark.parametrize("target", list_targets(), ids=lambda target: target.name)
def test_manifests_for_every_target_fit(target: Any) -> None:
    VALIDATOR.validate(json.loads(dump_manifest(make_manifest(target=target))))


def _is_read(data: dict[str, Any]) -> bool:
    try:
        parse_manifest(dump(data), Path("bundle"))
    except BundleError:
        return False
    return True


@given(st.data())
def test_what_the_schema_refuses_the_reader_refuses(drawn: st.DataObject) -> None:
    mutated = drawn.draw(mutate(json.loads(drawn.draw(st.sampled_from(list_manifests())))))
    data = json.loads(dump(mutated))  # with the digest that fits
    if not VALIDATOR.is_valid(data):
        assert not _is_read(data)


def test_most_attacks_on_the_manifest_are_seen_by_the_schema_and_none_is_read(tmp_path: Path) -> None:
    """It has no words for the rest: names that lead up, settings, hashes that lie, fields that disagree."""
    seen = set()
    for name, change in MANIFESTS.items():
        data = json.loads(list_manifests()[0])
        change(data)
        if not VALIDATOR.is_valid(data):
            seen.add(name)
            (tmp_path / "manifest.json").write_bytes(dump(data))
            with pytest.raises(BundleError):
                load_manifest(tmp_path)
    assert {
        "type-of-classes",
        "size-is-negative",
        "image-overflows-32-bits",
        "schema-is-newer",
        "name-is-absolute",
    } <= seen
    assert len(seen) > len(MANIFESTS) // 2
