"""select_task: from a model as it was trained to one that computes what is wanted."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from torch import nn

from edgevit.core.errors import CheckpointError
from edgevit.core.task import ANSWERED_TASKS, Task, TaskName
from edgevit.models.folds.weights import make_linear
from edgevit.models.model import Model, WholeGraph
from edgevit.models.outlets import Outlet
from edgevit.models.pixels import copy_structure
from edgevit.models.swin import Swin
from edgevit.models.swin_v2 import SwinV2Config
from edgevit.models.vit import ViT
from edgevit.models.vit_windows import MergedWindows

if TYPE_CHECKING:
    from edgevit.models import ModelConfig

_CENTERED = "logits are less by their mean over the labels, which softmax does not see"
_DEFAULT_LEVELS = 4
"""Blocks of a ViT whose features a dense head reads: as many as DPT and DINOv2's own heads."""


def select_task(model: Model, task: Task) -> Model:
    """The model for a task.

    Features follow the origin: timm's ``forward_intermediates`` and ``features_only``, transformers' backbones. What
    stands behind the last level is left out.

    Args:
        model: As it was read; not changed. Weights are shared.
        task: What is wanted; ``auto`` becomes ``classify``, or without a head ``embed``, or of a backbone ``features``.

    Returns:
        The model, with the task as it was decided, and what was assumed among the notes of its source.

    Raises:
        CheckpointError: The checkpoint has no weights for the task, or the levels are not there.
    """
    whole = isinstance(model.module, WholeGraph)
    backbone = not whole and not model.classes and not getattr(model.config, "final_norm", True)
    possible: tuple[TaskName, ...] = ("features",) if backbone else ("embed", "features")
    if whole and not model.classes:
        possible = (*(() if model.answer is None else (model.answer.task,)), "map", *possible)
    elif model.classes:
        possible = ("classify", *possible)
    notes: list[str] = []
    name = task.name
    if name == "auto":
        name = possible[0]
        if name != "classify" and not whole:
            what = "is a backbone" if backbone else "has no classification head"
            notes.append(f"the checkpoint {what}: it is built for the task {name}")
    if name not in possible and whole and name in ANSWERED_TASKS:
        raise CheckpointError(
            f"nothing says how the outputs of {model.source.path} become an answer to {name}",
            "put transformers' config.json and preprocessor_config.json beside it, or give --task map",
        )
    if name not in possible:
        what = "is a backbone, without a last norm and a head" if backbone else "has no classification head"
        if not backbone and name != "classify":
            what = "has no outputs for that"
        raise CheckpointError(f"{model.source.path} {what}: it cannot {name}", f"give --task {' or '.join(possible)}")
    try:
        task = dataclasses.replace(task, name=name)
    except ValueError as exc:  # options of a task that auto did not become
        raise CheckpointError(f"the task is {name}: {exc}", "give the option's own --task with it") from exc
    if name == "classify":
        return _settle_scores(model, task)
    if task.is_whole:
        if model.answer is None or model.answer.task != task.name:
            model = dataclasses.replace(model, answer=None, labels=None)
        return dataclasses.replace(model, task=task)
    inner = model.module.encoder if isinstance(model.module, WholeGraph) else model.module
    if whole:
        notes.append(f"--task {name} gives what the encoder does: what the graph has behind it is left out")
    if not isinstance(inner, (ViT, Swin)):
        raise CheckpointError(
            f"{model.source.path} was recognised in part: it gives its logits, and no {name}",
            "give --task classify; edgevit inspect says what was not recognised and why",
        )
    module = copy_structure(inner)
    assert isinstance(module, (ViT, Swin))
    if name == "embed":
        without: dict[str, Any] = {"compares": False} if isinstance(module, ViT) else {}
        module.config = dataclasses.replace(module.config, classes=0, **without)
        module.head = nn.Identity()
        if isinstance(module, ViT):
            module.label_head = None
            module.head_dist = None if module.head_dist is None else nn.Identity()
    else:
        task = _resolve_levels(task, module.config)
        _cut(module, task.levels[-1])
        notes += _add_swin_outlets(module, task) if isinstance(module, Swin) else _add_vit_outlets(module, task)
    source = dataclasses.replace(model.source, notes=(*model.source.notes, *notes))
    return dataclasses.replace(model, module=module, labels=None, task=task, source=source, answer=None, answers=None)


