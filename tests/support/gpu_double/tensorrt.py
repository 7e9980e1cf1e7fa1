"""The double of ``tensorrt`` and ``tensorrt_rtx``: a plan is the ONNX file, and ONNX Runtime computes it."""

from __future__ import annotations

import enum
import json
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, TypeAlias

import numpy as np
import onnx

from tests.support.gpu_double import Handle, Machine, Work, read, write
from tests.support.gpu_double.cudart import enqueue

MAGIC = b"plan of the double\n"
PORT_DTYPES = {"uint8": "UINT8", "float32": "FLOAT"}
CONTEXT_BYTES = 1 << 20
"""GPU memory that an execution context takes for every image of its largest batch."""


class Severity(enum.IntEnum):
    """``ILogger.Severity``."""

    INTERNAL_ERROR = 0
    ERROR = 1
    WARNING = 2
    INFO = 3
    VERBOSE = 4


class ILogger:
    """The base class of loggers."""

    Severity: TypeAlias = Severity

    def __init__(self) -> None: ...

    def log(self, severity: Severity, msg: str) -> None:
        raise NotImplementedError  # pure virtual, as in the library: a logger is a subclass


class DataType(enum.IntEnum):
    """Of tensors."""

    FLOAT = 0
    UINT8 = 5


class TensorIOMode(enum.IntEnum):
    """Whether a tensor goes in or out."""

    NONE = 0
    INPUT = 1
    OUTPUT = 2


class EngineInvalidityDiagnostics(enum.IntFlag):
    """Bits of what is wrong with a plan."""

    VERSION_MISMATCH = 1
    UNSUPPORTED_CC = 2
    OLD_CUDA_DRIVER = 4
    OLD_CUDA_RUNTIME = 8
    INSUFFICIENT_GPU_MEMORY = 16
    MALFORMED_ENGINE = 32
    CUDA_ERROR = 64


class DynamicShapesKernelSpecializationStrategy(enum.IntEnum):
    """When kernels of a shape are compiled."""

    LAZY = 0
    EAGER = 1
    NONE = 2


class Object:
    """Knows its library; one that holds something says so until it is let go."""

    library: Any
    machine: Machine

    def say(self, severity: Severity, text: str) -> None:
        self.library.logger.log(severity, text)


class Runtime(Object):
    """Reads plans."""

    def __init__(self, logger: ILogger) -> None:
        # the real library keeps the first logger that it was given
        self.library.logger = getattr(self.library, "logger", None) or logger

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> Any:
        if self.machine.fails("deserialize_cuda_engine"):
            self.say(Severity.ERROR, "Error Code 2: OutOfMemory (Requested size was 1048576 bytes.)")
            return None
        header, fault = self._look_at(serialized_engine)
        if fault is not None:
            self.say(Severity.ERROR, fault[1])
            return None
        return self.library.ICudaEngine(header, serialized_engine[-header["model_bytes"] :])

    def _look_at(self, plan: bytes) -> tuple[dict[str, Any], tuple[EngineInvalidityDiagnostics, str] | None]:
        flags = EngineInvalidityDiagnostics
        if not plan.startswith(MAGIC):
            return {}, (flags.MALFORMED_ENGINE, "Serialization Error in verifyHeader: 0 (Magic tag does not match)")
        header = json.loads(plan[len(MAGIC) :].split(b"\n", 1)[0])
        if len(plan) < header["model_bytes"]:
            return header, (flags.MALFORMED_ENGINE, "Serialization Error in verifyHeader: 0 (Length does not match)")
        here = self.library.__version__
        if header["version"] != here:
            text = (
                "The engine plan file is not compatible with this version of TensorRT, expecting library version "
                f"{here} got {header['version']}, please rebuild."
            )
            return header, (flags.VERSION_MISMATCH, text)
        if header["compute_capability"] != self.machine.gpu.compute_capability:
            return header, (flags.UNSUPPORTED_CC, "The engine plan file is generated on an incompatible device")
        return header, None


class RtxRuntime(Runtime):
    """The real one can look at a plan's header too."""

    def get_engine_validity(self, buffer: bytes) -> tuple[Any, int]:
        _, fault = self._look_at(buffer)
        return (SimpleNamespace(), int(fault[0]) if fault is not None else 0)


class LayerInformationFormat(enum.IntEnum):
    """How an inspector lists layers."""

    ONELINE = 0
    JSON = 1


