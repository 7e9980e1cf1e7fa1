"""The independent references that tests compare with: timm and transformers, imported so that they load."""

from __future__ import annotations

from types import ModuleType
from typing import Any


def import_torchvision() -> ModuleType:
    """Import torchvision beside torch's CPU build, whose operators its registry wheel does not match."""
    import torch

    original = torch.library.register_fake
    ignore: Any = lambda *args, **kwargs: lambda function: function  # noqa: E731
    torch.library.register_fake = ignore
    try:
        import torchvision
    finally:
        torch.library.register_fake = original
    module: ModuleType = torchvision
    return module


def import_timm() -> ModuleType:
    """Import timm, which imports torchvision."""
    import_torchvision()
    import timm

    module: ModuleType = timm
    return module


def import_transformers() -> ModuleType:
    """Import transformers; its image processors import torchvision."""
    import_torchvision()
    import transformers

    module: ModuleType = transformers
    return module
