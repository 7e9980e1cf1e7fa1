"""Weight files into named tensors, without running anything that they hold."""

from __future__ import annotations

import contextlib
import re
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from edgevit.checkpoints.files.adapters import CONFIG_FILE, merge_adapter, split_unmerged
from edgevit.checkpoints.files.contents import Contents, WhichWeights, unwrap_weights
from edgevit.checkpoints.files.inert import STAND_INS
from edgevit.checkpoints.files.keras_file import is_hdf5, is_keras_archive, read_keras_archive, read_weights
from edgevit.checkpoints.files.mindspore_file import is_mindspore, read_mindspore
from edgevit.checkpoints.files.npz import is_archive, read_archive
from edgevit.checkpoints.files.other_kinds import refuse_other
from edgevit.checkpoints.files.wrappers import unwrap_names
from edgevit.core.errors import CheckpointError, count_things, format_offenders, last_line

if TYPE_CHECKING:
    from edgevit.checkpoints.files.files import CheckpointFiles

_LEAVE_OUT = "leave --weights out"
_GLOBAL = re.compile(r"GLOBAL (\S+)")


def read_contents(
    source: str, weights: Sequence[Path], shards: Mapping[str, str] | None, which: WhichWeights | None
) -> Contents:
    """All tensors by name, memory-mapped where the format allows, and what the file says beside them.

    Args:
        source: What the user named, for messages.
        weights: One file, or the shards of one checkpoint.
        shards: The file of every tensor, where an index says it.
        which: The set of weights that is wanted where a file has two.

    Raises:
        CheckpointError: A file is damaged, needs code to be run, holds no tensors, or lacks tensors that the index of
            its shards promises; or the weights that are wanted are not there.
    """
    parts = [_read_file(path, which) for path in weights]
    tensors: dict[str, Tensor] = {}
    twice: list[str] = []
    for path, part in zip(weights, parts, strict=True):
        twice += [f"{name}: again in {path.name}" for name in part.tensors if name in tensors]
        tensors.update(part.tensors)
    if twice:
        raise CheckpointError(f"{source} has tensors in several shards:\n{format_offenders(twice)}", "save it again")
    if shards is not None:
        absent = [f"{name}: not in {file}" for name, file in shards.items() if name not in tensors]
        if absent:
            raise CheckpointError(
                f"{source}: the shards lack {count_things(len(absent), 'tensor')} of their index:\n"
                + format_offenders(absent),
                "download or save the checkpoint again",
            )
    if not tensors:
        raise CheckpointError(f"{source} holds no tensors", "name a file with a model's weights")
    notes = tuple(note for part in parts for note in part.notes)
    first = parts[0]
    named, more = unwrap_names(tensors, source, first.containers)
    return Contents(named, (*notes, *more), first.containers, first.stated, first.which)


def read_merged(files: CheckpointFiles, base: Contents) -> Contents:
    """A base model's weights with the LoRA that lies beside them, or inside their own file, merged into them."""
    if files.adapter is not None:
        tensors, adapter = dict(base.tensors), dict(read_contents(files.source, (files.adapter,), None, None).tensors)
    else:
        tensors, adapter = split_unmerged(base.tensors)
    merged, note = merge_adapter(tensors, adapter, files.configs[CONFIG_FILE], files.source)
    return replace(base, tensors=merged, notes=(*base.notes, note))


def _read_file(path: Path, which: WhichWeights | None) -> Contents:
    with path.open("rb") as file:
        head = file.read(9)
    # By content, not by name. A safetensors file begins with the length of its header, of any first byte.
    if head[8:] == b"{" and int.from_bytes(head[:8], "little") <= path.stat().st_size:
        return unwrap_weights(_read_safetensors(path), path, which)
    if is_archive(path):
        return unwrap_weights(read_archive(path), path, which)
    if is_hdf5(head) or is_keras_archive(path):
        if which == "ema":
            raise CheckpointError(f"{path} has no averaged weights that can be read: it is Keras'", _LEAVE_OUT)
        return read_weights(path) if is_hdf5(head) else read_keras_archive(path)
    if is_mindspore(head):
        return unwrap_weights(read_mindspore(path), path, which)
    refuse_other(str(path), path)
    if head[:1] == b"\x80" or head[:2] == b"PK":
        return unwrap_weights(_read_pickle(path), path, which)
    raise CheckpointError(
        f"{path} is neither safetensors nor a file of torch, NumPy, Keras or MindSpore, or its beginning is damaged",
        "download or save it again",
    )


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    import safetensors

    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 – not a dictionary
    except (safetensors.SafetensorError, OSError, ValueError, RuntimeError, AttributeError) as exc:
        raise CheckpointError(f"{path} is damaged: {last_line(exc)}", "download or save it again") from exc


def _read_pickle(path: Path) -> object:
    if path.suffix == ".safetensors":  # torch.load would go by the name
        raise CheckpointError(f"{path} is a pickle under the name of a safetensors file", "rename it to .pth")
    archive = zipfile.is_zipfile(path)
    try:
        with warnings.catch_warnings():  # about pickle protocols and TorchScript, which end in an error here
            warnings.simplefilter("ignore")
            with torch.serialization.safe_globals(list(STAND_INS)):
                return torch.load(path, map_location="cpu", weights_only=True, mmap=archive)
    except Exception as exc:  # the unpickler lets through whatever a damaged stream provokes
        _refuse_pickle(path, exc, archive)
        raise  # not reached


def _refuse_pickle(path: Path, exc: Exception, archive: bool) -> None:
    text = str(exc)
    if "TorchScript" in text:
        raise CheckpointError(
            f"{path} is a TorchScript archive, which is code; nothing from a checkpoint is executed",
            "save the model's state_dict() as safetensors where you trust the file",
        ) from exc
    wanted = set(_GLOBAL.findall(text))
    if archive and wanted:
        # The list of all, where it can be had; this disassembles the pickle and runs none of it.
        with contextlib.suppress(Exception), torch.serialization.safe_globals(list(STAND_INS)):
            wanted |= set(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    if wanted:
        raise CheckpointError(
            f"{path} is a pickle that needs more than tensors; nothing from a checkpoint is executed. It asks for:\n"
            + format_offenders(sorted(wanted)),
            "where you trust the file, load it with torch and save its state_dict() as safetensors",
        ) from exc
    raise CheckpointError(f"{path} is damaged: {last_line(exc)}", "download or save it again") from exc
