"""Tokenizers of a checkpoint's folder against transformers' and open_clip's own."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from edgevit.checkpoints.texts.tokenize import canonicalize_text, keep_text, read_tokenizer
from edgevit.core.errors import CheckpointError, DataError, MissingPackageError
from tests.support.published.open_clip import import_open_clip
from tests.support.two_towers import END, LABELS, write_clip_tokenizer

TEXTS = [*LABELS, "A  Photo\tof “naïve” CAFÉS, it's 42 €…", "emoji 🐟 and\u00a0space", "don't, we'll; snake_case"]


@pytest.mark.parametrize("whole", [True, False], ids=["tokenizer.json", "vocab.json and merges.txt"])
def test_clips_tokens_equal_transformers(tmp_path: Path, whole: bool) -> None:
    theirs = write_clip_tokenizer(tmp_path, whole=whole)
    assert (tmp_path / "tokenizer.json").exists() == whole
    ours = read_tokenizer(tmp_path, "m")
    assert ours.encode(TEXTS, keep_text, 200, len(theirs)) == theirs(TEXTS).input_ids


def test_clips_own_vocabulary_equals_open_clips_tokenizer(tmp_path: Path) -> None:
    """With the vocabulary that OpenAI published, as transformers lays it out."""
    simple = import_open_clip().tokenizer.SimpleTokenizer()
    start, end = simple.sot_token_id, simple.eot_token_id
    names = {start: "<|startoftext|>", end: "<|endoftext|>"}
    vocabulary = {names.get(number, token): number for token, number in simple.encoder.items()}
    (tmp_path / "vocab.json").write_text(json.dumps(vocabulary))
    merges = sorted(simple.bpe_ranks, key=simple.bpe_ranks.__getitem__)
    (tmp_path / "merges.txt").write_text("#version: 0.2\n" + "\n".join(" ".join(pair) for pair in merges))
    texts = [text for text in TEXTS if "…" not in text]  # which ftfy rewrites there
    ours = read_tokenizer(tmp_path, "m").encode(texts, keep_text, 77, 49408)
    theirs = [[start, *simple.encode(text), end] for text in texts]
    assert ours == theirs


@pytest.mark.parametrize("text", ["A photo of a CAT.", " it's  a\tsnake-case, (or not)! ", "İstanbul"])
def test_canonical_text_equals_open_clips(text: str) -> None:
    assert canonicalize_text(text) == import_open_clip().tokenizer.canonicalize_text(text)


def test_all_texts_that_are_too_long_are_listed(tmp_path: Path) -> None:
    write_clip_tokenizer(tmp_path)
    tokenizer = read_tokenizer(tmp_path, "m")
    with pytest.raises(DataError) as caught:
        tokenizer.encode(["a photo of a church", "a " * 9, "a", "b " * 12], keep_text, 9, 10_000)
    assert "takes 9 tokens, which are too few for 2 texts of labels" in caught.value.message
    assert f"{'a ' * 9}: 11" in caught.value.message
    assert f"{'b ' * 12}: 14" in caught.value.message


def test_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    theirs = write_clip_tokenizer(tmp_path)
    with pytest.raises(CheckpointError, match="another model's"):
        read_tokenizer(tmp_path, "m").encode(["a"], keep_text, 77, len(theirs) - 1)


def test_own_padding_and_truncation_of_the_file_count_for_nothing(tmp_path: Path) -> None:
    theirs = write_clip_tokenizer(tmp_path)
    data = json.loads((tmp_path / "tokenizer.json").read_text())
    data["truncation"] = {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}
    data["padding"] = {
        **{"strategy": {"Fixed": 30}, "direction": "Right", "pad_to_multiple_of": None},
        **{"pad_id": 7, "pad_type_id": 0, "pad_token": "x"},
    }
    (tmp_path / "tokenizer.json").write_text(json.dumps(data))
    (tmp_path / "tokenizer_config.json").unlink()
    ours = read_tokenizer(tmp_path, "m")
    assert ours.encode(TEXTS, keep_text, 200, len(theirs)) == theirs(TEXTS).input_ids
    assert ours.pad == 7


@pytest.mark.parametrize("token", [END, {"content": END, "lstrip": False}])
def test_padding_is_by_the_token_that_the_configuration_names(tmp_path: Path, token: Any) -> None:
    theirs = write_clip_tokenizer(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"pad_token": token}))
    found = read_tokenizer(tmp_path, "m")
    assert (found.pad, found.kind) == (theirs.eos_token_id, "BPE")
    assert {path.name for path in found.files} == {"tokenizer.json", "tokenizer_config.json"}


def test_folder_without_a_tokenizer_says_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"m has no tokenizer.*tokenizer\.json"):
        read_tokenizer(tmp_path, "m")


@pytest.mark.parametrize(
    "files",
    [
        {"tokenizer.json": "{"},
        {"tokenizer.json": "{}"},
        {"vocab.json": '{"a": 0}', "merges.txt": ""},
        {"vocab.json": "[]", "merges.txt": "x"},
    ],
    ids=["no JSON", "no tokenizer", "no ends", "no vocabulary"],
)
def test_damaged_tokenizer_is_refused(tmp_path: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(CheckpointError, match="is not a tokenizer"):
        read_tokenizer(tmp_path, "m")


def test_missing_package_is_named_with_the_line_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(MissingPackageError, match="needs tokenizers") as caught:
        read_tokenizer(tmp_path, "m")
    assert "[build]" in caught.value.hint