class EngineInspector:
    """Lists a layer for every node, as if nothing were fused, in the words of the real one."""

    def __init__(self, nodes: Sequence[str]) -> None:
        self._nodes = nodes

    def get_engine_information(self, format: LayerInformationFormat) -> str:
        assert format is LayerInformationFormat.ONELINE
        tensor = "[ { Name: x, Dimensions: [1], Format/Datatype: Half }]"
        lines = [
            f"Name: {node}, LayerType: gemm, Inputs: {tensor}, Outputs: {tensor}, "
            f"TacticName: t, StreamId: 0, Metadata: [ONNX Layer: {node}]"
            for node in self._nodes
        ]
        return "\n".join(["Layers:", *lines])


class ICudaEngine(Object):
    """A plan in memory."""

    def __init__(self, header: dict[str, Any], model: bytes) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self._header, self._model = header, model
        self._number = self.machine.take_number("engine")
        self._contexts = 0

    def __del__(self) -> None:
        self.machine.held.pop(getattr(self, "_number", -1), None)

    @property
    def num_io_tensors(self) -> int:
        return len(self._header["ports"])

    @property
    def num_optimization_profiles(self) -> int:
        return len(self._header["profiles"])

    @property
    def device_memory_size_v2(self) -> int:
        return int(CONTEXT_BYTES * max(largest[0] for _, _, largest in self._header["profiles"]))

    def get_tensor_name(self, index: int) -> str:
        return list(self._header["ports"])[index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode[self._header["ports"][name]["mode"]]

    def get_tensor_dtype(self, name: str) -> DataType:
        return DataType[self._header["ports"][name]["dtype"]]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._header["ports"][name]["shape"])

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[tuple[int, ...]]:
        return [tuple(shape) for shape in self._header["profiles"][profile_index]]

    def create_engine_inspector(self) -> EngineInspector:
        return EngineInspector([node.name for node in onnx.load_from_string(self._model).graph.node])

    def create_execution_context(self, runtime_config: Any = None) -> Any:
        size = self.device_memory_size_v2
        if (
            self.machine.fails("create_execution_context")
            or self.machine.used_bytes + size > self.machine.gpu.memory_bytes
        ):
            self.say(Severity.ERROR, f"Error Code 2: OutOfMemory (Requested size was {size} bytes.)")
            return None
        self._contexts += 1
        return self.library.IExecutionContext(self, size, 0 if self._contexts == 1 else -1, runtime_config)


class RtxCudaEngine(ICudaEngine):
    """The real one compiles for the GPU when a context is made, and can keep the result."""

    def create_runtime_config(self) -> Any:
        return self.library.IRuntimeConfig(self)


class IRuntimeConfig(Object):
    """How an execution context is made."""

    def __init__(self, engine: ICudaEngine) -> None:
        self.dynamic_shapes_kernel_specialization_strategy = DynamicShapesKernelSpecializationStrategy.LAZY
        self.cache: IRuntimeCache | None = None

    def create_runtime_cache(self) -> IRuntimeCache:
        cache: IRuntimeCache = self.library.IRuntimeCache()
        return cache

    def set_runtime_cache(self, cache: IRuntimeCache) -> bool:
        self.cache = cache
        return True


class IRuntimeCache(Object):
    """Compiled kernels."""

    def __init__(self) -> None:
        self.shapes: set[int] = set()
        self.compiled = 0

    def deserialize(self, blob: bytes) -> bool:
        try:
            stored = json.loads(blob)
        except ValueError:
            return False
        if stored["version"] != self.library.__version__:
            return False
        self.shapes |= set(stored["shapes"])
        return True

    def serialize(self) -> memoryview:
        return memoryview(json.dumps({"version": self.library.__version__, "shapes": sorted(self.shapes)}).encode())


