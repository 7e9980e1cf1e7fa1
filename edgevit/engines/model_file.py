"""What every backend asks of the ONNX file that it compiles."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgevit.core.engine import TensorSpec
from edgevit.core.errors import CompileError, format_offenders


def check_model(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], path: Path) -> None:
    """Refuse a model that is not of 8-bit pixels in and logits, an embedding or feature maps out.

    Raises:
        CompileError: Listing everything that is not ``(B, H, W, 3) uint8`` in, and ``(B, K) float32`` or, for features,
            ``(B, N, C)`` and ``(B, C, h, w)`` out.
    """
    offenders = []
    if len(inputs) != 1 or not outputs:
        offenders.append(f"{len(inputs)} inputs and {len(outputs)} outputs, not one input and an output at least")
    for spec in inputs:
        if spec.dtype != "uint8":
            offenders.append(f"input {spec.name} has type {spec.dtype}, not uint8")
        if len(spec.shape) != 4 or spec.shape[3] != 3 or not all(isinstance(d, int) for d in spec.shape[1:]):
            offenders.append(f"input {spec.name} has shape {_show(spec.shape)}, not (batch, height, width, 3)")
    for spec in outputs:
        if spec.dtype != "float32":
            offenders.append(f"output {spec.name} has type {spec.dtype}, not float32")
        if not 2 <= len(spec.shape) <= 4 or not all(isinstance(d, int) for d in spec.shape[1:]):
            offenders.append(
                f"output {spec.name} has shape {_show(spec.shape)}, "
                "not (batch, classes), (batch, tokens, channels) or (batch, channels, height, width)"
            )
        if spec.shape and inputs and inputs[0].shape and _differ(spec.shape[0], inputs[0].shape[0]):
            offenders.append(f"the input's batch is {inputs[0].shape[0]}, that of output {spec.name} {spec.shape[0]}")
    if offenders:
        raise CompileError(
            f"{path} is not an image model of the form that edgevit exports:\n{format_offenders(offenders)}",
            "export it with edgevit, which puts the normalisation and the layout into the graph",
        )


def find_batch(image: TensorSpec, batch: tuple[int, int, int] | None, path: Path) -> tuple[int, int, int]:
    """Least, best and largest batch: as asked for where the model's batch is symbolic, otherwise the model's own.

    Raises:
        CompileError: The batch is symbolic and none is asked for, or fixed and another is.
    """
    size = image.shape[0]
    if isinstance(size, int):
        if batch is not None and batch != (size, size, size):
            asked = ":".join(str(b) for b in batch)
            raise CompileError(f"{path} has the fixed batch {size}, not {asked}", "export it with a symbolic batch")
        return size, size, size
    if batch is None:
        raise CompileError(f"{path} has a symbolic batch and no range is given", "give --batch MIN:OPT:MAX")
    return batch


def _differ(a: int | str, b: int | str) -> bool:
    return isinstance(a, int) and isinstance(b, int) and a != b


def _show(shape: tuple[int | str, ...]) -> str:
    return f"({', '.join(str(d) for d in shape)})"
