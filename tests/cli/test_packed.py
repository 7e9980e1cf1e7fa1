"""``edgevit pack``, ``unpack``, ``verify``, ``sign`` and ``keygen``; and a packed bundle for every other command."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import pytest

from edgevit.build import finish
from edgevit.build.inspect import inspect_source
from edgevit.core.errors import BundleError, OutputError
from edgevit.remote import build_on
from edgevit.runtime import open_bundle
from edgevit.runtime.bundle import load_bundle
from edgevit.runtime.pack_file import pack_file
from edgevit.runtime.rebuild import rebuild_command
from edgevit.runtime.sign import make_keys, sign_bundle
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


@pytest.fixture(params=["folder", "packed"])
def opened(line, tmp_path, request) -> Path:
    """A copy of the line's bundle in either form."""
    copy = Path(shutil.copytree(line.bundle, tmp_path / "copy"))
    return copy if request.param == "folder" else pack_file(copy)


def list_openers(line, bundle, key):
    """Every command that opens an engine, asked for a signature."""
    image, asked = sorted(line.validation.glob("*/*.png"))[0], ["--public-key", key, "--json"]
    return [
        ["run", bundle, image, *asked],
        ["bench", bundle, "--runs", "1", "--seconds", "0.01", *asked],
        ["eval", bundle, "--data", line.validation, *asked],
        ["check", bundle, *asked],
    ]


def test_every_command_that_opens_an_engine_takes_a_key(line, opened, run, tmp_path):
    private, public = make_keys(tmp_path / "vendor")
    sign_bundle(opened, private)
    for command in list_openers(line, opened, public):
        read_json(run(*command))
    others = make_keys(tmp_path / "other")[1]
    for command in list_openers(line, opened, others):
        assert json.loads(run(*command).stdout)["code"] == "signature"


def test_unsigned_bundle_is_refused_before_its_manifest_is_read_or_anything_is_sent(line, opened, run, tmp_path):
    if opened.is_dir():
        (opened / "manifest.json").write_bytes(b"{")
    else:
        content = opened.read_bytes()
        opened.write_bytes(content.replace(b'"schema_version"', b'"schema_wersion"', 1))
    public = make_keys(tmp_path / "vendor")[1]
    run_command, bench, evaluate, check = list_openers(line, opened, public)
    on_board = [[*command, "--on", "nobody@localhost"] for command in (bench, evaluate)]
    for command in (run_command, bench, evaluate, check, *on_board):
        result = run(*command)
        assert result.exit_code == 2
        said = json.loads(result.stdout)
        assert said["code"] == "signature", (command, said)
        assert "is not signed" in said["error"]


def test_finish_of_a_packed_bundle_unpacks_it_and_asks_where_to(tmp_path, monkeypatch):
    packed = pack_file(make_portable_bundle(tmp_path / "portable", tmp_path / "work").path)
    with pytest.raises(OutputError, match="is a packed bundle"):
        finish.finish_bundle(packed)
    with pytest.raises(BundleError, match="it has no engine yet") as caught:
        open_bundle(packed)
    assert caught.value.hint == f"run `edgevit finish {packed} --out {packed.with_suffix('')}` on the device"
    seen = []

    def note(path, out, progress, cache):
        seen.append((sorted(file.name for file in path.iterdir()), out))

    monkeypatch.setattr(finish, "_finish", note)
    finish.finish_bundle(packed, out=tmp_path / "finished")
    names = ["manifest.json", "model.onnx", "recipe.toml", "report.json"]
    assert seen == [(names, tmp_path / "finished")]


def test_finished_packed_bundle_is_named_as_given_and_is_not_asked_where_to(bundle, run, tmp_path):
    packed = pack_file(bundle)
    for out in ((), ("--out", tmp_path / "finished")):
        result = run("finish", packed, *out, "--json")
        assert result.exit_code == 2
        said = json.loads(result.stdout)
        assert said["error"].startswith(f"{packed} is finished")
        assert said["hint"] == f"measure it with edgevit bench {packed}"
    with pytest.raises(BundleError, match="is finished") as caught:
        build_on.finish_on("nowhere.invalid", packed)
    assert caught.value.hint == f"measure it with edgevit bench {packed} --on nowhere.invalid"


def test_packed_bundle_is_built_again_as_a_folder(bundle, tmp_path):
    assert rebuild_command(load_bundle(bundle)).endswith(f" --out {bundle}")
    packed = pack_file(bundle, tmp_path / "one.edgevit")
    assert rebuild_command(load_bundle(packed)).endswith(f" --out {tmp_path / 'one'}")
    bare = packed.rename(tmp_path / "two")
    assert rebuild_command(load_bundle(bare)).endswith(f" --out {tmp_path / 'two.folder'}")


def test_what_only_lies_in_a_bundle_is_to_be_deleted(bundle, run):
    packed = pack_file(bundle)
    (bundle / "stray.txt").write_bytes(b"?")
    said = json.loads(run("verify", bundle, "--json").stdout)
    assert said["hint"] == "delete it: everything else is as built"
    (bundle / "more.txt").write_bytes(b"?")
    assert json.loads(run("verify", bundle, "--json").stdout)["hint"].startswith("delete them")
    (bundle / "report.json").unlink()
    assert "delete" not in json.loads(run("verify", bundle, "--json").stdout)["hint"]
    with zipfile.ZipFile(packed, "a") as archive:
        archive.writestr("stray.txt", b"?")
    said = json.loads(run("verify", packed, "--json").stdout)
    assert "stray.txt" in said["error"]
    assert said["hint"].startswith("delete it from the bundle's folder")


def test_pack_says_that_a_file_of_another_name_is_not_written_over(bundle, run, tmp_path):
    (tmp_path / "b.edgevit").write_bytes(pack_file(bundle).read_bytes())
    result = run("pack", bundle, "--out", tmp_path / "b.edgevit")
    assert result.exit_code == 2
    assert "is there already" in result.stderr
    assert "refused" in run("pack", "--help").stdout
