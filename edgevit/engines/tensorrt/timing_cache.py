"""What TensorRT's builder measured of kernels before, kept for a device and a version in the user's cache folder.

A build on a board takes minutes, most of them in timing kernels; with the cache of an earlier build it takes a part of
that, and chooses the same kernels. TensorRT-RTX times nothing, and asking it for such a cache would make it look for a
GPU (NVIDIA, TensorRT-RTX 1.1 release notes).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from edgevit.core.cache_folder import default_cache_directory
from edgevit.core.report.machine import Gpu
from edgevit.runtime.cache_file import read_cache, write_cache

_MOST_FILES = 16


class TimingCache:
    """One GPU's measurements by one version of the library.

    Args:
        backend: ``tensorrt``.
        version: Of the library.
        gpu: That it builds on; its size is part of the name, as one name may cover several.
    """

    def __init__(self, backend: str, version: str, gpu: Gpu) -> None:
        name = re.sub(r"[^0-9A-Za-z.]+", "-", f"{version}-{gpu.name}-{gpu.compute_capability}-{gpu.multiprocessors}")
        self._root, self._name = default_cache_directory(), f"{backend}/timing/{name}.cache"
        self._loaded: bytes | None = None

    @property
    def path(self) -> Path:
        """Where it is kept."""
        return self._root / self._name

    def attach(self, config: Any) -> tuple[str, ...]:
        """Let a build use it.

        Returns:
            Why the stored one is not used, if it is not; the build then begins with an empty one.
        """
        stored = read_cache(self.path)
        if stored is not None:
            cache = config.create_timing_cache(stored)
            if cache is not None and config.set_timing_cache(cache, False):
                self._loaded = stored
                return ()
        config.set_timing_cache(config.create_timing_cache(b""), False)
        if stored is None:
            return ()
        return (f"the timing cache {self.path} is damaged or of another device, and was made anew",)

    def save(self, config: Any) -> tuple[str, ...]:
        """Keep what the build added.

        Returns:
            Why it cannot be kept, if so: the next build takes as long as this one.
        """
        cache = config.get_timing_cache()
        content = bytes(cache.serialize()) if cache is not None else b""
        if not content or content == self._loaded:
            return ()
        if write_cache(self._root, self._name, content, most_files=_MOST_FILES):
            return ()
        return (f"the timing cache {self.path} cannot be written: the next build takes as long as this one",)
