"""PROVIDERS: ONNX Runtime's execution providers, one record for each device that a target of it may name.

Names and options are those of the providers' pages at https://onnxruntime.ai/docs/execution-providers/. Only plain
data, as the device runtime reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from edgevit.core.engine import Setting
from edgevit.core.packages import install_line


@dataclass(frozen=True, kw_only=True)
class ExecutionProvider:
    """What ONNX Runtime computes with.

    Attributes:
        name: ONNX Runtime's own name of it.
        install: How a Python environment gets it.
        distribution: What pip calls the build of ONNX Runtime that has it.
        options: How it is opened unless the settings say otherwise.
        choices: Options that a target or bundle may set, as ``device.option``, with their values: none writes, reads or
            loads a file.
        threads: Its option for the number of threads, where it has threads of its own.
        streams: Its option for the number of batches at a time.
    """

    name: str
    install: str
    distribution: str = "onnxruntime"
    options: Mapping[str, str] = field(default_factory=dict)
    choices: Mapping[str, tuple[Setting, ...]] = field(default_factory=dict)
    threads: str | None = None
    streams: str | None = None

    @property
    def install_line(self) -> str:
        """The command that brings it; ``{extra}`` in ``install`` is edgevit's own for ONNX Runtime."""
        return self.install.replace("{extra}", install_line("onnxruntime"))


_SWITCH: tuple[Setting, ...] = ("0", "1")
_IDS: tuple[Setting, ...] = tuple(str(number) for number in range(8))

PROVIDERS: Mapping[str, ExecutionProvider] = {
    "CPU": ExecutionProvider(name="CPUExecutionProvider", install="{extra}"),
    "cuda": ExecutionProvider(
        name="CUDAExecutionProvider",
        install="pip uninstall onnxruntime && pip install onnxruntime-gpu",
        distribution="onnxruntime-gpu",
        options={"use_tf32": "0"},  # float32 is float32: TensorFloat-32 has 10 bits of mantissa
        choices={
            "device_id": _IDS,
            "use_tf32": _SWITCH,
            "cudnn_conv_algo_search": ("EXHAUSTIVE", "HEURISTIC", "DEFAULT"),
        },
    ),
    "openvino": ExecutionProvider(
        name="OpenVINOExecutionProvider",
        install="pip uninstall onnxruntime && pip install onnxruntime-openvino",
        distribution="onnxruntime-openvino",
        # ACCURACY: in the types of the graph, where a CPU with bfloat16 would otherwise compute in that
        options={"device_type": "CPU", "precision": "ACCURACY"},
        choices={"device_type": ("CPU", "GPU", "NPU"), "precision": ("FP32", "FP16", "ACCURACY")},
        threads="num_of_threads",
        streams="num_streams",
    ),
    "coreml": ExecutionProvider(
        name="CoreMLExecutionProvider",
        install="{extra} on a Mac, whose wheel has it",
        options={"ModelFormat": "MLProgram", "MLComputeUnits": "ALL"},
        choices={
            "ModelFormat": ("MLProgram", "NeuralNetwork"),
            "MLComputeUnits": ("ALL", "CPUOnly", "CPUAndGPU", "CPUAndNeuralEngine"),
            "RequireStaticInputShapes": _SWITCH,
            "SpecializationStrategy": ("Default", "FastPrediction"),
        },
    ),
    "qnn": ExecutionProvider(
        name="QNNExecutionProvider",
        install="pip uninstall onnxruntime && pip install 'onnxruntime-qnn<2', for Windows on Snapdragon, or a build "
        "of ONNX Runtime with --use_qnn",
        distribution="onnxruntime-qnn",
        # its backend by type: a backend_path would load a file that nobody checked
        options={"backend_type": "htp"},
        choices={
            "backend_type": ("htp", "gpu", "cpu"),
            "htp_performance_mode": ("default", "burst", "balanced", "high_performance", "sustained_high_performance"),
            "htp_graph_finalization_optimization_mode": ("0", "1", "2", "3"),
            "enable_htp_fp16_precision": _SWITCH,
        },
    ),
    "xnnpack": ExecutionProvider(
        name="XnnpackExecutionProvider",
        install="a build of ONNX Runtime with --use_xnnpack: pip has none for computers",
        threads="intra_op_num_threads",
    ),
    "migraphx": ExecutionProvider(
        name="MIGraphXExecutionProvider",
        install="pip uninstall onnxruntime && pip install onnxruntime-migraphx",
        distribution="onnxruntime-migraphx",
        choices={"device_id": _IDS},
    ),
}
"""By the ``device`` of a target. All but ``CPU`` leave nodes that they do not take to the CPU."""


def list_choices() -> dict[str, tuple[Setting, ...]]:
    """The options of every provider that a bundle may set, as settings: ``openvino.device_type``."""
    return {
        f"{device}.{option}": values
        for device, provider in PROVIDERS.items()
        for option, values in provider.choices.items()
    }
