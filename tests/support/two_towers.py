"""Small CLIP and SigLIP folders with both towers, random weights and tokenizers that were really trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import tokenizers
import torch
from tokenizers import Regex, models, normalizers, pre_tokenizers, processors, trainers

from tests.support.published.open_clip import import_open_clip, save_folder
from tests.support.reference import import_transformers, randomise

LABELS = ["tench", "English springer", "cassette player", "chain saw", "church", "gas pump"]
CORPUS = [
    *LABELS,
    *("a photo of a dog.", "This is a photo of {}.", "the quick brown fox jumps over the lazy dog", "BIG, small; a_b"),
    *("sphinx of black quartz, judge my vow", "a photo of the tench in a church", "0123456789 jackdaws love my"),
]
START, END = "<|startoftext|>", "<|endoftext|>"
CONTEXT = 32
_WIDTH = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
_VISION = {**_WIDTH, "image_size": 32, "patch_size": 8}


def write_clip_tokenizer(folder: Path, *, whole: bool = True) -> Any:
    """A byte-level BPE as CLIP's, its end the highest token; as transformers saves it, or its two older files."""
    words = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
    trained = tokenizers.Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    trained.normalizer = normalizers.Lowercase()
    trained.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(words), "removed", invert=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=600, end_of_word_suffix="</w>", initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    trained.train_from_iterator(CORPUS * 3, trainer)
    folder.mkdir(parents=True, exist_ok=True)
    trained.model.save(str(folder))
    vocabulary = json.loads((folder / "vocab.json").read_text())
    vocabulary |= {START: len(vocabulary), END: len(vocabulary) + 1}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    transformers = import_transformers()
    theirs = transformers.CLIPTokenizer.from_pretrained(folder)
    if whole:
        theirs.save_pretrained(folder)
        (folder / "vocab.json").unlink()
        (folder / "merges.txt").unlink()
    return theirs


def write_clip(folder: Path, *, old_end: bool = False, whole: bool = True, seed: int = 0) -> tuple[Any, Any]:
    """transformers' ``CLIPModel`` as it saves it: the model and its tokenizer."""
    transformers = import_transformers()
    tokenizer = write_clip_tokenizer(folder, whole=whole)
    end = tokenizer.eos_token_id
    text = {**_WIDTH, "vocab_size": len(tokenizer), "max_position_embeddings": CONTEXT, "projection_dim": 24}
    config = transformers.CLIPConfig(
        text_config={**text, "eos_token_id": 2 if old_end else end, "bos_token_id": end - 1},
        vision_config={**_VISION, "projection_dim": 24},
        projection_dim=24,
    )
    module = _set_scale(randomise(transformers.CLIPModel(config), seed), 2.5)
    module.save_pretrained(folder)
    _write_processor(folder)
    return module, tokenizer


def write_siglip(folder: Path, *, gemma: bool = False, seed: int = 0) -> tuple[Any, Any]:
    """transformers' ``SiglipModel`` as it saves it, with a tokenizer as SigLIP's, or as SigLIP 2's."""
    transformers = import_transformers()
    folder.mkdir(parents=True, exist_ok=True)
    kind: Any = models.BPE(byte_fallback=True, unk_token="<unk>") if gemma else models.Unigram()
    tokenizer = tokenizers.Tokenizer(kind)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<pad>", "<eos>", "<unk>"] if gemma else ["</s>", "<unk>"]
    trainer: Any = (
        trainers.BpeTrainer(vocab_size=300, special_tokens=special)
        if gemma
        else trainers.UnigramTrainer(vocab_size=120, special_tokens=special, unk_token="<unk>")
    )
    tokenizer.train_from_iterator([*CORPUS, *(text.lower() for text in CORPUS)] * 3, trainer)
    end = special[1 if gemma else 0]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {end}", special_tokens=[(end, tokenizer.token_to_id(end))]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    name = "GemmaTokenizer" if gemma else "SiglipTokenizer"
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": name, "pad_token": special[0]}))
    text = {**_WIDTH, "vocab_size": tokenizer.get_vocab_size(), "max_position_embeddings": CONTEXT}
    config = transformers.SiglipConfig(text_config=text, vision_config=_VISION)
    module = _set_scale(randomise(transformers.SiglipModel(config), seed), 2.0)
    with torch.no_grad():
        module.logit_bias.fill_(-3.0)
    module.save_pretrained(folder)
    _write_processor(folder)
    return module, tokenizer


def write_open_clip(
    folder: Path, *, custom: bool = False, seed: int = 0, tower: dict[str, Any] | None = None, **text: Any
) -> tuple[Any, Any]:
    """open_clip's ``CLIP``, or ``CustomTextCLIP`` with a bias as SigLIP's, as it saves it: the model and a tokenizer.

    Args:
        folder: Where to.
        custom: The latter, around a tower of timm and with the text tower under ``text.``
        seed: Of the weights.
        tower: Another tower of timm, as ``vision_cfg`` names it, in a ``CustomTextCLIP`` without a bias.
        text: Of ``text_cfg``.
    """
    open_clip = import_open_clip()
    tokenizer = write_clip_tokenizer(folder)
    vision: dict[str, Any] = {"image_size": 32, "layers": 1, "width": 64, "patch_size": 8}
    if custom:
        vision = {"timm_model_name": "vit_xsmall_patch16_clip_224", "timm_pool": "token", "timm_proj": None}
        vision |= {"image_size": 224, "timm_model_pretrained": False}
    vision = {"timm_model_pretrained": False, "timm_proj": None, **tower} if tower else vision
    sizes = {"width": 32, "heads": 2, "layers": 2, "context_length": CONTEXT, "vocab_size": len(tokenizer)}
    if text.get("pool_type") == "eos":
        text["eos_id"] = tokenizer.eos_token_id
    config = {"embed_dim": 24, "vision_cfg": vision, "text_cfg": {**sizes, **text}}
    bias = {"init_logit_bias": -3.0} if custom else {}
    kind = open_clip.model.CustomTextCLIP if custom or tower else open_clip.CLIP
    module = _set_scale(randomise(kind(**config, **bias), seed), 2.5)
    save_folder(module, {**config, **bias}, folder)
    return module, tokenizer


def _set_scale(module: Any, scale: float) -> Any:
    with torch.no_grad():
        module.logit_scale.fill_(scale)
    return module


def _write_processor(folder: Path) -> None:
    transformers = import_transformers()
    size = {"height": 32, "width": 32}
    transformers.CLIPImageProcessor(size=size, crop_size=size, do_center_crop=False).save_pretrained(folder)
