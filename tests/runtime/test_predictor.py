from __future__ import annotations

import dataclasses
import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgevit.core.errors import BundleError, DataError, DeviceError, MissingPackageError
from edgevit.core.packages import install_line
from edgevit.core.target import load_target
from edgevit.runtime import Prediction, Predictor, open_bundle
from edgevit.runtime import predictor as module
from edgevit.runtime.bundle import Bundle
from tests.support.tiny_bundle import LABELS, make_bundle, make_portable_bundle
from tests.support.tiny_onnx import compute_logits, make_images


@pytest.fixture(scope="module", params=["cpu", "intel-cpu"])
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("bundle")
    return make_bundle(folder / "out", folder / "work", target=request.param)


def _expected(image: np.ndarray) -> list[tuple[int, float]]:
    logits = compute_logits(image[None])[0]
    exponentials = np.exp(logits - logits.max())
    probabilities = exponentials / exponentials.sum()
    return [(int(i), float(probabilities[i])) for i in np.argsort(-probabilities)]


def test_classes_come_best_first_with_their_probability(bundle: Bundle) -> None:
    image = make_images(1)[0]
    with open_bundle(bundle.path) as predictor:
        predictions = predictor.classify(image, top_k=3)
    assert [p.index for p in predictions] == [i for i, _ in _expected(image)[:3]]
    assert [p.label for p in predictions] == [LABELS[i] for i, _ in _expected(image)[:3]]
    assert [p.probability for p in predictions] == pytest.approx([q for _, q in _expected(image)[:3]], rel=1e-4)


def test_path_bytes_picture_and_pixels_give_the_same(bundle: Bundle, tmp_path: Path) -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8))
    picture.save(tmp_path / "photo.png")
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    path = tmp_path / "photo.png"
    forms: list[Any] = [str(path), path, stream.getvalue(), picture, np.asarray(picture)]
    with open_bundle(str(bundle.path)) as predictor:
        answers = [predictor.classify(form) for form in forms]
    assert all(answer == answers[0] for answer in answers)
    assert len(answers[0]) == 5
    assert isinstance(answers[0][0], Prediction)


def test_all_classes_add_up_to_one_and_more_are_not_given(bundle: Bundle) -> None:
    with open_bundle(bundle.path) as predictor:
        predictions = predictor.classify(make_images(1)[0], top_k=1000)
    assert len(predictions) == 10
    assert sum(p.probability for p in predictions) == pytest.approx(1, abs=1e-12)
    assert sorted(p.index for p in predictions) == list(range(10))


def test_run_gives_the_logits_of_the_build(bundle: Bundle) -> None:
    images = make_images(3)
    with open_bundle(bundle.path) as predictor:
        prepared = np.stack([predictor.preprocess.apply(image) for image in images])
        logits = predictor.run(prepared)
    np.testing.assert_array_equal(prepared, images)
    np.testing.assert_allclose(logits, compute_logits(images), rtol=1e-4, atol=1e-4)


def test_labels_are_numbers_where_the_checkpoint_had_none(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "out", tmp_path / "work", labels=None)
    with open_bundle(bundle.path) as predictor:
        (best,) = predictor.classify(make_images(1)[0], top_k=1)
        assert predictor.labels is None
    assert best.label == str(best.index)


@pytest.mark.parametrize("top_k", [0, -1, "3", 2.5, True, None])
def test_asking_for_no_class_is_refused(bundle: Bundle, top_k: int) -> None:
    with open_bundle(bundle.path) as predictor, pytest.raises(DataError, match="top_k"):
        predictor.classify(make_images(1)[0], top_k=top_k)


def test_damaged_image_is_refused(bundle: Bundle) -> None:
    with open_bundle(bundle.path) as predictor, pytest.raises(DataError):
        predictor.classify(b"not an image")


