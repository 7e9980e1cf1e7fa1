"""Compiling to OpenVINO's IR: ``model.xml`` and ``model.bin``.

The graph goes through OpenVINO's own ONNX reader. ``fp32`` keeps the weights; ``fp16`` stores them in half the bytes,
which a CPU widens again when it loads them. Arithmetic on a CPU is f32 in both: where OpenVINO finds bf16 units it
would use them for a float32 model without being asked (``docs/bundle.md``). ``bf16`` asks for them, with weights stored
in the half bytes of ``fp16``, whose three more bits of mantissa lose nothing that bfloat16 keeps. For ``int8`` the
graph's Q/DQ pairs decide.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgevit.core.engine import Engine, Setting, TensorSpec
from edgevit.core.errors import CompileError, DeviceError, OutputError, format_last_lines
from edgevit.core.target import Target
from edgevit.engines.model_file import check_model, find_batch
from edgevit.runtime.library import import_library
from edgevit.runtime.openvino import (
    build_config,
    get_core,
    has_device,
    is_property,
    list_devices,
    read_versions,
)
from edgevit.runtime.settings import read_settings

# What is not quantised is computed in this type. An NPU computes in f16 whatever the model says.
_ARITHMETIC = {
    "CPU": {"fp32": "f32", "fp16": "f32", "bf16": "bf16", "int8": "f32"},
    "GPU": {"fp32": "f32", "fp16": "f16", "int8": "f16"},
    "NPU": {"fp16": "f16", "int8": "f16"},
}


def check(model_path: Path, target: Target) -> None:
    """Refuse early.

    Raises:
        MissingPackageError: openvino is not installed.
        DeviceError: The target's device is not on this machine.
        CompileError: OpenVINO cannot read the model, or it is not an image classifier of the expected form.
    """
    import_library("openvino")
    if not has_device(target.device):
        raise DeviceError(
            f"OpenVINO finds no device {target.device} on this machine; here: {', '.join(list_devices()) or 'none'}",
            "build on the device itself, or install its driver",
        )
    model = _read_model(model_path)
    check_model(_describe_ports(model.inputs), _describe_ports(model.outputs), model_path)


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
    """Write the IR and prove that the device takes it; see :func:`edgevit.engines.compile.compile_engine`."""
    openvino = import_library("openvino")
    arithmetic = _ARITHMETIC.get(target.device.split(".")[0], {}).get(precision)
    defaults: dict[str, Setting] = {"hint": "latency"}
    if arithmetic is not None:
        defaults["inference_precision"] = arithmetic
    settings = {**defaults, **settings}
    opened = read_settings(settings, is_property, CompileError)

    model = _read_model(model_path)
    batch = find_batch(_describe_ports(model.inputs)[0], batch, model_path)
    least, _, largest = batch
    if model.inputs[0].partial_shape.is_dynamic:
        _, *rest = model.inputs[0].partial_shape
        model.reshape(openvino.PartialShape([openvino.Dimension(least, largest), *rest]))
    model.inputs[0].get_node().set_layout(openvino.Layout("NHWC"))
    _name_nodes(model)
    for key, value in (model_info or {}).items():
        model.set_rt_info(value, ["model_info", key])
    inputs, outputs = _describe_ports(model.inputs), _describe_ports(model.outputs)

    path = directory / "model.xml"
    try:
        openvino.save_model(model, str(path), compress_to_fp16=precision in ("fp16", "bf16"))
    except RuntimeError as exc:
        raise OutputError(
            f"{path} cannot be written:{format_last_lines(str(exc).splitlines())}", "check the path and the free space"
        ) from exc
    del model  # its weights, before the compiled model has two more copies of them
    try:
        get_core().compile_model(str(path), target.device, build_config(opened, target.device))
    except RuntimeError as exc:
        raise CompileError(
            f"OpenVINO cannot compile {model_path.name} for {target.device}:{format_last_lines(str(exc).splitlines())}",
            "report the operator that the last lines name, or choose another target",
        ) from exc
    return Engine(
        backend="openvino",
        device=target.device,
        precision=precision,
        files=("model.xml", "model.bin"),
        inputs=inputs,
        outputs=outputs,
        batch=batch,
        settings=settings,
        versions=read_versions(),
        directory=directory,
    )


def _read_model(path: Path) -> Any:
    try:
        return get_core().read_model(str(path))
    except RuntimeError as exc:
        raise CompileError(
            f"OpenVINO cannot read {path}:{format_last_lines(str(exc).splitlines())}",
            "export the model again; the file may be damaged",
        ) from exc


def _describe_ports(ports: Any) -> tuple[TensorSpec, ...]:
    names = {"u8": "uint8", "f32": "float32"}
    specs = []
    for port in ports:
        kind = port.get_element_type().get_type_name()
        shape = tuple(d.get_length() if d.is_static else "batch" for d in port.get_partial_shape())
        specs.append(TensorSpec(port.get_any_name(), shape, names.get(kind, kind)))
    return tuple(specs)


def _name_nodes(model: Any) -> None:
    """Name unnamed nodes by their place: OpenVINO counts them over the whole process, so each file would differ."""
    model.set_friendly_name("model")
    nodes = model.get_ordered_ops()
    taken = {node.get_friendly_name() for node in nodes}
    for index, node in enumerate(nodes):
        if node.get_friendly_name() == node.get_name():
            name = f"{node.get_type_name()}_{index}"
            node.set_friendly_name(f"{name}_" if name in taken and name != node.get_name() else name)
