"""Compiling with TensorRT or TensorRT-RTX to ``model.plan``; one module, as both have the same Python interface.

The graph is strongly typed already (:mod:`edgevit.engines.tensorrt.typed`), so no flag says how anything is computed;
for TensorRT before 10.3 :mod:`edgevit.engines.tensorrt.builder_flags` does. TensorRT compiles on the GPU that it
compiles for; TensorRT-RTX compiles for a compute capability that it is told, and needs no GPU.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from edgevit.core.engine import Engine, GpuRecord, Setting, TensorSpec
from edgevit.core.errors import CompileError, DeviceError, format_last_lines, format_offenders
from edgevit.core.target import Target
from edgevit.engines.fusion_file import save_fusion
from edgevit.engines.model_file import check_model, find_batch
from edgevit.engines.tensorrt.builder_flags import allow_precision, create_network, share_profiles
from edgevit.engines.tensorrt.fusion import EngineLayer, prove_fusion, read_layers, read_types
from edgevit.engines.tensorrt.timing_cache import TimingCache
from edgevit.graph.graph import Graph
from edgevit.runtime.cuda import Cuda, import_cudart
from edgevit.runtime.nvidia import find_gpu, read_gpus
from edgevit.runtime.session import get_runtime
from edgevit.runtime.tensorrt.log import get_log
from edgevit.runtime.tensorrt.open_plan import import_tensorrt

PLAN_FILE, TYPED_FILE = "model.plan", "typed.onnx"
_WORKSPACE_SHARE = 4
"""Of a device's memory, which on a Jetson the rest of the system shares, the share that tactics may use: a quarter."""


