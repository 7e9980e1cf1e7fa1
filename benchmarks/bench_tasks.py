"""Whole models of transformers, random weights: parity, INT8's noise and latency against NNCF, and fused attention.

    python -m benchmarks.bench_tasks [--models vitpose_small …] [--parts parity quantize …] [--rounds N]

parity
    reads the folder as a build does, and holds the graph with its encoder put back against transformers; beyond the bar
    both against transformers in float64.
quantize
    makes our INT8 engine and NNCF's (model type transformer) of the same export, from the same calibration photos;
    both are judged at all outputs on other photos. Of a model that chooses among queries, with the float model's choice
    given to both, and besides with their own.
latency
    opens both, with float32 around the INT8, in one process; they take turns (A B B A).
tensorrt
    compiles our float graph for TensorRT-RTX, SM86, float16, without a GPU, and counts the encoder's attention.

Every figure is written to results/tasks.json as soon as it is there; docs/tasks.md and results/tasks.md are written
from it. Random weights say how exact the arithmetic is, and nothing of how good answers are.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.peer_quantizers import normalize, quantize_nncf
from benchmarks.task_engine import TaskEngine, share_of_same
from benchmarks.task_models import MODELS, TaskModel
from benchmarks.task_table import DOCUMENT, PARITY_BAR, RESULTS, TABLE, render_table, write_page
from edgevit.checkpoints.texts.label_texts import LabelTexts
from edgevit.core.cache_folder import VARIABLE
from edgevit.measure.machine.local import describe_machine
from edgevit.models.model import Model
from edgevit.pixels.images import ImageSet
from edgevit.pixels.preprocess import Preprocess
from tests.support.reference import import_torchvision, import_transformers

Values = npt.NDArray[np.float32]
CALIBRATION, JUDGED, PARITY = 16, 8, 2
PARTS = ("parity", "tensorrt", "quantize", "latency")
_RUNS = 3  # of an engine in a turn


def read_photos(name: str, count: int, preprocess: Preprocess) -> list[npt.NDArray[np.uint8]]:
    """``(1, H, W, 3) uint8`` each; of the lists ``calibration.csv`` and ``validation.csv``, which share no photo."""
    beside = Path(__file__).parents[2] / "shared" / "assets"
    assets = Path(os.environ.get("EDGEVIT_ASSETS", beside))
    images = ImageSet.read(assets / "imagenet" / f"{name}.csv").subset(count, 0)
    return [batch.pixels for batch in images.batches(preprocess, 1)]


class Bench:
    """One model, its folder and what its parts share.

    Args:
        model: The row.
        folder: For its checkpoint and engines.
    """

    def __init__(self, model: TaskModel, folder: Path) -> None:
        self.model, self.folder = model, folder

    @functools.cached_property
    def read(self) -> Model:
        """As a build reads the folder."""
        from edgevit.checkpoints import read_checkpoint

        if not (self.folder / "checkpoint" / "preprocessor_config.json").is_file():
            self.model.save(self.folder / "checkpoint")
        texts = LabelTexts(self.model.labels) if self.model.labels else None
        return read_checkpoint(self.folder / "checkpoint", texts=texts)

    @functools.cached_property
    def judged(self) -> list[npt.NDArray[np.uint8]]:
        """Photos that calibration has not seen."""
        return read_photos("validation", JUDGED, self.read.preprocess)

    @functools.cached_property
    def wanted(self) -> list[list[Values]]:
        """transformers' answers to them."""
        return self.answer("float32", len(self.judged))

    def answer(self, kind: str, count: int) -> list[list[Values]]:
        """transformers' answers to some of them, computed in one of torch's types."""
        import torch

        dtype, folder = getattr(torch, kind), self.folder / "checkpoint"
        load = getattr(import_transformers(), self.model.kind).from_pretrained
        module = load(folder, attn_implementation="eager", dtype=torch.float32).eval().to(dtype)
        assert self.read.answer is not None
        rows, texts = [], self.model.list_inputs(folder)
        with torch.inference_mode():
            for pixels in self.judged[:count]:
                values = torch.from_numpy(normalize(pixels, self.read.preprocess)).to(dtype)
                result = module(pixel_values=values, return_dict=True, **texts)
                rows.append([result[name].numpy() for name in self.read.answer.outputs])
        return rows


