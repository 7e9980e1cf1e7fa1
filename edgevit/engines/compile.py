"""compile_engine: from an ONNX file to an engine on disk."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from edgevit.core.engine import Engine, Setting, save_engine
from edgevit.core.errors import CompileError, OutputError
from edgevit.core.target import Target
from edgevit.engines import get_backend


def compile_engine(
    model_path: Path,
    target: Target,
    precision: str,
    directory: Path,
    *,
    model_info: Mapping[str, str] | None = None,
    settings: Mapping[str, Setting] | None = None,
    batch: tuple[int, int, int] | None = None,
) -> Engine:
    """Compile a model with the target's backend.

    The engine's files and ``engine.json`` (see :func:`edgevit.core.engine.load_engine`) are written into ``directory``.

    Args:
        model_path: ONNX: one input ``(B, H, W, 3) uint8``, one output ``(B, K) float32``.
        target: Gives the backend, the device and its settings.
        precision: One of the target's. ``fp16`` changes how weights are stored; ``int8`` and ``fp8`` are in the model.
        directory: Made if it is not there.
        model_info: For OpenVINO's model_api; see :func:`edgevit.engines.model_info.describe_model_info`.
        settings: Of the engine, over the target's; see ``edgevit/runtime/settings.py``.
        batch: Least, best and largest, where the model's batch is symbolic.

    Raises:
        TargetError: There is no such backend in this version.
        MissingPackageError: The backend's library is not installed.
        DeviceError: The device is not here.
        CompileError: The target does not support the precision or the batch, or the compiler refused the model.
        OutputError: The directory cannot be written.
    """
    if precision not in target.precisions:
        raise CompileError(
            f"target {target.name} does not support {precision}", f"it supports {', '.join(target.precisions)}"
        )
    if batch is not None and len(set(batch)) > 1 and not target.dynamic_batch:
        raise CompileError(f"target {target.name} takes one fixed batch, not a range", f"give --batch {batch[1]}")
    backend = get_backend(target.backend)
    backend.check(model_path, target)
    merged = {**target.settings, **(settings or {})}
    try:
        directory.mkdir(parents=True, exist_ok=True)
        engine = backend.compile(model_path, target, precision, directory, merged, model_info=model_info, batch=batch)
        save_engine(engine)
    except OSError as exc:
        raise OutputError(f"{directory} cannot be written: {exc}", "check the path and the free space") from exc
    return engine
