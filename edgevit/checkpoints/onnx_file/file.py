"""An ONNX file, refused in one sentence or ready to be rewritten.

Everything here looks only at the graph: weights in a file beside it are not read.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from edgevit.checkpoints.fields import LARGEST_IMAGE
from edgevit.core.errors import CheckpointError, format_offenders
from edgevit.core.packages import require_package
from edgevit.graph.passes.fold_static_shapes import RANDOM

OLDEST_OPSET = 11
_EXPORT = "export the model again"
_QUANTIZED = {
    "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul", "MatMulInteger",
    "ConvInteger",
}  # fmt: skip
_CONTROL = {"Loop", "Scan"}  # an If may ask for what is constant: prepare.refuse_branches
_OPTIMIZED = "com.microsoft"


@dataclass(frozen=True)
class ForeignFile:
    """What a file's graph says of itself.

    Attributes:
        input: Name of the image.
        output: Name of the logits.
        others: Outputs that are left out.
        batch: Images that it takes; ``None`` for any number.
        image_size: Height and width.
        open_size: The file takes images of other sizes too, or says so.
        classes: Length of the logits, where it is stated.
        opset: Of the default domain.
        producer: Who wrote it.
        data: Files with its weights, beside it.
        flat: The output is stated to have fewer axes than two: one of length 1, of classes or of images, is left out.
        whole: All outputs of float32, where they are kept; else only :attr:`output` is.
        refusal: Why none of its outputs is taken for logits.
    """

    path: Path
    input: str
    output: str
    others: tuple[str, ...]
    batch: int | None
    image_size: tuple[int, int]
    open_size: bool
    classes: int | None
    opset: int
    producer: str
    data: tuple[Path, ...]
    flat: bool = False
    whole: tuple[str, ...] = ()
    refusal: CheckpointError | None = field(default=None, compare=False)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Those that are kept, in the file's order."""
        return self.whole or (self.output,)

    def keep_outputs(self) -> ForeignFile:
        """The file with all of its outputs of float32."""
        return replace(self, whole=_list_outputs(_parse(self.path)), flat=False)


def read_file(
    path: Path, image_size: tuple[int, int] | None = None, *, otherwise: tuple[int, int] | None = None
) -> ForeignFile:
    """Look at a file.

    Args:
        path: The ``.onnx`` file.
        image_size: Height and width that are asked for; a file that is fixed to others is refused.
        otherwise: Height and width where they are open and none are asked for.

    Raises:
        CheckpointError: With one sentence why it cannot be built, and all offenders.
        MissingPackageError: onnx is not installed.
    """
    model = _parse(path)
    data = _check_data(model, path)
    opset = _check_opset(model, path)
    _check_operators(model, path)
    _check_types(model, path)
    name, batch, size, is_open = _check_input(model, path, image_size, otherwise)
    refusal: CheckpointError | None = None
    try:
        output, others, classes, flat = _choose_output(model, path)
    except CheckpointError as exc:  # what it has may be the maps or boxes of a whole model
        if not _list_outputs(model):
            raise
        output, others, classes, flat, refusal = "", (), None, False, exc
    producer = f"{model.producer_name} {model.producer_version}".strip() or "an unknown exporter"
    return ForeignFile(
        path, name, output, others, batch, size, is_open, classes, opset, producer, data, flat, refusal=refusal
    )


def _parse(path: Path) -> Any:
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    onnx = require_package("onnx", f"reading {path}")
    try:
        model = onnx.load(str(path), load_external_data=False)
    except DecodeError as exc:
        raise CheckpointError(
            f"{path} is no whole ONNX file: it cannot be parsed", "download or export it again, and check its size"
        ) from exc
    if not model.graph.node or not model.opset_import:
        raise CheckpointError(f"{path} holds no ONNX graph", "download or export it again, and check its size")
    return model


