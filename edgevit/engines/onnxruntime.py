"""Engines for ONNX Runtime: the ONNX file itself, ``model.onnx``.

``fp32`` is the graph as it is. ``fp16`` stores the weights in half the bytes, each behind a Cast to float32 that ONNX
Runtime folds when it loads the file: the arithmetic stays float32 on rounded weights. Weights of larger models lie in
``model.data`` beside it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgevit.core.engine import Engine, Setting, TensorSpec
from edgevit.core.errors import CompileError, DeviceError, MissingPackageError, format_last_lines
from edgevit.core.packages import require_package
from edgevit.core.providers import PROVIDERS
from edgevit.core.report.fusion_record import FusionRecord
from edgevit.core.target import Target
from edgevit.engines.fusion_file import save_fusion
from edgevit.engines.model_file import check_model, find_batch
from edgevit.graph.graph import Graph
from edgevit.runtime.onnxruntime import import_onnxruntime, is_property, list_devices, open_session, read_versions
from edgevit.runtime.providers import find_absence, read_assignment
from edgevit.runtime.settings import OpenSettings, read_settings

# Weights above it lie in a file beside the graph, which ONNX Runtime maps; those in the graph it parses and copies.
_INLINE_LIMIT_BYTES = 128 << 20
_LARGEST_FP16 = 65504.0


def check(model_path: Path, target: Target) -> None:
    """Refuse early.

    Raises:
        MissingPackageError: onnxruntime is not installed.
        DeviceError: The execution provider of the target's device is not here.
        CompileError: ONNX Runtime cannot read the model, or it is not an image classifier of the expected form.
    """
    if absence := find_absence(import_onnxruntime(), target.device):
        raise DeviceError(
            absence, f"build on a machine that has it, or give the target one of {', '.join(list_devices())}"
        )
    _read_ports(_open(model_path, OpenSettings(), "CPU"), model_path)


def compile(
    model_path: Path,
    target: Target,
    precision: str,
    directory: Path,
    settings: Mapping[str, Setting],
    *,
    model_info: Mapping[str, str] | None = None,
    batch: tuple[int, int, int] | None = None,
) -> Engine:
    """Write the ONNX file and prove that ONNX Runtime takes it; see :func:`edgevit.engines.compile.compile_engine`.

    ``model_info`` is OpenVINO's and is not used.
    """
    settings = {"hint": "latency", **settings}
    opened = read_settings(settings, is_property, CompileError)
    require_package("onnx_ir", "compiling for ONNX Runtime")
    graph = Graph.load(model_path)  # weights in a file beside it stay there until they are written
    if precision == "fp16":
        _halve_weights(graph.model)
    path = directory / "model.onnx"
    beside = graph.weight_bytes() > _INLINE_LIMIT_BYTES
    graph.save(path, beside=beside)
    files = (path.name, path.with_suffix(".data").name) if beside else (path.name,)
    del graph  # before the session takes as much memory again
    session = _open(path, opened, target.device)
    inputs, outputs = _read_ports(session, path)
    if target.device != "CPU":
        save_fusion(_describe_assignment(session, target.device), directory)
    del session
    batch = find_batch(inputs[0], batch, model_path)
    return Engine(
        backend="onnxruntime",
        device=target.device,
        precision=precision,
        files=files,
        inputs=inputs,
        outputs=outputs,
        batch=batch,
        settings=settings,
        versions=read_versions(),
        directory=directory,
    )


def _open(path: Path, settings: OpenSettings, device: str) -> Any:
    try:
        session, _, _ = open_session(str(path), settings, device)
    except MissingPackageError:
        raise
    except DeviceError as exc:  # of this graph: a provider that is not here at all was refused before
        raise CompileError(exc.message, exc.hint) from exc
    except Exception as exc:  # onnxruntime's exceptions have no common class of their own
        raise CompileError(
            f"ONNX Runtime cannot open {path}:{format_last_lines(str(exc).splitlines())}",
            "export the model again; the file may be damaged",
        ) from exc
    return session


def _read_ports(session: Any, path: Path) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Inputs and outputs, as ONNX Runtime itself sees them."""
    inputs, outputs = _describe_ports(session.get_inputs()), _describe_ports(session.get_outputs())
    check_model(inputs, outputs, path)
    return inputs, outputs


def _describe_assignment(session: Any, device: str) -> FusionRecord:
    """What the device's provider took of the graph, for the report."""
    pieces, assignment = read_assignment(session, device)
    compiler = f"onnxruntime {read_versions()['onnxruntime']}"
    return FusionRecord(compiler, PROVIDERS[device].name, pieces, assignment=assignment)


def _describe_ports(ports: Any) -> tuple[TensorSpec, ...]:
    names = {"float": "float32"}
    specs = []
    for port in ports:
        match = re.fullmatch(r"tensor\((\w+)\)", port.type)
        kind = match.group(1) if match else port.type
        shape = tuple(d if isinstance(d, int) else "batch" for d in port.shape)
        specs.append(TensorSpec(port.name, shape, names.get(kind, kind)))
    return tuple(specs)


def _halve_weights(model: Any) -> None:
    """Store float32 weights as fp16, each behind a Cast.

    Vectors (biases, norms) stay: they are a thousandth of the bytes. So does a weight with a value beyond fp16's range.
    """
    import onnx_ir as ir

    graph = model.graph
    casts = []
    for name, value in list(graph.initializers.items()):
        weight = value.const_value
        if weight.dtype != ir.DataType.FLOAT or len(weight.shape) < 2:
            continue
        numbers = weight.numpy()
        if not np.all(np.abs(numbers) <= _LARGEST_FP16):
            continue
        half = ir.Value(name=f"{name}.fp16", const_value=ir.tensor(numbers.astype(np.float16), name=f"{name}.fp16"))
        half.type, half.shape = ir.TensorType(ir.DataType.FLOAT16), value.shape
        cast = ir.node("Cast", [half], attributes={"to": ir.DataType.FLOAT}, name=f"{name}.widen")
        out = cast.outputs[0]
        out.type, out.shape = ir.TensorType(ir.DataType.FLOAT), value.shape
        ir.convenience.replace_all_uses_with(value, out)
        del graph.initializers[name]
        out.name = name
        graph.register_initializer(half)
        casts.append(cast)
    if casts:
        graph.insert_before(graph[0], casts)
