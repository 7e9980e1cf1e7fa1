"""The files of a checkpoint: found, told from look-alikes, hashed."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgevit.checkpoints.files.adapters import CONFIG_FILE, MERGE_HINT, WEIGHT_FILES, check_adapter, holds_lora
from edgevit.checkpoints.files.other_kinds import refuse_other
from edgevit.core.errors import CheckpointError, count_things, format_offenders

if TYPE_CHECKING:
    from torch import Tensor

    from edgevit.checkpoints.files.contents import Contents, WhichWeights

_WEIGHTS = (
    *("model.safetensors", "pytorch_model.bin"),
    *("open_clip_model.safetensors", "open_clip_pytorch_model.bin"),
)  # in order of preference
# What training scripts and other publishers call their files; read where a folder has only one.
_LOOSE_WEIGHTS = (".safetensors", ".pth", ".pt", ".bin", ".npz", ".ckpt", ".tar", ".keras", ".h5")
_HUB_PREFIXES = ("hf-hub:", "hf_hub:")
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*(@[\w./-]+)?")
_CONFIGS = ("config.json", "preprocessor_config.json", "processor_config.json", "open_clip_config.json")
# A preset of KerasHub: the backbone's weights, those of the task (a classifier's head), and what says how to use them.
_KERAS_WEIGHTS = ("model.weights.h5", "task.weights.h5")
_KERAS_CONFIGS = ("config.json", "task.json", "preprocessor.json", "image_converter.json", "metadata.json")
ONNX = ".onnx"
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_LFS_HINT = "fetch the real file: run `git lfs pull` in its repository, or download it again"
_OTHER_WEIGHTS = {
    ".gguf": "a GGUF file of a language model",
    ".msgpack": "Flax weights",
    ".h5": "TensorFlow weights",
    ".pb": "a TensorFlow graph",
}
_OTHER_HINT = "export the model to ONNX with its own framework and name that file, or"


@dataclass(frozen=True)
class CheckpointFiles:
    """What was found at a source.

    Attributes:
        source: What the user named, for messages.
        path: The folder or file.
        weights: Weight files; several where the weights are sharded.
        configs: Parsed JSON by file name; empty for a bare weight file.
        shards: The file of every tensor, where an index says it.
        extra: Other files that the hash covers.
        revision: The commit of the hub's repository that they are of.
        which: The set of weights that is wanted where a file has two: averaged over training, or the last step's.
        adapter: The weight file of a LoRA that belongs to them.
    """

    source: str
    path: Path
    weights: tuple[Path, ...]
    configs: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    shards: Mapping[str, str] | None = None
    extra: tuple[Path, ...] = ()
    revision: str | None = None
    which: WhichWeights | None = None
    adapter: Path | None = None

    @cached_property
    def contents(self) -> Contents:
        """The weights, read once; see :func:`edgevit.checkpoints.files.tensors.read_contents`."""
        from edgevit.checkpoints.files.tensors import read_contents, read_merged

        contents = read_contents(self.source, self.weights, self.shards, self.which)
        if self.adapter is None and not holds_lora(contents.tensors):
            return contents
        if CONFIG_FILE in self.configs:
            return read_merged(self, contents)
        beside = self.path.is_file() and (self.path.parent / CONFIG_FILE).is_file()
        raise CheckpointError(
            f"{self.source} holds LoRA layers that are not merged, and no {CONFIG_FILE} with it says their scale",
            f"name its folder {self.path.parent}, which has that file" if beside else MERGE_HINT,
        )

    def take_tensors(self) -> tuple[dict[str, Tensor], list[str]]:
        """All tensors by name, and notes on what was passed over; both are the caller's own to change."""
        return dict(self.contents.tensors), list(self.contents.notes)

    @property
    def bare_tensors(self) -> Mapping[str, Tensor]:
        """The tensors of weights that no configuration describes; none where there is one."""
        return self.contents.tensors if self.weights and not self.config else {}

    @property
    def config(self) -> dict[str, Any]:
        """``config.json``, or an empty dictionary."""
        return dict(self.configs.get("config.json", {}))

    @property
    def image_processor(self) -> dict[str, Any] | None:
        """What transformers says of the preprocessing, in a file of its own or, from version 5 on, inside another."""
        nested = self.configs.get("processor_config.json", {}).get("image_processor")
        return self.configs.get("preprocessor_config.json", nested if isinstance(nested, dict) else None)

    def describe(self) -> str:
        """What is there, for an error."""
        if self.path.is_file():
            return "a single file"
        names = sorted(p.name + ("/" if p.is_dir() else "") for p in self.path.iterdir())
        if not names:
            return "the folder is empty"
        config = f"; config.json has the keys {', '.join(sorted(self.config)[:12])}" if self.config else ""
        return f"the folder holds {', '.join(names[:12])}{' …' if len(names) > 12 else ''}{config}"

    def require_weights(self) -> None:
        """Raise where a folder has a configuration and no weights that can be read."""
        if self.weights:
            return
        _refuse_others(self.source, self.path)
        raise CheckpointError(
            f"{self.source} has no weights: {self.describe()}",
            f"weights are read from {' or '.join(_WEIGHTS)}, also sharded",
        )

    def sha256(self) -> str:
        """SHA-256 of the lines ``<sha256>  <file name>`` of all files, in order of names."""
        folder = self.path if self.path.is_dir() else self.path.parent
        stored = [folder / name for name in self.configs if (folder / name).is_file()]
        names = sorted([*self.weights, *self.extra, *stored], key=lambda p: p.name)
        lines = "".join(f"{hash_file(p)}  {p.name}\n" for p in names)
        return hashlib.sha256(lines.encode()).hexdigest()