def _settle_scores(model: Model, task: Task) -> Model:
    """What the outputs mean: as the user says, or the checkpoint, or as their number has it."""
    scores, source = task.scores or model.task.scores, model.source
    if scores is None and model.classes == 1:
        note = "there is one output, and nothing says what it is: it is taken for one of two classes (--scores sigmoid)"
        source = dataclasses.replace(source, notes=(*source.notes, f"{note}, not for a number (--scores identity)"))
    if scores == "softmax" and model.classes == 1:
        raise CheckpointError(
            f"{source.path} has one output, of which softmax is always 1", "give --scores sigmoid or identity"
        )
    scores = scores or ("sigmoid" if model.classes == 1 else "softmax")
    module = model.module
    if scores == "softmax" and isinstance(module, ViT) and module.label_head is not None:
        module = _center_labels(module)
        source = dataclasses.replace(source, notes=(*source.notes, _CENTERED))
    return dataclasses.replace(model, module=module, task=dataclasses.replace(task, scores=scores), source=source)


def _center_labels(module: ViT) -> ViT:
    """The same with logits that are less by their mean over the labels.

    Texts have more in common than what tells them apart, and so do images with all of them: most of what such a head
    gives is the same for every label. Softmax does not see it, but decibels would count it as signal: of two CLIPs with
    random weights, INT8 had 45.9 and 35.2 dB, and of the differences between labels 39.7 and 29.2 dB.
    """
    head = module.label_head
    assert head is not None
    module = copy_structure(module)  # type: ignore[assignment]
    weight, bias = head.weight.detach().double(), head.bias.detach().double()
    module.label_head = make_linear(weight - weight.mean(dim=0), bias - bias.mean())
    return module


def _resolve_levels(task: Task, config: ModelConfig) -> Task:
    count, what = config.level_count, config.level_name
    levels = task.levels
    if not levels:
        some = min(_DEFAULT_LEVELS, count)
        levels = tuple(count * (i + 1) // some - 1 for i in range(some))
    beyond = [str(level) for level in levels if level >= count]
    if beyond:
        raise CheckpointError(
            f"the model has no {what} {', '.join(beyond)}", f"give --levels from 0 to {count - 1}, as in --levels 0,1"
        )
    if what == "level" and task.norm is not None:
        raise CheckpointError(
            "a Swin's levels are normalised by the norms that its checkpoint has for them, and by no other",
            "leave --level-norm out",
        )
    norm = getattr(config, "level_norm", False) if task.norm is None and what == "block" else task.norm
    return dataclasses.replace(task, levels=levels, norm=norm)


def _cut(module: ViT | Swin, last: int) -> None:
    """Leave out what stands behind the last level."""
    if isinstance(module, ViT):
        module.config = dataclasses.replace(
            module.config,
            depth=last + 1,
            classes=0,
            distillation_head=False,
            projection=0,
            compares=False,
            window_blocks=tuple(block for block in module.config.window_blocks if block <= last),
            late_tokens=module.config.late_tokens if module.config.late_block <= last else 0,
            late_block=module.config.late_block if module.config.late_block <= last else 0,
        )
        module.blocks = module.blocks[: last + 1]
        module.head_dist = module.attn_pool = module.projection = module.label_head = None
    else:
        config = module.config
        more: dict[str, Any] = {}
        if isinstance(config, SwinV2Config):
            more["pretrained_windows"] = config.pretrained_windows[: last + 1]
        module.config = dataclasses.replace(
            config,
            depths=config.depths[: last + 1],
            heads=config.heads[: last + 1],
            classes=0,
            level_norms=tuple(level for level in config.level_norms if level <= last),
            **more,
        )
        module.layers = module.layers[: last + 1]
    module.head = nn.Identity()


def _add_vit_outlets(module: ViT, task: Task) -> list[str]:
    config = module.config
    for level in task.levels:
        norm = copy_structure(module.norm) if task.norm else None
        windowed = config.window_count > 1
        late = config.count_tokens(level) - config.tokens
        outlet = Outlet(config.grid, norm, 0 if windowed else config.prefix_tokens, task.layout, late)
        if windowed:
            outlet.arrange = MergedWindows(config.prefix_tokens, config.grid, config.windows)
        module.outlets[str(level)] = outlet
    module.norm = module.fc_norm = nn.Identity()
    return []


def _add_swin_outlets(module: Swin, task: Task) -> list[str]:
    for level in task.levels:
        key = str(level)
        norm = module.level_norms[key] if level in module.config.level_norms else None
        module.outlets[key] = Outlet(module.config.stage_grid(level), norm, 0, task.layout)
    module.level_norms = nn.ModuleDict()
    module.norm = nn.Identity()
    bare = [str(level) for level in task.levels if isinstance(module.outlets[str(level)].norm, nn.Identity)]
    if bare:
        which = "levels are" if len(bare) > 1 else "level is"
        return [f"{which} not normalised: the checkpoint has no norm for {', '.join(bare)}"]
    return []
