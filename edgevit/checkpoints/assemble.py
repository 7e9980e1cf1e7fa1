"""A model from what a reader found out and a publisher's tensors."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from edgevit.checkpoints.checks import check_names, check_values
from edgevit.checkpoints.files.files import CheckpointFiles
from edgevit.checkpoints.files.packing import add_leading_axes, match_module, match_packing
from edgevit.checkpoints.labels import read_labels
from edgevit.checkpoints.names import Names
from edgevit.checkpoints.positions import Resampling, Size, resample_bias_table, resample_positions
from edgevit.core.errors import count_things
from edgevit.core.notes import note_names
from edgevit.core.task import Scores, Task
from edgevit.models import ModelConfig, SwinConfig, ViTConfig, build_module
from edgevit.models.model import Model, Source
from edgevit.pixels.preprocess import Preprocess

NO_HEAD = "there is no classifier head; the output is the image's features"
"""A note."""
_STAGE = re.compile(r"layers\.(\d+)\.blocks\.(\d+)\.bias\.table")


@dataclass(frozen=True)
class Plan:
    """What a reader found out about a checkpoint.

    Attributes:
        layout: For the model's source.
        architecture: For the model's source.
        config: At the image size that is wanted; its number of classes is replaced by the head's.
        names: The publisher's table.
        preprocess: For the same image size.
        stored_size: Image height and width that the checkpoint's position embeddings are for.
        stated_classes: What the configuration says, where it says it.
        may_lack_head: Without tensors of a head, the features are the output.
        labels: As stored; see :func:`edgevit.checkpoints.labels.read_labels`.
        labels_key: Where they are stored.
        scores: What the outputs mean, where the checkpoint says it.
        resampling: How the publisher's code fits positions and biases to another size.
        notes: What was assumed so far.
    """

    layout: str
    architecture: str
    config: ModelConfig
    names: Names
    preprocess: Preprocess
    stored_size: Size
    stated_classes: int | None = None
    may_lack_head: bool = False
    labels: Any = None
    labels_key: str = "labels"
    scores: Scores | None = None
    resampling: Resampling = "antialiased"
    notes: tuple[str, ...] = ()


def assemble_model(files: CheckpointFiles, plan: Plan, tensors: Mapping[str, Tensor]) -> Model:
    """Put module, preprocessing and labels together.

    Raises:
        CheckpointError: As :func:`assemble_module`.
    """
    module, config, notes = assemble_module(plan, tensors, files.source)
    labels, unnamed = read_labels(plan.labels, config.classes, plan.labels_key)
    notes = (*plan.notes, *notes, *unnamed)
    source = Source(
        path=files.source,
        layout=plan.layout,
        architecture=plan.architecture,
        sha256=files.sha256(),
        notes=notes,
        revision=files.revision,
        weights=files.contents.which,
    )
    return Model(module, plan.preprocess, labels, source, Task("classify", scores=plan.scores))


def assemble_module(
    plan: Plan, tensors: Mapping[str, Tensor], source: str
) -> tuple[nn.Module, ModelConfig, tuple[str, ...]]:
    """Fill a canonical module.

    Args:
        plan: What the tensors should be.
        tensors: By the publisher's names.
        source: For messages.

    Returns:
        The module, float32, in evaluation mode and without gradients; its config; and notes.

    Raises:
        CheckpointError: Listing all missing, unexpected and wrongly shaped tensors, or those that are not floating
            point, or those with values that are not finite.
    """
    notes: list[str] = []
    dropped = plan.names.find_dropped(tensors)
    for reason, which in dropped.items():
        notes.append(note_names(f"dropped {count_things(len(which), 'tensor')} ({reason}): ", which, 4))
    left = {n: t for n, t in tensors.items() if not any(n in which for which in dropped.values())}
    canonical = plan.names.to_canonical(left)
    config, note = _take_classes(plan, left, canonical)
    notes += note
    with torch.device("meta"):
        module = build_module(config)
    expected = match_packing(module.state_dict(), canonical.values())
    found = add_leading_axes({ours: left[theirs] for theirs, ours in canonical.items()}, expected)
    if isinstance(config, ViTConfig):
        notes += _describe_remainder(config)
        notes += _resample_positions(config, found, plan.stored_size, plan.resampling)
    else:
        notes += _resample_biases(config, found, expected, plan.resampling)
    check_names(found, expected, left, canonical, plan.names, source)
    check_values(found, canonical, source)
    notes += _describe_types(found.values())
    weights = match_module({name: found.get(name, value) for name, value in expected.items()}, module.state_dict())
    module.load_state_dict({name: value.float().contiguous() for name, value in weights.items()}, assign=True)
    return module.eval().requires_grad_(False), config, tuple(notes)


def _take_classes(
    plan: Plan, tensors: Mapping[str, Tensor], canonical: Mapping[str, str]
) -> tuple[ModelConfig, list[str]]:
    config, stated = plan.config, plan.stated_classes
    heads = [tensors[theirs] for theirs, ours in canonical.items() if ours in ("head.weight", "head.bias")]
    if plan.may_lack_head and not heads and canonical:
        config = dataclasses.replace(config, classes=0)
    if not config.classes and not heads:
        return config, [NO_HEAD]
    if not heads or not heads[0].ndim or not heads[0].shape[0]:
        return config, []  # reported with whatever else is missing or wrongly shaped
    classes = int(heads[0].shape[0])
    config = dataclasses.replace(config, classes=classes)
    if stated in (None, classes):
        return config, []
    return config, [f"the configuration says {stated} classes, the head has {classes}; the head counts"]


def _describe_remainder(config: ViTConfig) -> list[str]:
    h, w = (side % step for side, step in zip(config.image_size, config.patch_size, strict=True))
    if not (h or w):
        return []
    patch = f"{config.patch_size[0]} × {config.patch_size[1]}"
    return [f"patches of {patch} leave {h} rows and {w} columns of the image unread"]


def _resample_positions(
    config: ViTConfig, found: dict[str, Tensor], stored_size: Size, resampling: Resampling
) -> list[str]:
    positions = found.get("pos_embed")
    if positions is None:
        return []
    prefix = config.position_prefix_tokens
    if positions.ndim != 3 or positions.shape[0] != 1 or positions.shape[2] != config.width:
        return []  # reported as wrongly shaped
    patches = positions.shape[1] - prefix
    old = stored_size[0] // config.patch_size[0], stored_size[1] // config.patch_size[1]
    if patches != old[0] * old[1]:  # the configuration is of another size than the weights
        side = math.isqrt(max(patches, 0))
        if side * side != patches or not side:
            return []
        old = (side, side)
    new = config.grid
    if old == new:
        return []
    found["pos_embed"] = resample_positions(positions, prefix, old, new, resampling)
    return [f"position embeddings resampled from {old[0]} × {old[1]} to {new[0]} × {new[1]} patches"]


def _resample_biases(
    config: SwinConfig, found: dict[str, Tensor], expected: Mapping[str, Tensor], resampling: Resampling
) -> list[str]:
    resized = set()
    for name, table in list(found.items()):
        match = _STAGE.fullmatch(name)
        if match is None or name not in expected or table.ndim != 2 or table.shape == expected[name].shape:
            continue
        side = math.isqrt(table.shape[0])
        if side * side != table.shape[0] or side % 2 == 0 or table.shape[1] != expected[name].shape[1]:
            continue
        old = ((side + 1) // 2, (side + 1) // 2)
        new = config.block_window(int(match[1]), int(match[2]))[0]
        found[name] = resample_bias_table(table, old, new, resampling)
        resized.add(f"stage {match[1]}: {old[0]} × {old[1]} to {new[0]} × {new[1]}")
    if not resized:
        return []
    return [f"relative position biases resampled for another window ({'; '.join(sorted(resized))})"]


def _describe_types(values: Iterable[Tensor]) -> list[str]:
    other = sorted({str(v.dtype).removeprefix("torch.") for v in values if v.dtype != torch.float32})
    return [f"weights stored as {' and '.join(other)} are converted to float32"] if other else []
