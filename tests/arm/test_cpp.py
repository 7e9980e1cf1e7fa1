"""libedgevit cross-compiled for aarch64 with both engine libraries, emulated: it answers as Python does."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from edgevit.cli.app.write import write_app
from edgevit.pixels.decode import decode_image
from edgevit.runtime import open_bundle
from edgevit.runtime.manifest import dump_manifest, load_manifest
from tests.arm.emulator import Answers, answer_here, answer_on_arm, compare, emulate_arm, run_to_end
from tests.support.attack_list import write_attack_list
from tests.support.cpp_apps import configure_app, read_answers
from tests.support.cpp_build import FOR_ARM, SOURCES, build_cpp, run_tool
from tests.support.cpp_engine import find_headers
from tests.support.photos import make_photo
from tests.support.tiny_bundle import make_bundle

pytestmark = pytest.mark.arm

ARM = ["cortex-a53", "cortex-a76", "max"]
LEAST_DB = {"fp32": 90.0, "int8": 30.0}
PHOTOS = [(40, 70), (300, 41), (375, 500), (1, 9), (224, 224)]
IN_PYTHON = 15
"""Images, the photos among them, that Python is asked on Arm too."""


@pytest.fixture(scope="session")
def onnxruntime(root: Path) -> tuple[str, Path]:
    """The folder of ONNX Runtime's headers, and its library of aarch64."""
    headers = find_headers()
    if headers is None:
        pytest.skip("ONNX Runtime's headers are absent: python -m scripts.get_onnxruntime_headers")
    (library,) = (root / "wheels/onnxruntime/capi").glob("libonnxruntime.so.*")
    return headers, library


@pytest.fixture(scope="session")
def programs(root: Path, onnxruntime: tuple[str, Path]) -> Path:
    """The library's own programs, for aarch64."""
    libraries = {
        "EDGEVIT_ONNXRUNTIME": "ON",
        "ONNXRUNTIME_INCLUDE_DIR": onnxruntime[0],
        "ONNXRUNTIME_LIBRARY": str(onnxruntime[1]),
        "EDGEVIT_OPENVINO": "ON",
        "OpenVINO_DIR": str(root / "wheels/openvino/cmake"),
    }
    options = {**FOR_ARM, "CMAKE_SYSROOT": str(root), **libraries}
    return build_cpp(["edgevit", "edgevit_answers", "edgevit_everything"], options) / "src" / "api"


@pytest.fixture(scope="session")
def images(digits: tuple[Path, list[Path]], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Photos of several sizes, then the held-out digits."""
    folder = tmp_path_factory.mktemp("photos")
    for number, (height, width) in enumerate(PHOTOS):
        make_photo(height, width, seed=number).save(folder / f"{number}.png")
    return [*sorted(folder.iterdir()), *digits[1]]


def run_in_cpp(command: Sequence[str | Path], folder: Path) -> subprocess.CompletedProcess[str]:
    """A program that knows of no canary's pass."""
    return run_to_end(command, {**os.environ, "EDGEVIT_CACHE": str(folder / "cache")})


def answer_in_cpp(command: Sequence[str], bundle: Path, images: Sequence[Path], folder: Path) -> tuple[Answers, str]:
    """What ``edgevit_answers`` makes of the images, and how its canary was answered."""
    lines = []
    for number, image in enumerate(images):
        picture = decode_image(image)
        np.asarray(picture).tofile(folder / f"{number}.raw")
        lines.append(f"{picture.width} {picture.height} RGB {folder / f'{number}.raw'}\n")
    (folder / "list").write_text("".join(lines))
    done = run_in_cpp([*command, bundle, folder / "list", folder / "out", "threads=1"], folder)
    assert done.returncode == 0, done.stderr
    machine, _, canary = done.stdout.strip().split(", ")
    manifest = load_manifest(bundle)
    height, width = manifest.preprocess.height, manifest.preprocess.width
    each = np.fromfile(folder / "out", np.uint8).reshape(len(images), -1)
    prepared, numbers = np.split(each, [height * width * 3], axis=1)
    pixels = prepared.reshape(-1, height, width, 3)
    return Answers(pixels, np.ascontiguousarray(numbers).view(np.float32), machine), canary


def assert_answers(
    root: Path, cpu: str, program: Path, bundle: Path, images: Sequence[Path], folder: Path, least_db: float, what: str
) -> None:
    """Of C++ on Arm: bit for bit those of Python there, and alike to Python's here."""
    found, canary = answer_in_cpp([*emulate_arm(root, cpu), str(program)], bundle, images, folder)
    here, there = answer_here(bundle, images), answer_on_arm(root, cpu, bundle, images[:IN_PYTHON])
    same, sqnr_db = compare(here, found)
    print(f"{what}, C++, emulated {cpu}: same top-1 on {same} of {len(images)}, {sqnr_db:.1f} dB")
    assert (found.machine, canary) == ("aarch64", "canary passed")
    np.testing.assert_array_equal(found.pixels, here.pixels)
    np.testing.assert_array_equal(found.logits[:IN_PYTHON], there.logits)
    assert same == len(images)
    assert sqnr_db >= least_db


@pytest.mark.parametrize("cpu", ARM)
@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("model", ["vit", "swin"])
def test_demo_is_answered_with_onnx_runtime_as_by_python(
    root: Path,
    programs: Path,
    images: list[Path],
    demo_bundles: Callable[..., Path],
    tmp_path: Path,
    model: str,
    precision: str,
    cpu: str,
) -> None:
    bundle, program = demo_bundles(model, precision), programs / "edgevit_answers"
    what = f"demo {model} {precision}, ONNX Runtime"
    assert_answers(root, cpu, program, bundle, images, tmp_path, LEAST_DB[precision], what)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("model", ["vit", "swin"])
def test_demo_is_answered_with_openvino_as_by_python(
    root: Path,
    programs: Path,
    images: list[Path],
    demo_bundles: Callable[..., Path],
    tmp_path: Path,
    model: str,
    precision: str,
) -> None:
    bundle, program = demo_bundles(model, precision, "openvino"), programs / "edgevit_answers"
    what = f"demo {model} {precision}, OpenVINO"
    assert_answers(root, "cortex-a76", program, bundle, images, tmp_path, LEAST_DB[precision], what)


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("cpu", ("canary: ", "299.0 dB is the least")),
        ("intel-cpu", ("device: ", "(x86_64); this machine has aarch64")),
    ],
)
def test_bundle_that_does_not_suit_this_machine_is_refused(
    root: Path, programs: Path, tmp_path: Path, target: str, said: tuple[str, str]
) -> None:
    """Its canary is answered otherwise, as the bundle has it; or it is for another processor, which comes first."""
    bundle = make_bundle(tmp_path / "bundle", tmp_path / "work", target=target, canary=True).path
    manifest = load_manifest(bundle)
    assert manifest.canary is not None
    canary = dataclasses.replace(manifest.canary, least_db=299.0, sqnr_db=300.0)
    (bundle / "manifest.json").write_bytes(dump_manifest(dataclasses.replace(manifest, canary=canary)))
    command = [*emulate_arm(root, "cortex-a76"), str(programs / "edgevit_answers")]
    done = run_in_cpp([*command, bundle, os.devnull, tmp_path / "out"], tmp_path)
    assert done.returncode == 2
    (told,) = [line for line in done.stderr.splitlines() if line.startswith(said[0])]
    assert said[1] in told


