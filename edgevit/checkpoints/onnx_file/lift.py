"""A canonical module from a graph: recognised part by part, and checked against the file's own answers.

Once it is recognised nothing is left of the file but its weights, so every fold, the rotation of the residual stream,
INT8 and TensorRT's form are those of a checkpoint. What is not recognised gives the place and the reason.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from edgevit.checkpoints.onnx_file.answers import Answer
from edgevit.checkpoints.onnx_file.lift_swin import lift_swin
from edgevit.checkpoints.onnx_file.lift_vit import find_blocks, find_heads, has_swin_windows, lift_vit
from edgevit.core.errors import CheckpointError, count_things, format_offenders
from edgevit.graph.graph import Graph
from edgevit.graph.patterns.pieces import MismatchError, Weights
from edgevit.models import ModelConfig, SwinConfig, build_module

TOLERANCE = 1e-4
"""Relative to the largest logit: another order of float32 sums, and nothing else."""


def lift_graph(graph: Graph) -> tuple[ModelConfig, dict[str, Weights]]:
    """Config and state of the canonical module that computes what the graph does.

    Args:
        graph: In the form that ``edgevit.graph.passes.FOREIGN`` leaves, for one image a call.

    Raises:
        MismatchError: The graph, or a part of it, is no ViT and no Swin.
    """
    image, output = graph.model.graph.inputs[0], graph.model.graph.outputs[0]
    heads = find_heads(output)
    blocks = find_blocks(heads.pooled.stream)
    if not blocks:
        raise MismatchError(heads.node, "there are no encoder blocks in front of the head")
    if any(block.places is not None for block in blocks):
        raise MismatchError(heads.node, "tokens join the others between its blocks")
    try:
        return lift_swin(heads, blocks, image) if has_swin_windows(blocks) else lift_vit(heads, blocks, image)
    except ValueError as exc:  # of the config: a width that is no multiple of the heads, and the like
        raise MismatchError(None, str(exc)) from exc


def fill_module(config: ModelConfig, state: dict[str, Weights], where: str) -> nn.Module:
    """The module with its weights, float32, in evaluation mode and without gradients.

    Raises:
        CheckpointError: Weights that are not finite.
    """
    bad = [name for name, value in state.items() if not np.isfinite(value).all()]
    if bad:
        raise CheckpointError(
            f"{where} has {count_things(len(bad), 'weight')} with NaN or infinite values:\n{format_offenders(bad)}",
            "export an earlier checkpoint of the training run, from before it diverged",
        )
    with torch.device("meta"):
        module = build_module(config)
    # Some arrays are views of a file or of another tensor; a parameter owns its numbers.
    tensors = {name: torch.from_numpy(np.array(value, np.float32)) for name, value in state.items()}
    module.load_state_dict(tensors, assign=True)
    return module.eval().requires_grad_(False)


def check_module(module: nn.Module, config: ModelConfig, answer: Answer) -> float:
    """Largest difference of two generated images' logits from the file's own, over its largest logit.

    Raises:
        MismatchError: It is above the tolerance: something was taken for what it is not.
    """
    images = np.random.default_rng(0).normal(size=(2, 3, *config.image_size)).astype(np.float32)
    expected = answer(images)
    with torch.inference_mode():
        actual = module(torch.from_numpy(images)).numpy()
    if actual.shape != expected.shape:
        raise MismatchError(
            None, f"the recovered module gives logits of shape {actual.shape}, the file {expected.shape}"
        )
    error = float(np.abs(actual - expected).max() / max(float(np.abs(expected).max()), 1e-12))
    if not error <= TOLERANCE:
        raise MismatchError(None, f"the recovered module's logits differ from the file's by {error:.2g} of the largest")
    return error


def name_blocks(config: ModelConfig) -> tuple[str, ...]:
    """Names of the canonical module's blocks."""
    if isinstance(config, SwinConfig):
        return tuple(f"layers.{s}.blocks.{b}" for s, depth in enumerate(config.depths) for b in range(depth))
    return tuple(f"blocks.{b}" for b in range(config.depth))
