from __future__ import annotations

import importlib.metadata
import json
import platform

from edgevit.build.doctor import REQUIREMENTS, diagnose_machine, find_version
from edgevit.core.errors import DeviceError
from edgevit.core.packages import install_line
from edgevit.core.target import list_targets, load_target
from edgevit.engines.availability import target_status


def test_targets_lists_every_profile_once_within_80_columns(run):
    result = run("targets")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    for target in list_targets():
        assert sum(line.startswith(f"{target.name} ") for line in lines) == 1
    assert "jetson is another name for jetson-orin-nano" in lines
    assert max(map(len, lines)) <= 80


def test_targets_document_says_what_is_possible_here(run):
    found = {t["name"]: t for t in json.loads(run("targets", "--json").stdout)}
    assert list(found) == [t.name for t in list_targets()]
    assert found["cpu"]["here"] == {"buildable": True, "runnable": True, "missing": []}
    assert found["jetson-orin-nano"]["here"]["buildable"] is False
    assert found["jetson-orin-nano"]["here"]["missing"]


def test_targets_shows_one_profile_by_its_alias_with_what_is_missing(run):
    result = run("targets", "jetson")
    assert result.exit_code == 0
    assert "jetson-orin-nano" in result.stdout
    assert "8.7" in result.stdout
    assert "missing here" in result.stdout
    assert json.loads(run("targets", "jetson", "--json").stdout)["name"] == "jetson-orin-nano"


def test_doctor_names_packages_targets_and_processor(run):
    result = run("doctor")
    assert result.exit_code == 0
    for requirement in REQUIREMENTS:
        assert requirement.name in result.stdout
    for target in list_targets():
        assert target.name in result.stdout
    document = json.loads(run("doctor", "--json").stdout)
    assert document["can_build"] is True
    assert document["devices"]["onnxruntime"] == ["CPU"]
    assert document["machine"]["cpu"]


def test_doctor_without_packages_gives_the_lines_that_install_them(run, monkeypatch):
    missing = {"torch", "openvino"}
    monkeypatch.setattr(
        "edgevit.build.doctor.find_version", lambda name: None if name in missing else find_version(name)
    )
    diagnosis = diagnose_machine()
    assert not diagnosis.can_build
    assert diagnosis.installs == (install_line("build"), install_line("openvino"))
    text = run("doctor").stdout
    assert install_line("build") in text
    assert "Nothing can be built here" in text


def test_doctor_shows_driver_cuda_and_gpu(run, orin):
    text = run("doctor").stdout
    assert "serves CUDA 12.6" in text
    assert "Orin: compute capability 8.7" in text
    found = json.loads(run("doctor", "--json").stdout)["nvidia"]
    assert (found["driver"], found["gpus"][0]["multiprocessors"]) == ("12.6", 8)
    assert max(map(len, text.splitlines())) <= 80


def test_doctor_says_that_the_cuda_bindings_are_too_new_for_the_driver(run, orin, monkeypatch):
    versions, real = {"cuda-bindings": "13.5.0"}, importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: versions.get(name) or real(name))
    problem = diagnose_machine().nvidia.problem
    assert problem.startswith("cuda-bindings 13.5.0 needs a driver of CUDA 13, and the driver here serves 12.6")
    assert 'pip install "cuda-bindings<13"' in problem
    assert "to do" in run("doctor").stdout
    assert problem in target_status(load_target("nvidia-gpu")).missing
    versions["cuda-bindings"] = "12.9.10"
    assert diagnose_machine().nvidia.problem == ""


def test_doctor_asks_for_tensorrt_where_a_driver_is_alone(run, orin, monkeypatch):
    versions = {"tensorrt": None, "cuda-bindings": None}
    monkeypatch.setattr("edgevit.build.doctor.find_version", lambda name: versions.get(name, find_version(name)))
    assert install_line("tensorrt") in diagnose_machine().installs

    def refuse():
        raise DeviceError("no NVIDIA driver: libcuda.so.1 is not there", "install it")

    monkeypatch.setattr("edgevit.runtime.nvidia._load_driver", refuse)
    diagnosis = diagnose_machine()
    assert install_line("tensorrt") not in diagnosis.installs
    assert diagnosis.nvidia.driver is None
    assert "no NVIDIA driver" in run("doctor").stdout


def test_target_of_the_gpu_here_is_built_and_run(run, orin, monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    here = {t["name"]: t["here"] for t in json.loads(run("targets", "--json").stdout)}
    assert here["jetson-orin-nano"] == here["nvidia-gpu"] == {"buildable": True, "runnable": True, "missing": []}
    assert here["jetson-thor"]["missing"][-1] == "a GPU of compute capability 11.0 (here: Orin, 8.7)"
    assert "Orin (tensorrt)" in run("doctor").stdout
