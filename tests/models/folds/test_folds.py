"""Every fold, and all of them together, against the unfolded module; and what each must leave alone."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edgevit.core.target import ExportForm
from edgevit.models.attention_pool import AttentionPool
from edgevit.models.folds import FOLDS, apply_folds
from edgevit.models.folds.layer_norm_affine import fold_layer_norm_affine
from edgevit.models.folds.residual_rotation import make_rotation
from edgevit.models.folds.window_gather import Gather, GatheredPatches, GatheredWindows, fold_window_gather
from edgevit.models.layers import LayerScale, PatchEmbedding
from edgevit.models.pixels import PixelModel
from edgevit.models.swin import ConstantBias, SwinConfig
from edgevit.models.vit import ViTConfig
from tests.support.export_forms import EVERYTHING, NOTHING
from tests.support.small_models import SWIN, SWINS, VIT, VITS, copy_pixels, make_images, make_model, relative_error

CONFIGS: dict[str, ViTConfig | SwinConfig] = {
    **{f"vit_{name}": config for name, config in VITS.items()},
    **{f"swin_{name}": config for name, config in SWINS.items()},
}
TOLERANCE = 1e-5


def run(pixels: PixelModel, images: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        logits: torch.Tensor = pixels(images)
    return logits


@pytest.mark.parametrize("name", CONFIGS)
def test_all_folds_together_keep_the_output(name: str) -> None:
    config = CONFIGS[name]
    model = make_model(config)
    images = make_images(config)
    expected = run(copy_pixels(model), images)
    for form in (ExportForm(), EVERYTHING):
        pixels = copy_pixels(model)
        apply_folds(pixels, form)
        assert relative_error(run(pixels, images), expected) <= TOLERANCE


@pytest.mark.parametrize(
    "name",
    [
        "vit_plain",
        "vit_distilled",
        "vit_registers",
        "vit_token_mean",
        "vit_clip",
        "vit_siglip_head",
        "vit_qk_norm",
        "swin_plain",
        "swin_overhang",
    ],
)
@pytest.mark.parametrize("fold", [name for name, _, _ in FOLDS])
def test_each_fold_alone_keeps_the_output(fold: str, name: str) -> None:
    config = CONFIGS[name]
    model = make_model(config)
    images = make_images(config)
    expected = run(copy_pixels(model), images)
    pixels = copy_pixels(model)
    record = next(function for key, function, _ in FOLDS if key == fold)(pixels)
    assert record.name == fold
    assert record.applied or record.skipped
    assert relative_error(run(pixels, images), expected) <= TOLERANCE


@pytest.mark.parametrize("name", CONFIGS)
def test_folding_leaves_the_model_itself_as_it_was(name: str) -> None:
    model = make_model(CONFIGS[name])
    before = {key: value.clone() for key, value in model.module.state_dict().items()}
    apply_folds(copy_pixels(model), EVERYTHING)
    after = model.module.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_switched_off_folds_are_recorded_and_change_nothing() -> None:
    pixels = copy_pixels(make_model(VIT))
    before = str(pixels)
    records = apply_folds(pixels, NOTHING)
    assert str(pixels) == before
    assert [r.enabled for r in records] == [False] * len(FOLDS)


@given(
    grid=st.tuples(st.integers(2, 9), st.integers(2, 9)),
    window=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    pad=st.sampled_from(["after_shift", "before_shift"]),
    fit=st.sampled_from(["axis", "smaller"]),
)
@example(grid=(5, 2), window=(2, 1), pad="after_shift", fit="axis")  # the only padding is the last place of all
@settings(max_examples=25, deadline=None)
def test_window_gather_keeps_the_output_for_any_grid_and_window(
    grid: tuple[int, int], window: tuple[int, int], pad: Any, fit: Any
) -> None:
    config = dataclasses.replace(
        SWIN,
        image_size=(4 * grid[0], 4 * grid[1]),
        window=window,
        width=8,
        depths=(2, 2),
        heads=(1, 2),
        pad=pad,
        window_fit=fit,
    )
    model = make_model(config)
    images = make_images(config, batch=2)
    expected = run(copy_pixels(model), images)
    pixels = copy_pixels(model)
    fold_window_gather(pixels)
    assert relative_error(run(pixels, images), expected) <= TOLERANCE


def test_window_gather_needs_no_gather_in_blocks_without_shift() -> None:
    pixels = copy_pixels(make_model(SWIN))
    record = fold_window_gather(pixels)
    blocks = {name: m for name, m in pixels.model.named_modules() if isinstance(m, GatheredWindows)}
    gathers = {name: (m.enter is not None, m.leave is not None) for name, m in blocks.items()}
    # grids 16, 8 and 4 with windows of 4: the last stage is one window and has no shift
    assert gathers == {
        "layers.0.blocks.0.windows": (False, False),
        "layers.0.blocks.1.windows": (True, True),
        "layers.1.blocks.0.windows": (False, False),
        "layers.1.blocks.1.windows": (True, True),
        "layers.2.blocks.0.windows": (False, False),
        "layers.2.blocks.1.windows": (False, False),
    }
    assert "layers.1.downsample" in record.applied


def test_window_gather_takes_the_pixels_of_a_linear_patch_embedding_in_order() -> None:
    pixels = copy_pixels(make_model(SWIN))
    apply_folds(pixels, ExportForm())
    assert isinstance(pixels.model.get_submodule("patch_embed"), GatheredPatches)
    assert isinstance(pixels.model.get_submodule("arrange"), torch.nn.Identity)


def test_window_gather_arranges_the_tokens_of_a_convolution() -> None:
    pixels = copy_pixels(make_model(SWIN))
    apply_folds(pixels, ExportForm(patch_embedding="conv"))
    assert isinstance(pixels.model.get_submodule("patch_embed"), PatchEmbedding)
    assert isinstance(pixels.model.get_submodule("arrange"), Gather)


def test_window_gather_leaves_a_folded_model_alone() -> None:
    pixels = copy_pixels(make_model(SWIN))
    apply_folds(pixels, ExportForm())
    record = fold_window_gather(pixels)
    assert record.applied == ()
    assert record.skipped[0].reason == "already folded"


def test_layer_norm_affine_leaves_padded_windows_and_the_residual_stream_alone() -> None:
    pixels = copy_pixels(make_model(SWINS["overhang"]))
    record = fold_layer_norm_affine(pixels)
    reasons = {skip.site: skip.reason for skip in record.skipped}
    assert "residual stream" in reasons["patch_norm"]
    assert "overhang" in reasons["layers.0.blocks.0.norm1"]
    assert "layers.0.blocks.0.norm2" in record.applied


def test_layer_norm_affine_leaves_unit_norms_behind() -> None:
    pixels = copy_pixels(make_model(VIT))
    fold_layer_norm_affine(pixels)
    norm: Any = pixels.model.get_submodule("blocks.1.norm1")
    assert torch.equal(norm.weight, torch.ones_like(norm.weight))
    assert torch.equal(norm.bias, torch.zeros_like(norm.bias))


def test_last_block_is_left_alone_where_the_head_reads_the_mean() -> None:
    record = next(r for r in apply_folds(copy_pixels(make_model(VITS["mean"])), ExportForm()) if r.name == "last_block")
    assert record.applied == ()
    assert record.skipped[0].reason == "the head reads the mean of all tokens"


def test_layer_scale_leaves_none_behind_and_so_the_stream_can_be_rotated() -> None:
    config = VITS["registers"]
    pixels = copy_pixels(make_model(config))
    records = {r.name: r for r in apply_folds(pixels, EVERYTHING)}
    assert records["layer_scale"].applied == tuple(f"blocks.{i}.ls{k}" for i in range(config.depth) for k in (1, 2))
    assert records["residual_rotation"].applied == ("blocks",)
    assert not any(isinstance(module, LayerScale) for module in pixels.modules())


def test_rotation_is_left_alone_where_layer_scale_is_not_folded() -> None:
    pixels = copy_pixels(make_model(VITS["registers"]))
    form = dataclasses.replace(EVERYTHING, fold_layer_scale=False)
    records = {r.name: r for r in apply_folds(pixels, form)}
    assert records["residual_rotation"].skipped[0].reason == "layer scale is not folded"


def test_rotation_behind_a_norm_before_the_blocks_is_a_linear_with_its_affine_part() -> None:
    model = make_model(VITS["clip"])
    pixels = copy_pixels(model)
    records = {r.name: r for r in apply_folds(pixels, EVERYTHING)}
    assert records["residual_rotation"].applied == ("blocks",)
    assert any("residual stream" in s.reason for s in records["layer_norm_affine"].skipped if s.site == "norm_pre")
    norm: Any = model.module.norm_pre
    assert not bool((norm.weight == 1).all())
    ours: Any = pixels.model.norm_pre
    tokens = torch.randn(1, 9, VIT.width, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        plain, rotated = norm(tokens), ours(tokens)
        # Any orthogonal matrix that keeps the all-ones vector keeps products of tokens and their sums.
        assert relative_error(rotated @ rotated.mT, plain @ plain.mT) <= TOLERANCE
        assert relative_error(rotated.sum(-1), plain.sum(-1)) <= 1e-4
        assert relative_error(rotated, plain) > 0.1


def test_last_block_with_registers_is_computed_for_the_class_token_alone() -> None:
    pixels = copy_pixels(make_model(VITS["registers"]))
    records = {r.name: r for r in apply_folds(pixels, ExportForm())}
    assert records["last_block"].applied == ("blocks.2",)
    assert pixels.model.get_submodule("blocks.2").queries == 1


@pytest.mark.parametrize(
    ("name", "reason"), [("token_mean", "beside the class token"), ("siglip", "attention reads all tokens")]
)
def test_last_block_is_left_alone_where_the_head_reads_more(name: str, reason: str) -> None:
    pixels = copy_pixels(make_model(VITS[name]))
    records = {r.name: r for r in apply_folds(pixels, ExportForm())}
    assert records["last_block"].applied == ()
    assert reason in records["last_block"].skipped[0].reason
    assert pixels.model.get_submodule("blocks.2").queries is None


def test_attention_scale_goes_into_the_norm_of_the_queries() -> None:
    model = make_model(VITS["qk_norm"])
    pixels = copy_pixels(model)
    records = {r.name: r for r in apply_folds(pixels, ExportForm())}
    before, after = (m.get_submodule("blocks.1.attn.q_norm") for m in (model.module, pixels.model))
    torch.testing.assert_close(after.weight, before.weight * (VIT.width // VIT.heads) ** -0.5)
    reasons = {s.site: s.reason for s in records["layer_norm_affine"].skipped}
    assert reasons["blocks.1.attn.q_norm"] == "a product of two activations reads it"


def test_norms_inside_attention_and_mlp_go_into_the_linears_behind_them() -> None:
    pixels = copy_pixels(make_model(VITS["eva_clip"]))
    records = {r.name: r for r in apply_folds(pixels, EVERYTHING)}
    inner = {f"blocks.{i}.{part}.norm" for i in range(VIT.depth) for part in ("attn", "mlp")}
    assert inner <= set(records["layer_norm_affine"].applied)
    assert records["residual_rotation"].applied == ("blocks",)
    norms: list[Any] = [pixels.model.get_submodule(name) for name in inner]
    assert all(bool((norm.weight == 1).all()) and not bool(norm.bias.any()) for norm in norms)


def test_attention_pool_has_one_row_of_weights_for_each_head() -> None:
    pixels = copy_pixels(make_model(VITS["siglip"]))
    records = {r.name: r for r in apply_folds(pixels, EVERYTHING)}
    pool = pixels.model.get_submodule("attn_pool")
    assert isinstance(pool, AttentionPool)
    assert pool.score is not None
    assert pool.score.weight.shape == (VIT.heads, VIT.width)
    assert (pool.q, pool.k, pool.latent) == (None, None, None)
    assert records["residual_rotation"].applied == ("blocks",)
    assert "norm" in records["layer_norm_affine"].applied


def test_position_embedding_takes_registers_and_the_norm_before_the_blocks() -> None:
    config = dataclasses.replace(VITS["clip"], register_tokens=2)
    pixels = copy_pixels(make_model(config))
    apply_folds(pixels, ExportForm())
    assert pixels.model.prefix.shape == (1, 3, config.width)
    assert pixels.model.reg_token is None


def test_input_normalization_is_left_alone_where_the_image_is_padded() -> None:
    pixels = copy_pixels(make_model(SWINS["padded_image"]))
    records = {r.name: r for r in apply_folds(pixels, ExportForm())}
    assert "padded with zeros" in records["input_normalization"].skipped[0].reason
    assert records["patch_linear"].applied == ()
    assert pixels.gain is not None


def test_attention_bias_is_one_constant_with_the_mask() -> None:
    pixels = copy_pixels(make_model(SWIN))
    records = {r.name: r for r in apply_folds(pixels, ExportForm())}
    bias = pixels.model.get_submodule("layers.0.blocks.1.bias")
    assert isinstance(bias, ConstantBias)
    assert bias.value.shape == (16, 1, 16, 16)  # windows, heads, tokens, tokens
    assert records["attention_bias"].skipped == ()


@pytest.mark.parametrize("width", [2, 16, 96])
def test_rotation_is_orthogonal_and_keeps_the_all_ones_vector(width: int) -> None:
    rotation = make_rotation(width, np.random.default_rng(3))
    torch.testing.assert_close(rotation @ rotation.T, torch.eye(width, dtype=torch.float64))
    ones = torch.ones(width, dtype=torch.float64)
    torch.testing.assert_close(rotation @ ones, ones)


@pytest.mark.parametrize("config", [VIT, SWIN], ids=["vit", "swin"])
def test_rotation_takes_an_outlier_out_of_the_residual_stream(config: ViTConfig | SwinConfig) -> None:
    model = make_model(config)
    last = "blocks.0.mlp.fc2" if isinstance(config, ViTConfig) else "layers.1.blocks.0.mlp.fc2"
    reader = "blocks.1.norm1" if isinstance(config, ViTConfig) else "layers.1.blocks.1.norm1"
    with torch.no_grad():
        model.module.get_parameter(f"{last}.bias")[3] += 100.0
    peaks = []
    for form in (ExportForm(), EVERYTHING):
        pixels = copy_pixels(model)
        apply_folds(pixels, form)
        seen: list[torch.Tensor] = []
        pixels.model.get_submodule(reader).register_forward_hook(lambda m, i, o, seen=seen: seen.append(o))
        run(pixels, make_images(config))
        peaks.append(float(seen[0].abs().max() / seen[0].square().mean().sqrt()))
    assert peaks[1] < 0.75 * peaks[0]


def test_rotation_is_left_out_where_a_norm_is_not_folded() -> None:
    pixels = copy_pixels(make_model(VIT))
    form = dataclasses.replace(EVERYTHING, fold_layer_norm_affine=False)
    record = next(r for r in apply_folds(pixels, form) if r.name == "residual_rotation")
    assert record.applied == ()
    assert "not folded" in record.skipped[0].reason


def test_rotation_leaves_a_swins_first_stage_and_padded_windows_alone() -> None:
    records = {r.name: r for r in apply_folds(copy_pixels(make_model(SWIN)), EVERYTHING)}
    assert records["residual_rotation"].applied == ("layers.1", "layers.2")
    assert [s.site for s in records["residual_rotation"].skipped] == ["layers.0"]
    records = {r.name: r for r in apply_folds(copy_pixels(make_model(SWINS["overhang"])), EVERYTHING)}
    skipped = {s.site: s.reason for s in records["residual_rotation"].skipped}
    assert "not folded" in skipped["layers.1"]
