"""The part of the double that compiles."""

from __future__ import annotations

import enum
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.support.gpu_double.tensorrt import Object, Severity, write_plan


class NetworkDefinitionCreationFlag(enum.IntEnum):
    STRONGLY_TYPED = 0


class ProfilingVerbosity(enum.IntEnum):
    LAYER_NAMES_ONLY = 0
    NONE = 1
    DETAILED = 2


class BuilderFlag(enum.IntEnum):
    TF32 = 6


class MemoryPoolType(enum.IntEnum):
    WORKSPACE = 0


class ComputeCapability(enum.IntEnum):
    SM86 = 86
    SM89 = 89
    SM120 = 120


class INetworkDefinition(Object):
    """What the parser fills."""

    def __init__(self) -> None:
        self.path: Path | None = None


class OnnxParser(Object):
    """Takes any ONNX file that ONNX Runtime takes later."""

    def __init__(self, network: INetworkDefinition, logger: Any) -> None:
        self._network, self.num_errors = network, 0

    def parse_from_file(self, model: str) -> bool:
        self._network.path = Path(model)
        return True

    def get_error(self, index: int) -> Any:
        return SimpleNamespace(desc=lambda: "")


class IOptimizationProfile(Object):
    """Three shapes of the one input."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def set_shape(self, input: str, min: Any, opt: Any, max: Any) -> None:
        self.shapes = [tuple(min), tuple(opt), tuple(max)]


class ITimingCache(Object):
    """What tactics took."""

    def __init__(self, stored: bytes) -> None:
        self.tactics: dict[str, Any] = json.loads(stored) if stored else {}

    def serialize(self) -> memoryview:
        return memoryview(json.dumps(self.tactics).encode())


class IBuilderConfig(Object):
    """How to compile."""

    def __init__(self) -> None:
        self.profiling_verbosity = ProfilingVerbosity.LAYER_NAMES_ONLY
        self.num_compute_capabilities = 0
        self.capability: ComputeCapability | None = None
        self.profiles: list[IOptimizationProfile] = []
        self.limits: dict[MemoryPoolType, int] = {}
        self.cache: ITimingCache | None = None
        self.cleared: set[BuilderFlag] = set()

    def clear_flag(self, flag: BuilderFlag) -> None:
        self.cleared.add(flag)

    def set_memory_pool_limit(self, pool: MemoryPoolType, pool_size: int) -> None:
        self.limits[pool] = pool_size

    def add_optimization_profile(self, profile: IOptimizationProfile) -> int:
        self.profiles.append(profile)
        return len(self.profiles) - 1

    def create_timing_cache(self, serialized_timing_cache: bytes) -> Any:
        try:
            return self.library.ITimingCache(serialized_timing_cache)
        except ValueError:
            self.say(Severity.WARNING, "The timing cache is damaged.")
            return None

    def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool:
        here = self.machine.gpu.name
        if cache.tactics.get("gpu", here) != here and not ignore_mismatch:
            return False
        self.cache = cache
        return True

    def get_timing_cache(self) -> ITimingCache | None:
        return self.cache


class RtxBuilderConfig(IBuilderConfig):
    """Compiles for a GPU that is not here."""

    def set_compute_capability(self, compute_capability: ComputeCapability, index: int) -> bool:
        self.capability = compute_capability
        return True


class Builder(Object):
    """Compiles."""

    def __init__(self, logger: Any) -> None:
        self.library.logger = getattr(self.library, "logger", None) or logger

    def create_network(self, flags: int) -> Any:
        return self.library.INetworkDefinition()

    def create_builder_config(self) -> Any:
        return self.library.IBuilderConfig()

    def create_optimization_profile(self) -> Any:
        return self.library.IOptimizationProfile()

    def build_serialized_network(self, network: INetworkDefinition, config: IBuilderConfig) -> memoryview | None:
        import onnx

        assert network.path is not None
        if self.machine.fails("build_serialized_network"):
            self.say(Severity.ERROR, "Error Code 10: Internal Error (Could not find any implementation for node fc1.)")
            return None
        if config.capability is None and self.machine.device != self.machine.gpu.index:
            self.say(Severity.ERROR, f"Error Code 9: it compiles for GPU {self.machine.device}, the thread's own")
            return None
        if config.cache is not None:
            config.cache.tactics |= {"gpu": self.machine.gpu.name, network.path.name: 1}
        shape = tuple(d.dim_value for d in onnx.load(network.path).graph.input[0].type.tensor_type.shape.dim)
        profiles = [profile.shapes for profile in config.profiles] or [[shape, shape, shape]]
        sm = config.capability
        capability = f"{sm // 10}.{sm % 10}" if sm is not None else self.machine.gpu.compute_capability
        return memoryview(write_plan(network.path, self.library.__version__, capability, profiles))


def list_classes(rtx: bool) -> dict[str, type]:
    """Of the module, by their names there."""
    return {
        "Builder": Builder,
        "INetworkDefinition": INetworkDefinition,
        "OnnxParser": OnnxParser,
        "IOptimizationProfile": IOptimizationProfile,
        "ITimingCache": ITimingCache,
        "IBuilderConfig": RtxBuilderConfig if rtx else IBuilderConfig,
    }


def list_enums(rtx: bool) -> dict[str, type]:
    """Of the module, by their names there."""
    found: dict[str, type] = {
        "NetworkDefinitionCreationFlag": NetworkDefinitionCreationFlag,
        "BuilderFlag": BuilderFlag,
        "ProfilingVerbosity": ProfilingVerbosity,
        "MemoryPoolType": MemoryPoolType,
    }
    return found | {"ComputeCapability": ComputeCapability} if rtx else found
