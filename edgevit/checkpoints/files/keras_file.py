"""Keras 3's files: ``.weights.h5`` (HDF5), and ``.keras``, a zip archive of one with its configuration.

Written from ``keras/src/saving/saving_lib.py``. A variable is the dataset ``…/vars/N`` of its layer's group; bfloat16
is stored as two raw bytes. Nothing of Keras is imported, and no layer that a configuration names is built.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from edgevit.checkpoints.files.contents import Contents
from edgevit.checkpoints.files.npz import ZIP_ERRORS, find_member, to_tensor
from edgevit.core.errors import CheckpointError, count_things
from edgevit.core.notes import note_names
from edgevit.core.packages import require_package

CONFIG = "keras"  # under which a .keras archive's configuration stands in Contents.stated
_HDF5 = b"\x89HDF\r\n\x1a\n"
_WEIGHTS = "model.weights.h5"
_OPTIMISER = "optimizer/"


def is_hdf5(head: bytes) -> bool:
    """Whether a file that begins so is HDF5."""
    return head[:8] == _HDF5


def is_keras_archive(path: Path) -> bool:
    """Whether a file is a zip archive as ``keras.Model.save`` writes it."""
    if not zipfile.is_zipfile(path):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return {"config.json", _WEIGHTS} <= set(archive.namelist())
    except ZIP_ERRORS:
        return False


def read_weights(path: Path) -> Contents:
    """Variables by the path of their dataset, mapped from the file.

    Raises:
        CheckpointError: The file is damaged, or of Keras 2.
        MissingPackageError: h5py is not installed.
    """
    with path.open("rb") as stream:
        return _read(path, stream, offset=0)


def read_keras_archive(path: Path) -> Contents:
    """As :func:`read_weights`; the configuration is stated under :data:`CONFIG`.

    Raises:
        CheckpointError: The archive is damaged.
        MissingPackageError: h5py is not installed.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            config = json.loads(archive.read("config.json"))
            member = archive.getinfo(_WEIGHTS)
            stored = member.compress_type == zipfile.ZIP_STORED
            with archive.open(member) as stream:
                read = _read(path, stream, offset=find_member(path, member) if stored else None)
    except ZIP_ERRORS as exc:
        raise CheckpointError(f"{path} is damaged: {exc}", "download or save it again") from exc
    stated = {CONFIG: config} if isinstance(config, Mapping) else {}
    return Contents(read.tensors, read.notes, stated=stated)


def _read(path: Path, stream: IO[bytes], offset: int | None) -> Contents:
    """Variables of an HDF5 file that begins at ``offset`` of ``path``, or cannot be mapped where that is ``None``."""
    h5py = require_package("h5py", "reading Keras' weights")
    tensors: dict[str, Tensor] = {}
    passed: list[str] = []

    def visit(name: str, item: object) -> None:
        if not isinstance(item, h5py.Dataset):
            return
        if name.startswith(_OPTIMISER):
            passed.append(name)
        else:
            tensors[name] = to_tensor(_read_dataset(path, item, offset))

    try:
        with h5py.File(stream, "r") as file:
            if "layer_names" in file.attrs or "model_weights" in file:
                raise CheckpointError(
                    f"{path} is of Keras 2 (its layers are listed by name), which cannot be read",
                    "load it with Keras 3 and save it as .weights.h5 or .keras, or export the model to ONNX",
                )
            file.visititems(visit)
    except (OSError, ValueError, KeyError, RuntimeError, TypeError, OverflowError) as exc:
        raise CheckpointError(f"{path} is damaged: {exc}", "download or save it again") from exc
    lead = f"dropped {count_things(len(passed), 'tensor')} (the optimiser's state): "
    notes = (note_names(lead, passed, 4),) if passed else ()
    return Contents(tensors, notes)


def _read_dataset(path: Path, dataset: Any, offset: int | None) -> npt.NDArray[Any]:
    begin = dataset.id.get_offset()
    plain = begin is not None and dataset.chunks is None and dataset.compression is None and dataset.size
    if offset is None or not plain or not dataset.shape:
        return np.array(dataset)
    # Copy on write: torch takes it without a warning, and nothing writes.
    mapped = np.memmap(path, dataset.dtype, "c", offset + begin, dataset.shape)
    return mapped if mapped.flags.aligned else mapped.copy()