def test_closed_bundle_refuses(bundle: Bundle) -> None:
    predictor = open_bundle(bundle.path)
    predictor.close()
    predictor.close()
    with pytest.raises(DeviceError, match="closed"):
        predictor.classify(make_images(1)[0])


def test_logits_that_are_not_numbers_are_refused(bundle: Bundle) -> None:
    class Broken:
        def run_outputs(self, batch: np.ndarray) -> tuple[np.ndarray, ...]:
            return (np.full((1, 10), np.nan, np.float32),)

    predictor = Predictor(bundle, Broken(), ())  # type: ignore[arg-type]
    with pytest.raises(DeviceError, match="not finite"):
        predictor.classify(make_images(1)[0])


def test_large_logits_do_not_overflow(bundle: Bundle) -> None:
    class Sure:
        def run_outputs(self, batch: np.ndarray) -> tuple[np.ndarray, ...]:
            return (np.array([[3e38, -3e38] + [0.0] * 8], np.float32),)

    predictions = Predictor(bundle, Sure(), ()).classify(make_images(1)[0])  # type: ignore[arg-type]
    assert predictions[0] == Prediction(LABELS[0], 0, 1.0, float(np.float32(3e38)))


def test_settings_override_the_bundles(bundle: Bundle) -> None:
    with open_bundle(bundle.path, settings={"threads": 1}) as predictor:
        assert predictor.settings["threads"] == 1


def test_nothing_differs_where_it_was_built(bundle: Bundle) -> None:
    with open_bundle(bundle.path) as predictor:
        assert predictor.differences == ()
        assert predictor.manifest.figures["top1_percent"] == 85.33


def test_portable_bundle_says_how_to_finish_it(tmp_path: Path) -> None:
    bundle = make_portable_bundle(tmp_path / "out", tmp_path / "work")
    with pytest.raises(BundleError, match="portable bundle for NVIDIA Jetson Orin Nano") as caught:
        open_bundle(bundle.path)
    assert caught.value.hint == f"run `edgevit finish {bundle.path}` on the device"


