"""What is not Python ships in the wheel too, and is found there."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory) -> Path:
    pytest.importorskip("hatchling", reason="the build backend is not installed")
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    assert wheel.stat().st_size < 5_000_000
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def test_wheel_holds_models_images_targets_recipes_the_page_and_sources_of_apps(unpacked):
    package = unpacked / "edgevit"
    for name in ("digits.npz", "vit_digits/model.safetensors", "swin_digits/config.json", "README.md"):
        assert (package / "cli/demo_models" / name).read_bytes() == (
            ROOT / "edgevit/cli/demo_models" / name
        ).read_bytes()
    for name in ("page.html", "macros.html", "page.css"):
        assert (package / "cli/page" / name).read_bytes() == (ROOT / "edgevit/cli/page" / name).read_bytes()
    sources = ROOT / "edgevit/runtime/cpp"
    tracked = {path.relative_to(sources) for path in sources.rglob("*") if path.is_file()}
    assert {
        path.relative_to(package / "runtime/cpp") for path in (package / "runtime/cpp").rglob("*") if path.is_file()
    } == (tracked)
    texts = [path for path in (ROOT / "edgevit/cli/app").rglob("*.*") if path.is_file() and path.suffix != ".pyc"]
    assert len(texts) > 10
    for path in texts:  # what edgevit new-app copies from
        assert (package / path.relative_to(ROOT / "edgevit")).read_bytes() == path.read_bytes()
    for folder in ("targets", "calibration"):
        shipped = {path.name for path in (package / "_data" / folder).glob("*.toml")}
        assert shipped == {path.name for path in (ROOT / folder).glob("*.toml")}
        assert shipped


def test_installed_package_finds_its_data_beside_itself(unpacked):
    code = (
        "import edgevit, edgevit.core.recipe, edgevit.core.target as t\n"
        "from edgevit.cli.demo_models import load_digits\n"
        "print(edgevit.__file__, t.find_shipped('targets'), len(t.list_targets()), len(load_digits()[0]))\n"
        "edgevit.load_recipe('default')"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=unpacked,
        check=True,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(unpacked)},
    )
    file, targets, count, digits = result.stdout.split()
    assert file.startswith(str(unpacked))
    assert targets.startswith(str(unpacked))
    assert int(count) >= 13
    assert digits == "1797"
