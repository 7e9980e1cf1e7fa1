from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Literal

import pytest

from edgevit.core import schema
from edgevit.core.errors import TargetError
from edgevit.core.packages import find_shipped
from edgevit.core.target import Budget, ExportForm, Target, list_targets, load_target

ROOT = Path(__file__).resolve().parents[2]

NAMES = (
    "amd-ryzen-embedded",
    "cpu",
    "intel-core-gen8",
    "intel-core-ultra",
    "intel-cpu",
    "intel-igpu",
    "intel-n100",
    "intel-npu",
    "intel-xeon-amx",
    "intel-xeon-vnni",
    "jetson-agx-orin",
    "jetson-jetpack-6.0",
    "jetson-orin-nano",
    "jetson-orin-nx",
    "jetson-thor",
    "nvidia-gpu",
    "raspberry-pi-5",
    "rtx-30",
    "rtx-40",
    "rtx-50",
)

OWN = """
title = "My board"
backend = "onnxruntime"
device = "CPU"
build_on = "host"
precisions = ["fp32", "int8"]
"""


def _own(tmp_path: Path, text: str = OWN) -> Path:
    path = tmp_path / "my-board.toml"
    path.write_text(text)
    return path


def test_all_profiles_are_listed_by_name() -> None:
    assert tuple(target.name for target in list_targets()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_profile_loads_by_its_name(name: str) -> None:
    target = load_target(name)
    assert target.name == name
    assert target.title
    assert target.opset == (17 if name == "jetson-jetpack-6.0" else 20)  # TensorRT 8.6 parses no later one
    # One kernel lays out queries, keys and values of a packed Linear in TensorRT, where three do of separate ones.
    qkv: Literal["packed", "separate"] = "packed" if target.backend.startswith("tensorrt") else "separate"
    # OpenVINO's int8 kernels for x86 are slow where the number of tokens is a prime.
    assert target.export == ExportForm(
        qkv=qkv, fold_token_padding=(target.backend, target.device) == ("openvino", "CPU")
    )


def test_alias_gives_the_profile() -> None:
    assert load_target("jetson") == load_target("jetson-orin-nano")


def test_names_and_aliases_are_unique() -> None:
    names = [name for target in list_targets() for name in (target.name, *target.aliases)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("path", sorted((ROOT / "targets").glob("*.toml")), ids=lambda path: path.stem)
def test_every_fact_of_a_profile_has_its_source_in_the_comment_above(path: Path) -> None:
    lines = path.read_text().splitlines()
    for number, line in enumerate(lines):
        if line.split(" ")[0] in ("precisions", "memory_bytes", "compute_capability", "runtime_version"):
            assert lines[number - 1].startswith("# "), f"{path.name}: {line}"


def test_nvidia_facts_agree_with_each_other() -> None:
    for target in list_targets():
        if target.compute_capability is not None:
            major, minor = (int(part) for part in target.compute_capability.split("."))
            assert ("fp8" in target.precisions) == ((major, minor) >= (8, 9)), target.name


def test_readme_names_every_key_and_every_profile() -> None:
    readme = (ROOT / "targets" / "README.md").read_text()
    for kind in (Target, ExportForm):
        for field in dataclasses.fields(kind):
            assert field.name == "name" or f"`{field.name}`" in readme, field.name
    for name in NAMES:
        assert f"`{name}`" in readme, name


def test_unknown_name_gets_close_matches_and_the_valid_names() -> None:
    with pytest.raises(TargetError, match="'jetson-orin-nan'") as caught:
        load_target("jetson-orin-nan")
    assert caught.value.hint.startswith("did you mean jetson-orin-nano")
    assert all(name in caught.value.hint for name in NAMES)


@pytest.mark.parametrize("name", ["", "zzzz", "Intel-CPU", "a\0b", ".", "cpu "])
def test_odd_name_is_an_unknown_target(name: str) -> None:
    with pytest.raises(TargetError, match="unknown target"):
        load_target(name)


def test_own_file_works_by_relative_absolute_and_path_object(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _own(tmp_path)
    monkeypatch.chdir(tmp_path)
    for given in (path, str(path), "./my-board.toml", "my-board.toml"):
        target = load_target(given)
        assert (target.name, target.title, target.precisions) == ("my-board", "My board", ("fp32", "int8"))


def test_own_file_may_set_export_form_and_settings(tmp_path: Path) -> None:
    text = OWN + '[export]\nqkv = "packed"\nfold_last_block = false\n[settings]\nhint = "throughput"\nthreads = 3\n'
    target = load_target(_own(tmp_path, text))
    assert target.export == ExportForm(qkv="packed", fold_last_block=False)
    assert target.settings == {"hint": "throughput", "threads": 3}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("precision = ['fp32']", "did you mean precisions?"),
        ("memory_byte = 1", "did you mean memory_bytes?"),
        ("export.fold_attention_scales = true", "did you mean export.fold_attention_scale?"),
        ("opset = 9", "opset = 9 is not between"),
        ("opset = '20'", "opset = '20' is not a whole number"),
        ("memory_bytes = 0", "memory_bytes = 0"),
        ("compute_capability = '87'", "compute_capability = '87'"),
        ("runtime_version = 'ten'", "runtime_version = 'ten'"),
        ("architecture = 'arm'", "architecture = 'arm' is not one of"),
        ("settings.threads = [1]", "settings.threads"),
        ("name = 'other'", "has a key name"),
    ],
)
def test_wrong_key_or_value_is_refused_naming_it(tmp_path: Path, line: str, words: str) -> None:
    with pytest.raises(TargetError) as caught:
        load_target(_own(tmp_path, OWN + line + "\n"))
    assert words in caught.value.message
    assert "my-board.toml" in caught.value.message


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"onnxruntime"', '"onnxruntim"', "is not one of"),
        ('["fp32", "int8"]', '["fp23"]', "'fp23' is not one of 'fp32'"),
        ('["fp32", "int8"]', "[]", "precisions is empty"),
        ('title = "My board"', "", "missing key title"),
        ('"host"', '"cloud"', "'cloud' is not one of 'host', 'device'"),
    ],
)
def test_wrong_or_missing_value_is_refused_naming_it(tmp_path: Path, old: str, new: str, words: str) -> None:
    with pytest.raises(TargetError) as caught:
        load_target(_own(tmp_path, OWN.replace(old, new)))
    assert words in caught.value.message


