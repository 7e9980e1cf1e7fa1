"""ONNX files as checkpoints: preprocessing and names from beside them or from options, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from edgevit.build.build import build_model
from edgevit.build.evidence import refuse_assumed
from edgevit.checkpoints import read_checkpoint
from edgevit.checkpoints.preprocess_options import PreprocessOptions
from edgevit.cli import main
from edgevit.cli.inspect import show_pass
from edgevit.cli.output import Output
from edgevit.core.errors import CheckpointError, CompileError, DataError
from edgevit.core.pass_record import PassRecord, Skip
from edgevit.core.recipe import Recipe
from edgevit.core.target import load_target
from edgevit.measure.evaluate import evaluate_bundle
from edgevit.measure.reference import run_module
from edgevit.runtime import open_bundle
from tests.support.foreign_exports import _timm, export, silence
from tests.support.reference import randomise

HALF = (0.5, 0.5, 0.5)
PROCESSOR = {
    "image_processor_type": "ViTImageProcessor", "do_resize": True, "size": {"height": 32, "width": 32}, "resample": 3,
    "do_normalize": True, "image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6],
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copy(export("timm_vit", "script").path, tmp_path / "model.onnx")
    return tmp_path


def test_without_anything_beside_it_preprocessing_is_assumed_and_said(folder: Path) -> None:
    model = read_checkpoint(folder / "model.onnx")
    assert model.assumed == ("mean", "std", "resize", "interpolation")
    assert any(
        "nothing says the preprocessing's mean, std, resize, interpolation;" in note for note in model.source.notes
    )
    refuse_assumed(model, None, None)
    with pytest.raises(DataError, match="mean, std, resize, interpolation") as caught:
        refuse_assumed(model, None, "val.csv")
    assert "--mean --std --resize --interpolation" in caught.value.hint


def test_options_say_what_is_not_stored(folder: Path) -> None:
    options = PreprocessOptions(mean=HALF, std=HALF, crop=0.8, interpolation="bicubic")
    model = read_checkpoint(folder / "model.onnx", preprocess=options)
    assert model.assumed == ()
    assert (model.preprocess.mean, model.preprocess.std, model.preprocess.interpolation) == (HALF, HALF, "bicubic")
    assert (model.preprocess.resize, model.preprocess.resize_height) == ("shortest", 40)
    part = read_checkpoint(folder / "model.onnx", preprocess=PreprocessOptions(mean=HALF, resize=(36, 40)))
    assert part.assumed == ("std", "interpolation")
    assert (part.preprocess.resize, part.preprocess.resize_height, part.preprocess.resize_width) == ("squash", 36, 40)


def test_note_on_what_is_assumed_names_what_options_leave_open(folder: Path) -> None:
    def notes(options: PreprocessOptions) -> list[str]:
        found = read_checkpoint(folder / "model.onnx", preprocess=options).source.notes
        return [note for note in found if "assumed is" in note]

    (part,) = notes(PreprocessOptions(mean=HALF, std=HALF, crop=0.8))
    assert part.startswith("nothing says the preprocessing's interpolation;")
    assert "mean 0.5 0.5 0.5" in part
    assert notes(PreprocessOptions(mean=HALF, std=HALF, crop=0.8, interpolation="bicubic")) == []


def test_bundle_whose_preprocessing_is_assumed_is_not_judged_on_images(folder: Path, tmp_path: Path) -> None:
    recipe = Recipe(precision="fp32", latency_runs=3, latency_seconds=0.01, parity_images=4, tune_settings=False)
    bundle = build_model(folder / "model.onnx", load_target("cpu"), out=tmp_path / "bundle", recipe=recipe).bundle
    assert bundle is not None
    image = tmp_path / "images" / "0" / "grey.png"
    image.parent.mkdir(parents=True)
    Image.new("RGB", (40, 40), "grey").save(image)
    with pytest.raises(DataError, match="mean, std, resize, interpolation") as caught:
        evaluate_bundle(bundle, tmp_path / "images")
    assert "build it again with --mean --std --resize --interpolation" in caught.value.hint
    shown = CliRunner().invoke(main, ["run", str(bundle), str(image)])
    assert shown.exit_code == 0
    assert "warning: nothing said how its images are prepared: mean, std, resize, interpolation" in shown.output


@pytest.mark.parametrize("arguments", [{"resize": 40, "crop": 0.9}, {"crop": 1.5}, {"interpolation": "magic"}])
def test_impossible_options_are_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(DataError):
        PreprocessOptions(**arguments)  # type: ignore[arg-type]


def test_sidecar_of_transformers_gives_preprocessing_and_names(folder: Path) -> None:
    (folder / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    names = {str(i): f"class {i}" for i in range(10)}
    (folder / "config.json").write_text(json.dumps({"model_type": "vit", "id2label": names}))
    model = read_checkpoint(folder)  # the folder itself, as Optimum leaves it
    assert model.assumed == ()
    assert (model.preprocess.mean, model.preprocess.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert model.labels == tuple(names.values())
    assert model.source.architecture == folder.name


def test_sidecar_of_timm_gives_preprocessing(folder: Path) -> None:
    cfg = {"input_size": [3, 32, 32], "mean": HALF, "std": HALF, "crop_pct": 0.9, "interpolation": "bicubic"}
    (folder / "config.json").write_text(json.dumps({"architecture": "vit_tiny_patch16_224", "pretrained_cfg": cfg}))
    model = read_checkpoint(folder / "model.onnx")
    assert model.assumed == ()
    assert (model.preprocess.mean, model.preprocess.resize_height) == (HALF, 35)


def test_reference_is_the_file_itself_in_onnx_runtime(folder: Path) -> None:
    model = read_checkpoint(folder / "model.onnx")
    assert model.answers == folder / "model.onnx"
    for parameter in model.module.parameters():
        parameter.zero_()  # whatever the module answers, the reference stays
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    assert np.abs(run_module(model)(pixels)).max() > 0


def test_file_with_a_config_of_weights_names_its_hash_with_data_and_configs(folder: Path) -> None:
    before = read_checkpoint(folder / "model.onnx").source.sha256
    (folder / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    assert read_checkpoint(folder / "model.onnx").source.sha256 != before


def test_several_files_in_a_folder_are_listed(folder: Path) -> None:
    for name in ("a.onnx", "b.onnx"):
        shutil.copy(folder / "model.onnx", folder / name)
    (folder / "model.onnx").unlink()
    with pytest.raises(CheckpointError, match=r"2 ONNX files"):
        read_checkpoint(folder)


def test_arch_is_refused(folder: Path) -> None:
    with pytest.raises(CheckpointError, match="says its architecture"):
        read_checkpoint(folder / "model.onnx", arch="deit_tiny_patch16_224")


@pytest.fixture(scope="module")
def partial(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ViT whose queries and keys are normalised behind their projection: recognised in part."""
    import torch

    module = randomise(
        _timm("vit_tiny_patch16_224", img_size=32, patch_size=8, embed_dim=48, depth=2, num_heads=3, num_classes=10,
              qk_norm=True)
    )  # fmt: skip
    path = tmp_path_factory.mktemp("partial") / "qk_norm.onnx"
    with silence():
        torch.onnx.export(module, (torch.randn(1, 3, 32, 32),), path, dynamo=False, opset_version=17)
    return path


