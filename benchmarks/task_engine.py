"""TaskEngine: a model in OpenVINO whose choice among its queries can be given to it, and is told.

A detector sorts its encoder's tokens by score. Engines whose scores differ in the last digits have the same queries at
other places, and the SQNR of a row is then that of two boxes which have nothing to do with one another.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]


class TaskEngine:
    """Opened on the CPU, with float32 around the INT8.

    Args:
        path: An ONNX file or OpenVINO's own.
        choices: Whether what it chose is left alone, told with its answers, or given to it.
    """

    def __init__(self, path: Path, choices: Literal["own", "told", "given"] = "own") -> None:
        import openvino

        core = openvino.Core()
        model = core.read_model(str(path))
        self._answers = len(model.outputs)
        chosen = [op.output(1) for op in model.get_ordered_ops() if op.get_type_name() == "TopK"]
        chosen = [indices for indices in chosen if indices.get_target_inputs()]
        self._given: list[tuple[int, Any]] = []
        if choices == "given":
            for indices in chosen:
                given = openvino.op.Parameter(indices.get_element_type(), indices.get_partial_shape())
                for reader in indices.get_target_inputs():
                    reader.replace_source_output(given.output(0))
                model.add_parameters([given])
                self._given.append((len(model.inputs) - 1, indices.get_element_type().to_dtype()))
            model.validate_nodes_and_infer_types()
        elif choices == "told":
            model.add_outputs(chosen)
        settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
        self._compiled = core.compile_model(model, "CPU", settings)
        self._request = self._compiled.create_infer_request()

    def run(self, pixels: Any, choices: Sequence[Indices] = ()) -> tuple[list[Values], list[Indices]]:
        """What it answers, with ``choices`` where they are given to it; and what it chose, where that is told."""
        feeds = {0: pixels}
        for (place, kind), indices in zip(self._given, choices, strict=True):
            feeds[place] = indices.astype(kind)
        found = self._request.infer(feeds)
        values = [np.array(found[output]) for output in self._compiled.outputs]
        return values[: self._answers], [indices.astype(np.int64) for indices in values[self._answers :]]


def share_of_same(found: Sequence[Sequence[Indices]], wanted: Sequence[Sequence[Indices]]) -> float:
    """How many in a hundred of what was chosen, whatever its place, are the same, over all images."""
    pairs = [
        (mine.reshape(-1, mine.shape[-1]), theirs.reshape(-1, theirs.shape[-1]))
        for image in zip(found, wanted, strict=True)
        for mine, theirs in zip(*image, strict=True)
    ]
    same = sum(len(np.intersect1d(a, b)) for mine, theirs in pairs for a, b in zip(mine, theirs, strict=True))
    return 100 * same / sum(theirs.size for _, theirs in pairs)
