"""Fresh processes: what they print, and what is said when they fail."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from edgevit.core.errors import DeviceError
from edgevit.measure.cold_start import measure_cold_start, read_peak_memory
from tests.support.tiny_bundle import make_bundle
from tests.support.tiny_engine import compile_tiny_engine

FIGURES = {"import_ms": 1.0, "load_ms": 2.0, "first_inference_ms": 3.0, "peak_memory_bytes": 4}


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_cold_start_of_a_real_engine_gives_every_figure(tmp_path: Path, backend: str) -> None:
    engine = compile_tiny_engine(tmp_path, backend)
    found = measure_cold_start(engine.directory, processes=2)
    assert min(found.import_ms, found.load_ms, found.first_inference_ms) > 0
    assert found.processes == 2
    # The interpreter, numpy and an engine library take 30 MB at least; torch alone would add 200.
    assert found.peak_memory_bytes is not None
    assert 30e6 < found.peak_memory_bytes < 400e6


def test_cold_start_of_a_bundle_opens_it_as_an_app_would(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle", tmp_path / "work")
    assert measure_cold_start(bundle.path, processes=1).first_inference_ms > 0
    (bundle.path / bundle.engine.files[0]).write_bytes(b"damaged")
    with pytest.raises(DeviceError, match=r"exited with 2[\s\S]*not as built"):
        measure_cold_start(bundle.path, processes=1)


def test_cold_start_is_not_disturbed_by_modules_in_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = compile_tiny_engine(tmp_path / "engine", "onnxruntime")
    (tmp_path / "numpy.py").write_text("raise SystemExit('the wrong numpy')")
    monkeypatch.chdir(tmp_path)
    assert measure_cold_start("engine", processes=1).load_ms > 0
    assert engine.directory == tmp_path / "engine"


@pytest.mark.parametrize("path", [None, "", "/nowhere:"])
def test_cold_start_runs_nothing_of_what_lies_in_the_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str | None
) -> None:
    bundle = make_bundle(tmp_path / "bundle", tmp_path / "work")
    for name in ("numpy.py", "onnxruntime.py", "json.py", "sitecustomize.py", "edgevit/__init__.py"):
        (bundle.path / name).parent.mkdir(exist_ok=True)
        (bundle.path / name).write_text(f"open({str(tmp_path / 'owned')!r}, 'w')\n")
    if path is not None:
        monkeypatch.setenv("PYTHONPATH", path)
    assert measure_cold_start(bundle.path, processes=1).load_ms > 0
    assert not (tmp_path / "owned").exists()


def test_cold_start_imports_the_device_runtime_alone(tmp_path: Path) -> None:
    engine = compile_tiny_engine(tmp_path, "onnxruntime")
    program = "\n".join(
        [
            "import sys",
            "from edgevit.measure.cold_start import main",
            f"main([{str(engine.directory)!r}])",
            "sys.exit(str({'torch', 'onnx', 'openvino', 'click', 'rich', 'scipy'} & set(sys.modules) or ''))",
        ]
    )
    child = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert child.stderr.strip() == ""
    assert json.loads(child.stdout.splitlines()[-1]).keys() == FIGURES.keys()


def test_cold_start_without_an_engine_passes_on_what_the_process_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DeviceError, match=r"exited with 2[\s\S]*engine\.json"):
        measure_cold_start(tmp_path)
    with pytest.raises(DeviceError, match=r"nowhere[\s\S]*exited with 2[\s\S]*engine\.json"):
        measure_cold_start(tmp_path / "nowhere")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(DeviceError, match="cannot start a process"):
        measure_cold_start(tmp_path)


def test_cold_start_of_a_damaged_engine_passes_on_what_the_process_said(tmp_path: Path) -> None:
    engine = compile_tiny_engine(tmp_path, "onnxruntime")
    engine.path.write_bytes(b"damaged")
    with pytest.raises(DeviceError, match=r"could not run[\s\S]*exited with"):
        measure_cold_start(tmp_path)


class FakeProcess:
    """Stands in for ``subprocess.run``."""

    def __init__(self, *results: tuple[int, str, str]) -> None:
        self.results = list(results)

    def __call__(self, command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        code, stdout, stderr = self.results.pop(0)
        return subprocess.CompletedProcess(command, code, stdout, stderr)


def test_cold_start_is_the_median_of_times_and_the_maximum_of_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [{**FIGURES, "load_ms": t, "peak_memory_bytes": m} for t, m in ((9.0, 10), (1.0, 30), (2.0, 20))]
    outputs = [(0, f"a library's banner\n{json.dumps(r)}\nand its goodbye\n", "") for r in runs]
    monkeypatch.setattr(subprocess, "run", FakeProcess(*outputs))
    found = measure_cold_start(tmp_path, processes=3)
    assert (found.load_ms, found.peak_memory_bytes, found.processes) == (2.0, 30, 3)


@pytest.mark.parametrize(
    ("result", "words"),
    [
        ((-9, "", ""), "ended by signal 9"),
        ((1, "", "\n".join(f"line {i}" for i in range(40))), "line 39"),
        ((0, "no figures", ""), "no figures"),
        ((0, "", ""), "it said nothing"),
    ],
)
def test_cold_start_says_how_a_process_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, result: tuple[int, str, str], words: str
) -> None:
    monkeypatch.setattr(subprocess, "run", FakeProcess(result))
    with pytest.raises(DeviceError, match=words) as caught:
        measure_cold_start(tmp_path)
    assert "line 3\n" not in caught.value.message


def test_cold_start_that_takes_too_long_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match=r"within 0\.001 s"):
        measure_cold_start(tmp_path, timeout_seconds=0.001)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux")
def test_peak_memory_of_a_process_is_its_own_and_not_its_parents() -> None:
    child = "from edgevit.measure.cold_start import read_peak_memory; print(read_peak_memory())"
    ballast = bytearray(300 << 20)
    ballast[:: 1 << 12] = b"x" * len(ballast[:: 1 << 12])
    assert (read_peak_memory() or 0) > 300 << 20
    output = subprocess.run([sys.executable, "-c", child], capture_output=True, text=True, check=True).stdout
    assert 1 << 20 < int(output) < 200 << 20
    del ballast


def test_peak_memory_falls_back_to_what_the_process_used_where_there_is_no_status(tmp_path: Path) -> None:
    assert (read_peak_memory(tmp_path / "nowhere") or 0) > 1 << 20
