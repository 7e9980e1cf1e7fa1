"""Target and Budget: what an engine is built for, and what it may cost.

A target is a TOML file; its file's stem is its name. The ones that ship with the package lie in ``targets/``, whose
README gives the schema; a user's own file works everywhere a name does.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

from edgevit.core import schema
from edgevit.core.engine import Setting
from edgevit.core.errors import TargetError
from edgevit.core.isa import TIERS, TierName
from edgevit.core.libraries import LIBRARIES, BackendName
from edgevit.core.packages import find_shipped

Precision: TypeAlias = Literal["fp32", "fp16", "bf16", "int8", "fp8"]


@dataclass(frozen=True)
class ExportForm:
    """The switches of the canonical export; every form computes the same function.

    Attributes:
        qkv: Three Linears for queries, keys and values, or one packed Linear.
        patch_embedding: One Linear on NHWC pixels (needs folded input normalisation), or a convolution.
        fold_layer_norm_affine: A LayerNorm's weight and bias in the Linear that reads it.
        fold_attention_scale: 1/√d in the weights of the queries.
        fold_input_normalization: Mean, std and rescale in the patch embedding; otherwise as ops in front of it.
        fold_position_embedding: Class token and positions in one constant.
        fold_last_block: The last block only for the class token, where the head reads nothing else.
        fold_layer_scale: A layer scale's factors in the Linear in front of it.
        fold_attention_pool: The learned query of an attention pool in its key projection.
        fold_attention_bias: Relative position bias and shift mask in one constant.
        fold_window_gather: Swin's shift and window partition as one Gather each way.
        fold_residual_rotation: Rotate the residual stream; it flattens outlier channels, and is only for quantisers.
        fold_class_token_mlp: In the second half of a ViT, the class token's MLP apart from the patches'; only for
            quantisers.
        fold_token_padding: A token more where their number is a prime or the like, for kernels that cut it into blocks.
        fold_class_token_share: Attention to the class token divided among it and the copies that padding made; only
            for quantisers.
    """

    qkv: Literal["separate", "packed"] = "separate"
    patch_embedding: Literal["linear", "conv"] = "linear"
    fold_layer_norm_affine: bool = True
    fold_attention_scale: bool = True
    fold_input_normalization: bool = True
    fold_position_embedding: bool = True
    fold_last_block: bool = True
    fold_layer_scale: bool = True
    fold_attention_pool: bool = True
    fold_attention_bias: bool = True
    fold_window_gather: bool = True
    fold_residual_rotation: bool = False
    fold_class_token_mlp: bool = False
    fold_token_padding: bool = False
    fold_class_token_share: bool = False


@dataclass(frozen=True)
class Target:
    """One kind of device with one engine library.

    Attributes:
        name: The file's stem.
        title: For people.
        backend: The engine library.
        device: The library's name of the device (``CPU``, ``GPU``, ``NPU``); for NVIDIA the name of the GPU or family;
            of ONNX Runtime a key of :data:`edgevit.core.providers.PROVIDERS`.
        build_on: ``host``: an engine is compiled where the build runs; ``device``: only on the device itself.
        precisions: What the device and its library support.
        opset: ONNX opset of the export.
        dynamic_batch: Whether the batch may be a range.
        export: The switches of the export.
        settings: Of the engine; see ``edgevit/runtime/settings.py``.
        architecture: CPU architecture that the device has (``x86_64``, ``aarch64``); ``None``: any.
        isa: Instruction sets of the processors that the target names (:data:`edgevit.core.isa.TIERS`): an engine is
            judged under each, and ranked under the first. By default those of the machine that builds.
        memory_bytes: The device's memory.
        compute_capability: Of an NVIDIA GPU, as in ``8.7``.
        runtime_version: Lowest version of the engine library that the profile is for.
        strongly_typed: Whether precision lies in the graph's types, as TensorRT 10.3 and later take it; otherwise
            builder flags ask for it. Only of TensorRT.
        preference: Precisions, the most wanted first, where latency cannot be measured; those left out come last. By
            default the order of ``precisions``.
        aliases: Further names.
        also: Further engine libraries of a CPU that take the same graphs: where a variant is timed, those that are
            installed compete with ``backend``.
    """

    name: str
    title: str
    backend: BackendName
    device: str
    build_on: Literal["host", "device"]
    precisions: tuple[Precision, ...]
    opset: int = 20
    dynamic_batch: bool = True
    export: ExportForm = ExportForm()
    settings: Mapping[str, Setting] = field(default_factory=dict)
    architecture: Literal["x86_64", "aarch64"] | None = None
    isa: tuple[TierName, ...] = ()
    memory_bytes: int | None = None
    compute_capability: str | None = None
    runtime_version: str | None = None
    strongly_typed: bool = True
    preference: tuple[Precision, ...] = ()
    aliases: tuple[str, ...] = ()
    also: tuple[BackendName, ...] = ()

    def __post_init__(self) -> None:
        if self.backend not in LIBRARIES:
            raise schema.FieldError([f"backend = {self.backend!r} is not one of {', '.join(LIBRARIES)}"])
        library, isa = LIBRARIES[self.backend], self.isa
        rivals = [name for name, other in LIBRARIES.items() if other.cpu and name != self.backend]
        on_cpu = library.cpu and self.device == "CPU"
        stray = library.devices and self.device not in library.devices
        unknown = [p for p in self.preference if p not in self.precisions]
        foreign = [name for name in isa if self.architecture not in (None, TIERS[name].architecture)]
        alone, own = not (on_cpu and set(self.also) <= set(rivals)), " and ".join(rivals)
        memory, capability, version = self.memory_bytes, self.compute_capability, self.runtime_version
        misformed = capability is not None and not re.fullmatch(r"\d+\.\d", capability)
        unversioned = version is not None and not re.fullmatch(r"\d+(\.\d+)*", version)
        also = f"also = {', '.join(self.also)}: a CPU may have {own} beside its backend, nothing else"
        schema.refuse(
            (stray, f"device = {self.device!r} is not one of {self.backend}'s: {', '.join(library.devices)}"),
            (not self.precisions, "precisions is empty"),
            (not 17 <= self.opset <= 24, f"opset = {self.opset} is not between 17 (LayerNormalization) and 24"),
            (unknown, f"preference has {', '.join(unknown)}, which precisions has not"),
            (isa and not on_cpu, "isa is of a CPU, and the device is not one"),
            (len(set(isa)) < len(isa), f"isa = {list(isa)} names an instruction set twice"),
            (len({TIERS[name].architecture for name in isa}) > 1, f"isa = {list(isa)} is of several architectures"),
            *((name in library.lacks_isa, f"isa has {name}, for which {library.lacks_isa.get(name)}") for name in isa),
            (foreign, f"isa has {', '.join(foreign)}, which {self.architecture} has not"),
            (self.also and alone, also),
            (memory is not None and memory <= 0, f"memory_bytes = {memory} is not above 0"),
            (misformed, f"compute_capability = {capability!r} is not of the form 8.7"),
            (unversioned, f"runtime_version = {version!r} is not of the form 10.3"),
        )


@dataclass(frozen=True)
class Budget:
    """What a faster variant may cost.

    Attributes:
        max_drop_points: Largest drop of top-1 against the float model, in percentage points.
        min_agreement: Smallest share of images with the float model's top-1; it counts where there are no labels.
        min_recall: Of embeddings, the smallest share of images with the float model's nearest neighbour; it counts
            where there are no labels.
        min_cosine: Of embeddings, the smallest mean cosine with the float model's.
        min_level_sqnr_db: Of features and whole models, the smallest SQNR of any level or output, in dB.
        min_kept: Of depth, segment, detect and pose, the smallest share of the float model's answers that is kept: δ1
            of its depth, pixels of its class, AP with its boxes as truth, PCK of its keypoints.
        max_latency_ms: Largest p50 of the latency, if any.
    """

    max_drop_points: float = 0.5
    min_agreement: float = 0.99
    min_recall: float = 0.9
    min_cosine: float = 0.99
    min_level_sqnr_db: float = 20.0
    min_kept: float = 0.8
    max_latency_ms: float | None = None


def list_targets() -> tuple[Target, ...]:
    """All profiles that ship with the package, by name."""
    return tuple(_read_target(path) for path in sorted(find_shipped("targets").glob("*.toml")))


def load_target(name_or_path: str | os.PathLike[str]) -> Target:
    """A profile by its name, one of its aliases, or the path of a TOML file.

    Raises:
        TargetError: There is no such profile or file, or the file has keys or values that are not valid.
    """
    text = os.fspath(name_or_path)
    if text.endswith(".toml") or "/" in text or os.sep in text:
        return _read_target(Path(text))
    targets = list_targets()
    for target in targets:
        if text == target.name or text in target.aliases:
            return target
    names = [name for target in targets for name in (target.name, *target.aliases)]
    close = difflib.get_close_matches(text.lower(), names, n=3)
    guess = f"did you mean {' or '.join(close)}? " if close else ""
    raise TargetError(
        f"unknown target {text!r}",
        f"{guess}The targets are {', '.join(names)}; a file of your own is given as ./my-board.toml",
    )


def use_library(target: Target, library: str) -> Target:
    """The target with one of the engine libraries of its ``also``, of any version, or as it is with its own."""
    if library == target.backend:
        return target
    return dataclasses.replace(target, backend=cast(BackendName, library), also=(), runtime_version=None)


def _read_target(path: Path) -> Target:
    from edgevit.core.toml import load_toml  # here, because a bundle's manifest holds a Target and reads no TOML

    data: dict[str, Any] = load_toml(path, TargetError)
    if "name" in data:
        raise TargetError(f"{path} has a key name", f"delete it: a target is called by its file's stem, {path.stem}")
    return schema.from_data(Target, {"name": path.stem, **data}, str(path), TargetError)


def read_architecture() -> str:
    """This machine's CPU architecture, ``x86_64`` or ``aarch64`` where it is one of these."""
    machine = platform.machine().lower()
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(machine, machine)