def check_parity(bench: Bench) -> dict[str, Any]:
    """The largest error of the graph with its encoder put back, over the largest value of transformers' outputs."""
    from edgevit.checkpoints.onnx_file.whole import WholeModule, run_parts

    module, wanted = bench.read.module, bench.wanted
    assert isinstance(module, WholeModule)
    floats = [normalize(pixels, bench.read.preprocess) for pixels in bench.judged[:PARITY]]
    ours = [run_parts(module, pixels) for pixels in floats]
    row: dict[str, Any] = {"error": find_error(ours, wanted)}
    if row["error"] > PARITY_BAR:
        exact = bench.answer("float64", PARITY)
        row |= {"float64_error": find_error(ours, exact), "float32_error": find_error(wanted, exact)}
    # How much outputs depend on the photo: noise of outputs that are the same for all would say nothing.
    spread = [
        round(float(np.std(values, axis=0).mean() / np.std(values)), 3)
        for values in map(np.stack, zip(*wanted, strict=True))
    ]
    return {
        **row,
        "spread": spread,
        "export": next(note for note in bench.read.source.notes if note.startswith("exported by")),
    }


def find_error(found: Sequence[Sequence[Values]], wanted: Sequence[Sequence[Values]]) -> float:
    """The largest difference over an output's largest value, of as many photos as both have."""
    return max(
        float(np.abs(ours - theirs).max() / np.abs(theirs).max())
        for rows, expected in zip(found, wanted, strict=False)
        for ours, theirs in zip(rows, expected, strict=True)
    )


def quantize(bench: Bench) -> dict[str, Any]:
    """Noise of both engines, which are left in the folder; see the module."""
    from edgevit.core.quantization import Quantization
    from edgevit.core.target import load_target
    from edgevit.graph.passes.optimize import optimize_graph
    from edgevit.models.export import export_model
    from edgevit.quantize.placement import PLACEMENTS
    from edgevit.quantize.quantize import plan_quantization
    from edgevit.quantize.write_quantized import write_quantized

    folder, read, judged, wanted = bench.folder, bench.read, bench.judged, bench.wanted
    calibration = read_photos("calibration", CALIBRATION, read.preprocess)
    settings = Quantization()
    settings = dataclasses.replace(settings, sqnr_db=settings.choose_sqnr_db(read.task))
    form = dataclasses.replace(load_target("intel-cpu").export, fold_residual_rotation=settings.rotate)
    started = time.perf_counter()
    graph = optimize_graph(export_model(read, form)[0])[0]
    base, plan, record = plan_quantization(graph, calibration, settings, "openvino")
    write_quantized(base, plan, record, PLACEMENTS["openvino"]).save(folder / "ours.onnx")
    row: dict[str, Any] = {"seconds": round(time.perf_counter() - started, 1)}
    row["sites"] = {kind: sum(s.precision == kind for s in record.sites) for kind in ("int8", "float")}
    floats = [normalize(pixels, read.preprocess) for pixels in judged]
    np.save(folder / "uint8.npy", judged[0])
    np.save(folder / "float.npy", floats[0])
    quantize_nncf(_find_export(folder), folder / "nncf.xml", calibration, read.preprocess)
    choose = TaskEngine(_find_export(folder), "told")
    choices = [choose.run(pixels)[1] for pixels in floats]
    for name, file, feeds in (("", "ours.onnx", judged), ("nncf_", "nncf.xml", floats)):
        engine = TaskEngine(folder / file, "told")
        found = [engine.run(pixels) for pixels in feeds]
        own = judge([answers for answers, _ in found], wanted)
        row[f"{name}sqnr_db"] = own
        if not any(choices):
            continue
        held = TaskEngine(folder / file, "given")
        given = [held.run(pixels, chosen)[0] for pixels, chosen in zip(feeds, choices, strict=True)]
        row[f"{name}sqnr_db"], row[f"{name}own_choice_db"] = judge(given, wanted), own
        row[f"{name}same_percent"] = round(share_of_same([chosen for _, chosen in found], choices), 1)
    return row


def judge(found: list[list[Values]], wanted: list[list[Values]]) -> list[float]:
    """SQNR in dB of every output over all photos."""
    rows = []
    for i in range(len(wanted[0])):
        noise = sum(float(np.square(f[i] - w[i], dtype=np.float64).sum()) for f, w in zip(found, wanted, strict=True))
        signal = sum(float(np.square(w[i], dtype=np.float64).sum()) for w in wanted)
        rows.append(round(10 * float(np.log10(signal / max(noise, 1e-30))), 1))
    return rows


