"""transformers folders: what comes along, what is assumed, and what is refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from edgevit.checkpoints import read_checkpoint
from edgevit.core.errors import CheckpointError
from edgevit.core.task import Task
from edgevit.models.select_task import select_task
from tests.support.reference import import_transformers, randomise, relative_error

VIT: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "image_size": 32,
    "patch_size": 8,
}
LABELS = {0: "one", 1: "two", 2: "three"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small ViT and its image processor."""
    transformers = import_transformers()
    save(transformers.ViTForImageClassification(transformers.ViTConfig(**VIT, id2label=LABELS)), tmp_path)
    size = {"height": 32, "width": 32}
    transformers.ViTImageProcessor(size=size, image_mean=[0.1, 0.2, 0.3]).save_pretrained(tmp_path)
    return tmp_path


def save(model: Any, folder: Path) -> Any:
    randomise(model).save_pretrained(folder)
    return model


def change_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    config = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))


def test_labels_and_preprocessing_come_along(folder: Path) -> None:
    model = read_checkpoint(folder)
    assert model.labels == ("one", "two", "three")
    assert model.preprocess.mean == (0.1, 0.2, 0.3)
    assert (model.preprocess.height, model.preprocess.interpolation) == (32, "bilinear")
    assert model.source.notes == ()


def test_preprocessing_when_not_stored_is_the_processors_default_and_says_so(folder: Path) -> None:
    (folder / "preprocessor_config.json").unlink()
    model = read_checkpoint(folder)
    assert model.preprocess.mean == (0.5, 0.5, 0.5)
    assert (model.preprocess.height, model.preprocess.width) == (32, 32)
    assert any("ViTImageProcessor is assumed" in note for note in model.source.notes)


def test_preprocessing_of_another_size_than_the_model_is_scaled_and_says_so(folder: Path) -> None:
    import_transformers().ViTImageProcessor(size={"height": 64, "width": 64}).save_pretrained(folder)
    model = read_checkpoint(folder)
    assert (model.preprocess.height, model.preprocess.resize_height) == (32, 32)
    assert any("64 × 64" in note and "32 × 32" in note for note in model.source.notes)


def test_labels_that_are_placeholders_are_left_out(folder: Path) -> None:
    change_config(folder, id2label={"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"})
    assert read_checkpoint(folder).labels is None


def test_labels_fewer_than_classes_are_left_out_and_the_head_counts(folder: Path) -> None:
    change_config(folder, id2label={"0": "one", "1": "two"})
    model = read_checkpoint(folder)
    assert (model.labels, model.classes) == (None, 3)
    assert "the configuration says 2 classes, the head has 3; the head counts" in model.source.notes


@pytest.mark.parametrize(
    ("kind", "name"), [("bert", "BertForMaskedLM"), ("llama", "LlamaForCausalLM"), ("blip", None), ("vit_mae2", None)]
)
def test_read_when_the_model_type_is_another_names_it_and_what_can_be_read(
    folder: Path, kind: str, name: str | None
) -> None:
    change_config(folder, model_type=kind, architectures=[name] if name else None)
    with pytest.raises(CheckpointError, match=f"'{kind}' model") as caught:
        read_checkpoint(folder)
    assert name is None or name in caught.value.message
    assert "swin, " in caught.value.hint
    assert "vit, deit, vit_mae, dinov2" in caught.value.hint


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        ("beit", "relative positions"),
        ("siglip2_vision_model", "NaFlex"),
        ("mobilevit", "convolutions"),
        ("vit_hybrid", "convolutional stem"),
    ],
)
def test_read_when_the_model_type_looks_alike_says_what_it_is(folder: Path, kind: str, what: str) -> None:
    change_config(folder, model_type=kind, architectures=None)
    with pytest.raises(CheckpointError, match=f"'{kind}' model, which cannot be read: .*{what}"):
        read_checkpoint(folder)