class TensorRT:
    """One of the two libraries.

    Args:
        name: ``tensorrt`` or ``tensorrt_rtx``: the module, and the key in ``LIBRARIES``.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def capabilities(self) -> tuple[str, ...]:
        """The compute capabilities that TensorRT-RTX compiles for without such a GPU, ``SM86`` and others."""
        return tuple(n for n in dir(self._import().ComputeCapability) if n.startswith("SM"))

    def check(self, model_path: Path, target: Target) -> None:
        """Refuse early.

        Raises:
            MissingPackageError: The library is not installed.
            DeviceError: The GPU is not here, or the library does not compile for it.
            CompileError: The graph breaks a rule of TensorRT's; every fault is listed with its site.
        """
        self._import()
        self._find_device(target)
        graph = Graph.load(model_path)
        inputs, outputs = (_describe(values) for values in (graph.model.graph.inputs, graph.model.graph.outputs))
        check_model(inputs, outputs, model_path)
        _refuse_violations(graph, target, model_path)

    def compile(
        self,
        model_path: Path,
        target: Target,
        precision: str,
        directory: Path,
        settings: Mapping[str, Setting],
        *,
        model_info: Mapping[str, str] | None = None,
        batch: tuple[int, int, int] | None = None,
    ) -> Engine:
        """Type the graph, and write the plan and what the compiler fused.

        As :func:`edgevit.engines.compile.compile_engine`. What is not quantised is computed in float16, of ``fp32`` in
        float32. ``model_info`` is OpenVINO's and is not used.
        """
        graph = type_for_compiler(Graph.load(model_path), target, precision, model_path)
        model_path = directory / TYPED_FILE
        graph.save(model_path)
        inputs, outputs = (_describe(values) for values in (graph.model.graph.inputs, graph.model.graph.outputs))
        batch = find_batch(inputs[0], batch, model_path)
        plan, layers, notes = self._build(model_path, target, inputs[0], batch, precision, _list_wide(graph))
        (directory / PLAN_FILE).write_bytes(plan)
        op_types = {node.name or "": node.op_type for node in graph.model.graph}
        versions = get_runtime(self.name).read_versions()
        compiler = f"{self.name} {versions[self.name]}"
        record = prove_fusion(layers, op_types, compiler, self._find_device(target), read_types(graph))
        record = dataclasses.replace(record, notes=(*record.notes, *notes))
        save_fusion(record, directory)
        return Engine(
            backend=self.name,
            device=target.device,
            precision=precision,
            files=(PLAN_FILE,),
            inputs=inputs,
            outputs=outputs,
            batch=batch,
            settings=settings,
            versions=versions,
            gpu=self._describe_gpu(target),
            directory=directory,
        )

    def _build(
        self,
        model_path: Path,
        target: Target,
        image: TensorSpec,
        batch: tuple[int, int, int],
        precision: str = "fp16",
        wide: Collection[str] = (),
    ) -> tuple[bytes, tuple[EngineLayer, ...], tuple[str, ...]]:
        """The plan, what the compiler lists, and notes; all that it says goes to the process's one logger."""
        library = self._import()
        log = get_log(library)
        with log.listen() as said:
            gpu = None if self.name == "tensorrt_rtx" else find_gpu(target.compute_capability)
            if gpu is not None:  # the builder compiles for the calling thread's
                Cuda(import_cudart(), gpu.index).activate()
            builder = library.Builder(log)
            network = create_network(library, builder, strongly_typed=target.strongly_typed)
            parser = library.OnnxParser(network, log)
            if not parser.parse_from_file(str(model_path)):
                raise self._refuse(model_path, [parser.get_error(i).desc() for i in range(parser.num_errors)])
            config = builder.create_builder_config()
            config.profiling_verbosity = library.ProfilingVerbosity.DETAILED
            if not target.strongly_typed:
                allow_precision(library, network, config, precision, wide)
                share_profiles(library, config)
            if precision == "fp32":  # on by default, it would multiply float32 with the 10 bits of float16
                config.clear_flag(library.BuilderFlag.TF32)
            if target.memory_bytes is not None:
                config.set_memory_pool_limit(library.MemoryPoolType.WORKSPACE, target.memory_bytes // _WORKSPACE_SHARE)
            if self.name == "tensorrt_rtx":
                capability = getattr(library.ComputeCapability, self._find_device(target))
                config.num_compute_capabilities = 1
                config.set_compute_capability(capability, 0)
            if not isinstance(image.shape[0], int):
                profile = builder.create_optimization_profile()
                profile.set_shape(image.name, *((size, *image.shape[1:]) for size in batch))
                config.add_optimization_profile(profile)
            timings = TimingCache(self.name, str(library.__version__), gpu) if gpu is not None else None
            notes = timings.attach(config) if timings is not None else ()
            try:
                plan = builder.build_serialized_network(network, config)
            except (MemoryError, RuntimeError) as exc:  # std::bad_alloc and the like; mostly it returns None instead
                raise self._refuse(model_path, [*said.errors, f"{type(exc).__name__}: {exc}"]) from exc
            if plan is None:
                raise self._refuse(model_path, said.errors or ["it gave no plan and no reason"])
            if timings is not None:
                notes += timings.save(config)
            listed = next((text for text in said.messages if text.startswith("Layers:")), "")
            if not listed and self.name == "tensorrt":
                listed = _inspect_plan(library, log, bytes(plan))
            return bytes(plan), read_layers(listed), notes

    def _refuse(self, model_path: Path, errors: list[str]) -> CompileError:
        lines = [line for error in errors for line in error.splitlines()]
        return CompileError(
            f"{self.name} cannot compile {model_path.name}:{format_last_lines(lines, 6)}",
            "report the operator that the last lines name, or choose another target",
        )

    def _find_device(self, target: Target) -> str:
        """The compute capability as the library spells it."""
        if self.name == "tensorrt_rtx":
            here = self.capabilities()
            wanted = f"SM{(target.compute_capability or '').replace('.', '')}"
            if wanted not in here:
                raise DeviceError(
                    f"{self.name} does not compile for {wanted or 'a GPU of unknown compute capability'}; "
                    f"it does for {', '.join(here)}",
                    "give the target a compute_capability of these",
                )
            return wanted
        gpus = read_gpus()
        if target.compute_capability not in (None, *(gpu.compute_capability for gpu in gpus)):
            raise DeviceError(
                f"no GPU of compute capability {target.compute_capability} is here", "build on the device itself"
            )
        return f"SM{(target.compute_capability or gpus[0].compute_capability).replace('.', '')}"

    def _describe_gpu(self, target: Target) -> GpuRecord | None:
        """What the plan is for, which the runtime compares with the machine's GPU."""
        wanted = target.compute_capability
        if self.name == "tensorrt_rtx":
            return GpuRecord(wanted) if wanted is not None else None
        gpu = find_gpu(wanted)
        return GpuRecord(gpu.compute_capability, gpu.name, gpu.multiprocessors) if gpu is not None else None

    def _import(self) -> Any:
        return import_tensorrt(self.name)


TENSORRT, TENSORRT_RTX = TensorRT("tensorrt"), TensorRT("tensorrt_rtx")


def _inspect_plan(library: Any, log: Any, plan: bytes) -> str:
    """The layers as the engine's inspector lists them, which needs the GPU; TensorRT-RTX's builder says them itself."""
    engine = library.Runtime(log).deserialize_cuda_engine(plan)
    if engine is None:
        return ""
    return str(engine.create_engine_inspector().get_engine_information(library.LayerInformationFormat.ONELINE))


def type_for_compiler(graph: Graph, target: Target, precision: str, model_path: Path) -> Graph:
    """The graph as the compiler gets it: what is not quantised is float16, of ``fp32`` or by builder flags float32.

    With builder flags, weights are float constants that TensorRT quantises
    (:mod:`edgevit.engines.tensorrt.float_weights`).

    Args:
        graph: Float32, with Q/DQ pairs where it is quantised; not changed.
        target: Gives the compute capability.
        precision: Of the engine.
        model_path: For messages.

    Raises:
        CompileError: It has no float16 form, or breaks a rule of TensorRT's; every fault is listed with its site.
    """
    from edgevit.engines.tensorrt.float_weights import restate_weights
    from edgevit.engines.tensorrt.typed import type_graph

    typed = type_graph(graph, "fp32" if precision == "fp32" or not target.strongly_typed else "fp16")
    _refuse_violations(typed, target, model_path)
    if not target.strongly_typed:
        restate_weights(typed)
    return typed


def _list_wide(graph: Graph) -> tuple[str, ...]:
    from edgevit.graph.half_range import is_wide

    return tuple(node.name or "" for node in graph.model.graph if is_wide(node))


def _refuse_violations(graph: Graph, target: Target, model_path: Path) -> None:
    from edgevit.engines.tensorrt.typed_rules import find_violations

    faults = find_violations(graph, target.compute_capability)
    if faults:
        raise CompileError(
            f"TensorRT would refuse {model_path.name}:\n{format_offenders(list(faults))}",
            "pin the sites that are named to float in the recipe, or report this as a bug",
        )


def _describe(values: Any) -> tuple[TensorSpec, ...]:
    specs = []
    for value in values:
        shape = tuple(d if isinstance(d, int) else "batch" for d in value.shape)
        names = {"FLOAT": "float32", "UINT8": "uint8"}
        specs.append(TensorSpec(value.name, shape, names.get(value.dtype.name, value.dtype.name.lower())))
    return tuple(specs)