def test_graph_recognised_in_part_is_built_in_float_with_the_files_answers(partial: Path, tmp_path: Path) -> None:
    target = load_target("cpu")
    recipe = Recipe(precision="fp32", latency_runs=3, latency_seconds=0.01, parity_images=4, tune_settings=False)
    result = build_model(partial, target, out=tmp_path / "bundle", recipe=recipe)
    assert result.bundle is not None
    variant = result.report.variants[0]
    assert variant.parity is not None
    assert variant.parity.agreement == 4
    skipped = {r.name: r.skipped for r in result.report.passes}
    assert len(skipped["fuse_attention"]) == 2
    assert "LayerNormalization" in skipped["recover_module"][0].reason
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    with open_bundle(result.bundle) as predictor:
        actual = predictor.run(pixels)
    expected = run_module(read_checkpoint(partial))(pixels)
    assert np.abs(actual - expected).max() <= 1e-4 * np.abs(expected).max()


def test_int8_of_a_graph_recognised_in_part_is_refused_with_the_reason(partial: Path, tmp_path: Path) -> None:
    recipe = Recipe(precision="int8")
    with pytest.raises(CompileError, match="recognised in part"):
        build_model(partial, load_target("cpu"), out=tmp_path / "bundle", recipe=recipe, calibration="random")
    assert not (tmp_path / "bundle").exists()


def test_inspect_shows_what_was_not_recognised(partial: Path) -> None:
    shown = CliRunner().invoke(main, ["inspect", str(partial)])
    assert shown.exit_code == 0
    assert "recognised in part, 0 of 2 attentions" in " ".join(shown.output.split())
    assert "fuse_attention: 0 places" in shown.output
    assert max(map(len, shown.output.splitlines())) <= 80


def test_inspect_counts_the_places_that_a_pass_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    sites = tuple(
        Skip(f"/layers/layers.{n}/blocks/blocks.0/attention/self/MatMul_1", "it is not one") for n in range(3)
    )
    show_pass(Output(), PassRecord("fuse_attention", "graph", (), sites))
    shown = capsys.readouterr().out
    assert " ".join(shown.split()).startswith("fuse_attention: 0 places left alone: 3 (/layers/layers.0/")
    assert max(map(len, shown.splitlines())) <= 80