def test_read_when_a_real_language_model_was_saved_says_so(tmp_path: Path) -> None:
    transformers = import_transformers()
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    transformers.BertForMaskedLM(transformers.BertConfig(vocab_size=20, **sizes)).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"'bert' model \(BertForMaskedLM\)"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize("kind", ["ViTModel", "DeiTModel"])
def test_read_when_the_model_has_no_head_gives_the_class_token(tmp_path: Path, kind: str) -> None:
    transformers = import_transformers()
    theirs = save(getattr(transformers, kind)(getattr(transformers, kind.replace("Model", "Config"))(**VIT)), tmp_path)
    pixels = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        expected = theirs(pixels).last_hidden_state[:, 0]
    for architectures in ([kind], None):
        change_config(tmp_path, architectures=architectures)
        model = read_checkpoint(tmp_path)
        assert (model.source.architecture, model.classes, model.labels) == (kind, 0, None)
        assert relative_error(model.module(pixels), expected) <= 1e-5
    assert any("pooler behind the class token" in note for note in model.source.notes)


def test_read_when_a_classifier_is_named_and_its_head_is_missing_says_so(folder: Path) -> None:
    tensors = {n: t for n, t in load_file(folder / "model.safetensors").items() if not n.startswith("classifier")}
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match="has no classifier head"):
        read_checkpoint(folder)


def test_read_when_swin_has_no_head_gives_features_and_says_so_where_no_class_is_named(tmp_path: Path) -> None:
    transformers = import_transformers()
    sizes = {"embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2], "image_size": 56}
    transformers.SwinModel(transformers.SwinConfig(**sizes)).save_pretrained(tmp_path)
    assert read_checkpoint(tmp_path).classes == 0
    change_config(tmp_path, architectures=None)
    with pytest.raises(CheckpointError, match="has no classifier head"):
        read_checkpoint(tmp_path)


def test_read_when_the_model_is_for_pre_training_names_it(tmp_path: Path) -> None:
    transformers = import_transformers()
    transformers.ViTForMaskedImageModeling(transformers.ViTConfig(**VIT, encoder_stride=8)).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="ViTForMaskedImageModeling, which cannot be read"):
        read_checkpoint(tmp_path)


def test_read_when_extra_parts_are_stored_drops_them_with_a_note(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    before = read_checkpoint(folder).module.state_dict()
    extra = {"vit.pooler.dense.weight": torch.ones(16, 16), "vit.embeddings.mask_token": torch.ones(1, 1, 16)}
    save_file({**tensors, **extra}, folder / "model.safetensors")
    model = read_checkpoint(folder)
    assert all(torch.equal(value, before[name]) for name, value in model.module.state_dict().items())
    for name in extra:
        assert any(name in note for note in model.source.notes)


def test_read_when_tensors_are_missing_names_them_as_the_file_would(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    gone = [n for n in tensors if "layer.1.attention.attention.key" in n or n.endswith("cls_token")]
    save_file({n: t for n, t in tensors.items() if n not in gone}, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match="3 missing") as caught:
        read_checkpoint(folder)
    assert set(gone) <= {line.strip() for line in caught.value.message.splitlines()}


def test_read_when_tensors_of_version_5_are_missing_names_them_as_the_file_would(folder: Path) -> None:
    transformers = import_transformers()
    model = transformers.ViTForImageClassification(transformers.ViTConfig(**VIT))
    tensors = {n: t.contiguous() for n, t in model.state_dict().items()}
    if not any(".q_proj." in n for n in tensors):
        pytest.skip("this version of transformers has the older names")
    gone = "vit.layers.1.attention.q_proj.weight"
    save_file({n: t for n, t in tensors.items() if n != gone}, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=gone):
        read_checkpoint(folder)


def test_read_when_the_config_asks_for_its_own_code_refuses_and_runs_none(folder: Path) -> None:
    (folder / "modeling.py").write_text(f"open({str(folder / 'marker')!r}, 'w')")
    change_config(folder, auto_map={"AutoModelForImageClassification": "modeling.Custom"})
    with pytest.raises(CheckpointError, match=r"modeling\.Custom"):
        read_checkpoint(folder)
    assert not (folder / "marker").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"quantization_config": {"quant_method": "bitsandbytes"}}, "quantised already"),
        ({"hidden_act": "mish"}, "activation 'mish'"),
        ({"num_channels": 1}, "1 input channels"),
        ({"head_dim": 4}, "explicit head width"),
        ({"hidden_size": "16"}, "hidden_size = '16'"),
        ({"num_attention_heads": 3}, "width 16 is not a multiple of 3 heads"),
        ({"num_hidden_layers": -1}, "num_hidden_layers = -1"),
        ({"layer_norm_eps": 0}, "layer_norm_eps = 0"),
        ({"image_size": [32, 32, 3]}, "image_size ="),
        ({"image_size": 33}, "image size 33 × 33 is not possible"),
        ({"patch_size": 64}, "image size 32 × 32 is not possible"),
        ({"model_type": 3}, "is a 3 model"),
        ({"model_type": ["vit"]}, "model"),
    ],
    ids=str,
)
def test_read_when_the_config_cannot_be_followed_says_why(folder: Path, changes: dict[str, Any], message: str) -> None:
    change_config(folder, **changes)
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(folder)


