"""KerasHub's models, in files that Keras wrote (scripts/make_keras_fixtures.py)."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgevit.checkpoints import read_checkpoint
from edgevit.core.errors import CheckpointError, MissingPackageError
from edgevit.core.packages import install_line
from edgevit.pixels.preprocess import Preprocess
from tests.support.reference import relative_error

FIXTURES = Path(__file__).parents[1] / "keras"


def stored(name: str) -> Any:
    with np.load(FIXTURES / "answers.npz") as answers:
        return answers[name]


def answer(module: torch.nn.Module) -> torch.Tensor:
    with torch.inference_mode():
        output: torch.Tensor = module(torch.from_numpy(stored("pixels")))
    return output


@pytest.mark.parametrize(
    ("file", "name", "architecture"),
    [
        ("vit", "vit", "ViT of width 16, depth 2, patch 8"),
        ("swin", "swin", "Swin of width 8, depths 2-2"),
        ("deit.keras", "deit", "ViT of width 16, depth 2, patch 8"),
        ("backbone.weights.h5", "backbone", "ViT of width 16, depth 2, patch 8"),
        ("bfloat16", "bfloat16", "ViT of width 16, depth 2, patch 8"),
    ],
)
def test_model_gives_kerashubs_answers(file: str, name: str, architecture: str) -> None:
    model = read_checkpoint(FIXTURES / file)
    assert relative_error(answer(model.module), torch.from_numpy(stored(name))) <= 1e-5
    assert (model.source.layout, model.source.architecture) == ("KerasHub model", architecture)
    assert model.image_size == (32, 32)
    assert len(model.source.sha256) == 64


def test_bare_swin_says_that_its_image_size_is_assumed() -> None:
    path = FIXTURES / "swin.weights.h5"
    model = read_checkpoint(path)
    assert model.image_size == (128, 128)
    assert any("does not say the image size: 128 × 128 is assumed" in note for note in model.source.notes)
    small = read_checkpoint(path, image_size=(32, 32))
    assert relative_error(answer(small.module), torch.from_numpy(stored("swin"))) <= 1e-5


@pytest.mark.parametrize(("name", "levels"), [("vit", 1), ("swin", 1)])
def test_preprocessing_gives_what_the_image_converter_gives(name: str, levels: int) -> None:
    """To the rounding to 8 bits, which the converter leaves out for pictures of floats, and the filter's of torch."""
    preprocess = read_checkpoint(FIXTURES / name).preprocess
    values = preprocess.normalize(preprocess.apply(stored("photo")))
    step = np.max(preprocess.affine()[0])
    assert np.abs(values - stored(f"{name}_photo")).max() <= levels * step


@given(
    size=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    target=st.tuples(st.integers(1, 40), st.integers(1, 40)),
)
@settings(max_examples=60, deadline=None)
def test_resize_without_antialiasing_is_torchs(size: tuple[int, int], target: tuple[int, int]) -> None:
    """torch's interpolation is what Keras' torch backend calls; in double, as its places in float32 are off by 1e-5."""
    pixels = np.random.default_rng(size[0] * 91 + size[1]).integers(0, 256, (*size, 3), np.uint8)
    preprocess = Preprocess(
        height=target[0], width=target[1], resize="squash", resize_height=target[0], resize_width=target[1],
        interpolation="bilinear", mean=(0, 0, 0), std=(1, 1, 1), antialias=False,
    )  # fmt: skip
    theirs = torch.nn.functional.interpolate(
        torch.from_numpy(pixels).permute(2, 0, 1)[None].double(), target, mode="bilinear", align_corners=False
    )[0].permute(1, 2, 0)
    # The last bits of a float decide where a value lies halfway.
    assert np.abs(preprocess.apply(pixels).astype(np.float32) - theirs.numpy()).max() <= 0.5 + 1e-4


@pytest.mark.parametrize(("size", "box"), [((83, 61), (0, 11, 61, 72)), ((61, 83), (11, 0, 72, 61))])
def test_crop_cuts_the_aspect_ratio_out_of_the_centre(size: tuple[int, int], box: tuple[int, int, int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    preprocess = read_checkpoint(FIXTURES / "vit").preprocess
    left, top, right, bottom = box
    np.testing.assert_array_equal(preprocess.apply(pixels), preprocess.apply(pixels[top:bottom, left:right].copy()))


def test_preprocessing_that_is_not_stored_is_said_to_be_assumed() -> None:
    notes = read_checkpoint(FIXTURES / "deit.keras").source.notes
    assert any("KerasHub's is assumed" in note for note in notes)
    assert not any("assumed" in note for note in read_checkpoint(FIXTURES / "vit").source.notes)


def test_optimisers_state_is_passed_over() -> None:
    notes = read_checkpoint(FIXTURES / "deit.keras").source.notes
    assert any(note.startswith("dropped") and "optimiser" in note for note in notes)


def test_image_size_resamples_positions() -> None:
    model = read_checkpoint(FIXTURES / "vit", image_size=(48, 32))
    assert (model.preprocess.height, model.preprocess.width) == model.image_size == (48, 32)
    assert (model.preprocess.resize_height, model.preprocess.resize_width) == (48, 32)
    assert any("position embeddings resampled from 4 × 4 to 6 × 4" in note for note in model.source.notes)


def test_swin_of_grids_that_windows_do_not_fill_is_refused() -> None:
    with pytest.raises(CheckpointError, match=r"stage 1: 6 × 6 tokens, windows of 4") as caught:
        read_checkpoint(FIXTURES / "swin", image_size=(48, 48))
    assert "multiples of 32 pixels" in caught.value.hint


def change(folder: Path, file: str, **values: Any) -> None:
    """Other values in a preset's configuration."""
    config = json.loads((folder / file).read_text())
    config["config"].update(values)
    (folder / file).write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"pooling": "gap"}, "pooling = 'gap': the mean over all tokens"),
        ({"intermediate_dim": 8}, "a hidden layer before the head"),
        ({"activation": "relu"}, "activation = 'relu'"),
    ],
)
def test_classifier_of_another_kind_is_refused(tmp_path: Path, values: dict[str, Any], message: str) -> None:
    folder = shutil.copytree(FIXTURES / "vit", tmp_path / "vit")
    change(folder, "task.json", **values)
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(folder)