def _check_data(model: Any, path: Path) -> tuple[Path, ...]:
    """Files of external weights; they exist, are long enough and lie beside the file."""
    needed: dict[str, int] = {}
    for tensor in _tensors(model):
        if tensor.data_location != tensor.EXTERNAL:
            continue
        entry = {item.key: item.value for item in tensor.external_data}
        end = int(entry.get("offset", 0) or 0) + int(entry.get("length", 0) or 0)
        name = entry.get("location", "")
        needed[name] = max(needed.get(name, 0), end)
    outside = [n for n in needed if n in ("", ".", "..") or Path(n).is_absolute() or ".." in Path(n).parts or "\\" in n]
    if outside:
        raise CheckpointError(
            f"{path} keeps weights outside its folder:\n{format_offenders([repr(n) for n in outside])}",
            "a file names data beside itself; do not trust this one",
        )
    problems = []
    for name, size in needed.items():
        file = path.parent / name
        if not file.is_file():
            problems.append(f"{name} is not there")
        elif file.stat().st_size < size:
            problems.append(f"{name} has {file.stat().st_size:,} of {size:,} bytes")
    if problems:
        raise CheckpointError(
            f"{path} keeps its weights in files beside it, and they are not whole:\n{format_offenders(problems)}",
            "put them into the same folder, under the names that they were exported with",
        )
    return tuple(path.parent / name for name in sorted(needed))


def _tensors(model: Any) -> Any:
    yield from model.graph.initializer
    for node in _nodes(model):
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t


def _nodes(model: Any) -> Any:
    yield from model.graph.node
    for function in model.functions:
        yield from function.node


def _check_opset(model: Any, path: Path) -> int:
    import onnx

    opset = next((int(o.version) for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)
    newest = onnx.defs.onnx_opset_version()
    if opset < OLDEST_OPSET:
        raise CheckpointError(
            f"{path} is written in ONNX opset {opset}, the oldest that is read is {OLDEST_OPSET}",
            f"{_EXPORT} with opset_version=17 or later",
        )
    if opset > newest:
        raise CheckpointError(
            f"{path} is written in ONNX opset {opset}, the installed onnx knows {newest}",
            f"pip install --upgrade onnx, or {_EXPORT} with opset_version=20",
        )
    return opset


def _check_operators(model: Any, path: Path) -> None:
    local = {(f.domain, f.name) for f in model.functions}
    counts = Counter((n.domain, n.op_type) for n in _nodes(model) if (n.domain, n.op_type) not in local)
    quantized = {op: count for (_, op), count in counts.items() if op in _QUANTIZED}
    if quantized:
        raise CheckpointError(
            f"{path} is already quantised: it has {_describe(quantized)}",
            "give the float model that it was made from; edgevit quantises with --calibration DATA",
        )
    foreign = {f"{domain}::{op}": n for (domain, op), n in counts.items() if domain not in ("", "ai.onnx")}
    if foreign:
        fused = any(name.startswith(_OPTIMIZED) for name in foreign)
        hint = "give the file from before ONNX Runtime's optimiser fused it" if fused else f"{_EXPORT} without them"
        raise CheckpointError(f"{path} has operators that are not ONNX's own: {_describe(foreign)}", hint)
    random = {op: n for (_, op), n in counts.items() if op in RANDOM}
    training = sum(node.op_type == "Dropout" and _trains(node, model, path) for node in model.graph.node)
    if training:
        random["Dropout in training"] = training
    if random:
        raise CheckpointError(
            f"{path} draws random numbers ({_describe(random)}): it answers an image in another way every time",
            f"{_EXPORT} in evaluation mode",
        )
    control = {op: n for (_, op), n in counts.items() if op in _CONTROL}
    if control:
        raise CheckpointError(
            f"{path} has control flow ({_describe(control)}): a classifier's graph is the same for every image",
            f"{_EXPORT} in evaluation mode, traced, with a fixed image size",
        )


def _trains(dropout: Any, model: Any, path: Path) -> bool:
    """Whether constants tell a Dropout to train, at a ratio that is not zero."""
    import onnx

    asked = {name: place for place, name in enumerate(dropout.input) if place and name}
    found: dict[int, bool] = {}
    for tensor, name in [
        *((t, t.name) for t in model.graph.initializer if t.name in asked),
        *(
            (a.t, n.output[0])
            for n in model.graph.node
            if n.output[0] in asked
            for a in n.attribute
            if a.name == "value"
        ),
    ]:
        found[asked[name]] = bool(onnx.numpy_helper.to_array(tensor, str(path.parent)).any())
    return found.get(2, False) and found.get(1, True)


def _check_types(model: Any, path: Path) -> None:
    """Half precision in the weights: a converted file, whose answers are not those of the model that was trained."""
    import onnx

    kinds = (onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)
    found = Counter(_name_type(tensor.data_type) for tensor in _tensors(model) if tensor.data_type in kinds)
    if found:
        raise CheckpointError(
            f"{path} computes in half precision: of its constants {_describe(found)}",
            "give the float32 file that it was converted from; edgevit makes float16 itself with --precision fp16",
        )


def _name_type(code: int) -> str:
    import onnx

    name: str = onnx.TensorProto.DataType.Name(code).lower()
    return name


def _describe(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))


