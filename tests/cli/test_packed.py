"""``edgevit pack``, ``unpack``, ``verify``, ``sign`` and ``keygen``; and a packed bundle for every other command."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from edgevit.build import finish
from edgevit.build.inspect import inspect_source
from edgevit.core.errors import OutputError
from edgevit.runtime.pack_file import pack_file
from tests.support.tiny_bundle import make_bundle, make_portable_bundle


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    return make_bundle(folder / "bundle", folder / "work", canary=True).path


@pytest.fixture
def bundle(tiny, tmp_path) -> Path:
    return shutil.copytree(tiny, tmp_path / "bundle")


@pytest.fixture(scope="module")
def packed(line, tmp_path_factory) -> Path:
    return pack_file(line.bundle, tmp_path_factory.mktemp("packed") / "vit.edgevit")


def read_json(result):
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_pack_and_unpack_say_what_they_wrote(bundle, run, tmp_path):
    result = run("pack", bundle)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(f"packed: {tmp_path / 'bundle.edgevit'} (")
    made = read_json(run("pack", bundle, "--out", tmp_path / "other.edgevit", "--json"))
    assert made["size_bytes"] == (tmp_path / "other.edgevit").stat().st_size
    made = read_json(run("unpack", tmp_path / "other.edgevit", "--out", tmp_path / "back", "--json"))
    assert made["bundle"] == str(tmp_path / "back")
    names = {file.name for file in bundle.iterdir()}
    assert {file.name for file in (tmp_path / "back").iterdir()} == names == {*made["files"], "manifest.json"}


def test_keys_sign_and_verify(bundle, run, tmp_path):
    keys = read_json(run("keygen", tmp_path / "vendor", "--json"))
    assert keys == {key: str(tmp_path / f"vendor.{key.partition('_')[0]}.pem") for key in keys}
    unsigned = run("verify", bundle, "--public-key", keys["public_key"], "--json")
    assert unsigned.exit_code == 2
    assert json.loads(unsigned.stdout)["code"] == "signature"
    assert read_json(run("verify", bundle, "--json"))["signature"] == "none"
    signed = read_json(run("sign", bundle, "--key", keys["private_key"], "--json"))
    found = read_json(run("verify", bundle, "--public-key", keys["public_key"], "--json"))
    assert (found["signature"], found["signed_by"]) == ("valid", signed["public_key"])
    assert (found["files"], found["packed"], found["schema_version"]) == (4, False, 1)
    shown = run("verify", bundle)
    assert "not checked; it names the key" in shown.stdout
    assert "tells nothing until" in shown.stderr
    again = run("keygen", tmp_path / "vendor")
    assert again.exit_code == 2
    assert "would be written over" in again.stderr


def test_verify_names_every_fault_and_has_status_2(bundle, run):
    (bundle / "report.json").write_bytes(b"[]\n")
    (bundle / "stray.txt").write_bytes(b"?")
    result = run("verify", bundle, "--json")
    assert result.exit_code == 2
    said = json.loads(result.stdout)
    assert said["code"] == "damaged"
    assert "report.json: SHA-256" in said["error"]
    assert "stray.txt: not in the manifest" in said["error"]


def test_every_command_takes_a_packed_bundle(line, packed, run, tmp_path):
    image = sorted(line.validation.glob("*/*.png"))[0]
    answers = [read_json(run("run", path, image, "--json"))[0]["predictions"] for path in (line.bundle, packed)]
    assert answers[0] == answers[1]
    accuracies = [read_json(run("eval", p, "--data", line.validation, "--json"))["top1"] for p in (line.bundle, packed)]
    assert accuracies[0] == accuracies[1]
    assert read_json(run("inspect", packed, "--json"))["manifest"]["name"] == inspect_source(line.bundle).manifest.name
    assert read_json(run("check", packed, "--json"))["passed"] is True
    arguments = ("--runs", "2", "--seconds", "0.05", "--cold-start", "--json")
    timed = read_json(run("bench", packed, line.bundle, *arguments))["bundles"]
    assert [row["bundle"] for row in timed] == [str(packed), str(line.bundle)]
    assert all(row["cold_start"]["load_ms"] > 0 for row in timed)
    page = read_json(run("report", packed, "--out", tmp_path / "page.html", "--json"))
    assert page["page"] == str(tmp_path / "page.html")
    assert read_json(run("verify", packed, "--json"))["packed"] is True


def test_finish_of_a_packed_bundle_unpacks_it_and_asks_where_to(tmp_path, monkeypatch):
    packed = pack_file(make_portable_bundle(tmp_path / "portable", tmp_path / "work").path)
    with pytest.raises(OutputError, match="is a packed bundle"):
        finish.finish_bundle(packed)
    seen = []

    def note(path, out, progress, cache):
        seen.append((sorted(file.name for file in path.iterdir()), out))

    monkeypatch.setattr(finish, "_finish", note)
    finish.finish_bundle(packed, out=tmp_path / "finished")
    names = ["manifest.json", "model.onnx", "recipe.toml", "report.json"]
    assert seen == [(names, tmp_path / "finished")]