def test_other_architecture_is_refused_with_both_and_the_command(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    board = load_target("intel-cpu")
    made = make_bundle(tmp_path / "out", tmp_path / "work", target="intel-cpu")
    monkeypatch.setattr(module, "read_architecture", lambda: "riscv64")
    with pytest.raises(BundleError, match=rf"{board.architecture}\); this machine has riscv64") as caught:
        open_bundle(made.path)
    assert f"edgevit build checkpoints/tiny --target intel-cpu --precision fp32 --out {made.path}" in caught.value.hint


def test_older_library_is_refused_with_both_and_the_command(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = bundle.engine.backend
    monkeypatch.setattr(f"edgevit.runtime.{backend}.read_versions", lambda: {backend: "1.0.0"})
    with pytest.raises(BundleError, match=r"1\.0\.0") as caught:
        open_bundle(bundle.path)
    assert "edgevit build" in caught.value.hint


def test_later_library_opens_and_is_told(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = bundle.engine.backend
    monkeypatch.setattr(f"edgevit.runtime.{backend}.read_versions", lambda: {backend: "9999.1"})
    with open_bundle(bundle.path) as predictor:
        assert any("9999.1" in difference for difference in predictor.differences)


def test_absent_library_raises_with_the_install_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made = make_bundle(tmp_path / "out", tmp_path / "work", target="intel-cpu")
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.setattr("edgevit.runtime.openvino.list_devices", lambda: ("CPU",))
    with pytest.raises(MissingPackageError) as caught:
        open_bundle(made.path)
    assert caught.value.hint == install_line("openvino")


def test_damage_is_found_and_hashing_can_be_left_out(tmp_path: Path) -> None:
    made = make_bundle(tmp_path / "out", tmp_path / "work")
    report = made.path / "report.json"
    report.write_bytes(b"[]\n")
    with pytest.raises(BundleError, match=r"report\.json: SHA-256"):
        open_bundle(made.path)
    open_bundle(made.path, verify=False).close()
    report.unlink()
    with pytest.raises(BundleError, match=r"report\.json: missing"):
        open_bundle(made.path, verify=False)


def test_file_that_is_not_listed_is_ignored(tmp_path: Path) -> None:
    made = make_bundle(tmp_path / "out", tmp_path / "work")
    (made.path / ".DS_Store").write_bytes(b"")
    open_bundle(made.path).close()


def test_moved_bundle_opens(tmp_path: Path) -> None:
    made = make_bundle(tmp_path / "out", tmp_path / "work")
    moved = made.path.rename(tmp_path / "a folder with blanks é")
    with open_bundle(moved) as predictor:
        assert len(predictor.classify(make_images(1)[0])) == 5


_BLOCKED = ("torch", "onnx", "onnx_ir", "onnxscript", "click", "rich", "timm", "transformers", "safetensors", "tomli")

_APP = """
import sys
from importlib.abc import MetaPathFinder

class Block(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked!r}:
            raise ImportError(f"{{name}} is blocked")

sys.meta_path.insert(0, Block())
from edgevit.runtime import open_bundle
with open_bundle({bundle!r}) as predictor:
    for prediction in predictor.classify({image!r}, top_k=2):
        print(prediction.index, repr(prediction.probability))
print(*sorted({{name.split(".")[0] for name in sys.modules}} & set({blocked!r})))
"""


def test_an_app_needs_numpy_pillow_and_the_engines_library_alone(bundle: Bundle, tmp_path: Path) -> None:
    image = tmp_path / "photo.png"
    Image.fromarray(make_images(1)[0]).save(image)
    other = {"openvino": "onnxruntime", "onnxruntime": "openvino"}[bundle.engine.backend]
    code = _APP.format(blocked=(*_BLOCKED, other), bundle=str(bundle.path), image=str(image))
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.stderr == ""
    *lines, loaded = done.stdout.splitlines()
    assert loaded == ""
    with open_bundle(bundle.path) as predictor:
        here = predictor.classify(image, top_k=2)
    assert [(int(i), float(p)) for i, p in (line.split() for line in lines)] == [(p.index, p.probability) for p in here]


def test_importing_the_runtime_imports_nothing_heavy() -> None:
    heavy = ("numpy", "PIL", "torch", "onnx", "onnxruntime", "openvino", "click", "rich")
    code = f"import sys, edgevit.runtime; print(*sorted(set(sys.modules) & set({heavy!r})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_manifest_of_another_edgevit_is_refused_before_its_engine_is_looked_at(tmp_path: Path) -> None:
    from edgevit.runtime.manifest import dump_manifest

    made = make_bundle(tmp_path / "out", tmp_path / "work")
    newer = dataclasses.replace(made.manifest, schema_version=2, edgevit_version="7.0.0")
    (made.path / "manifest.json").write_bytes(dump_manifest(newer))
    with pytest.raises(BundleError, match="schema version 2; this edgevit reads 1") as caught:
        open_bundle(made.path)
    assert "7.0.0" in caught.value.hint


@pytest.mark.parametrize("scores", ["sigmoid", "identity"])
def test_outputs_mean_what_the_manifest_says(scores: str, tmp_path: Path) -> None:
    image = make_images(1)[0]
    made = make_bundle(tmp_path / "out", tmp_path / "work", task_options={"name": "classify", "scores": scores})
    logits = compute_logits(image[None])[0].astype(np.float64)
    with open_bundle(made.path) as predictor:
        answers = predictor.classify(image, top_k=10)
    assert [answer.value for answer in answers] == pytest.approx(sorted(logits, reverse=True), rel=1e-4)
    expected = 1 / (1 + np.exp(-np.asarray([answer.value for answer in answers])))
    known = [answer.probability for answer in answers]
    assert known == ([None] * 10 if scores == "identity" else pytest.approx(expected.tolist(), rel=1e-6))