@pytest.mark.parametrize(
    ("problem", "scores"),
    [
        ("single_label_classification", "softmax"),
        ("multi_label_classification", "sigmoid"),
        ("regression", "identity"),
        (None, None),
    ],
)
def test_problem_type_says_what_the_outputs_mean(folder: Path, problem: str | None, scores: str | None) -> None:
    change_config(folder, problem_type=problem)
    assert read_checkpoint(folder).task.scores == scores


def test_problem_type_that_is_unknown_is_refused(folder: Path) -> None:
    change_config(folder, problem_type="ranking")
    with pytest.raises(CheckpointError, match="problem_type = 'ranking', which is none of single_label"):
        read_checkpoint(folder)


def test_read_when_given_an_architecture_says_that_the_folder_states_it(folder: Path) -> None:
    with pytest.raises(CheckpointError, match="says itself"):
        read_checkpoint(folder, arch="vit_tiny_patch16_224")


def test_swin_with_absolute_positions_is_refused_by_name(tmp_path: Path) -> None:
    transformers = import_transformers()
    config = transformers.SwinConfig(
        embed_dim=8, depths=[1, 1], num_heads=[1, 2], image_size=56, use_absolute_embeddings=True
    )
    transformers.SwinForImageClassification(config).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="use_absolute_embeddings"):
        read_checkpoint(tmp_path)


def test_read_at_another_size_scales_preprocessing_too(folder: Path) -> None:
    model = read_checkpoint(folder, image_size=(64, 48))
    assert model.image_size == (model.preprocess.height, model.preprocess.width) == (64, 48)
    assert model.module(torch.zeros(1, 3, 64, 48)).shape == (1, 3)


def test_pickled_weights_equal_safetensors(folder: Path) -> None:
    pixels = torch.randn(1, 3, 32, 32)
    before = read_checkpoint(folder).module(pixels)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    assert relative_error(read_checkpoint(folder).module(pixels), before) == 0


DINOV2: dict[str, Any] = {**{k: v for k, v in VIT.items() if k != "intermediate_size"}, "image_size": 40}


