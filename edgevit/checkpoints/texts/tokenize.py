"""read_tokenizer: from the files beside a checkpoint to the numbers of a text's tokens.

``tokenizer.json`` says everything itself. ``vocab.json`` and ``merges.txt``, of CLIP's older folders, are put together
as transformers does (``tokenization_clip.py``).
"""

from __future__ import annotations

import json
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgevit.core.errors import CheckpointError, DataError, count_things, format_offenders, last_line
from edgevit.core.packages import require_package

_WHOLE, _VOCABULARY, _MERGES = "tokenizer.json", "vocab.json", "merges.txt"
_CONFIGS = ("tokenizer_config.json", "special_tokens_map.json")
TOKENIZER_FILES = (_WHOLE, _VOCABULARY, _MERGES, *_CONFIGS)
"""What a folder's tokenizer may lie in."""

_CLIP_WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
_START, _END = "<|startoftext|>", "<|endoftext|>"

Clean = Callable[[str], str]


def keep_text(text: str) -> str:
    """As it is: the tokenizer does what is to be done."""
    return text


def lower_text(text: str) -> str:
    """In lower case, as SigLIP 2 was trained (arXiv:2502.14786)."""
    return text.lower()


def canonicalize_text(text: str) -> str:
    """In lower case, without punctuation and with single spaces, as SigLIP was trained (big_vision)."""
    return " ".join(text.lower().translate(str.maketrans("", "", string.punctuation)).split())


@dataclass(frozen=True)
class TextTokenizer:
    """A tokenizer and where it was found.

    Attributes:
        tokenizer: Of the package ``tokenizers``, without padding and truncation.
        files: That it was read from.
        pad: Number of the token that fills texts up, where the files say it.
        kind: Class that transformers would open it by, where the files say it; else the kind of its vocabulary.
    """

    tokenizer: Any
    files: tuple[Path, ...]
    pad: int | None
    kind: str

    def encode(self, texts: Sequence[str], clean: Clean, context: int, vocabulary: int) -> list[list[int]]:
        """The numbers of each text's tokens, with those that mark its start and end.

        Raises:
            DataError: Texts with more tokens than ``context``; all of them are listed.
            CheckpointError: A number that is not below ``vocabulary``, so that the tokenizer is another model's.
        """
        ids = [list(found.ids) for found in self.tokenizer.encode_batch([clean(text) for text in texts])]
        long = [f"{text}: {len(found)}" for text, found in zip(texts, ids, strict=True) if len(found) > context]
        if long:
            raise DataError(
                f"the text tower takes {context} tokens, which are too few for {count_things(len(long), 'text')} of "
                f"labels:\n{format_offenders(long)}",
                "shorten them; they are not cut off, as what is left would be another label",
            )
        largest = max(max(found, default=0) for found in ids)
        if largest >= vocabulary or not all(ids):
            raise CheckpointError(
                f"{self.files[0]} gives the token {largest}, and the text tower has {vocabulary}",
                "the tokenizer is another model's: take the one that was published with these weights",
            )
        return ids


def read_tokenizer(folder: Path, source: str) -> TextTokenizer:
    """Read a checkpoint's tokenizer.

    Args:
        folder: That the weights lie in.
        source: What the user named, for messages.

    Raises:
        MissingPackageError: ``tokenizers`` is not installed.
        CheckpointError: There is no tokenizer, or it is damaged.
    """
    package = require_package("tokenizers", "making a head of labels")
    configs = {name: _read_json(folder / name) for name in _CONFIGS if (folder / name).is_file()}
    paths = [folder / _WHOLE] if (folder / _WHOLE).is_file() else [folder / _VOCABULARY, folder / _MERGES]
    if not all(path.is_file() for path in paths):
        raise CheckpointError(
            f"{source} has no tokenizer for the texts of labels: neither {_WHOLE} nor {_VOCABULARY} with {_MERGES}",
            f"put the {_WHOLE} that was published with these weights beside them",
        )
    try:
        tokenizer = package.Tokenizer.from_file(str(paths[0])) if len(paths) == 1 else _build_clip(package, *paths)
    except Exception as exc:  # the package raises bare ones
        raise CheckpointError(
            f"{paths[0]} is not a tokenizer: {last_line(exc)}", "take the one that was published with these weights"
        ) from exc
    pad = _find_pad(tokenizer, configs)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    kind = configs.get(_CONFIGS[0], {}).get("tokenizer_class")
    kind = kind if isinstance(kind, str) else type(tokenizer.model).__name__
    return TextTokenizer(tokenizer, (*paths, *(folder / name for name in configs)), pad, kind)


def _build_clip(package: Any, vocabulary: Path, merges: Path) -> Any:
    from tokenizers import Regex, models, normalizers, pre_tokenizers, processors

    model = models.BPE.from_file(str(vocabulary), str(merges), end_of_word_suffix="</w>", unk_token=_END)
    tokenizer = package.Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_CLIP_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    end, start = (tokenizer.token_to_id(token) for token in (_END, _START))
    if end is None or start is None:
        raise ValueError(f"{vocabulary.name} has no {_START} and {_END}")
    tokenizer.post_processor = processors.RobertaProcessing((_END, end), (_START, start), False, False)
    return tokenizer


def _find_pad(tokenizer: Any, configs: Mapping[str, Mapping[str, Any]]) -> int | None:
    for config in configs.values():
        token = config.get("pad_token")
        token = token.get("content") if isinstance(token, Mapping) else token
        if isinstance(token, str) and (number := tokenizer.token_to_id(token)) is not None:
            return int(number)
    return int(tokenizer.padding["pad_id"]) if tokenizer.padding else None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as exc:
        raise CheckpointError(f"{path} is not JSON: {exc}", "download it again") from exc
    return data if isinstance(data, dict) else {}
