"""timm hub folders: arguments, older layouts, labels, preprocessing, and what is refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from edgevit.checkpoints import read_checkpoint
from edgevit.core.errors import CheckpointError
from tests.support.reference import import_timm, import_transformers, randomise, relative_error
from tests.support.small_checkpoints import ARGS, CONFIG, small_tensors, write_folder


@pytest.mark.parametrize(
    ("tensors", "args", "what"),
    [
        (["pre_logits.fc.weight"], {}, ["pre_logits"]),
        (["patch_embed.backbone.stem.conv.weight"], {}, ["hybrid"]),
        ([], {"in_chans": 4}, ["input channels"]),
        (["blocks.0.attn.norm.weight"], {"scale_attn_norm": True}, ["norms inside attention"]),
        (["blocks.0.attn.q_proj.weight"], {}, ["EVA"]),
        (["blocks.0.in_proj.weight"], {}, ["parallel blocks"]),
        ([], {"act_layer": "mish"}, ["mish"]),
        ([], {"mlp_layer": "GluMlp"}, ["GluMlp"]),
        ([], {"norm_layer": "rmsnorm"}, ["rmsnorm"]),
        ([], {"block_fn": "ParallelScalingBlock"}, ["block_fn"]),
        ([], {"pos_embed": "none"}, ["no position embedding"]),
        ([], {"global_pool": "max"}, ["pooling 'max'"]),
    ],
    ids=str,
)
def test_read_when_a_part_is_not_supported_names_it(
    tmp_path: Path, tensors: list[str], args: dict[str, Any], what: list[str]
) -> None:
    extra = {name: torch.ones(2) for name in tensors}
    write_folder(tmp_path, {**small_tensors(), **extra}, model_args={**ARGS, **args})
    with pytest.raises(CheckpointError, match="not supported yet") as caught:
        read_checkpoint(tmp_path)
    for name in (*what, *tensors):
        assert name in caught.value.message


def test_read_when_several_parts_are_not_supported_names_all_in_one_error(tmp_path: Path) -> None:
    extra = {name: torch.ones(2) for name in ("blocks.0.attn.norm.weight", "pre_logits.fc.weight")}
    write_folder(tmp_path, {**small_tensors(), **extra}, model_args={**ARGS, "act_layer": "mish", "in_chans": 1})
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(tmp_path)
    for what in ("norms inside attention", "pre_logits", "'mish'", "in_chans = 1"):
        assert what in caught.value.message


def test_read_when_the_architecture_is_not_supported_names_it(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"beit_base_patch16_224.*BEiT"):
        read_checkpoint(write_folder(tmp_path, architecture="beit_base_patch16_224"))


def test_read_when_the_weights_have_no_head_and_none_is_stated_gives_features(tmp_path: Path) -> None:
    tensors = {name: value for name, value in small_tensors().items() if not name.startswith("head")}
    model = read_checkpoint(write_folder(tmp_path, tensors, num_classes=0))
    assert (model.classes, model.config.features) == (0, 16)
    assert model.module(torch.zeros(2, 3, 32, 32)).shape == (2, 16)
    assert any("no classifier head" in note for note in model.source.notes)
    assert not any("class names" in note for note in model.source.notes)


def test_read_when_a_head_is_stated_and_missing_refuses(tmp_path: Path) -> None:
    tensors = {name: value for name, value in small_tensors().items() if not name.startswith("head")}
    with pytest.raises(CheckpointError, match="has no classifier head"):
        read_checkpoint(write_folder(tmp_path, tensors))


@pytest.mark.parametrize(
    "args",
    [
        {"depth": "two"},
        {"depth": 0},
        {"depth": 10**9},
        {"num_heads": 3},
        {"embed_dim": -1},
        {"mlp_ratio": float("nan")},
        {"img_size": [32, 32, 32]},
        {"img_size": "32"},
        {"class_token": "yes"},
        {"qkv_bias": 1},
        {"patch_size": 0},
        {"global_pool": 3},
    ],
    ids=str,
)
def test_read_when_an_argument_is_not_valid_names_it(tmp_path: Path, args: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(write_folder(tmp_path, model_args={**ARGS, **args}))
    assert next(iter(args)).split("_")[-1] in caught.value.message


@pytest.mark.parametrize(
    "args",
    [
        {"window_size": 65},
        {"window_size": 0},
        {"window_size": [7, 7, 7]},
        {"window_size": [[7, 7]] * 3},
        {"window_size": "7"},
        {"window_size": []},
        {"depths": [2, 2, 6]},
        {"depths": []},
        {"depths": 12},
        {"num_heads": [3, 6, 12, 25]},
        {"embed_dim": [96, 192]},
    ],
    ids=str,
)
def test_read_when_a_swins_argument_is_not_valid_refuses(tmp_path: Path, args: dict[str, Any]) -> None:
    write_folder(tmp_path, architecture="swin_tiny_patch4_window7_224", model_args=args)
    with pytest.raises(CheckpointError, match="no possible model"):
        read_checkpoint(tmp_path)


def test_read_when_each_stage_has_its_window_refuses_by_name(tmp_path: Path) -> None:
    write_folder(tmp_path, architecture="swin_tiny_patch4_window7_224", model_args={"window_size": [7, 7, 14, 7]})
    with pytest.raises(CheckpointError, match="a window for each stage"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize("key", ["architecture", "pretrained_cfg", "model_args"])
def test_read_when_a_config_value_is_of_the_wrong_kind_names_it(tmp_path: Path, key: str) -> None:
    wrong: dict[str, Any] = {key: 3}
    with pytest.raises(CheckpointError, match=f"{key} = 3"):
        read_checkpoint(write_folder(tmp_path, **wrong))


@pytest.mark.parametrize(
    "value", [["one", "two", "three"], {"0": "one", "1": "two", "2": "three"}, {"2": "three", "0": "one", "1": "two"}]
)
def test_labels_in_any_spelling_are_read(tmp_path: Path, value: Any) -> None:
    assert read_checkpoint(write_folder(tmp_path, label_names=value)).labels == ("one", "two", "three")


@pytest.mark.parametrize(
    ("value", "note"),
    [
        (None, "no class names are stored"),
        (["one", "two"], "names 2 classes, the head has 3"),
        ({"0": "one", "1": "two", "3": "four"}, "not a name for each"),
        (["one", None, "three"], "not a name for each"),
        ("three", "not a name for each"),
        (["LABEL_0", "LABEL_1", "LABEL_2"], "placeholders"),
    ],
)
def test_labels_that_do_not_name_every_class_are_left_out_with_a_note(tmp_path: Path, value: Any, note: str) -> None:
    model = read_checkpoint(write_folder(tmp_path, label_names=value))
    assert model.labels is None
    assert any(note in n for n in model.source.notes)


def test_preprocessing_when_stored_is_taken(tmp_path: Path) -> None:
    cfg = {**CONFIG["pretrained_cfg"], "mean": [0.1, 0.2, 0.3], "crop_pct": 0.5, "interpolation": "bilinear"}
    model = read_checkpoint(write_folder(tmp_path, pretrained_cfg=cfg))
    assert model.preprocess.mean == (0.1, 0.2, 0.3)
    assert (model.preprocess.resize_height, model.preprocess.interpolation) == (64, "bilinear")
    assert not any("preprocessing" in note for note in model.source.notes)


@pytest.mark.parametrize(("name", "mean"), [("vit_tiny_patch16_224", 0.5), ("deit_tiny_patch16_224", 0.485)])
def test_preprocessing_when_not_stored_is_timms_default_and_says_so(tmp_path: Path, name: str, mean: float) -> None:
    model = read_checkpoint(write_folder(tmp_path, architecture=name, pretrained_cfg=None))
    assert model.preprocess.mean[0] == mean
    assert (model.preprocess.height, model.preprocess.resize_height) == (32, 35)
    assert any("preprocessing is not stored" in note and name in note for note in model.source.notes)


def test_image_size_is_the_arguments_before_the_preprocessings(tmp_path: Path) -> None:
    cfg = {**CONFIG["pretrained_cfg"], "input_size": [3, 224, 224]}
    model = read_checkpoint(write_folder(tmp_path, pretrained_cfg=cfg))
    assert model.image_size == (model.preprocess.height, model.preprocess.width) == (32, 32)


def test_read_when_the_config_is_one_flat_table_of_older_timm_reads_it(tmp_path: Path) -> None:
    write_folder(tmp_path)
    flat = {
        "architecture": "vit_tiny_patch16_224",
        "model_args": ARGS,
        **CONFIG["pretrained_cfg"],
        "labels": ["a", "b", "c"],
    }
    (tmp_path / "config.json").write_text(json.dumps(flat))
    model = read_checkpoint(tmp_path)
    assert model.labels == ("a", "b", "c")
    assert model.preprocess.mean == (0.5, 0.5, 0.5)


def test_read_when_given_another_architecture_than_stated_refuses(tmp_path: Path) -> None:
    write_folder(tmp_path)
    assert read_checkpoint(tmp_path, arch="vit_tiny_patch16_224.some_tag").classes == 3
    with pytest.raises(CheckpointError, match="says architecture 'vit_tiny_patch16_224'"):
        read_checkpoint(tmp_path, arch="deit_tiny_patch16_224")


def test_read_when_pooling_is_stated_at_the_top_alone_follows_it(tmp_path: Path) -> None:
    model = read_checkpoint(write_folder(tmp_path, global_pool="avg"))
    assert model.config.pool == "mean"
    assert model.config.norm_before_pool


def write_old_swin(folder: Path) -> tuple[Path, torch.nn.Module]:
    """A Swin as Microsoft published it: merging at a stage's end, index and mask stored, the head called head."""
    timm = import_timm()
    args = {"embed_dim": 16, "depths": [2, 2, 2], "num_heads": [1, 2, 4], "img_size": 56, "num_classes": 3}
    theirs = randomise(timm.create_model("swin_tiny_patch4_window7_224", **args))
    tensors = {}
    for name, value in theirs.state_dict().items():
        for stage in (1, 2):
            name = name.replace(f"layers.{stage}.downsample", f"layers.{stage - 1}.downsample")  # noqa: PLW2901
        tensors[name.replace("head.fc", "head")] = value.contiguous()
    tensors["layers.0.blocks.1.attn_mask"] = torch.zeros(4, 49, 49)
    tensors["layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(49, 49, dtype=torch.int64)
    write_folder(folder, tensors, architecture="swin_tiny_patch4_window7_224", model_args=args)
    return folder, theirs


def test_swin_in_the_old_layout_equals_timm_and_says_what_was_dropped(tmp_path: Path) -> None:
    folder, theirs = write_old_swin(tmp_path)
    model = read_checkpoint(folder)
    pixels = torch.randn(2, 3, 56, 56)
    with torch.inference_mode():
        assert relative_error(model.module(pixels), theirs(pixels)) <= 1e-5
    notes = " ".join(model.source.notes)
    assert "layers.0.blocks.1.attn_mask" in notes
    assert "layers.0.blocks.0.attn.relative_position_index" in notes


def test_swin_in_the_old_layout_when_tensors_are_missing_names_them_as_the_file_would(tmp_path: Path) -> None:
    folder, _ = write_old_swin(tmp_path)
    tensors = load_file(folder / "model.safetensors")
    del tensors["layers.1.downsample.norm.weight"], tensors["layers.2.blocks.1.attn.relative_position_bias_table"]
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(folder)
    lines = caught.value.message.splitlines()
    assert "  layers.1.downsample.norm.weight" in lines
    assert "  layers.2.blocks.1.attn.relative_position_bias_table" in lines


def test_folder_that_transformers_wrapped_equals_timm(tmp_path: Path) -> None:
    transformers = import_transformers()
    import_timm()
    args = {"embed_dim": 48, "depth": 2, "img_size": 64}
    config = transformers.TimmWrapperConfig(architecture="vit_tiny_patch16_224", model_args=args, num_labels=5)
    theirs = randomise(transformers.TimmWrapperForImageClassification(config))
    theirs.save_pretrained(tmp_path)
    model = read_checkpoint(tmp_path)
    assert model.source.layout == "timm hub folder wrapped by transformers"
    pixels = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        assert relative_error(model.module(pixels), theirs(pixels).logits) <= 1e-5


@pytest.mark.parametrize("safe", [True, False])
def test_folder_with_safetensors_and_pickle_takes_safetensors(tmp_path: Path, safe: bool) -> None:
    write_folder(tmp_path)
    if safe:
        (tmp_path / "pytorch_model.bin").write_bytes(b"not read")
    else:
        torch.save(small_tensors(), tmp_path / "pytorch_model.bin")
        (tmp_path / "model.safetensors").unlink()
    assert read_checkpoint(tmp_path).classes == 3
