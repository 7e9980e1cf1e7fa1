"""Google's JAX archives, read beside timm's own loader of them."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgevit.checkpoints import read_checkpoint
from edgevit.checkpoints.files.npz import is_archive, read_archive
from edgevit.core.errors import CheckpointError
from tests.support.published.jax import SMALL, make_arrays
from tests.support.reference import import_timm, randomise, relative_error


def load_with_timm(path: Path, name: str = "vit_tiny_patch16_224", **args: Any) -> Any:
    """timm reads the archive itself; its GELU is the exact one unless told to use Flax's."""
    timm = import_timm()
    module = randomise(timm.create_model(name, act_layer="gelu_tanh", **args), seed=9)
    module.load_pretrained(str(path))
    return module


def load_small(path: Path, s: dict[str, int]) -> torch.nn.Module:
    return load_with_timm(
        path, embed_dim=s["width"], depth=s["depth"], num_heads=s["heads"], mlp_ratio=s["mlp"] / s["width"],
        patch_size=s["patch"], img_size=s["patch"] * s["grid"], num_classes=s["classes"],
    )  # fmt: skip


def compare(ours: torch.nn.Module, theirs: torch.nn.Module, side: int) -> float:
    pixels = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        return relative_error(ours(pixels), theirs(pixels))


def test_archive_of_real_size_equals_timms_loader(tmp_path: Path) -> None:
    path = tmp_path / "Ti_16-i21k.npz"
    np.savez(path, **make_arrays(192, 12, 3, 768, 16, 14, 1000))
    model = read_checkpoint(path)
    assert (model.source.layout, model.image_size) == ("JAX ViT archive (.npz)", (224, 224))
    assert model.preprocess.describe() == (
        "resize to 224 × 224 (bilinear, not antialiased), mean 0.5 0.5 0.5, std 0.5 0.5 0.5"
    )
    assert compare(model.module, load_with_timm(path), 224) <= 1e-4


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(heads=st.integers(1, 4), head=st.integers(1, 6), depth=st.integers(1, 3), mlp=st.integers(1, 30),
       grid=st.integers(1, 4), compressed=st.booleans(), prefix=st.sampled_from(["", "opt/target/"]))  # fmt: skip
def test_archive_of_any_shape_equals_timms_loader(
    tmp_path: Path, heads: int, head: int, depth: int, mlp: int, grid: int, compressed: bool, prefix: str
) -> None:
    size = {**SMALL, "width": heads * head, "heads": heads, "depth": depth, "mlp": mlp, "grid": grid}
    arrays = {f"{prefix}{name}": value for name, value in make_arrays(**size).items()}
    path = tmp_path / "w.npz"
    (np.savez_compressed if compressed else np.savez)(path, **arrays)
    model = read_checkpoint(path)
    assert compare(model.module, load_small(path, size), size["patch"] * grid) <= 1e-4


def test_archive_with_the_optimisers_state_drops_it(tmp_path: Path) -> None:
    arrays = {f"opt/target/{name}": value for name, value in make_arrays(**SMALL).items()}
    arrays |= {"opt/state/step": np.array(7), "opt/state/param_states/cls/momentum": np.ones((1, 1, 12), np.float32)}
    np.savez(tmp_path / "w.npz", **arrays)
    model = read_checkpoint(tmp_path / "w.npz")
    assert any("dropped 2 tensors (the optimiser's state)" in note for note in model.source.notes)


@pytest.mark.parametrize("size", [(40, 40), (16, 16), (24, 56)])
def test_archive_at_another_size_has_its_positions_zoomed_as_googles_code_does(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    ndimage = pytest.importorskip("scipy.ndimage")
    arrays = make_arrays(**{**SMALL, "grid": 4})
    np.savez(tmp_path / "w.npz", **arrays)
    patch = SMALL["patch"]
    model = read_checkpoint(tmp_path / "w.npz", image_size=(size[0] // 8 * patch, size[1] // 8 * patch))
    # interpolate_posembed of vision_transformer's checkpoint.py, which knows only squares.
    positions = arrays["Transformer/posembed_input/pos_embedding"]
    grid = positions[0, 1:].reshape(4, 4, -1)
    wanted = ndimage.zoom(grid, (size[0] / 32, size[1] / 32, 1), order=1)
    found = model.module.state_dict()["pos_embed"].numpy()
    assert np.allclose(found[0, 1:], wanted.reshape(-1, grid.shape[-1]), atol=1e-5)
    assert np.array_equal(found[0, :1], positions[0, :1])


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"pre_logits/kernel": (12, 12)}, "a hidden layer before the head"),
        ({"conv_root/kernel": (7, 7, 3, 64)}, "a convolutional stem"),
        ({"MAPHead_0/probe": (1, 1, 12)}, "attention pooling"),
        ({"pos_embedding": (1, 9, 12)}, "big_vision's layout"),
    ],
)
def test_archive_with_other_parts_names_them(tmp_path: Path, extra: dict[str, tuple[int, ...]], message: str) -> None:
    arrays = make_arrays(**SMALL) | {name: np.zeros(shape, np.float32) for name, shape in extra.items()}
    np.savez(tmp_path / "w.npz", **arrays)
    with pytest.raises(CheckpointError, match=message) as caught:
        read_checkpoint(tmp_path / "w.npz")
    assert "save_for_hf" in caught.value.hint


