"""What a configuration states is read, refused, or listed with its value."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from edgevit.checkpoints import read_checkpoint
from edgevit.checkpoints.files.files import CheckpointFiles
from edgevit.checkpoints.passed_over import list_passed_over
from edgevit.cli import main
from tests.support.foreign_exports import export
from tests.support.reference import import_timm, import_transformers
from tests.support.small_checkpoints import CONFIG, write_folder

KINDS = {
    "vit": "ViTConfig", "deit": "DeiTConfig", "swin": "SwinConfig", "swinv2": "Swinv2Config", "dinov2": "Dinov2Config",
    "dinov2_with_registers": "Dinov2WithRegistersConfig", "clip": "CLIPConfig", "siglip": "SiglipConfig",
    "clip_vision_model": "CLIPVisionConfig", "siglip_vision_model": "SiglipVisionConfig", "vit_mae": "ViTMAEConfig",
}  # fmt: skip


def list_of(reader: str, **configs: dict[str, Any]) -> tuple[str, ...]:
    return list_passed_over(reader, CheckpointFiles("m", Path("m"), (), {f"{k}.json": v for k, v in configs.items()}))


@pytest.mark.parametrize("kind", KINDS)
def test_everything_that_transformers_writes_by_default_is_known(kind: str) -> None:
    config = json.loads(getattr(import_transformers(), KINDS[kind])().to_json_string(use_diff=False))
    assert config["model_type"] == kind
    assert list_of("transformers", config=config) == ()


@pytest.mark.parametrize("kind", ["ViTImageProcessor", "DeiTImageProcessor", "CLIPImageProcessor", "BitImageProcessor"])
def test_everything_that_transformers_processors_write_is_known(kind: str) -> None:
    transformers = import_transformers()
    config = getattr(transformers, kind)().to_dict()
    assert list_of("transformers", config={"model_type": "vit"}, preprocessor_config=config) == ()


def test_everything_that_timm_writes_is_known(tmp_path: Path) -> None:
    timm = import_timm()
    model = timm.create_model("vit_tiny_patch16_224", num_classes=3)
    timm.models._hub.save_config_for_hf(model, str(tmp_path / "config.json"))
    assert list_of("timm", config=json.loads((tmp_path / "config.json").read_text())) == ()


@pytest.mark.parametrize(
    ("reader", "configs", "note"),
    [
        (
            "transformers", {"config": {"model_type": "vit", "mlp_ratio": 3, "dropout_mask": [1]}},
            "passed over: mlp_ratio = 3 (config.json), dropout_mask = [1] (config.json)",
        ),
        ("transformers", {"config": {"model_type": "swin", "mlp_ratio": 3, "window_shift": 0}}, "window_shift = 0"),
        (
            "transformers", {"config": {"model_type": "clip", "vision_config": {"pooling": "last"}}},
            'pooling = "last" (vision_config)',
        ),
        ("timm", {"config": {**CONFIG, "label_offset": 1}}, "label_offset = 1 (config.json)"),
        ("timm", {"config": {"pretrained_cfg": {"mean": [0] * 3, "bgr": True}}}, "bgr = true (pretrained_cfg)"),
        (
            "onnx", {"config": {"any": 1}, "preprocessor_config": {"do_flip": True, "gamma": 2.2}},
            "passed over: gamma = 2.2 (preprocessor_config.json)",
        ),
        (
            "open_clip",
            {"open_clip_config": {"model_cfg": {"vision_cfg": {"norm_kwargs": {"eps": 1e-6}, "no_pool": True}}}},
            'norm_kwargs = {"eps": 1e-06} (vision_cfg), no_pool = true (vision_cfg)',
        ),
        ("open_clip", {"open_clip_config": {"preprocess_cfg": {"mode": "BGR"}}}, 'mode = "BGR" (preprocess_cfg)'),
    ],
)  # fmt: skip
def test_what_is_stated_and_not_read_is_listed_with_its_value(
    reader: str, configs: dict[str, dict[str, Any]], note: str
) -> None:
    (found,) = list_of(reader, **configs)
    assert note in found


def test_nothing_stated_is_nothing_passed_over_and_long_lists_are_shortened() -> None:
    empty = {"a": None, "b": "", "c": [], "d": {}, "_e": 1}
    assert list_of("timm", config=empty) == ()
    (note,) = list_of("timm", config={f"key{i}": i for i in range(23)})
    assert note.endswith("key9 = 9 (config.json) and 13 more")
    (note,) = list_of("timm", config={"long": "x" * 200})
    assert len(note) < 90


def test_inspect_shows_what_was_passed_over(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "model", label_offset=1)
    assert "passed over: label_offset = 1 (config.json)" in read_checkpoint(folder).source.notes
    assert "passed over: label_offset = 1" in CliRunner().invoke(main, ["inspect", str(folder)]).output


def test_problem_type_is_read_of_a_timm_folder_that_transformers_wrapped(tmp_path: Path) -> None:
    stated: dict[str, Any] = {"model_type": "timm_wrapper", "problem_type": "multi_label_classification"}
    assert read_checkpoint(write_folder(tmp_path, **stated)).task.scores == "sigmoid"


def test_problem_type_is_read_beside_an_onnx_file(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(export("transformers_vit", "script").path.read_bytes())
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vit", "problem_type": "regression"}))
    assert read_checkpoint(tmp_path).task.scores == "identity"
