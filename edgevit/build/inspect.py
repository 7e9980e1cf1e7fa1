"""What a checkpoint or a bundle is, without building anything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from edgevit.core.errors import BundleError, CheckpointError, DeviceError, MissingPackageError
from edgevit.graph.carried import CARRIED

if TYPE_CHECKING:
    from torch import Tensor, nn

    from edgevit.checkpoints.files.contents import WhichWeights
    from edgevit.checkpoints.onnx_file.module import ForeignModule
    from edgevit.checkpoints.onnx_file.whole import WholeModule
    from edgevit.checkpoints.preprocess_options import PreprocessOptions
    from edgevit.checkpoints.texts.label_texts import Lines
    from edgevit.core.pass_record import PassRecord
    from edgevit.core.report.report import Report
    from edgevit.models.model import Model, Source
    from edgevit.runtime.manifest import Manifest


@dataclass(frozen=True)
class Site:
    """A Linear or convolution: a place that can run in a lower precision.

    Attributes:
        name: As in the exported graph, ``blocks.3.attn.qkv``.
        kind: The layer's type.
        shape: Inputs and outputs, a convolution's kernel behind them.
        parameters: Weights and biases.
        macs: Multiplications with additions for one image.
    """

    name: str
    kind: Literal["Linear", "Conv"]
    shape: tuple[int, ...]
    parameters: int
    macs: int


@dataclass(frozen=True)
class CheckpointInspection:
    """A checkpoint and the canonical model that it becomes.

    Attributes:
        macs: For one image: the sites and the products of attention; norms, softmax and adds are not counted.
        attention_macs: The part of the products of attention.
        preprocess: One line.
        passes: How an ONNX file was brought to the model, and what of it was not recognised.
    """

    source: Source
    family: str
    task: str
    input_size: tuple[int, int]
    classes: int
    labels: tuple[str, ...] | None
    parameters: int
    macs: int
    attention_macs: int
    preprocess: str
    sites: tuple[Site, ...]
    passes: tuple[PassRecord, ...] = ()
    kind: Literal["checkpoint"] = "checkpoint"


@dataclass(frozen=True)
class BundleInspection:
    """A bundle's manifest and report.

    Attributes:
        differences: What here differs from where the bundle was judged, here and there, so that its first
            opening here answers its canary; ``None`` where that is not known.
        damage: What of its files is not as built; files that the manifest does not list are left out.
    """

    path: str
    manifest: Manifest
    report: Report
    differences: Mapping[str, tuple[str, str]] | None = None
    damage: tuple[str, ...] = ()
    kind: Literal["bundle"] = "bundle"


def inspect_source(
    source: str | Path,
    *,
    arch: str | None = None,
    image_size: tuple[int, int] | None = None,
    weights: WhichWeights | None = None,
    preprocess: PreprocessOptions | None = None,
    labels: Lines | None = None,
    templates: Lines | None = None,
) -> CheckpointInspection | BundleInspection:
    """Look at a checkpoint or a bundle.

    Args:
        source: What :func:`edgevit.checkpoints.read_checkpoint` takes, a bundle's folder, or a packed bundle.
        arch: The architecture's name, for a file of bare weights.
        image_size: Height and width, instead of the checkpoint's own.
        weights: Of a training checkpoint with two sets: ``ema`` or ``model``; by default ``ema``.
        preprocess: In place of what the checkpoint says.
        labels: Of a CLIP or SigLIP with its text tower, as of :func:`edgevit.build.build.build_model`.
        templates: Likewise.

    Raises:
        CheckpointError: Neither a checkpoint nor a bundle; every tensor that is missing, unexpected or wrongly shaped.
        BundleError: A damaged bundle.
    """
    from edgevit.runtime.packed import is_packed

    folder = Path(source)
    if (folder / "manifest.json").is_file() or is_packed(folder):
        return inspect_bundle(folder)
    from edgevit.checkpoints import read_checkpoint
    from edgevit.checkpoints.texts.label_texts import read_given_texts

    texts = read_given_texts(labels, templates)
    return _inspect_model(
        read_checkpoint(source, arch=arch, image_size=image_size, weights=weights, preprocess=preprocess, texts=texts)
    )


def inspect_bundle(path: Path) -> BundleInspection:
    """Read a bundle's manifest and report, and hash its files; no engine is loaded.

    Raises:
        BundleError: A damaged bundle.
    """
    from edgevit.core.report.report import Report
    from edgevit.runtime.bundle import find_damage, load_bundle, verify_bundle
    from edgevit.runtime.canary import locate_bundle

    bundle = load_bundle(path)
    try:
        report = Report.parse(bundle.read("report.json"), path / "report.json")
    except BundleError:
        verify_bundle(path, extra=False)  # which names all that is not as built
        raise
    try:
        differences = locate_bundle(bundle)
    except (DeviceError, MissingPackageError):  # such a bundle does not open here at all
        differences = None
    damage = tuple(str(found) for found in find_damage(bundle) if found.kind != "extra")
    return BundleInspection(str(path), bundle.manifest, report, differences, damage)


def _inspect_model(model: Model) -> CheckpointInspection:
    from edgevit.checkpoints.onnx_file.module import ForeignModule
    from edgevit.checkpoints.onnx_file.whole import WholeModule
    from edgevit.core.target import ExportForm
    from edgevit.core.task import Task
    from edgevit.models.export import export_model
    from edgevit.models.select_task import select_task

    size = (model.preprocess.height, model.preprocess.width)
    passes = model.passes
    if isinstance(model.module, ForeignModule):
        sites, attention_macs = count_graph_macs(model.module)
        passes = export_model(model, ExportForm(), batch=(model.module.config.batch or 1,) * 3)[1]
    elif isinstance(model.module, WholeModule):
        sites, attention_macs = count_macs(model.module.tapped, size)
        carried, more = count_graph_macs(model.module)
        sites = (*sites, *(replace(site, name=f"{CARRIED}{site.name.lstrip('/')}") for site in carried))
        attention_macs += more
    else:
        sites, attention_macs = count_macs(model.module, size)
    return CheckpointInspection(
        source=model.source,
        family=model.family,
        task=select_task(model, Task("auto")).task.name,
        input_size=size,
        classes=model.classes,
        labels=model.labels,
        parameters=model.parameters,
        macs=sum(site.macs for site in sites) + attention_macs,
        attention_macs=attention_macs,
        preprocess=model.preprocess.describe(),
        sites=sites,
        passes=passes,
    )


def count_graph_macs(module: ForeignModule | WholeModule) -> tuple[tuple[Site, ...], int]:
    """The same as :func:`count_macs` for a graph that was recognised in part, or what surrounds an encoder."""
    sites, batch = [], module.config.batch or 1
    for site in module.sites:
        if site.weight_shape is None:
            continue
        kind: Literal["Linear", "Conv"] = "Conv" if site.op_type.startswith("Conv") else "Linear"
        shape = site.weight_shape
        if kind == "Conv":
            shape = shape if site.op_type == "ConvTranspose" else (shape[1], shape[0], *shape[2:])
        else:
            shape = shape[-2:]
        sites.append(Site(site.name, kind, shape, int(np.prod(site.weight_shape)), site.macs // batch))
    return tuple(sites), sum(site.macs for site in module.sites if site.weight_shape is None) // batch


def count_macs(module: nn.Module, image_size: tuple[int, int]) -> tuple[tuple[Site, ...], int]:
    """Sites of a canonical module with their work, and the work of attention's two products, for one image.

    The module runs once on torch's meta device, where tensors have shapes and no values, so even a large one costs
    milliseconds.

    Args:
        module: A canonical ViT or Swin.
        image_size: Height and width in pixels.

    Returns:
        The sites in the order in which they run, and the multiplications with additions of attention.

    Raises:
        CheckpointError: The module does not take images of this size.
    """
    import torch
    from torch import nn

    from edgevit.models.attention_pool import AttentionPool
    from edgevit.models.layers import Attention
    from edgevit.models.pixels import copy_structure

    shadow = copy_structure(module).to("meta").eval()
    sites: list[Site] = []
    attention_macs = 0

    def note_layer(name: str) -> Any:
        def hook(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            assert isinstance(layer, (nn.Linear, nn.Conv2d))
            weight = layer.weight
            parameters = sum(p.numel() for p in layer.parameters())
            kind: Literal["Linear", "Conv"] = "Linear" if isinstance(layer, nn.Linear) else "Conv"
            shape = (weight.shape[1], weight.shape[0], *weight.shape[2:])
            macs = output.numel() * weight[0].numel()
            sites.append(Site(name, kind, tuple(shape), parameters, macs))

        return hook

    def note_attention(layer: nn.Module, inputs: tuple[Tensor, ...], named: dict[str, Any], output: Tensor) -> None:
        nonlocal attention_macs
        assert isinstance(layer, Attention)
        batch, tokens, _ = inputs[0].shape
        queries = named.get("queries") or tokens  # the output's tokens may be those of many windows
        attention_macs += 2 * batch * layer.heads * queries * tokens * layer.head_width

    def note_pool(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal attention_macs
        assert isinstance(layer, AttentionPool)
        attention_macs += (2 if layer.score is None else 1) * inputs[0].numel()  # one query

    for name, layer in shadow.named_modules():
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            layer.register_forward_hook(note_layer(name))
        elif isinstance(layer, Attention):
            layer.register_forward_hook(note_attention, with_kwargs=True)
        elif isinstance(layer, AttentionPool):
            layer.register_forward_hook(note_pool)
    try:
        with torch.inference_mode():
            shadow(torch.empty(1, 3, *image_size, device="meta"))
    except RuntimeError as exc:
        raise CheckpointError(
            f"the model does not take images of {image_size[0]} × {image_size[1]} pixels: {exc}",
            "give another --image-size",
        ) from exc
    return tuple(sites), attention_macs