def _check_input(
    model: Any, path: Path, wanted: tuple[int, int] | None, otherwise: tuple[int, int] | None
) -> tuple[str, int | None, tuple[int, int], bool]:
    constants = {t.name for t in model.graph.initializer}
    inputs = [v for v in model.graph.input if v.name not in constants]
    if len(inputs) != 1:
        names = ", ".join(v.name for v in inputs) or "none"
        raise CheckpointError(
            f"{path} has {len(inputs)} inputs ({names}); an image classifier has one",
            f"{_EXPORT} with the image as its only input",
        )
    value = inputs[0]
    kind = value.type.tensor_type
    if kind.elem_type != 1:
        raise CheckpointError(
            f"{path}: its input {value.name} is {_name_type(kind.elem_type)}, not float32",
            f"{_EXPORT} in float32, before any conversion",
        )
    dims: list[int | str] = [
        d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else (d.dim_param or "?") for d in kind.shape.dim
    ]
    shape = "(" + ", ".join(map(str, dims)) + ")"
    # Optimum leaves the channels open too.
    if len(dims) != 4 or (dims[1] != 3 and isinstance(dims[1], int)):
        raise CheckpointError(
            f"{path}: its input {value.name} is {shape}, not an image (batch, 3, height, width)",
            f"{_EXPORT} with an RGB image, channels first",
        )
    batch, height, width = dims[0], dims[2], dims[3]
    is_open = not (isinstance(height, int) and isinstance(width, int))
    if not isinstance(height, int) or not isinstance(width, int):
        wanted = wanted or otherwise
        if wanted is None:
            raise CheckpointError(
                f"{path}: its input {value.name} is {shape}: height and width are open",
                "say which ones to build for: --image-size 224",
            )
        height, width = wanted
    elif wanted is not None and wanted != (height, width):
        raise CheckpointError(
            f"{path} was exported for {height} × {width} pixels, not {wanted[0]} × {wanted[1]}",
            f"leave --image-size out, or {_EXPORT} at that size",
        )
    if max(height, width) > LARGEST_IMAGE:
        raise CheckpointError(
            f"{path}: its input {value.name} would be {height} × {width} pixels, the largest side is {LARGEST_IMAGE}",
            "give a smaller --image-size" if is_open else f"{_EXPORT} at a smaller size",
        )
    return value.name, batch if isinstance(batch, int) else None, (height, width), is_open


def _list_outputs(model: Any) -> tuple[str, ...]:
    """Names of the outputs that are computed and of float32."""
    made = {name for node in model.graph.node for name in node.output}
    return tuple(v.name for v in model.graph.output if v.name in made and v.type.tensor_type.elem_type in (0, 1))


def _choose_output(model: Any, path: Path) -> tuple[str, tuple[str, ...], int | None, bool]:
    made = {name for node in model.graph.node for name in node.output}
    outputs = {v.name: v for v in model.graph.output if v.name in made}
    if not outputs:
        raise CheckpointError(
            f"{path} has no output that its graph computes", f"{_EXPORT} with the logits as its output"
        )
    names = list(outputs)
    named = [n for n in names if n.lower() == "logits"]
    name = names[0] if len(names) == 1 else named[0] if named else ""
    if not name:
        # Publishers put the logits first: transformers' DeiT gives those of its two heads behind them.
        # Beside maps, what has two axes is a part of the same answer.
        ranks = {n: len(outputs[n].type.tensor_type.shape.dim) for n in names}
        flat = [] if max(ranks.values()) > 3 else [n for n in names if ranks[n] == 2]
        if not flat:
            raise CheckpointError(
                f"{path} has {len(names)} outputs ({', '.join(names)}), and none is (batch, classes)",
                f"{_EXPORT} with the logits as its only output, or call them logits",
            )
        name = flat[0]
    kind = outputs[name].type.tensor_type
    if kind.elem_type not in (0, 1):  # 0: not stated
        raise CheckpointError(
            f"{path}: its output {name} is {_name_type(kind.elem_type)}, not float32",
            f"{_EXPORT} with the logits as its output, in float32",
        )
    dims = kind.shape.dim
    lacks_axis = bool(kind.HasField("shape") and len(dims) < 2)
    classes = dims[-1].dim_value if len(dims) == 2 and dims[-1].HasField("dim_value") else None
    return name, tuple(n for n in names if n != name), classes or None, lacks_axis
