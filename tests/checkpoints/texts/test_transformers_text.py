"""Zero-shot answers of transformers' ``CLIPModel`` and ``SiglipModel`` against the head that labels make."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from edgevit.checkpoints import read_checkpoint
from edgevit.checkpoints.texts.label_texts import read_label_texts
from edgevit.core.errors import CheckpointError
from edgevit.core.task import Task
from edgevit.models.select_task import select_task
from tests.support.published.open_clip import import_open_clip
from tests.support.two_towers import CONTEXT, LABELS, write_clip, write_siglip

TEMPLATES = ["a photo of a {}.", "{}", "a big dog and the {} in a church."]


def draw_pixels() -> Tensor:
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def answer_clip(module: Any, tokenizer: Any, texts: list[str]) -> Tensor:
    """As transformers' zero-shot pipeline asks it."""
    with torch.inference_mode():
        ids = tokenizer(texts, padding=True, return_tensors="pt")
        logits: Tensor = module(**ids, pixel_values=draw_pixels()).logits_per_image
    return logits


def answer_siglip(module: Any, tokenizer: Any, texts: list[str]) -> Tensor:
    """As transformers' zero-shot pipeline asks it: filled up to the context, without a mask."""
    tokenizer.enable_padding(pad_id=0, length=CONTEXT)
    with torch.inference_mode():
        ids = torch.tensor([found.ids for found in tokenizer.encode_batch(texts)])
        logits: Tensor = module(input_ids=ids, pixel_values=draw_pixels()).logits_per_image
    return logits


def compare(folder: Path, theirs: Tensor, templates: list[str] | None = None) -> float:
    """Largest difference of the logits; theirs differ by much more between labels."""
    model = read_checkpoint(folder, texts=read_label_texts(LABELS, templates))
    with torch.inference_mode():
        ours = model.module(draw_pixels())
    assert float((theirs.amax(dim=1) - theirs.amin(dim=1)).min()) > 0.05
    assert ours.shape == theirs.shape
    return float((ours - theirs).abs().max())


@pytest.mark.parametrize("old_end", [False, True], ids=["end by its number", "end as the highest token"])
@pytest.mark.parametrize("whole", [True, False], ids=["tokenizer.json", "vocab.json and merges.txt"])
def test_clips_answers_equal_transformers(tmp_path: Path, old_end: bool, whole: bool) -> None:
    module, tokenizer = write_clip(tmp_path, old_end=old_end, whole=whole)
    theirs = answer_clip(module, tokenizer, [f"a photo of a {label}." for label in LABELS])
    assert compare(tmp_path, theirs) <= 1e-4
    model = read_checkpoint(tmp_path, texts=read_label_texts(LABELS))
    assert (model.labels, model.task.scores) == (tuple(LABELS), "softmax")
    assert model.source.templates == ("a photo of a {}.",)


def test_siglips_answers_equal_transformers(tmp_path: Path) -> None:
    module, tokenizer = write_siglip(tmp_path)
    clean = import_open_clip().tokenizer.canonicalize_text
    theirs = answer_siglip(module, tokenizer, [clean(f"This is a photo of {label}.") for label in LABELS])
    assert compare(tmp_path, theirs) <= 1e-4
    assert read_checkpoint(tmp_path, texts=read_label_texts(LABELS)).task.scores == "sigmoid"


def test_siglip_2_reads_lower_case_with_its_punctuation(tmp_path: Path) -> None:
    module, tokenizer = write_siglip(tmp_path, gemma=True)
    theirs = answer_siglip(module, tokenizer, [f"this is a photo of {label.lower()}." for label in LABELS])
    assert compare(tmp_path, theirs) <= 1e-4


def test_templates_are_averaged_as_clips_authors_do(tmp_path: Path) -> None:
    """``zeroshot_classifier`` of CLIP's notebook on prompts for ImageNet."""
    module, tokenizer = write_clip(tmp_path)
    weights = []
    with torch.inference_mode():
        for label in LABELS:
            ids = tokenizer([template.format(label) for template in TEMPLATES], padding=True, return_tensors="pt")
            each = module.get_text_features(**ids).pooler_output
            each = each / each.norm(dim=-1, keepdim=True)
            mean = each.mean(dim=0)
            weights.append(mean / mean.norm())
        image = module.get_image_features(pixel_values=draw_pixels()).pooler_output
        image = image / image.norm(dim=-1, keepdim=True)
        theirs = module.logit_scale.exp() * image @ torch.stack(weights, dim=1)
    assert compare(tmp_path, theirs, TEMPLATES) <= 1e-4


def test_embedding_is_that_of_the_image_tower_whatever_labels_there_are(tmp_path: Path) -> None:
    write_clip(tmp_path)
    plain = select_task(read_checkpoint(tmp_path), Task("embed"))
    labelled = select_task(read_checkpoint(tmp_path, texts=read_label_texts(LABELS)), Task("embed"))
    assert (labelled.classes, labelled.labels) == (0, None)
    with torch.inference_mode():
        assert torch.equal(plain.module(draw_pixels()), labelled.module(draw_pixels()))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"hidden_act": "mish"}, "activation 'mish'"),
        ({"num_attention_heads": 5}, "not a multiple of 5 heads"),
        ({"hidden_size": "wide"}, "hidden_size = 'wide'"),
        ({"num_hidden_layers": 3}, "missing"),
        ({"num_hidden_layers": 1}, "unexpected"),
        ({"max_position_embeddings": 20}, "wrongly shaped"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_text_tower_that_does_not_fit_its_configuration_is_refused(
    tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    write_clip(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["text_config"] |= change
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=said):
        read_checkpoint(tmp_path, texts=read_label_texts(["cat", "dog"]))
