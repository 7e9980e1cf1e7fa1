"""A plan in memory: read, compared with what its description says, and ready to make execution contexts."""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

from edgevit.core.engine import Engine, TensorSpec
from edgevit.core.errors import DeviceError
from edgevit.runtime.tensorrt.jit_cache import JitCache
from edgevit.runtime.tensorrt.log import get_log

_REBUILD = "build the bundle again on this machine"
_DTYPES = {"uint8": "UINT8", "float32": "FLOAT"}
# EngineInvalidityDiagnostics, of those versions that look at a plan's header
_FAULTS = {
    "VERSION_MISMATCH": "it is of another version of the library",
    "UNSUPPORTED_CC": "it is for another compute capability",
    "OLD_CUDA_DRIVER": "the driver is too old for it",
    "OLD_CUDA_RUNTIME": "the CUDA runtime is too old for it",
    "INSUFFICIENT_GPU_MEMORY": "the GPU's memory does not suffice",
    "MALFORMED_ENGINE": "the file is damaged",
}


class Profile(NamedTuple):
    """An optimisation profile: the batches that it takes, and the one that it is best for."""

    number: int
    least: int
    best: int
    largest: int


class Plan:
    """A deserialised plan.

    Args:
        library: ``tensorrt`` or ``tensorrt_rtx``.
        engine: Its description.
        gpu: The name of the GPU, which compiled kernels are kept for.

    Raises:
        DeviceError: The library does not read it, or it is not what the description says.
    """

    def __init__(self, library: Any, engine: Engine, gpu: str) -> None:
        self.library, self.engine = library, engine
        self.log = get_log(library)
        self.name = engine.backend
        try:
            data = engine.read(engine.files[0])
        except OSError as exc:
            raise DeviceError(
                f"{engine.path} cannot be read: {exc.strerror or exc}",
                "copy the bundle again, or check its permissions",
                code="damaged",
            ) from exc
        self.jit = JitCache(engine.backend, str(library.__version__), gpu, hashlib.sha256(data).hexdigest())
        with self.log.listen() as said:
            runtime = library.Runtime(self.log)
            plan = runtime.deserialize_cuda_engine(data)
        if plan is None:
            fault = _find_fault(library, runtime, data)
            raise DeviceError(f"{self.name} cannot read {engine.path.name}{fault}{said.describe()}", _REBUILD)
        self.runtime, self.plan = runtime, plan
        self._check_ports()
        self.profiles = self._read_profiles()

    def close(self) -> None:
        """Let go of the plan and then of the runtime, which must be older than its plans."""
        self.jit.close()
        self.plan = None
        self.runtime = None

    def _check_ports(self) -> None:
        modes = self.library.TensorIOMode
        expected = [(spec, modes.INPUT) for spec in self.engine.inputs]
        expected += [(spec, modes.OUTPUT) for spec in self.engine.outputs]
        names = [self.plan.get_tensor_name(i) for i in range(self.plan.num_io_tensors)]
        fits = sorted(names) == sorted(spec.name for spec, _ in expected) and all(
            self.plan.get_tensor_mode(spec.name) == mode and self._is_alike(spec) for spec, mode in expected
        )
        if not fits:
            found = ", ".join(
                f"{n} {tuple(self.plan.get_tensor_shape(n))} {self.plan.get_tensor_dtype(n)}" for n in names
            )
            raise DeviceError(f"{self.engine.path.name} is not the engine that is described: it has {found}", _REBUILD)

    def _is_alike(self, spec: TensorSpec) -> bool:
        dtype = getattr(self.library.DataType, _DTYPES.get(spec.dtype, ""), None)
        shape = tuple(self.plan.get_tensor_shape(spec.name))
        same = len(shape) == len(spec.shape) and all(
            not isinstance(d, int) or d == s for d, s in zip(spec.shape, shape, strict=True)
        )
        return same and self.plan.get_tensor_dtype(spec.name) == dtype

    def _read_profiles(self) -> tuple[Profile, ...]:
        name = self.engine.inputs[0].name
        profiles = []
        for index in range(self.plan.num_optimization_profiles):
            shapes = self.plan.get_tensor_profile_shape(name, index)
            profiles.append(Profile(index, *(int(next(iter(shape))) for shape in shapes)))
        untaken = [size for size in dict.fromkeys(self.engine.batch) if not any(_takes(p, size) for p in profiles)]
        if untaken:
            ranges = ", ".join(f"{p.least} to {p.largest}" for p in profiles)
            raise DeviceError(
                f"{self.engine.path.name} takes {ranges} images a call, and its description says "
                f"{self.engine.batch[0]} to {self.engine.batch[2]}",
                _REBUILD,
            )
        return tuple(profiles)

    def choose_profile(self, size: int) -> Profile:
        """The profile whose best batch is nearest among those that take ``size`` images.

        Raises:
            DeviceError: None does: the profiles leave a gap.
        """
        fitting = [p for p in self.profiles if _takes(p, size)]
        if not fitting:
            raise DeviceError(f"no profile of {self.engine.path.name} takes {size} images a call", _REBUILD)
        return min(fitting, key=lambda p: (abs(p.best - size), p.number))

    def make_context(self) -> Any:
        """An execution context with memory of its own for its largest batch.

        Raises:
            DeviceError: There is no memory for it, or the kernels cannot be made ready.
        """
        with self.log.listen() as said:
            config = self.jit.make_config(self.library, self.plan)
            context = (
                self.plan.create_execution_context() if config is None else self.plan.create_execution_context(config)
            )
        if context is None:
            # the property's name before TensorRT 10.1
            needed = int(getattr(self.plan, "device_memory_size_v2", 0) or getattr(self.plan, "device_memory_size", 0))
            raise DeviceError(
                f"{self.name} cannot make {self.engine.path.name} ready to run; it needs {needed / 2**20:.0f} MiB of "
                f"GPU memory besides its weights{said.describe()}",
                "close other programs that use the GPU, open fewer streams, or build with a smaller largest --batch",
            )
        # plans are built with detailed names for the list of layers; announcing each at every launch takes time
        context.nvtx_verbosity = self.library.ProfilingVerbosity.NONE
        return context


def _takes(profile: Profile, size: int) -> bool:
    return profile.least <= size <= profile.largest


def _find_fault(library: Any, runtime: Any, data: bytes) -> str:
    """What the library says of the plan's header, where its version can look at it."""
    if not hasattr(runtime, "get_engine_validity"):
        return ""
    _, diagnostics = runtime.get_engine_validity(data)
    flags = library.EngineInvalidityDiagnostics
    found = [
        text for name, text in _FAULTS.items() if hasattr(flags, name) and int(diagnostics) & int(getattr(flags, name))
    ]
    return f": {' and '.join(found)}" if found else ""