def find_files(source: str | os.PathLike[str], which: WhichWeights | None = None) -> CheckpointFiles:
    """Find a checkpoint's files in a folder, a file or a hub id.

    ``hf-hub:ORGANISATION/NAME[@REVISION]`` is a hub id; so is ``ORGANISATION/NAME`` where no file has that path.

    Args:
        source: What the user named.
        which: The set of weights that is wanted where a file has two.

    Raises:
        CheckpointError: Nothing is there, or a file of it is empty, a pointer, or not JSON where it should be.
    """
    text = os.fspath(source)
    path = Path(text)
    revision = None
    try:
        exists = path.exists()
    except (OSError, ValueError) as exc:  # a name that is too long, or with a zero byte
        raise CheckpointError(f"{text!r} is not a path: {exc}", "name a folder or a weight file") from exc
    if is_hub_id(text):
        from edgevit.checkpoints.files.hub import download_checkpoint

        path, revision = download_checkpoint(text)
    elif not text or not exists:
        written = f"; a model of the Hugging Face hub is written hf-hub:{text}" if _HUB_ID.fullmatch(text) else ""
        raise CheckpointError(f"{text!r} does not exist", f"check the path{written}")
    try:
        files = _find_in_folder(text, path) if path.is_dir() else _find_file(text, path)
        for weights in files.weights:
            _check_file(weights)
    except OSError as exc:
        raise CheckpointError(
            f"{exc.filename or text} cannot be read: {exc.strerror or exc}", "check the path and its permissions"
        ) from exc
    return dataclasses.replace(files, revision=revision, which=which)


def is_hub_id(source: str) -> bool:
    """Whether a name is one of the Hugging Face hub: by its prefix, or as nothing has that path or could have."""
    if source.startswith(_HUB_PREFIXES):
        return True
    return bool(_HUB_ID.fullmatch(source)) and not os.path.exists(source) and not _looks_local(Path(source))


def _looks_local(path: Path) -> bool:
    """Whether a name that is not there was meant as a path: its folder is there, or it ends like a weight file."""
    return path.parent.is_dir() or path.suffix in (*_LOOSE_WEIGHTS, *_OTHER_WEIGHTS, ONNX, ".json")


