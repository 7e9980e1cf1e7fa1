"""Runs under the emulator: OpenVINO's kernels for a model file by kind, as JSON, and its answers.

count_kernels.py MODEL PIXELS.npz OUT.npz
"""

from __future__ import annotations

import collections
import json
import sys

import numpy as np
import openvino


def main(model: str, pixels: str, out: str) -> None:
    properties = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32", "PERF_COUNT": True}
    request = openvino.Core().compile_model(model, "CPU", properties).create_infer_request()
    with np.load(pixels) as stored:
        logits = np.concatenate([request.infer({0: image[None]})[0].copy() for image in stored["pixels"]])
    executed = [node for node in request.profiling_info if node.status == node.Status.EXECUTED]
    np.savez(out, logits=logits)
    print(json.dumps(collections.Counter(f"{node.node_type} {node.exec_type}" for node in executed)))


if __name__ == "__main__":
    main(*sys.argv[1:])