def test_softmax_behind_the_head_is_left_out_and_said(tmp_path: Path) -> None:
    folder = shutil.copytree(FIXTURES / "vit", tmp_path / "vit")
    change(folder, "task.json", activation="softmax")
    model = read_checkpoint(folder)
    assert any("softmax behind the head is left out" in note for note in model.source.notes)
    assert relative_error(answer(model.module), torch.from_numpy(stored("vit"))) <= 1e-5


def test_all_values_that_are_not_valid_are_listed(tmp_path: Path) -> None:
    folder = shutil.copytree(FIXTURES / "vit", tmp_path / "vit")
    change(folder, "config.json", num_heads="two", hidden_dim=-1, image_shape=[32, 32, 4])
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(folder)
    for part in ("num_heads = 'two'", "hidden_dim = -1", "4 channels, not 3"):
        assert part in caught.value.message


def test_converter_with_impossible_values_is_refused(tmp_path: Path) -> None:
    folder = shutil.copytree(FIXTURES / "vit", tmp_path / "vit")
    change(folder, "image_converter.json", scale=[1, 2], interpolation="area")
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(folder)
    assert "scale = [1, 2]" in caught.value.message
    assert "interpolation = 'area'" in caught.value.message


@pytest.mark.parametrize("file", ["config.json", "task.json"])
def test_another_model_is_refused_by_its_class(tmp_path: Path, file: str) -> None:
    folder = shutil.copytree(FIXTURES / "vit", tmp_path / "vit")
    config = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps({**config, "class_name": "DINOV2Something"}))
    with pytest.raises(CheckpointError, match="DINOV2Something") as caught:
        read_checkpoint(folder)
    assert "ONNX" in caught.value.hint


def test_bare_weights_of_another_model_are_refused_with_their_layers(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "cnn.weights.h5", "w") as file:
        file["layers/conv2d/vars/0"] = np.zeros((3, 3, 3, 8), np.float32)
        file["layers/batch_normalization/vars/0"] = np.zeros(8, np.float32)
    with pytest.raises(CheckpointError, match=r"(?s)no ViT, DeiT or Swin.*batch_normalization.*conv2d"):
        read_checkpoint(tmp_path / "cnn.weights.h5")


def test_file_of_keras_2_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "vit.h5", "w") as file:
        file.attrs["layer_names"] = ["dense"]
        file["dense/dense/kernel:0"] = np.zeros((2, 2), np.float32)
    with pytest.raises(CheckpointError, match="Keras 2") as caught:
        read_checkpoint(tmp_path / "vit.h5")
    assert "Keras 3" in caught.value.hint


def test_arch_is_refused() -> None:
    with pytest.raises(CheckpointError, match="Keras model"):
        read_checkpoint(FIXTURES / "vit", arch="vit_tiny_patch16_224")


def test_missing_head_tensors_are_all_listed(tmp_path: Path) -> None:
    folder = shutil.copytree(FIXTURES / "vit", tmp_path / "vit")
    with h5py.File(folder / "model.weights.h5", "a") as file:
        del file["layers/vi_t_encoder/layer_norm"]
        file["layers/vi_t_encoder/extra/vars/0"] = np.zeros(2, np.float32)
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(folder)
    for name in ("layer_norm/vars/0", "layer_norm/vars/1", "extra/vars/0"):
        assert f"layers/vi_t_encoder/{name}" in caught.value.message


def test_weights_are_mapped_and_not_read(tmp_path: Path) -> None:
    """Of an archive too, which Keras stores uncompressed; one that is compressed is read."""
    from edgevit.checkpoints.files.keras_file import read_keras_archive, read_weights

    archive = read_keras_archive(FIXTURES / "deit.keras").tensors
    squeezed = tmp_path / "deit.keras"
    with zipfile.ZipFile(FIXTURES / "deit.keras") as old, zipfile.ZipFile(squeezed, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    again = read_keras_archive(squeezed).tensors
    assert archive.keys() == again.keys()
    assert all(torch.equal(value, again[name]) for name, value in archive.items())
    bare = read_weights(FIXTURES / "backbone.weights.h5").tensors
    with h5py.File(FIXTURES / "backbone.weights.h5") as file:
        assert all(np.array_equal(file[name][()], value.numpy()) for name, value in bare.items())


def test_without_h5py_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(MissingPackageError, match="h5py") as caught:
        read_checkpoint(FIXTURES / "vit")
    assert install_line("build") in caught.value.hint


@pytest.mark.parametrize("name", ["backbone.weights.h5", "deit.keras"])
@given(data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damaged_file_is_refused_and_never_a_defect(tmp_path: Path, name: str, data: st.DataObject) -> None:
    content = bytearray((FIXTURES / name).read_bytes())
    path = tmp_path / name
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(1, len(content) - 1))]
    else:
        for _ in range(data.draw(st.integers(1, 20))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    with contextlib.suppress(CheckpointError):
        read_checkpoint(path)