def _find_file(source: str, path: Path) -> CheckpointFiles:
    _check_file(path)
    if (path.suffix in _OTHER_WEIGHTS and path.suffix not in _LOOSE_WEIGHTS) or path.suffix == ".json":
        what = _OTHER_WEIGHTS.get(path.suffix, "a configuration without weights")
        export = f"{_OTHER_HINT} " if path.suffix in _OTHER_WEIGHTS else ""
        raise CheckpointError(
            f"{source} is {what}, which cannot be read",
            f"{export}name a folder, or a {', '.join(_LOOSE_WEIGHTS)} file",
        )
    if path.name in WEIGHT_FILES and (path.parent / CONFIG_FILE).is_file():
        return _find_in_folder(source, path.parent)
    if path.suffix not in (*_LOOSE_WEIGHTS, ONNX):
        refuse_other(source, path)
    return _with_configs(source, path) if path.suffix == ONNX else CheckpointFiles(source, path, (path,))


def _with_configs(source: str, path: Path) -> CheckpointFiles:
    """An ONNX file, and what lies beside it to say how images are prepared and classes are called."""
    configs = {name: _load_json(path.parent / name) for name in _CONFIGS if (path.parent / name).is_file()}
    return CheckpointFiles(source, path, (path,), configs)


def _find_in_folder(source: str, folder: Path) -> CheckpointFiles:
    if (folder / "manifest.json").is_file() and (folder / "report.json").is_file():
        raise CheckpointError(
            f"{source} is a bundle of edgevit, not a checkpoint",
            "give the checkpoint that it was built from; edgevit inspect shows which that was",
        )
    configs = {name: _load_json(folder / name) for name in _CONFIGS if (folder / name).is_file()}
    adapter = next((folder / name for name in WEIGHT_FILES if (folder / name).is_file()), None)
    if (folder / CONFIG_FILE).is_file():
        configs[CONFIG_FILE] = _load_json(folder / CONFIG_FILE)
        if adapter is not None:
            return _find_base(source, folder, adapter, configs)
    if (folder / _KERAS_WEIGHTS[0]).is_file():
        weights = tuple(folder / name for name in _KERAS_WEIGHTS if (folder / name).is_file())
        configs |= {name: _load_json(folder / name) for name in _KERAS_CONFIGS if (folder / name).is_file()}
        return CheckpointFiles(source, folder, weights, configs)
    for name in _WEIGHTS:
        index = folder / f"{name}.index.json"
        if (folder / name).is_file():
            if name.startswith("open_clip_") and "open_clip_config.json" in configs:
                configs.pop("config.json", None)  # transformers', of weights that are not here
            return CheckpointFiles(source, folder, (folder / name,), configs)
        if index.is_file():
            shards = _read_index(index)
            weights = tuple(folder / file for file in sorted(set(shards.values())))
            return CheckpointFiles(source, folder, weights, configs, shards, (index,))
    graphs = sorted(folder.glob(f"*{ONNX}"))
    named = [path for path in graphs if path.stem == "model"]
    if len(graphs) == 1 or named:  # as Optimum leaves it
        return _with_configs(source, named[0] if named else graphs[0])
    if graphs:
        raise CheckpointError(
            f"{source} holds {len(graphs)} ONNX files:\n{format_offenders([p.name for p in graphs])}",
            "name the file itself",
        )
    loose = sorted(p for p in folder.iterdir() if p.suffix in _LOOSE_WEIGHTS and p.is_file())
    if "config.json" in configs or not loose:
        if not configs:
            _refuse_others(source, folder)
        return CheckpointFiles(source, folder, (), configs)
    if len(loose) > 1:
        raise CheckpointError(
            f"{source} holds {len(loose)} weight files:\n{format_offenders([p.name for p in loose])}",
            "name one of them",
        )
    return CheckpointFiles(source, folder, (loose[0],), configs)


