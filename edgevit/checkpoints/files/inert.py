"""What training scripts pickle beside their tensors, read as plain values: no class that they name is loaded.

torch's restricted unpickler calls what it is given under a name. Each name here gets a stand-in of this file, which
keeps the values and does nothing with them.
"""

from __future__ import annotations

import re
from argparse import Namespace
from collections import OrderedDict
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any

import numpy as np

_PLAIN_TYPE = re.compile(r"[fiub][1248]")


class _Mapping:
    """A configuration that is a dictionary; the unpickler fills exactly its own kinds of dictionary."""

    def __new__(cls, *args: object) -> Any:
        return OrderedDict()


class _Type:
    """A NumPy type by its code, ``f8``."""

    def __init__(self, code: object = "", *args: object) -> None:
        self.code = str(code)
        self.order = "<"

    def __setstate__(self, state: object) -> None:
        if isinstance(state, tuple) and len(state) > 1 and state[1] == ">":
            self.order = ">"


def _read_number(kind: object = None, data: object = None) -> float | int | bool | None:
    """A NumPy number; ``None`` for what is none."""
    if not isinstance(kind, _Type) or not isinstance(data, bytes) or not _PLAIN_TYPE.fullmatch(kind.code):
        return None
    dtype = np.dtype(kind.order + kind.code)
    found: float | int | bool | None = np.frombuffer(data, dtype)[0].item() if len(data) == dtype.itemsize else None
    return found


def _join_path(*parts: object) -> str:
    return str(PurePosixPath(*map(str, parts)))


_PATHS = [
    f"pathlib.{module}{kind}{system}Path"
    for module in ("", "_local.")  # Python 3.13
    for kind in ("", "Pure")
    for system in ("Posix", "Windows")
]
STAND_INS: tuple[type | tuple[Callable[..., Any], str], ...] = (
    Namespace,  # plain attributes: nothing of argparse runs
    (_Mapping, "yacs.config.CfgNode"),  # Microsoft's Swin saves its configuration
    (_Type, "numpy.dtype"),
    *((_read_number, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
    *((_join_path, name) for name in _PATHS),
)
"""For :func:`torch.serialization.safe_globals`."""