def test_archive_that_is_not_whole_lists_everything_by_its_own_names(tmp_path: Path) -> None:
    arrays = make_arrays(**SMALL)
    del arrays["Transformer/encoderblock_1/MultiHeadDotProductAttention_1/key/bias"]
    arrays["Transformer/encoder_norm/scale"] = np.ones(3, np.float32)
    arrays["surplus/kernel"] = np.ones((2, 2), np.float32)
    np.savez(tmp_path / "w.npz", **arrays)
    with pytest.raises(CheckpointError, match="1 missing, 1 unexpected, 1 wrongly shaped") as caught:
        read_checkpoint(tmp_path / "w.npz")
    for part in (
        "encoderblock_1/MultiHeadDotProductAttention_1/key/bias",
        "surplus/kernel",
        "encoder_norm/scale: (3,)",
    ):
        assert part in caught.value.message


def test_archive_of_python_objects_is_refused_unread(tmp_path: Path) -> None:
    np.savez(tmp_path / "w.npz", weights=np.ones(2), state=np.array([{"a": 1}], dtype=object))
    with pytest.raises(CheckpointError, match=r"Python objects[^§]*state"):
        read_checkpoint(tmp_path / "w.npz")


def test_archive_cut_short_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "whole.npz", **make_arrays(**SMALL))
    content = (tmp_path / "whole.npz").read_bytes()
    for share in (0.1, 0.5, 0.99):
        (tmp_path / "w.npz").write_bytes(content[: int(share * len(content))])
        with pytest.raises(CheckpointError):
            read_checkpoint(tmp_path / "w.npz")


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    shape=st.lists(st.integers(0, 4), max_size=4).map(tuple),
    dtype=st.sampled_from(["f4", "f2", "f8", "i4", "?"]),
    column_major=st.booleans(),
    compressed=st.booleans(),
)
def test_read_archive_gives_what_numpy_wrote(
    tmp_path: Path, shape: tuple[int, ...], dtype: str, column_major: bool, compressed: bool
) -> None:
    array = np.random.default_rng(0).integers(0, 2, shape).astype(dtype)
    array = np.asfortranarray(array) if column_major else array
    path = tmp_path / "w.npz"
    # The first member puts the second at an odd place in the file.
    arrays: dict[str, Any] = {"a": np.ones(3, "u1"), "b/c": array}
    (np.savez_compressed if compressed else np.savez)(path, **arrays)
    assert is_archive(path)
    found = read_archive(path)["b/c"].numpy()
    assert found.dtype == array.dtype
    assert found.shape == array.shape
    assert np.array_equal(found, array)


def test_read_archive_reads_two_raw_bytes_as_bfloat16(tmp_path: Path) -> None:
    wanted = torch.randn(4, 3).to(torch.bfloat16)
    np.savez(tmp_path / "w.npz", w=wanted.view(torch.int16).numpy().view("V2"))
    assert torch.equal(read_archive(tmp_path / "w.npz")["w"], wanted)


def test_archive_without_a_head_gives_features(tmp_path: Path) -> None:
    arrays = {name: value for name, value in make_arrays(**SMALL).items() if not name.startswith("head/")}
    np.savez(tmp_path / "w.npz", **arrays)
    model = read_checkpoint(tmp_path / "w.npz")
    assert model.classes == 0
    assert any("no classifier head" in note for note in model.source.notes)


@given(data=st.data())
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damaged_archive_is_refused_and_never_a_defect(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "damaged.npz"
    save = np.savez_compressed if data.draw(st.booleans()) else np.savez
    arrays: dict[str, Any] = {"Transformer/kernel": np.ones((3, 4), np.float32), "cls": np.zeros((2,), np.int64)}
    save(path, **arrays)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    with contextlib.suppress(CheckpointError):
        if is_archive(path):
            read_archive(path)
