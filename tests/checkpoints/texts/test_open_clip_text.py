"""Zero-shot answers of open_clip's models against the head that labels make."""

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
from tests.support.published.open_clip import import_open_clip
from tests.support.two_towers import CONTEXT, LABELS, write_open_clip


def answer(module: Any, ids: list[list[int]], pad: int, side: int) -> tuple[Tensor, Tensor]:
    """Pixels and open_clip's logits for them, its texts filled up to the context as its tokenizers do."""
    pixels = torch.randn(3, 3, side, side, generator=torch.Generator().manual_seed(1))
    texts = torch.tensor([found + [pad] * (CONTEXT - len(found)) for found in ids])
    with torch.inference_mode():
        return pixels, module.get_logits(pixels, texts)[0]


def compare(folder: Path, module: Any, ids: list[list[int]], pad: int, side: int = 32) -> float:
    """Largest difference of the logits; theirs differ by much more between labels."""
    pixels, theirs = answer(module, ids, pad, side)
    assert float((theirs.amax(dim=1) - theirs.amin(dim=1)).min()) > 0.03
    with torch.inference_mode():
        ours = read_checkpoint(folder, texts=read_label_texts(LABELS)).module(pixels)
    assert ours.shape == theirs.shape
    return float((ours - theirs).abs().max())


CLIP_TEXTS = [f"a photo of a {label}." for label in LABELS]


@pytest.mark.parametrize(
    "text",
    [
        {},
        {"pool_type": "eos", "proj_bias": True},
        {"no_causal_mask": True},
        {"pool_type": "last", "mlp_ratio": 3.0, "norm_kwargs": {"eps": 1e-3}},
        {"act_kwargs": {"approximate": "tanh"}},
    ],
    ids=["as published", "end and bias", "both directions", "last place", "tanh"],
)
def test_clips_answers_equal_open_clips(tmp_path: Path, text: dict[str, Any]) -> None:
    module, tokenizer = write_open_clip(tmp_path, **text)
    assert compare(tmp_path, module, tokenizer(CLIP_TEXTS).input_ids, 0) <= 1e-4
    assert read_checkpoint(tmp_path, texts=read_label_texts(LABELS)).task.scores == "softmax"


def test_siglips_answers_equal_open_clips(tmp_path: Path) -> None:
    """With a tokenizer of transformers, of which the configuration says how texts are prepared."""
    siglip: dict[str, Any] = {
        "no_causal_mask": True,
        "proj_bias": True,
        "pool_type": "last",
        "norm_kwargs": {"eps": 1e-6},
    }
    hub: dict[str, Any] = {"hf_tokenizer_name": "nobody/nothing", "tokenizer_kwargs": {"clean": "canonicalize"}}
    module, tokenizer = write_open_clip(tmp_path, custom=True, **siglip, **hub)
    clean = import_open_clip().tokenizer.canonicalize_text
    ids = tokenizer([clean(f"This is a photo of {label}.") for label in LABELS]).input_ids
    assert compare(tmp_path, module, ids, tokenizer.pad_token_id, 224) <= 1e-4
    model = read_checkpoint(tmp_path, texts=read_label_texts(LABELS))
    assert (model.task.scores, model.source.templates) == ("sigmoid", ("This is a photo of {}.",))


def test_perception_encoders_answers_equal_open_clips(tmp_path: Path) -> None:
    tower = {"timm_model_name": "vit_pe_core_tiny_patch16_384", "timm_pool": "map", "image_size": 384}
    module, tokenizer = write_open_clip(tmp_path, tower=tower)
    assert compare(tmp_path, module, tokenizer(CLIP_TEXTS).input_ids, 0, 384) <= 1e-4


def change_config(folder: Path, text: dict[str, Any]) -> None:
    path = folder / "open_clip_config.json"
    config = json.loads(path.read_text())
    config["model_cfg"]["text_cfg"] |= text
    path.write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ({"hf_model_name": "roberta-base"}, "a text tower of transformers, roberta-base"),
        ({"pool_type": "first"}, "pool_type = 'first'"),
        ({"tokenizer_mode": "clips"}, "tokenizer_mode = 'clips'"),
        ({"tokenizer_kwargs": {"strip_sep_token": True}}, "strip_sep_token = True"),
        ({"tokenizer_kwargs": {"clean": "upper"}}, "clean = 'upper'"),
        ({"embed_cls": True}, "embed_cls = true"),
        ({"heads": 5}, "not a multiple of 5 heads"),
        ({"layers": 3}, "missing"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_text_tower_that_is_not_supported_is_refused(tmp_path: Path, text: dict[str, Any], said: str) -> None:
    write_open_clip(tmp_path)
    change_config(tmp_path, text)
    with pytest.raises(CheckpointError, match=said):
        read_checkpoint(tmp_path, texts=read_label_texts(["cat", "dog"]))


def test_tokenizer_that_does_not_say_what_fills_texts_up_is_refused(tmp_path: Path) -> None:
    write_open_clip(tmp_path, no_causal_mask=True)
    change_config(tmp_path, {"hf_tokenizer_name": "nobody/nothing"})
    (tmp_path / "tokenizer_config.json").unlink()
    with pytest.raises(CheckpointError, match="which token its texts are filled up with"):
        read_checkpoint(tmp_path, texts=read_label_texts(["cat", "dog"]))


def test_keys_of_the_text_tower_that_are_not_read_are_listed(tmp_path: Path) -> None:
    write_open_clip(tmp_path)
    change_config(tmp_path, {"use_pad_mask": True, "pad_id": 0})
    texts = read_label_texts(["cat", "dog"])
    (note,) = (n for n in read_checkpoint(tmp_path, texts=texts).source.notes if n.startswith("passed over"))
    assert note == "passed over: use_pad_mask = true (text_cfg)"
    assert not [n for n in read_checkpoint(tmp_path).source.notes if n.startswith("passed over")]
