"""The soak and the start of the runtime, on a tiny bundle."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import bench_runtime, bench_soak
from benchmarks.bench_soak import MOST_GROWTH, Soak
from edgevit.runtime import open_bundle
from edgevit.runtime.bundle import Bundle
from tests.support.photos import make_photo
from tests.support.tiny_bundle import make_bundle

pytestmark = pytest.mark.bench


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("bundle")
    return make_bundle(folder / "out", folder / "work", target="intel-cpu")


def test_soak_answers_all_forms_as_one_thread_does(bundle: Bundle, tmp_path: Path) -> None:
    given = bench_soak.give_all(bench_soak.draw_pictures(24), tmp_path)
    assert {type(one.image).__name__ for one in given} >= {"PosixPath", "bytes", "Image", "ndarray"}
    with open_bundle(bundle.path) as predictor:
        found = bench_soak.soak(predictor, given, 80, 4, 8)
    assert (found.images, found.wrong, len(found.resident_bytes)) == (80, 0, bench_soak.STEPS + 1)


def test_soak_counts_another_answer_and_hands_on_an_error(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = bench_soak.give_all(bench_soak.draw_pictures(6), tmp_path)
    answers = iter(range(1000))
    monkeypatch.setattr(bench_soak, "answer", lambda predictor, one: (np.asarray([next(answers)]),))
    with open_bundle(bundle.path) as predictor:
        assert bench_soak.soak(predictor, given, 40, 2, 0).wrong == 40 + 2 * 6
        monkeypatch.undo()
        broken = [*given, bench_soak.Given(b"no image")]
        with pytest.raises(Exception, match="not a JPEG"):
            bench_soak.soak(predictor, broken, 40, 2, 0)


@pytest.mark.parametrize(
    ("wrong", "growth", "passed"), [(0, 0, True), (0, MOST_GROWTH, True), (1, 0, False), (0, MOST_GROWTH + 1, False)]
)
def test_soak_is_judged_from_the_warm_process_on(wrong: int, growth: int, passed: bool) -> None:
    assert Soak(100, wrong, (500, 800, 500 + growth)).passed == passed


def test_another_runtime_gets_raw_pixels_and_is_judged_alike(bundle: Bundle, tmp_path: Path) -> None:
    program = tmp_path / "soak"
    program.write_text(
        f"""#!{sys.executable}
import json, os, sys
bundle, images, threads, count, warm_up = sys.argv[1:]
for line in open(images):
    width, height, form, file = line.split()
    channels = {{"RGB": 3, "BGR": 3, "RGBA": 4, "GREY": 1}}[form]
    assert os.path.getsize(file) == int(width) * int(height) * channels
print("a line of its own")
wrong = int(threads) - 4 + int(warm_up) - 30
print(json.dumps({{"images": int(count), "wrong": wrong, "warm_bytes": 5, "end_bytes": 6}}))
"""
    )
    program.chmod(0o755)
    found = bench_soak.ask_command(str(program), bundle.path, bench_soak.draw_pictures(8), 100, 4, 30)
    assert found == Soak(100, 0, (5, 6))
    assert json.dumps(found.growth_bytes) == "1"


def test_start_and_overhead_are_measured(bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_photo(30, 40).save(tmp_path / "photo.png")
    found = bench_runtime.measure_start(bundle.path, tmp_path / "photo.png", 2, None)
    assert {kind: len(figures) for kind, figures in found.items()} == {"kept": 2, "compiled": 2}
    bench_runtime.show_start(found)
    assert capsys.readouterr().out.count("kept / ") == 4
    added = bench_runtime.measure_overhead(bundle.path, 1)
    assert list(added) == ["bare", "session", "whole"]
    assert added["whole"] > added["session"] > 0