def time_engines(folder: Path, rounds: int) -> dict[str, Any]:
    """Medians in milliseconds and the ratio with its interval."""
    from edgevit.measure.intervals import ratio_of_medians

    engines = {name: TaskEngine(folder / file).run for name, file in (("ours", "ours.onnx"), ("nncf", "nncf.xml"))}
    feeds = {"ours": np.load(folder / "uint8.npy"), "nncf": np.load(folder / "float.npy")}
    times: dict[str, list[float]] = {name: [] for name in engines}
    for turn in range(-1, rounds):  # the first is not counted
        for name in ("ours", "nncf") if turn % 2 == 0 else ("nncf", "ours"):
            taken = []
            for _ in range(_RUNS):
                start = time.perf_counter()
                engines[name](feeds[name])
                taken.append(1e3 * (time.perf_counter() - start))
            if turn >= 0:
                times[name].append(float(np.median(taken)))
    ratio = ratio_of_medians(times["ours"], times["nncf"])
    return {"ms": {name: float(np.median(values)) for name, values in times.items()}, "ratio": list(ratio)}


def compile_for_rtx(bench: Bench) -> dict[str, Any]:
    """Fused attention of the encoder and of what is carried, or the compiler's reason."""
    from edgevit.core.errors import EdgevitError
    from edgevit.core.target import load_target
    from edgevit.engines.fusion_file import load_fusion
    from edgevit.engines.tensorrt.backend import TENSORRT_RTX
    from edgevit.graph.carried import CARRIED
    from edgevit.graph.passes.optimize import optimize_graph
    from edgevit.models.export import export_model

    target, folder = load_target("rtx-30"), bench.folder
    graph = optimize_graph(export_model(bench.read, target.export)[0])[0]
    graph.save(folder / "rtx.onnx")
    try:
        TENSORRT_RTX.check(folder / "rtx.onnx", target)
        TENSORRT_RTX.compile(folder / "rtx.onnx", target, "fp16", folder, {})
    except EdgevitError as exc:
        return {"reason": exc.message}
    record = load_fusion(folder)
    assert record is not None
    fused = [name for name in record.attention if not name.startswith(CARRIED)]
    return {
        "compiler": f"{record.compiler} {record.device}",
        "layers": record.layers,
        "fused": len(fused),
        "unfused": [name for name in record.unfused_attention if not name.startswith(CARRIED)],
        "carried_fused": len(record.attention) - len(fused),
        "carried_unfused": sum(name.startswith(CARRIED) for name in record.unfused_attention),
    }


def _find_export(folder: Path) -> Path:
    """The ONNX file that reading the checkpoint left in the model's own cache: NNCF quantises what we do."""
    exports = (folder / "cache").glob("whole_export/*/model.onnx")
    return max(exports, key=lambda path: path.parent.stat().st_mtime)  # a stage's time is that of its last use


def _store(name: str, part: str, figures: Mapping[str, Any]) -> None:
    stored = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {"rows": {}}
    machine = describe_machine()
    stored["machine"] = {"cpu": machine.cpu, "isa": list(machine.isa), "cores": machine.usable_cores}
    packages = ("openvino", "nncf", "torch", "transformers", "onnxruntime")
    stored["versions"] = {package: version(package) for package in packages}
    stored["rows"].setdefault(name, {})[part] = figures
    RESULTS.write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")
    TABLE.write_text(render_table(stored), encoding="utf-8")
    DOCUMENT.write_text(write_page(DOCUMENT.read_text(encoding="utf-8"), stored), encoding="utf-8")


def main() -> int:
    """Measure and write; gives 1 where a part of a model failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [model.name for model in MODELS]
    parser.add_argument("--models", nargs="+", default=names, choices=names, metavar="NAME")
    parser.add_argument("--parts", nargs="+", default=PARTS, choices=PARTS)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--work", type=Path, default=Path("bench-work/tasks"))
    options = parser.parse_args()
    import_torchvision()
    failed = False
    for model in (model for model in MODELS if model.name in options.models):
        folder = options.work / model.name
        folder.mkdir(parents=True, exist_ok=True)
        os.environ[VARIABLE] = str(folder.resolve() / "cache")
        bench = Bench(model, folder)
        steps: dict[str, Callable[[], dict[str, Any]]] = {
            "parity": functools.partial(check_parity, bench),
            "tensorrt": functools.partial(compile_for_rtx, bench),
            "quantize": functools.partial(quantize, bench),
            "latency": functools.partial(time_engines, folder, options.rounds),
        }
        for part in options.parts:
            try:
                figures = steps[part]()
            except Exception as exc:
                import traceback

                traceback.print_exc()
                figures, failed = {"failed": str(exc).splitlines()[0] if str(exc) else repr(exc)}, True
            print(f"{model.name} {part}: {figures}", flush=True)
            _store(model.name, part, figures)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
