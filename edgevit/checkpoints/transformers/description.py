"""What a ``config.json`` of transformers says, brought into edgevit's terms; shared by its ViTs and its Swins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgevit.checkpoints.fields import Fields, Size
from edgevit.checkpoints.names import Names
from edgevit.models import ModelConfig


@dataclass(frozen=True)
class Description:
    """What a configuration says: the canonical config, the image size of its position table, names and class."""

    config: ModelConfig
    stored_size: Size
    names: Names
    architecture: str
    antialias: bool = False
    notes: tuple[str, ...] = ()


def name_classes(config: Mapping[str, Any]) -> list[str]:
    """The classes that the configuration names; none where it names something else."""
    names = config.get("architectures")
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


def find_channels(fields: Fields) -> list[str]:
    """Input channels that are not RGB's three, as a complaint."""
    channels = fields.integer("num_channels", 3)
    return [f"{channels} input channels"] if channels != 3 else []