class IExecutionContext(Object):
    """A plan with memory of its own."""

    def __init__(self, engine: ICudaEngine, size: int, profile: int, config: IRuntimeConfig | None) -> None:
        self.engine = engine
        self.active_optimization_profile = profile
        self.nvtx_verbosity: Any = None
        self._config = config
        self._number = self.machine.take_number("context", size)
        self._addresses: dict[str, int] = {}
        self._shape: tuple[int, ...] | None = None
        self._unprepared = True

    def __del__(self) -> None:
        self.machine.held.pop(getattr(self, "_number", -1), None)

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        if self.machine.fails("set_optimization_profile_async"):
            return False
        assert self.machine.handles[stream_handle].capture is None
        self.active_optimization_profile, self._shape, self._unprepared = profile_index, None, True
        return True

    def set_input_shape(self, name: str, shape: Sequence[int]) -> bool:
        if self.machine.fails("set_input_shape"):
            return False
        if self.active_optimization_profile < 0:
            self.say(Severity.ERROR, "Error Code 3: API Usage Error (No optimization profile has been selected.)")
            return False
        least, _, largest = self.engine.get_tensor_profile_shape(name, self.active_optimization_profile)
        if not all(low <= d <= high for low, d, high in zip(least, shape, largest, strict=True)):
            self.say(Severity.ERROR, f"Error Code 3: API Usage Error ({tuple(shape)} is outside of the profile.)")
            return False
        self._shape, self._unprepared = tuple(shape), True
        return True

    def set_tensor_address(self, name: str, memory: int) -> bool:
        if self.machine.fails("set_tensor_address"):
            return False
        self._addresses[name] = memory
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        if self.machine.fails("execute_async_v3"):
            self.say(Severity.ERROR, "Error Code 1: Cuda Runtime (out of memory)")
            return False
        stream: Handle = self.machine.handles[stream_handle]
        if self._shape is None:
            self.say(Severity.ERROR, "Error Code 3: API Usage Error (the input's shape was not set.)")
            return False
        if stream.capture is not None and self._unprepared:
            # as the real library, which allocates and copies at the first call with a shape
            stream.broken = True
            self.say(Severity.ERROR, "Error Code 1: Cuda Runtime (operation not permitted when stream is capturing)")
            return False
        if self._unprepared and self._config is not None and self._config.cache is not None:
            cache = self._config.cache
            cache.compiled += self._shape[0] not in cache.shapes
            cache.shapes.add(self._shape[0])
        self._unprepared = False
        shape, addresses = self._shape, dict(self._addresses)
        enqueue(stream, Work(lambda: self._compute(shape, addresses), tuple(addresses.values())))
        return True

    def _compute(self, shape: tuple[int, ...], addresses: dict[str, int]) -> None:
        session = self.engine._session
        (port,) = session.get_inputs()
        size = int(np.prod(shape))
        if self.machine.find_kind(addresses[port.name], size) != "gpu":
            self.machine.sticky = 700
            return
        pixels = np.frombuffer(read(addresses[port.name], size), np.uint8).reshape(shape)
        for output, values in zip(session.get_outputs(), session.run(None, {port.name: pixels}), strict=True):
            content = np.ascontiguousarray(values, np.float32).tobytes()
            if self.machine.find_kind(addresses[output.name], len(content)) != "gpu":
                self.machine.sticky = 700
                return
            write(addresses[output.name], content)


class RtxExecutionContext(IExecutionContext):
    """The real one says whether a stream can record it."""

    def is_stream_capturable(self, stream: int) -> bool:
        return not getattr(self.library, "refuses_capture", False)


def make_library(machine: Machine, name: str, version: str) -> Any:
    """The module, as the machine has it."""
    from tests.support.gpu_double import builder

    rtx = name == "tensorrt_rtx"
    module: Any = ModuleType(name)
    module.__version__ = version
    classes: dict[str, type] = {
        "Runtime": RtxRuntime if rtx else Runtime,
        "ICudaEngine": RtxCudaEngine if rtx else ICudaEngine,
        "IExecutionContext": RtxExecutionContext if rtx else IExecutionContext,
        **builder.list_classes(rtx),
    }
    enums: dict[str, type] = {"ILogger": ILogger, "DataType": DataType, "TensorIOMode": TensorIOMode}
    enums["LayerInformationFormat"] = LayerInformationFormat
    if rtx:
        classes |= {"IRuntimeConfig": IRuntimeConfig, "IRuntimeCache": IRuntimeCache}
        enums |= {
            "EngineInvalidityDiagnostics": EngineInvalidityDiagnostics,
            "DynamicShapesKernelSpecializationStrategy": DynamicShapesKernelSpecializationStrategy,
        }
    for key, cls in classes.items():
        setattr(module, key, type(key, (cls,), {"library": module, "machine": machine}))
    for key, cls in {**enums, **builder.list_enums(rtx)}.items():
        setattr(module, key, cls)
    return module


def write_plan(
    model: Path,
    version: str,
    compute_capability: str,
    profiles: Sequence[Sequence[Sequence[int]]],
) -> bytes:
    """A plan of the double."""
    import onnx

    loaded = onnx.load(model)
    ports = {}
    for mode, values in (("INPUT", loaded.graph.input), ("OUTPUT", loaded.graph.output)):
        for value in values:
            kind = value.type.tensor_type
            shape = [d.dim_value if d.HasField("dim_value") else -1 for d in kind.shape.dim]
            dtype = PORT_DTYPES[str(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type))]
            ports[value.name] = {"mode": mode, "dtype": dtype, "shape": shape}
    content = loaded.SerializeToString()
    header = {
        "version": version,
        "compute_capability": compute_capability,
        "ports": ports,
        "profiles": [[list(shape) for shape in profile] for profile in profiles],
        "model_bytes": len(content),
    }
    return MAGIC + json.dumps(header).encode() + b"\n" + content
