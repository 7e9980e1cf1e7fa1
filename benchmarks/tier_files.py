"""prepare_files: the engines that a processor's tiers are compared with, made once and kept in a folder.

Peers' files are found again by the weights, the calibration images and the quantisers' versions; ours are made again
where edgevit's own code has changed, unless the caller keeps them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, cast

import edgevit
from benchmarks.peer_quantizers import quantize_nncf
from benchmarks.peers import EXPORTERS, export_timm
from edgevit.build.prepare import prepare_graph
from edgevit.build.prepare_quantized import QuantizedGraph, prepare_quantized
from edgevit.core.cache import StageCache
from edgevit.core.isa import TIERS, list_tiers
from edgevit.core.progress import ignore_progress
from edgevit.core.recipe import Recipe, load_recipe
from edgevit.core.target import Target, load_target
from edgevit.engines.compile import compile_engine
from edgevit.engines.openvino_faults import Executed, list_faults
from edgevit.graph.graph import Graph
from edgevit.models.model import Model
from edgevit.pixels.images import ImageSet

TARGET = "intel-cpu"
UNPADDED = "without padding"
"""Of the engines whose tokens are not padded: what padding is worth."""

UNPADDED_IMAGES = 64
"""Their ranges may be rough: they are timed, and not judged."""

_VERSIONS = ("nncf", "openvino", "torch", "timm", "onnxruntime")
_RECORD = "engines.json"


@dataclass(frozen=True)
class TierFiles:
    """What is timed and judged under every tier.

    Attributes:
        ours: Folders of our engines: ``int8``, ``fp32``, ``bf16``, and these with ``UNPADDED``.
        faults: By engine, type of the float arithmetic and tier: why OpenVINO is known to compute it wrongly.
        exports: timm's ONNX files by exporter.
        nncf: NNCF's default of each.
        digest: Of our engines, and of the versions that made the peers'.
        code: Of edgevit's sources that made ours.
    """

    ours: Mapping[str, Path]
    faults: Mapping[str, Mapping[str, Mapping[str, str]]]
    exports: Mapping[str, Path]
    nncf: Mapping[str, Path]
    digest: str
    code: str


def prepare_files(
    model: Model,
    module: Any,
    images: ImageSet,
    folder: Path,
    *,
    keep_ours: bool = False,
    say: Callable[[str], None] = print,
) -> TierFiles:
    """Make what the folder lacks.

    Args:
        model: Ours.
        module: timm's, of the same weights.
        images: For calibration, all of which are used.
        folder: The model's own.
        keep_ours: Take our engines as they are there, although edgevit's code has changed since.
        say: Told what is made.
    """
    versions = {name: metadata.version(name) for name in _VERSIONS}
    key = _digest(json.dumps([model.source.identity, images.sha256(), versions], sort_keys=True).encode())[:16]
    pixels = [batch.pixels for batch in images.batches(model.preprocess, 1)]
    exports, nncf = {}, {}
    for exporter in EXPORTERS:
        at = folder / f"{exporter}-{key}"

        def quantize(new: Path, exporter: str = exporter) -> None:
            say(f"NNCF default, {exporter}")
            source = export_timm(module, model.config.image_size, exporter, new / "timm.onnx")
            quantize_nncf(source, new / "nncf.xml", pixels, model.preprocess)

        _make_folder(at, quantize)
        exports[exporter], nncf[exporter] = at / "timm.onnx", at / "nncf.xml"
    ours, record = _prepare_ours(model, images, folder / f"ours-{key}", keep_ours, say)
    digest = _digest(json.dumps([record["engines"], versions], sort_keys=True).encode())
    return TierFiles(ours, record["faults"], exports, nncf, digest, record["code"])


def _prepare_ours(
    model: Model, images: ImageSet, folder: Path, keep: bool, say: Callable[[str], None]
) -> tuple[dict[str, Path], dict[str, Any]]:
    """Folders by engine, and what stands in the record beside them."""
    code = _digest_code()
    if folder.is_dir() and not keep and json.loads((folder / _RECORD).read_text())["code"] != code:
        say("ours are made again, as edgevit's code has changed")
        shutil.rmtree(folder)

    def build(new: Path) -> None:
        graphs = _prepare_graphs(model, images, folder.parent / "stages", say)
        engines, faults = {}, {}
        for name, path in graphs.items():
            precision = name.split()[0]
            engine = compile_engine(path, load_target(TARGET), precision, new / name)
            engines[name] = _digest(*(engine.directory / file for file in engine.files))
            faults[name] = _list_faults(path)
        record = {"code": code, "engines": engines, "faults": faults}
        (new / _RECORD).write_text(json.dumps(record, indent=1), encoding="utf-8")

    _make_folder(folder, build)
    shutil.rmtree(folder.parent / "stages", ignore_errors=True)  # they serve a run that goes on where one was ended
    record = json.loads((folder / _RECORD).read_text(encoding="utf-8"))
    return {name: folder / name for name in record["engines"]}, record


def _prepare_graphs(model: Model, images: ImageSet, stages: Path, say: Callable[[str], None]) -> dict[str, Path]:
    """ONNX files by engine."""
    recipe, target, cache = load_recipe("default"), load_target(TARGET), StageCache(stages)
    newest = list_tiers()[-1]
    floats = ("fp32", "bf16") if TIERS[newest].bf16 else ("fp32",)
    say("ours, float")
    padded = prepare_graph(model, target, recipe, cache, ignore_progress)
    say("ours, int8")
    quantized = prepare_quantized("int8", model, target, recipe, images, cache, ignore_progress)
    graphs = {"int8": quantized.path} | dict.fromkeys(floats, padded.path)
    if not any(record.name == "token_padding" and record.applied for record in padded.passes):
        return graphs
    plain = dataclasses.replace(target, export=dataclasses.replace(target.export, fold_token_padding=False))
    say(f"ours, {UNPADDED}")
    unpadded = prepare_graph(model, plain, recipe, cache, ignore_progress).path
    graphs[f"int8 {UNPADDED}"] = _quantize_alike(model, plain, recipe, images, quantized, cache)
    return graphs | {f"{name} {UNPADDED}": unpadded for name in floats}


def _quantize_alike(
    model: Model, target: Target, recipe: Recipe, images: ImageSet, like: QuantizedGraph, cache: StageCache
) -> Path:
    """The graph for another target with the same sites in INT8, so that nothing else makes a difference in time."""
    sites = {site.name: "float" if site.precision == "float" else "int8" for site in like.record.sites}
    quantization = dataclasses.replace(recipe.quantization, sites=cast("Any", sites), sqnr_db=-20.0)
    few = images.subset(min(UNPADDED_IMAGES, len(images)), seed=0)
    alike = dataclasses.replace(recipe, quantization=quantization)
    return prepare_quantized("int8", model, target, alike, few, cache, ignore_progress).path


def _list_faults(path: Path) -> dict[str, dict[str, str]]:
    graph = Graph.load(path)
    found: dict[str, dict[str, str]] = {}
    floats: Executed
    for floats in ("f32", "bf16"):
        for tier in TIERS:
            reasons = dict.fromkeys(fault.reason for fault in list_faults(graph, floats, tier))
            if reasons:
                found.setdefault(floats, {})[tier] = "; ".join(reasons)
    return found


def _make_folder(folder: Path, produce: Callable[[Path], None]) -> None:
    """What stands under its name is whole: it is written under another, and renamed."""
    if folder.is_dir():
        return
    new = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    produce(new)
    os.replace(new, folder)


def _digest(*contents: bytes | Path) -> str:
    total = hashlib.sha256()
    for content in contents:
        total.update(content.read_bytes() if isinstance(content, Path) else content)
    return total.hexdigest()


def _digest_code() -> str:
    package = Path(edgevit.__file__).parent
    return _digest(*sorted(path for path in package.rglob("*.py") if "cli" not in path.relative_to(package).parts))
