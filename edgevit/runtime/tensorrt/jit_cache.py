"""Kernels that TensorRT-RTX compiled for this GPU, kept in the user's cache folder.

A TensorRT-RTX plan is compiled for its GPU when it is opened, which takes seconds. The library checks what it is given
against its own version, the driver and the GPU, and compiles again where it does not fit. TensorRT's plans hold
finished kernels, and need none of this.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from edgevit.core.cache_folder import default_cache_directory
from edgevit.runtime.cache_file import read_cache, write_cache

_MOST_FILES = 64


class JitCache:
    """The compiled kernels of one plan, by its ``digest``, on one GPU."""

    def __init__(self, backend: str, version: str, gpu: str, digest: str) -> None:
        name = re.sub(r"[^0-9A-Za-z.]+", "-", f"{version}-{gpu}").strip("-")
        self._root, self._name = default_cache_directory(), f"{backend}/kernels/{name}-{digest[:16]}.bin"
        self._cache: Any = None
        self._loaded: bytes | None = None

    @property
    def path(self) -> Path:
        """Where it is kept."""
        return self._root / self._name

    def make_config(self, library: Any, plan: Any) -> Any:
        """How an execution context is made; ``None`` for a library without such a cache."""
        if not hasattr(library, "IRuntimeCache"):
            return None
        config = plan.create_runtime_config()
        # a batch's first call compiles all of it; otherwise latency would change under way, and a graph keep the worse
        config.dynamic_shapes_kernel_specialization_strategy = library.DynamicShapesKernelSpecializationStrategy.EAGER
        if self._cache is None:
            self._cache = config.create_runtime_cache()
            self._loaded = read_cache(self.path)
            if self._loaded is not None and not self._cache.deserialize(self._loaded):
                self._loaded = None  # of another driver: written anew
        config.set_runtime_cache(self._cache)
        return config

    def save(self) -> None:
        """Keep what was compiled since; a folder that cannot be written costs the next start its seconds, no more."""
        if self._cache is None:
            return
        kernels = bytes(self._cache.serialize())
        if not kernels or kernels == self._loaded:
            return
        if write_cache(self._root, self._name, kernels, most_files=_MOST_FILES):
            self._loaded = kernels

    def close(self) -> None:
        """Save, and let the library's object go."""
        try:
            self.save()
        finally:
            self._cache = None
