"""The head of labels: what has none, what changes with them, and what the export makes of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from edgevit.checkpoints import read_checkpoint
from edgevit.checkpoints.texts.label_head import MAY_HAVE_LABELS
from edgevit.checkpoints.texts.label_texts import read_label_texts
from edgevit.core.errors import CheckpointError, DataError
from edgevit.core.target import ExportForm
from edgevit.core.task import Task
from edgevit.models.export import export_model, float_module
from edgevit.models.select_task import select_task
from tests.support.reference import relative_error
from tests.support.small_checkpoints import write_folder
from tests.support.small_graphs import run_graph
from tests.support.two_towers import LABELS, write_clip, write_siglip

TEXTS = read_label_texts(LABELS)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    write_clip(folder)
    return folder


def test_notes_say_what_the_head_is_and_no_more_that_there_is_none(clip: Path) -> None:
    notes = read_checkpoint(clip, texts=TEXTS).source.notes
    assert "the head is 6 labels as texts, put into 'a photo of a {}.'" in notes
    assert not [note for note in notes if "dropped" in note or "no classifier head" in note or note == MAY_HAVE_LABELS]


def test_folder_with_a_text_tower_says_that_labels_make_a_classifier(clip: Path, tmp_path: Path) -> None:
    assert MAY_HAVE_LABELS in read_checkpoint(clip).source.notes
    assert MAY_HAVE_LABELS not in read_checkpoint(write_folder(tmp_path / "m")).source.notes


def test_identity_differs_with_labels_templates_and_tokenizer(clip: Path) -> None:
    """Stages of a build are found again by it."""
    given: list[tuple[list[str], list[str] | None]] = [
        (LABELS, None),
        (LABELS[::-1], None),
        (LABELS[:5], None),
        (LABELS, ["{}"]),
        (LABELS, ["{}", "a {}"]),
    ]
    made = [read_checkpoint(clip, texts=read_label_texts(*texts)).source for texts in given]
    assert len({source.identity for source in (*made, read_checkpoint(clip).source)}) == 6
    assert len({source.sha256 for source in made}) == 1
    path = clip / "tokenizer.json"
    text = path.read_text()
    try:
        path.write_text(f"{text} ")
        assert read_checkpoint(clip, texts=TEXTS).source.identity != made[0].identity
    finally:
        path.write_text(text)


def test_hub_id_downloads_the_tokenizer_too(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(repository: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        for path in clip.iterdir():
            if any(path.match(pattern) for pattern in allow_patterns):
                shutil.copy(path, tmp_path)
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert read_checkpoint("hf-hub:org/clip", texts=TEXTS).labels == tuple(LABELS)


def test_classifier_with_a_head_of_its_own_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="has a head of 3 classes"):
        read_checkpoint(write_folder(tmp_path / "m"), texts=TEXTS)


def test_image_tower_without_a_text_tower_is_refused(clip: Path, tmp_path: Path) -> None:
    config = json.loads((clip / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config))
    tensors = {n: t for n, t in load_file(clip / "model.safetensors").items() if not n.startswith("text")}
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="no text tower") as caught:
        read_checkpoint(tmp_path, texts=TEXTS)
    assert "CLIPModel or SiglipModel" in caught.value.hint


@pytest.mark.parametrize("change", [None, torch.tensor([1.0, 2.0]), torch.tensor(float("nan"))])
def test_missing_or_odd_scale_is_refused(clip: Path, tmp_path: Path, change: torch.Tensor | None) -> None:
    for path in clip.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    tensors = load_file(clip / "model.safetensors")
    del tensors["logit_scale"]
    save_file({**tensors, **({} if change is None else {"logit_scale": change})}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="logit_scale"):
        read_checkpoint(tmp_path, texts=TEXTS)


def test_labels_that_are_too_long_are_all_listed(clip: Path) -> None:
    with pytest.raises(DataError, match=r"takes 32 tokens, which are too few for 2 texts of labels") as caught:
        read_checkpoint(clip, texts=read_label_texts(["cat", "xyz" * 30, "qqq " * 20]))
    assert "a photo of a xyzxyz" in caught.value.message


FORMS = [ExportForm(), ExportForm(qkv="packed", patch_embedding="conv"), ExportForm(fold_residual_rotation=True)]


@pytest.mark.parametrize("form", FORMS, ids=["as usual", "packed", "rotated"])
@pytest.mark.parametrize("write", [write_clip, write_siglip], ids=["clip", "siglip"])
def test_exported_graph_equals_the_module(tmp_path: Path, write: Any, form: ExportForm) -> None:
    write(tmp_path)
    model = select_task(read_checkpoint(tmp_path, texts=TEXTS), Task())
    assert [spec.name for spec in model.outputs] == ["logits"]
    graph, _ = export_model(model, form)
    pixels = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), np.uint8)
    with torch.inference_mode():
        wanted = float_module(model)(torch.from_numpy(pixels))
    found = torch.from_numpy(run_graph(graph, [pixels], ("logits",))[0])
    assert relative_error(found, wanted) <= 1e-4
    assert found.shape == (1, len(LABELS))


def test_tower_whose_features_are_a_mean_is_rotated_and_still_equal(tmp_path: Path) -> None:
    """SigLIP without its pooling head: the rotation's way back stands in front of the division by the length."""
    write_siglip(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["vision_config"]["vision_use_head"] = False
    (tmp_path / "config.json").write_text(json.dumps(config))
    tensors = {n: t for n, t in load_file(tmp_path / "model.safetensors").items() if "vision_model.head." not in n}
    save_file(tensors, tmp_path / "model.safetensors")
    model = select_task(read_checkpoint(tmp_path, texts=TEXTS), Task())
    assert model.config.pool == "mean"
    pixels = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), np.uint8)
    with torch.inference_mode():
        wanted = float_module(model)(torch.from_numpy(pixels))
    graph, records = export_model(model, ExportForm(fold_residual_rotation=True))
    assert [record.applied for record in records if record.name == "residual_rotation"] == [("blocks",)]
    found = torch.from_numpy(run_graph(graph, [pixels], ("logits",))[0])
    assert relative_error(found, wanted) <= 1e-4
