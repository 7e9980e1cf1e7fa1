"""timm's names, dimensions and documented preprocessing, against timm."""

from __future__ import annotations

import functools

import pytest
import torch

from edgevit.checkpoints.architectures import EXAMPLES, find_architecture
from edgevit.checkpoints.files.packing import match_packing
from edgevit.checkpoints.preprocess_configs import read_timm_preprocess
from edgevit.checkpoints.timm.eva import join_biases
from edgevit.checkpoints.timm.timm import find_names
from edgevit.core.errors import CheckpointError
from edgevit.models import ViTConfig, build_module
from edgevit.models.layers import ACTIVATIONS
from tests.support.reference import import_timm

# Initial values take timm a while; its Swin V2 cannot leave them out.
SKIP = {"vit": {"weight_init": "skip"}, "deit": {"weight_init": "skip"}, "deit3": {"weight_init": "skip"}}


@pytest.fixture
def uninitialised(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parameters on the meta device hold no numbers, and drawing them takes most of the time of making a module."""
    for name in ("uniform_", "normal_", "erfinv_", "clamp_", "zero_", "fill_", "mul_", "add_", "div_"):
        monkeypatch.setattr(torch.Tensor, name, lambda tensor, *args, **kwargs: tensor)


@functools.cache
def list_timm_names() -> list[str]:
    """Names of timm that are in the table's forms, older ones too."""
    timm = import_timm()
    names = []
    for name in timm.list_models():
        try:
            find_architecture(name)
        except CheckpointError:
            continue
        names.append(name)
    return names


def test_examples_include_what_timm_has() -> None:
    registered = set(import_timm().list_models())
    assert len(registered & set(EXAMPLES)) >= 25
    assert {"vit_base_patch32_384", "deit_small_distilled_patch16_224", "swin_large_patch4_window12_384"} <= registered


def test_there_are_timms_architectures_by_the_hundred() -> None:
    assert len(list_timm_names()) >= 145


# Every fourth, by their names, is of each family and size; all of them take eight seconds.
@pytest.mark.parametrize("step", [4, pytest.param(1, marks=pytest.mark.slow)])
def test_architectures_have_timms_parameters_and_compute_what_timms_do(step, uninitialised) -> None:
    timm = import_timm()
    for name in list_timm_names()[::step]:
        architecture = find_architecture(name)
        config, rope = architecture.config, architecture.rope
        with torch.device("meta"):
            skip = SKIP.get(name.partition("_")[0], {}) if rope is None else {}
            theirs = timm.create_model(name, num_classes=1000, **skip)
            ours = build_module(config)
        assert_parameters(name, config, theirs, ours)
        if isinstance(config, ViTConfig):
            assert_parts(name, config, theirs)
            assert_rope(name, rope, theirs)


def assert_parameters(name, config, theirs, ours) -> None:
    state = join_biases(theirs.state_dict())
    canonical = find_names(config, []).to_canonical(state)
    assert set(canonical) == set(state), name
    shapes = {canonical[n]: v.shape for n, v in state.items()}
    expected = match_packing(ours.state_dict(), canonical.values())
    assert shapes == {n: v.shape for n, v in expected.items()}, name
    heads = [m.num_heads for m in theirs.modules() if hasattr(m, "num_heads") and hasattr(m, "qkv")]
    assert heads == [m.heads for m in ours.modules() if hasattr(m, "heads") and hasattr(m, "qkv")], name
    pools = [m.num_heads for m in theirs.modules() if hasattr(m, "latent_len")]
    assert pools == [m.heads for m in ours.modules() if hasattr(m, "latent")], name
    eps = {m.eps for m in theirs.modules() if isinstance(m, torch.nn.LayerNorm)}
    assert eps == {m.eps for m in ours.modules() if isinstance(m, torch.nn.LayerNorm)}, name


def assert_parts(name, config, theirs) -> None:
    """What has no parameters, which shapes do not show: activation, pooling, where the norms are."""
    mlp = theirs.blocks[0].mlp
    x = torch.linspace(-3, 3, 50)
    torch.testing.assert_close(ACTIVATIONS[config.activation](x), mlp.act(x), msg=name)
    assert {"token": "token", "avg": "mean", "map": "map"}[theirs.global_pool] == config.pool, name
    kinds = [isinstance(n, torch.nn.LayerNorm) for n in (theirs.norm_pre, theirs.norm, theirs.fc_norm)]
    assert kinds == [config.norm_before_blocks, config.norm_before_pool, config.norm_after_pool], name
    if config.position == "rotary":
        assert theirs.pos_embed is None, name
    else:
        assert theirs.no_embed_class != config.position_prefix, name
    assert theirs.num_prefix_tokens == config.prefix_tokens, name
    assert theirs.patch_embed.grid_size == config.grid, name
    assert not getattr(mlp, "gate_last", False), name


def assert_rope(name, rope, theirs) -> None:
    if rope is None:
        assert getattr(theirs, "rope", None) is None, name
        return
    assert (type(theirs.rope).__name__ == "RotaryEmbeddingDinoV3") == rope.centred, name
    indexing = "xy" if rope.columns_first else "ij"
    found = theirs.rope.temperature, theirs.rope.rotate_half, theirs.rope.grid_indexing, theirs.rope.grid_offset
    assert found == (rope.temperature, rope.half, indexing, rope.offset), name
    assert getattr(theirs.rope, "ref_feat_shape", None) == rope.reference, name
    assert theirs.attn_pool is None or theirs.attn_pool.mlp.act.__class__ is torch.nn.GELU, name


def test_every_vision_transformer_of_timm_is_read_or_refused_by_name() -> None:
    timm = import_timm()
    names = [n for module in ("vision_transformer", "deit", "eva") for n in timm.list_models(module=module)]
    refused = []
    for name in names:
        if name.startswith("test_vit"):
            continue
        try:
            find_architecture(name)
        except CheckpointError as exc:
            refused.append((name, exc.message))
    assert len(names) > 230
    assert len(refused) <= 48
    assert [name for name, message in refused if "is not supported yet: " not in message] == []


@pytest.mark.parametrize(
    "module",
    ["beit", "cait", "xcit", "maxxvit", "mobilevit", "swin_transformer_v2_cr", "vision_transformer_hybrid"],
)
def test_every_name_of_a_family_that_looks_alike_is_refused_by_name(module: str) -> None:
    for name in import_timm().list_models(module=module):
        if name.startswith("test_"):
            continue
        with pytest.raises(CheckpointError, match="is not supported yet: "):
            find_architecture(name)


def test_default_preprocessing_is_timms_for_every_tag() -> None:
    timm = import_timm()
    from timm.models import get_pretrained_cfg

    checked = 0
    for name in list_timm_names() + timm.list_pretrained():
        try:
            architecture = find_architecture(name)
        except CheckpointError:
            continue
        theirs = get_pretrained_cfg(name).to_dict()
        size = architecture.config.image_size
        assert tuple(theirs["input_size"][1:]) == size, name
        expected, _ = read_timm_preprocess(theirs, size)
        assert read_timm_preprocess(architecture.pretrained_cfg, size)[0] == expected, name
        checked += 1
    assert checked > 350


@pytest.mark.parametrize(
    "name",
    ["vit_tiny_patch16_224.augreg_in21k_ft_in1k", "timm/vit_tiny_patch16_224"],
)
def test_find_architecture_when_named_with_publisher_or_tag_passes_over_them(name: str) -> None:
    assert find_architecture(name) == find_architecture("vit_tiny_patch16_224")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("eva02_enormous_patch14_clip_224", "EVA-02"),
        ("beit_base_patch16_224", "BEiT"),
        ("cait_xxs24_224", "CaiT"),
        ("xcit_nano_12_p16_224", "XCiT"),
        ("maxvit_tiny_tf_224", "MaxViT"),
        ("mobilevit_s", "MobileViT"),
        ("swinv2_cr_tiny_224", "Swin V2 CR"),
        ("vit_base_patch16_xp_224", "parallel blocks"),
        ("swin_s3_tiny_224", "a window for each stage"),
        ("levit_128", "convolutions between attention"),
        ("tiny_vit_5m_224", "convolutions between attention"),
        ("naflexvit_base_patch16_gap", "lists of patches"),
        ("samvit_base_patch16", "SAM's ViT"),
        ("convit_tiny", "ConViT"),
        ("crossvit_9_240", "CrossViT"),
        ("resnet50", "is not supported"),
        ("", "is not supported"),
        ("vit_tiny_patch0_224", "not possible"),
        ("vit_tiny_patch16_225", "not possible"),
        ("swin_tiny_patch4_window0_224", "not possible"),
        ("swin_tiny_patch4_window7_0", "not possible"),
    ],
)
def test_find_architecture_when_unknown_is_refused(name: str, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        find_architecture(name)


def test_find_architecture_when_misspelt_names_the_nearest() -> None:
    with pytest.raises(CheckpointError) as caught:
        find_architecture("diet_tiny_patch16_224")
    assert "deit_tiny_patch16_224" in caught.value.hint