def test_all_problems_of_a_file_are_listed(tmp_path: Path) -> None:
    with pytest.raises(TargetError) as caught:
        load_target(_own(tmp_path, OWN.replace('"host"', '"cloud"') + "precison = 1\nopset = true\n"))
    for words in ("cloud", "precison", "opset"):
        assert words in caught.value.message


def test_wrong_types_and_values_out_of_range_of_a_file_are_listed_together(tmp_path: Path) -> None:
    text = OWN.replace('"host"', '"cloud"').replace('["fp32", "int8"]', '["fp23"]')
    lines = 'opset = 9\nmemory_bytes = "much"\ncompute_capability = "seven"\npreference = ["int8"]\n'
    with pytest.raises(TargetError) as caught:
        load_target(_own(tmp_path, text + lines))
    assert [line.strip() for line in caught.value.message.splitlines()[1:]] == [
        "build_on = 'cloud' is not one of 'host', 'device'",
        "precisions[0] = 'fp23' is not one of 'fp32', 'fp16', 'bf16', 'int8', 'fp8'",
        "memory_bytes = 'much' is not a whole number",
        "opset = 9 is not between 17 (LayerNormalization) and 24",
        "compute_capability = 'seven' is not of the form 8.7",
    ]


@pytest.mark.parametrize("content", [b"title = ", b"\xff\xfe", b"= = ="])
def test_file_that_is_not_toml_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.toml").write_bytes(content)
    with pytest.raises(TargetError, match=r"x\.toml"):
        load_target(tmp_path / "x.toml")


def test_missing_file_is_refused_naming_it(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match=r"gone\.toml cannot be read"):
        load_target(tmp_path / "gone.toml")


@pytest.mark.parametrize("name", NAMES)
def test_profile_survives_json(name: str) -> None:
    target = load_target(name)
    data = json.loads(json.dumps(schema.to_data(target)))
    assert schema.from_data(Target, data, "x", TargetError) == target


def test_budget_has_the_documented_defaults() -> None:
    assert Budget() == Budget(max_drop_points=0.5, min_agreement=0.99, max_latency_ms=None)


def test_checkout_reads_the_folder_beside_the_package() -> None:
    assert find_shipped("targets") == ROOT / "targets"


def test_wheel_ships_the_profiles_and_finds_them(tmp_path: Path) -> None:
    pytest.importorskip("hatchling")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        archive.extractall(tmp_path / "site")
    for name in NAMES:
        assert f"edgevit/_data/targets/{name}.toml" in names
    assert "edgevit/_data/targets/README.md" in names
    code = (
        "import edgevit.core.target as t\n"
        "print(t.find_shipped('targets'))\nprint(*[x.name for x in t.list_targets()])\n"
        "print(t.load_target('jetson').name)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
        check=True,
        capture_output=True,
        text=True,
    )
    directory, listed, alias = done.stdout.splitlines()
    assert Path(directory) == tmp_path / "site" / "edgevit" / "_data" / "targets"
    assert tuple(listed.split()) == NAMES
    assert alias == "jetson-orin-nano"