def _find_base(source: str, folder: Path, adapter: Path, configs: dict[str, dict[str, Any]]) -> CheckpointFiles:
    """The base model of an adapter, in the same folder or where its configuration says, with the adapter."""
    config = configs[CONFIG_FILE]
    check_adapter(config, source)
    named = config.get("base_model_name_or_path")
    own = [folder / name for name in _WEIGHTS if (folder / name).is_file()]
    if own:
        return CheckpointFiles(source, folder, (own[0],), configs, adapter=adapter, extra=(adapter,))
    place = (folder / named) if isinstance(named, str) and named else None
    if place is None or not (place.exists() or is_hub_id(str(named))):
        where = f"at {named!r}" if named else "there, and its adapter_config.json names none"
        raise CheckpointError(f"{source} is an adapter, and its base model is not {where}", MERGE_HINT)
    base = find_files(place if place.exists() else str(named))
    # Labels and preprocessing of the adapter's folder, where it has them, are those that it was trained with.
    merged = {**base.configs, **configs}
    return dataclasses.replace(
        base,
        source=source,
        configs=merged,
        adapter=adapter,
        extra=(*base.extra, adapter, folder / CONFIG_FILE),
        revision=None,
    )


def _refuse_others(source: str, folder: Path) -> None:
    """Raise where a folder's weights are of a kind that cannot be read."""
    others = [f"{p.name}: {_OTHER_WEIGHTS[p.suffix]}" for p in sorted(folder.iterdir()) if p.suffix in _OTHER_WEIGHTS]
    if others:
        raise CheckpointError(
            f"{source} has no weights; what it has cannot be read:\n{format_offenders(others)}",
            f"{_OTHER_HINT} add weights as {' or '.join(_WEIGHTS)}, also sharded",
        )


def _read_index(index: Path) -> dict[str, str]:
    shards = _load_json(index).get("weight_map")
    if not isinstance(shards, dict) or not shards or not all(isinstance(f, str) for f in shards.values()):
        raise CheckpointError(f"{index} has no weight_map of tensor names to file names", "save the checkpoint again")
    files = sorted(set(shards.values()))
    # Nothing but a name: an index from elsewhere must not make edgevit open files outside its folder.
    outside = [f for f in files if f in ("", ".", "..") or Path(f).name != f or "\\" in f or "\0" in f]
    if outside:
        raise CheckpointError(
            f"{index} names shards outside its folder:\n{format_offenders([repr(f) for f in outside])}",
            "an index names files beside itself; do not trust this checkpoint",
        )
    missing = [f for f in files if not (index.parent / f).is_file()]
    if missing:
        raise CheckpointError(
            f"{index.parent} lacks {len(missing)} of {count_things(len(files), 'shard')}:\n{format_offenders(missing)}",
            "download the missing files",
        )
    return shards


def _check_file(path: Path) -> None:
    """Refuse what is no data at all, with its name, before a parser fails on it obscurely."""
    if not path.is_file():
        raise CheckpointError(f"{path} is not a regular file", "name a folder or a weight file")
    if path.stat().st_size == 0:
        raise CheckpointError(f"{path} is empty", "download or save it again")
    with path.open("rb") as file:
        head = file.read(256)
    if head.startswith(_LFS_POINTER):
        raise CheckpointError(f"{path} is a Git LFS pointer, not the file that it stands for", _LFS_HINT)
    if head.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        raise CheckpointError(f"{path} is a web page, not a checkpoint", "download the file itself, not its page")


def _load_json(path: Path) -> dict[str, Any]:
    _check_file(path)
    try:
        data = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as exc:
        raise CheckpointError(f"{path} is not valid JSON: {exc}", "download or save it again") from exc
    if not isinstance(data, dict):
        raise CheckpointError(f"{path} is not a JSON object", "download or save it again")
    return data


def hash_file(path: Path) -> str:
    """SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
