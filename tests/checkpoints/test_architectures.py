"""timm's names, dimensions and documented preprocessing, against timm."""

from __future__ import annotations

import pytest
import torch

from edgevit.checkpoints.architectures import EXAMPLES, find_architecture
from edgevit.checkpoints.timm import find_names
from edgevit.errors import CheckpointError
from edgevit.models import build_module
from edgevit.preprocess import Preprocess
from tests.reference import import_timm


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


def test_architectures_have_timms_parameters() -> None:
    timm = import_timm()
    names = list_timm_names()
    assert len(names) >= 30
    for name in names:
        with torch.device("meta"):
            theirs = timm.create_model(name, weight_init="skip", num_classes=1000)
            ours = build_module(find_architecture(name).config)
        canonical = find_names(find_architecture(name).config, []).to_canonical(theirs.state_dict())
        assert set(canonical) == set(theirs.state_dict()), name
        shapes = {canonical[n]: v.shape for n, v in theirs.state_dict().items()}
        assert shapes == {n: v.shape for n, v in ours.state_dict().items()}, name
        heads = [m.num_heads for m in theirs.modules() if hasattr(m, "num_heads") and hasattr(m, "qkv")]
        assert heads == [m.heads for m in ours.modules() if hasattr(m, "heads") and hasattr(m, "qkv")], name
        eps = {m.eps for m in theirs.modules() if isinstance(m, torch.nn.LayerNorm)}
        assert eps == {m.eps for m in ours.modules() if isinstance(m, torch.nn.LayerNorm)}, name


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
        expected, _ = Preprocess.from_timm(theirs, size)
        assert Preprocess.from_timm(architecture.pretrained_cfg, size)[0] == expected, name
        checked += 1
    assert checked > 80


@pytest.mark.parametrize(
    "name",
    ["vit_tiny_patch16_224.augreg_in21k_ft_in1k", "timm/vit_tiny_patch16_224"],
)
def test_find_architecture_when_named_with_publisher_or_tag_passes_over_them(name: str) -> None:
    assert find_architecture(name) == find_architecture("vit_tiny_patch16_224")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("swinv2_tiny_window8_256", "Swin V2"),
        ("deit3_small_patch16_224", "layer scale"),
        ("swin_s3_tiny_224", "a window for each stage"),
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
