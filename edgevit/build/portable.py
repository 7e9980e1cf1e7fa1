"""The graphs of a portable bundle: one ONNX file for the float precisions, one for each that is quantised.

The device compiles all of them and keeps the best, so the bundle carries every graph that the build tried. Beside them
lie images with the float model's logits, and for each quantised graph the logits that it has on them in ONNX Runtime:
by these the device checks that its engine computes the graph.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgevit.build.evidence import Evidence
from edgevit.build.precisions import FLOAT_PRECISIONS, QUANTIZED_PRECISIONS
from edgevit.build.trial import GraphFile
from edgevit.core.errors import BundleError
from edgevit.core.recipe import Recipe, load_recipe
from edgevit.core.report.report import GraphSummary, Report
from edgevit.runtime.bundle import PARITY_FILE, PORTABLE_MODEL_FILE, RECIPE_FILE
from edgevit.runtime.bundle_settings import check_portable_recipe

_CHOOSES = ".chooses"  # no name of an output
_MOST_BYTES = 1 << 30
"""What is read of a portable bundle's arrays, which come compressed."""

if TYPE_CHECKING:
    from edgevit.core.cache import StageCache
    from edgevit.core.engine import TensorSpec
    from edgevit.runtime.bundle import Bundle
    from edgevit.runtime.manifest import Manifest


def name_graph(precision: str) -> str:
    """``model.onnx`` of the float precisions, ``model.int8.onnx`` and the like of the others."""
    path = Path(PORTABLE_MODEL_FILE)
    return path.name if precision in FLOAT_PRECISIONS else f"{path.stem}.{precision}{path.suffix}"


def list_quantized(manifest: Manifest) -> tuple[str, ...]:
    """The quantised precisions whose graphs a portable bundle carries."""
    return tuple(p for p in QUANTIZED_PRECISIONS if name_graph(p) in manifest.files)


def collect_portable_files(
    graphs: Mapping[str, GraphFile], outputs: Sequence[TensorSpec], evidence: Evidence, cache: StageCache
) -> dict[str, Path | bytes]:
    """Everything that the device needs, by its name in the bundle.

    Of the graphs, by precision, those of the float precisions are one and the same. Each becomes one file (two above
    2 GiB). The stored answers are called as the model's ``outputs``.
    """
    files: dict[str, Path | bytes] = {}
    for precision, graph in graphs.items():
        name = name_graph(precision)
        if name in files:
            continue

        def write(folder: Path, graph: GraphFile = graph, name: str = name) -> None:
            from edgevit.graph.graph import Graph

            Graph.load(graph.path).save(folder / name)

        folder, _ = cache.run("portable", {**graph.inputs, "file": name}, write)
        files.update({p.name: p for p in folder.glob(f"{Path(name).stem}.*") if p.suffix in (".onnx", ".data")})
    stored: dict[str, Any] = {}
    for suffix, answers in {"": evidence.outputs, **{f".{p}": a for p, a in evidence.graph_outputs.items()}}.items():
        stored.update({f"{spec.name}{suffix}": values for spec, values in zip(outputs, answers, strict=True)})
    if evidence.chooses:
        stored[_CHOOSES] = np.asarray(1)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, pixels=evidence.pixels, **stored)
    return {**files, PARITY_FILE: buffer.getvalue()}


def read_portable_graphs(bundle: Bundle, report: Report, precisions: tuple[str, ...]) -> dict[str, GraphFile]:
    """The graphs of some precisions, out of those that the bundle carries; its report knows how each was made."""
    found = {}
    otherwise = GraphSummary(report.passes, report.op_counts)
    for precision in precisions:
        name = name_graph(precision)
        if name in bundle.manifest.files:
            made = report.graphs.get("float" if precision in FLOAT_PRECISIONS else precision, otherwise)
            found[precision] = GraphFile(bundle.path / name, {"graph": bundle.manifest.files[name].sha256}, made=made)
    return found


def read_portable_recipe(bundle: Bundle) -> Recipe:
    """The recipe by which the device is to finish the bundle.

    Raises:
        RecipeError: It cannot be read, or has keys or values that are not valid.
        BundleError: It sets what a bundle may not set.
    """
    path = bundle.path / RECIPE_FILE
    recipe = load_recipe(path)
    check_portable_recipe(path, recipe.settings, bundle.manifest.target)
    return recipe


def read_portable_evidence(bundle: Bundle) -> Evidence:
    """The images and answers that the build put into the bundle.

    Raises:
        BundleError: They cannot be read.
    """
    try:
        content = io.BytesIO((bundle.path / PARITY_FILE).read_bytes())
        with zipfile.ZipFile(content) as archive:
            unpacked = sum(info.file_size for info in archive.infolist())
        if unpacked > _MOST_BYTES:
            raise ValueError(f"it unpacks to {unpacked} bytes, and {_MOST_BYTES} are the most that is read")
        with np.load(content) as stored:
            names = [spec.name for spec in bundle.manifest.outputs]
            present = [p for p in QUANTIZED_PRECISIONS if f"{names[0]}.{p}" in stored]
            return Evidence(
                bundle.manifest.preprocess,
                stored["pixels"],
                tuple(stored[name] for name in names),
                bundle.manifest.read_task(),
                graph_outputs={p: tuple(stored[f"{name}.{p}"] for name in names) for p in present},
                labels=bundle.manifest.labels,
                chooses=_CHOOSES in stored,
            )
    except Exception as exc:  # zipfile and numpy raise whatever their parts do
        raise BundleError(
            f"{bundle.path / PARITY_FILE} cannot be read: {exc or type(exc).__name__}", "build the bundle again"
        ) from exc