@pytest.mark.parametrize("size", [(64, 64), (24, 24), (32, 56), (40, 40)])
@pytest.mark.parametrize(
    ("kind", "config", "asks"),
    [
        ("ViTModel", "ViTConfig", True),
        ("Dinov2Model", "Dinov2Config", False),
        ("Dinov2WithRegistersModel", "Dinov2WithRegistersConfig", False),
        ("CLIPVisionModel", "CLIPVisionConfig", True),
        ("SiglipVisionModel", "SiglipVisionConfig", True),
        ("ViTMAEModel", "ViTMAEConfig", True),
    ],
)
def test_positions_at_another_size_are_resampled_as_transformers_does(
    tmp_path: Path, kind: str, config: str, asks: bool, size: tuple[int, int]
) -> None:
    transformers = import_transformers()
    more = {"mask_ratio": 0.0} if "MAE" in kind else {}
    theirs = save(getattr(transformers, kind)(getattr(transformers, config)(**DINOV2, **more)), tmp_path)
    model = read_checkpoint(tmp_path, image_size=size)
    assert model.image_size == size
    pixels = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(1))
    options: dict[str, Any] = {"interpolate_pos_encoding": True} if asks else {}
    if "MAE" in kind:
        options["noise"] = torch.arange(size[0] * size[1] // 64).expand(1, -1)
    with torch.inference_mode():
        out = theirs(pixels, **options)
        expected = out.pooler_output if kind == "SiglipVisionModel" else out.last_hidden_state[:, 0]
        if kind == "CLIPVisionModel":
            expected = out.pooler_output
        assert relative_error(model.module(pixels), expected) <= 1e-5


def test_dinov2_runs_at_the_size_that_its_processor_gives_as_in_transformers(tmp_path: Path) -> None:
    transformers = import_transformers()
    theirs = save(transformers.Dinov2Model(transformers.Dinov2Config(**DINOV2)), tmp_path)
    crop = {"height": 24, "width": 24}
    transformers.BitImageProcessor(size={"shortest_edge": 28}, crop_size=crop).save_pretrained(tmp_path)
    model = read_checkpoint(tmp_path)
    assert model.image_size == (model.preprocess.height, model.preprocess.width) == (24, 24)
    pixels = torch.randn(1, 3, 24, 24)
    with torch.inference_mode():
        assert relative_error(model.module(pixels), theirs(pixels).pooler_output) <= 1e-5
    assert read_checkpoint(tmp_path, image_size=(40, 40)).image_size == (40, 40)


@pytest.mark.parametrize("size", [None, (35, 35)])
def test_siglip_of_an_image_that_is_no_multiple_of_the_patch_says_what_is_not_read(tmp_path: Path, size: Any) -> None:
    transformers = import_transformers()
    theirs = save(
        transformers.SiglipVisionModel(transformers.SiglipVisionConfig(**{**VIT, "image_size": 35})), tmp_path
    )
    model = read_checkpoint(tmp_path, image_size=size)
    assert any("leave 3 rows and 3 columns of the image unread" in note for note in model.source.notes)
    pixels = torch.randn(1, 3, 35, 35)
    with torch.inference_mode():
        assert relative_error(model.module(pixels), theirs(pixels).pooler_output) <= 1e-5


def test_siglip_without_its_pooling_head_gives_the_mean_and_says_so(tmp_path: Path) -> None:
    transformers = import_transformers()
    config = transformers.SiglipVisionConfig(**VIT, vision_use_head=False)
    theirs = save(transformers.SiglipVisionModel(config), tmp_path)
    model = read_checkpoint(tmp_path)
    assert any("no pooling head" in note for note in model.source.notes)
    pixels = torch.randn(1, 3, 32, 32)
    with torch.inference_mode():
        assert relative_error(model.module(pixels), theirs(pixels).last_hidden_state.mean(dim=1)) <= 1e-5


def test_text_tower_is_dropped_with_a_note(tmp_path: Path) -> None:
    transformers = import_transformers()
    text = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    save(transformers.CLIPModel(transformers.CLIPConfig(vision_config=VIT, text_config=text)), tmp_path)
    model = read_checkpoint(tmp_path)
    assert model.config.projection == 512
    assert any("the text tower" in note for note in model.source.notes)


@pytest.mark.parametrize("normed", [True, False])
@pytest.mark.parametrize("kind", ["Dinov2", "Dinov2WithRegisters"])
def test_backbone_gives_transformers_feature_maps(tmp_path: Path, kind: str, normed: bool) -> None:
    transformers = import_transformers()
    config = getattr(transformers, f"{kind}Config")(**DINOV2, out_indices=[1, 2], apply_layernorm=normed)
    theirs = save(getattr(transformers, f"{kind}Backbone")(config), tmp_path)
    model = select_task(read_checkpoint(tmp_path), Task("features", levels=(0, 1)))
    pixels = torch.randn(1, 3, 40, 40)
    with torch.inference_mode():
        for ours, expected in zip(model.module(pixels), theirs(pixels).feature_maps, strict=True):
            assert relative_error(ours, expected) <= 1e-5