def test_everything_at_once_and_hostile_bundles_are_answered_as_on_x86(
    root: Path, programs: Path, tmp_path: Path
) -> None:
    bundle = make_bundle(tmp_path / "bundle", tmp_path / "work", canary=True).path
    (tmp_path / "attacks").mkdir()
    attacks = write_attack_list(tmp_path / "attacks", elsewhere=True)
    command = [*emulate_arm(root, "cortex-a76"), str(programs / "edgevit_everything")]
    done = run_in_cpp([*command, bundle, "1", attacks], tmp_path)
    assert (done.returncode, done.stdout.splitlines()) == (0, ["0 faults"]), done.stderr


@pytest.mark.parametrize(
    ("option", "missing"), [("EDGEVIT_ONNXRUNTIME", "Could NOT find ONNX Runtime"), ("EDGEVIT_OPENVINO", '"OpenVINO"')]
)
def test_this_machines_own_packages_are_not_taken(
    root: Path, onnxruntime: tuple[str, Path], tmp_path: Path, option: str, missing: str
) -> None:
    """They are of its architecture, and would only be found out when they are linked."""
    for tool in ("cmake", "aarch64-linux-gnu-g++"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is absent")
    variables = {**FOR_ARM, "CMAKE_SYSROOT": str(root), option: "ON", "ONNXRUNTIME_INCLUDE_DIR": onnxruntime[0]}
    variables["Python3_EXECUTABLE"] = sys.executable
    given = [f"-D{name}={value}" for name, value in variables.items()]
    done = run_to_end(["cmake", "-S", SOURCES, "-B", tmp_path / "build", *given], os.environ)
    assert done.returncode != 0
    assert missing in done.stderr


def test_app_is_compiled_for_arm_and_answers_as_python_here(
    root: Path,
    onnxruntime: tuple[str, Path],
    digits: tuple[Path, list[Path]],
    demo_bundles: Callable[..., Path],
    tmp_path: Path,
) -> None:
    if shutil.which("aarch64-linux-gnu-g++") is None:
        pytest.skip("aarch64-linux-gnu-g++ is absent")
    release = tmp_path / "onnxruntime-linux-aarch64"  # as its releases are unpacked
    (release / "lib").mkdir(parents=True)
    (release / "include").symlink_to(onnxruntime[0])
    (release / "lib/libonnxruntime.so").symlink_to(onnxruntime[1])
    bundle, asked = demo_bundles("vit", "fp32"), digits[1][:4]
    app = write_app(tmp_path / "app", bundle, "cpp", camera=False)
    toolchain = app.folder / "edgevit/cmake" / Path(FOR_ARM["CMAKE_TOOLCHAIN_FILE"]).name
    variables = {"CMAKE_TOOLCHAIN_FILE": toolchain, "CMAKE_SYSROOT": root, "ONNXRUNTIME_ROOT": release}
    configure_app(app.folder, {name: str(value) for name, value in variables.items()})
    run_tool(["cmake", "--build", str(app.folder / "build")])
    command = [*emulate_arm(root, "cortex-a76"), str(app.folder / "build/app"), str(app.folder / app.bundle)]
    done = run_in_cpp([*command, *asked], tmp_path)
    assert done.returncode == 0, done.stderr
    with open_bundle(bundle) as python:
        expected = [[(found.index, found.label) for found in python.classify(image)] for image in asked]
    answers = [answer.classes for answer in read_answers(done.stdout)]
    assert [[(index, label) for index, *_, label in classes] for classes in answers] == expected
